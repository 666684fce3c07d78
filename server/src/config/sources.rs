//! Where settings come from: flag over environment over file over default, with the origin of each.

use super::{
    Problem,
    knobs::{KNOBS, Knob, PREFIX, STANDARD},
    nearest::nearest,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Variables with our prefix that belong to the clients, to the command line, to the build and to the tests.
const FOREIGN: &[&str] = &[
    "AUTOLRS_SERVER",
    "AUTOLRS_TOKEN",
    "AUTOLRS_TOKEN_FILE",
    "AUTOLRS_CA",
    "AUTOLRS_CERT",
    "AUTOLRS_KEY",
    "AUTOLRS_CONFIG",
    // The conformance kit gives them to the client that it tries.
    "AUTOLRS_JOB",
    "AUTOLRS_DECISION_TIMEOUT",
    "AUTOLRS_STEP_SECONDS",
    "AUTOLRS_COMMIT",
    "AUTOLRS_BIN",
    "AUTOLRS_BLESS",
    "AUTOLRS_TEST_DEVICE",
];

/// A value as text, and who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which knob.
    pub knob: &'static Knob,
    /// As it was written.
    pub text: String,
    /// Who set it.
    pub origin: Origin,
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// The file.
    File {
        /// Its path.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Every knob's setting in the order of the table, and what is wrong with the sources themselves.
pub(super) fn merge(
    flags: &BTreeMap<String, String>,
    env: &HashMap<String, String>,
    file: Option<&Path>,
) -> (Vec<Setting>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut given = file.map(|path| read_file(path, &mut problems)).unwrap_or_default();
    given.extend(read_env(env, &mut problems));
    given.extend(flags.iter().filter_map(|(key, text)| {
        let knob = Knob::find(key)?;
        Some(Setting { knob, text: text.clone(), origin: Origin::Flag(knob.flag()) })
    }));
    // The last word counts.
    let mut given: BTreeMap<_, _> = given.into_iter().map(|setting| (setting.knob.key, setting)).collect();
    let default = |knob: &'static Knob| Setting { knob, text: knob.default.into(), origin: Origin::Default };
    let settings = KNOBS
        .iter()
        .map(|knob| given.remove(knob.key).or_else(|| standard(knob, env)).unwrap_or_else(|| default(knob)));
    (settings.collect(), problems)
}

fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut problem = |key: &str, message: String| problems.push(Problem { key: key.into(), message });
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problem("config", format!("can't be read: {}: {error}", path.display()));
            return Vec::new();
        }
    };
    let line = |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut broken = BTreeSet::new();
    for error in errors {
        let line = line(error.span().map_or(0, |span| span.start));
        // What follows the first error of a line is often its consequence.
        if broken.insert(line) {
            problem("config", format!("is not TOML at {}:{line}: {}", path.display(), error.message()));
        }
    }
    let mut settings = Vec::new();
    let mut entries: Vec<(&Spanned<_>, &Spanned<_>)> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let line = line(key.span().start);
        if broken.contains(&line) {
            continue;
        }
        let key = key.get_ref().as_ref();
        let origin = Origin::File { path: path.to_owned(), line };
        match (Knob::find(key), scalar(value.get_ref())) {
            (Some(knob), Some(text)) => settings.push(Setting { knob, text, origin }),
            (Some(_), None) => problem(key, format!("must be one value, is a table or a list (in {origin})")),
            (None, _) => {
                let meant = nearest(key, KNOBS.iter().map(|knob| knob.key));
                problem(key, format!("is not a key of this version (in {origin}){}", did_you_mean(meant)));
            }
        }
    }
    settings
}

/// The value as text; none if it is more than one.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Some(parsed.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn read_env(env: &HashMap<String, String>, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, text) in env.iter().collect::<BTreeMap<_, _>>() {
        if !name.starts_with(PREFIX) || FOREIGN.contains(&name.as_str()) || is_service_link(name) {
            continue;
        }
        match KNOBS.iter().find(|knob| knob.variable() == *name) {
            Some(knob) => {
                let origin = Origin::Variable(name.clone());
                settings.push(Setting { knob, text: text.clone(), origin });
            }
            None => {
                let ours = name.trim_start_matches(PREFIX);
                let foreign: Vec<_> =
                    FOREIGN.iter().map(|name| name[PREFIX.len()..].to_lowercase()).collect();
                let known = KNOBS.iter().map(|knob| knob.key).chain(foreign.iter().map(String::as_str));
                let meant = nearest(ours, known).map(|key| PREFIX.to_owned() + &key.to_ascii_uppercase());
                let message = format!("is not a variable of this version{}", did_you_mean(meant.as_deref()));
                problems.push(Problem { key: name.clone(), message });
            }
        }
    }
    settings
}

/// What OpenTelemetry's own variables say of a knob.
fn standard(knob: &'static Knob, env: &HashMap<String, String>) -> Option<Setting> {
    let (_, names) = STANDARD.iter().find(|(key, _)| *key == knob.key)?;
    names.iter().find_map(|name| {
        let text = env.get(*name).filter(|text| !text.is_empty())?.clone();
        Some(Setting { knob, text, origin: Origin::Variable((*name).to_owned()) })
    })
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

/// Whether Kubernetes made the variable for a service whose name starts with `autolrs`.
fn is_service_link(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end))
        || ["_SERVICE_PORT_", "_PORT_"].iter().any(|part| name.contains(part))
}
