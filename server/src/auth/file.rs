//! The token file: which tokens there are, whose they are and what they may do. It holds no secret, only hashes.
//!
//! ```json
//! { "version": 1, "tokens": [ { "id": "9f0c2b6d51e84a37", "sha256": "60e0...", "tenant": "vision", "role": "write",
//!                               "created": "2026-11-28T10:00:00Z", "expires": "2027-02-26T10:00:00Z" } ] }
//! ```

use super::{
    roles::Role,
    token::{Digest, Token, TokenId},
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The version that this release writes, and the newest that it reads.
const VERSION: u32 = 1;
/// The tenant of those who run the server: no jobs, but what concerns all tenants.
pub const SERVER: &str = "*";

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name.
    #[serde(with = "text")]
    pub id: TokenId,
    /// SHA-256 of its secret as it is written.
    #[serde(with = "text")]
    pub sha256: Digest,
    /// Whose jobs it is about; [`SERVER`]: none, but the server itself.
    pub tenant: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    #[serde(with = "moment")]
    pub created: SystemTime,
    /// From when on it is refused; none: never.
    #[serde(default, with = "moment", skip_serializing_if = "moment::is_none")]
    pub expires: Option<SystemTime>,
}

impl Record {
    /// Whether it is refused for its age.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Why the token file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("there is no token file {}: `autolrs token create` makes it", path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// It can't be read or written.
    #[error("the token file {}: {error}", path.display())]
    File {
        /// The file, or the one beside it that could not be used.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is not one.
    #[error("{} is no token file of this release: {problem}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong. Says nothing of the content.
        problem: String,
    },
    /// The tenant's name is none.
    #[error(
        "{0:?} is no tenant: 1 to 63 of a-z 0-9 . _ - beginning with a letter or digit, or * for the server itself"
    )]
    Tenant(String),
    /// There is no such token.
    #[error("there is no token {id} in {}: `autolrs token list` shows them", path.display())]
    Unknown {
        /// What was asked for.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// The tokens of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens(BTreeMap<TokenId, Record>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    tokens: Vec<Record>,
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is absent or not whole; nothing of it is used then.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|problem| TokenError::Form { path: path.into(), problem }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(TokenError::Absent { path: path.into() })
            }
            Err(error) => Err(TokenError::File { path: path.into(), error }),
        }
    }

    /// Reads the content of a file; what is wrong with it does not quote it.
    fn parse(text: &str) -> Result<Self, String> {
        let document: Document = serde_json::from_str(text)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        if document.version != VERSION {
            return Err(format!("it has version {}, this release reads {VERSION}", document.version));
        }
        let mut tokens = BTreeMap::new();
        for record in document.tokens {
            if !is_tenant(&record.tenant) {
                return Err(format!("token {} has no tenant's name", record.id));
            }
            let id = record.id.clone();
            if tokens.insert(id.clone(), record).is_some() {
                return Err(format!("token {id} stands in it twice"));
            }
        }
        Ok(Self(tokens))
    }

    /// The token of that name.
    pub fn get(&self, id: &TokenId) -> Option<&Record> {
        self.0.get(id)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.0.values()
    }

    /// Adds a new token to a file, which is made if absent, and returns it: its secret is never seen again.
    ///
    /// # Errors
    /// If the tenant is none, or the file can't be changed; it is as it was then.
    pub fn create(
        path: &Path,
        tenant: &str,
        role: Role,
        expires: Option<SystemTime>,
    ) -> Result<Token, TokenError> {
        if !is_tenant(tenant) {
            return Err(TokenError::Tenant(tenant.into()));
        }
        let token = Token::mint().map_err(|error| TokenError::Randomness(error.to_string()))?;
        let (id, sha256) = (token.id().clone(), token.digest());
        let record = Record {
            id: id.clone(),
            sha256,
            tenant: tenant.into(),
            role,
            created: SystemTime::now(),
            expires,
        };
        edit(path, |tokens| {
            tokens.0.insert(id, record);
            Ok(())
        })?;
        Ok(token)
    }

    /// Removes a token from a file.
    ///
    /// # Errors
    /// If there is none of that name, or the file can't be changed; it is as it was then.
    pub fn revoke(path: &Path, id: &str) -> Result<Record, TokenError> {
        let unknown = || TokenError::Unknown { id: id.into(), path: path.into() };
        let name = TokenId::parse(id).ok_or_else(unknown)?;
        if !path.exists() {
            return Err(TokenError::Absent { path: path.into() });
        }
        edit(path, |tokens| tokens.0.remove(&name).ok_or_else(unknown))
    }
}

fn is_tenant(name: &str) -> bool {
    let rest = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(byte);
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    name == SERVER || (bytes.len() <= 63 && bytes.first().is_some_and(first) && bytes.iter().all(rest))
}

/// Changes a file as a whole: nobody reads half of it, and of two who change it one waits for the other.
fn edit<T>(path: &Path, change: impl FnOnce(&mut Tokens) -> Result<T, TokenError>) -> Result<T, TokenError> {
    // The file itself may be reached by a link, which has to stay.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| TokenError::File { path, error }
    };
    let lock = beside(path, ".lock");
    let held = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
    let held = held.map_err(failed(&lock))?;
    flock(&held, FlockOperation::LockExclusive).map_err(io::Error::from).map_err(failed(&lock))?;
    let mut tokens = match Tokens::read(path) {
        Err(TokenError::Absent { .. }) => Tokens::default(),
        read => read?,
    };
    let changed = change(&mut tokens)?;
    write(path, &tokens).map_err(failed(path))?;
    Ok(changed)
}

fn write(path: &Path, tokens: &Tokens) -> io::Result<()> {
    let document = Document { version: VERSION, tokens: tokens.iter().cloned().collect() };
    let unfinished = beside(path, ".new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    if let Ok(old) = fs::metadata(path) {
        // A server that runs as another user than who makes and revokes tokens has to be able to read what is new.
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(old.permissions())?;
    }
    serde_json::to_writer_pretty(&mut file, &document)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Ids and hashes as text; a text that is none is not quoted.
mod text {
    use super::{Deserialize, Deserializer, Digest, Serializer, TokenId};
    use serde::de::Error;

    pub(super) trait Text: Sized {
        fn read(text: &str) -> Option<Self>;
        fn write(&self) -> String;
    }

    impl Text for TokenId {
        fn read(text: &str) -> Option<Self> {
            Self::parse(text)
        }

        fn write(&self) -> String {
            self.to_string()
        }
    }

    impl Text for Digest {
        fn read(text: &str) -> Option<Self> {
            Self::parse(text)
        }

        fn write(&self) -> String {
            self.to_hex()
        }
    }

    pub(super) fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.write())
    }

    pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::read(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("not in its form"))
    }
}

/// Moments as RFC 3339 in UTC, to the second.
mod moment {
    use super::{Deserialize, Deserializer, Serializer, SystemTime};
    use serde::de::Error;

    pub(super) trait Moment: Sized {
        fn of(moment: SystemTime) -> Self;
        fn get(&self) -> SystemTime;
    }

    impl Moment for SystemTime {
        fn of(moment: SystemTime) -> Self {
            moment
        }

        fn get(&self) -> SystemTime {
            *self
        }
    }

    impl Moment for Option<SystemTime> {
        fn of(moment: SystemTime) -> Self {
            Some(moment)
        }

        fn get(&self) -> SystemTime {
            self.unwrap_or(SystemTime::UNIX_EPOCH)
        }
    }

    #[expect(clippy::ref_option, reason = "serde gives a reference")]
    pub(super) fn is_none(moment: &Option<SystemTime>) -> bool {
        moment.is_none()
    }

    pub(super) fn serialize<T: Moment, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(value.get()))
    }

    pub(super) fn deserialize<'de, T: Moment, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let moment = humantime::parse_rfc3339(&String::deserialize(deserializer)?);
        moment.map(T::of).map_err(|_| D::Error::custom("no moment such as 2027-01-31T00:00:00Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        (folder, path)
    }

    #[test]
    fn what_is_created_is_found_and_what_is_revoked_is_gone() {
        let (_folder, path) = folder();
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let first = Tokens::create(&path, "vision", Role::Write, Some(expires)).unwrap();
        let second = Tokens::create(&path, SERVER, Role::Admin, None).unwrap();
        let tokens = Tokens::read(&path).unwrap();
        let record = tokens.get(first.id()).unwrap();
        assert_eq!((&*record.tenant, record.role, record.expires), ("vision", Role::Write, Some(expires)));
        assert_eq!(record.sha256, first.digest());
        assert!(record.is_expired(expires) && !record.is_expired(expires - Duration::from_secs(1)));
        Tokens::revoke(&path, first.id().as_str()).unwrap();
        let left = Tokens::read(&path).unwrap();
        assert_eq!(left.iter().map(|record| &record.id).collect::<Vec<_>>(), [second.id()]);
        assert!(matches!(Tokens::revoke(&path, first.id().as_str()), Err(TokenError::Unknown { .. })));
    }

    #[test]
    fn the_file_is_for_its_owner_and_has_no_secret() {
        let (_folder, path) = folder();
        let token = Tokens::create(&path, "a", Role::Read, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let secret = token.expose().rsplit('_').next().unwrap().to_owned();
        assert!(!fs::read_to_string(&path).unwrap().contains(&secret));
    }

    #[test]
    fn a_server_of_another_user_can_still_read_what_was_changed() {
        let (_folder, path) = folder();
        let token = Tokens::create(&path, "a", Role::Read, None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root may give a file away.
        let server = std::os::unix::fs::chown(&path, Some(4711), Some(4712)).is_ok();
        Tokens::revoke(&path, token.id().as_str()).unwrap();
        let now = fs::metadata(&path).unwrap();
        assert_eq!(now.permissions().mode() & 0o777, 0o640);
        assert!(!server || (now.uid(), now.gid()) == (4711, 4712), "{now:?}");
    }

    #[test]
    fn many_writers_lose_nothing() {
        let (_folder, path) = folder();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..8).for_each(|_| drop(Tokens::create(&path, "a", Role::Read, None).unwrap()));
                });
            }
        });
        assert_eq!(Tokens::read(&path).unwrap().iter().count(), 64);
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let (folder, path) = folder();
        let link = folder.path().join("link");
        Tokens::create(&path, "a", Role::Read, None).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Tokens::create(&link, "a", Role::Read, None).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(Tokens::read(&path).unwrap().iter().count(), 2);
    }

    #[test]
    fn what_is_no_token_file_is_refused_without_quoting_it() {
        let (_folder, path) = folder();
        assert!(matches!(Tokens::read(&path), Err(TokenError::Absent { .. })));
        let token = Tokens::create(&path, "a", Role::Read, None).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let id = token.id().as_str();
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"a\"", "\"A b\""),
            ("\"read\"", "\"owner\""),
            (id, "0123"),
            ("\"created\"", "\"made\""),
            ("}\n  ]", "},"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            fs::write(&path, &bad).unwrap();
            let error = Tokens::read(&path).unwrap_err();
            let text = error.to_string();
            assert!(
                matches!(error, TokenError::Form { .. }) && !text.contains(&token.digest().to_hex()),
                "{text}"
            );
            // A file that can't be read is not replaced.
            assert!(Tokens::create(&path, "a", Role::Read, None).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn tenants_are_named_as_jobs_are() {
        for name in ["a", "team-1", "0.x_y", SERVER] {
            assert!(is_tenant(name), "{name}");
        }
        for name in ["", "A", "-a", "a b", "**", &"a".repeat(64)] {
            assert!(!is_tenant(name), "{name}");
        }
    }
}
