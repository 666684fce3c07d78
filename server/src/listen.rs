//! Where the server listens: TCP, or a Unix socket for the users that may open it, which is this one.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// Connections that may wait to be taken: every trainer comes back at once when a server was away.
const BACKLOG: u32 = 4096;
/// What the address of a Unix socket begins with.
const UNIX: &str = "unix:";

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// `127.0.0.1:7461`, or `unix:/run/autolrs/socket`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(UNIX) {
            None => text.parse().ok().map(Self::Tcp),
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                path.starts_with('/').then(|| Self::Unix(path.into()))
            }
        }
    }

    /// Whether nobody from another machine, or for a Unix socket no other user, can reach it.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// What the system says: somebody else listens there, say.
    pub(crate) async fn bind(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(address) => tcp(*address).map(Listener::Tcp),
            Self::Unix(path) => unix(path).await,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A listener of either kind.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// The file of a Unix socket, which goes with the listener.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it is gone already, all is well.
        drop(fs::remove_file(&self.0));
    }
}

impl Listener {
    /// Waits for a client.
    pub(crate) async fn accept(&self) -> io::Result<Either<TcpStream, UnixStream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and waited for.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                Ok(Either::Left(stream))
            }
            Self::Unix { listener, .. } => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

/// Listens on a TCP port.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that has just ended does not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on a Unix socket. The file appears under its name when only this user may open it; one that a server has
/// left behind is replaced, one that somebody listens on is not.
async fn unix(path: &Path) -> io::Result<Listener> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    // Until its mode is set a socket is open to whom the umask says: it is made where nobody else gets.
    let mut folder = path.as_os_str().to_owned();
    folder.push(format!(".{}", std::process::id()));
    let fresh = Path::new(&folder).join("s");
    // What a server of this number has left that was killed in these lines: in a container each is number 1.
    drop((fs::remove_file(&fresh), fs::remove_dir(&folder)));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = owned(&fresh).and_then(|listener| fs::rename(&fresh, path).map(|()| listener));
    if made.is_err() {
        drop(fs::remove_file(&fresh));
    }
    fs::remove_dir(&folder)?;
    Ok(Listener::Unix { listener: made?, _file: SocketFile(path.into()) })
}

/// A socket of mode 0600.
fn owned(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, private) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("10.0.0.1:1", false), ("unix:/run/a.sock", true)]
        {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_private()), (text, private));
        }
        assert_eq!(Listen::parse("unix:///run/a"), Some(Listen::Unix("/run/a".into())));
        for text in ["", "localhost", "unix:", "unix:a", "unix://a"] {
            assert_eq!(Listen::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_and_replaces_only_what_nobody_listens_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let at = Listen::Unix(path.clone());
        // What a killed server leaves behind, also one that was killed before the file had its name.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let unfinished = folder.path().join(format!("socket.{}", std::process::id()));
        fs::create_dir(&unfinished).unwrap();
        drop(std::os::unix::net::UnixListener::bind(unfinished.join("s")).unwrap());
        let listener = at.bind().await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(at.bind().await.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        let (client, taken) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(client.is_ok() && taken.is_ok());
        drop(listener);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        fs::write(&path, "a letter").unwrap();
        assert_eq!(at.bind().await.err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
    }
}
