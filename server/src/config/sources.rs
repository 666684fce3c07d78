//! Where settings come from: flag over environment over file over default, with the origin of each for the messages.

use super::{
    Problem,
    knobs::{KNOBS, Knob, PREFIX},
};
use config::{File, FileFormat, Source, ValueKind};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Variables with our prefix that belong to the clients, to the command line and to the tests.
const FOREIGN: &[&str] =
    &["AUTOLRS_SERVER", "AUTOLRS_TOKEN", "AUTOLRS_CONFIG", "AUTOLRS_BIN", "AUTOLRS_BLESS", "AUTOLRS_BENCH"];

/// A value as text, and who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) text: String,
    /// Empty for a default.
    pub(super) origin: String,
}

/// Every knob's setting, and what is wrong with the sources themselves.
pub(super) fn merge(
    flags: &BTreeMap<String, String>,
    env: &HashMap<String, String>,
    file: Option<&Path>,
) -> (BTreeMap<&'static str, Setting>, Vec<Problem>) {
    let mut problems = Vec::new();
    let default = |knob: &Knob| Setting { text: knob.default.into(), origin: String::new() };
    let mut settings: BTreeMap<_, _> = KNOBS.iter().map(|knob| (knob.key, default(knob))).collect();
    if let Some(path) = file {
        match read_file(path, &mut problems) {
            Ok(values) => settings.extend(values),
            Err(message) => problems.push(Problem { key: "config".into(), message }),
        }
    }
    settings.extend(read_env(env, &mut problems));
    for (key, text) in flags {
        if let Some(knob) = Knob::find(key) {
            settings.insert(knob.key, Setting { text: text.clone(), origin: knob.flag() });
        }
    }
    (settings, problems)
}

fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Result<Vec<(&'static str, Setting)>, String> {
    let values = File::from(path).format(FileFormat::Toml).collect().map_err(|e| e.to_string())?;
    let mut settings = Vec::new();
    for (key, value) in values.into_iter().collect::<BTreeMap<_, _>>() {
        let Some(knob) = Knob::find(&key) else {
            let message = format!("is not a key of this version (in {})", path.display());
            problems.push(Problem { key, message });
            continue;
        };
        let origin = path.display().to_string();
        match &value.kind {
            ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => {
                let message = format!("must be one value, is a table or a list (in {origin})");
                problems.push(Problem { key, message });
            }
            scalar => settings.push((knob.key, Setting { text: scalar.to_string(), origin })),
        }
    }
    Ok(settings)
}

fn read_env(env: &HashMap<String, String>, problems: &mut Vec<Problem>) -> Vec<(&'static str, Setting)> {
    let mut settings = Vec::new();
    for (name, text) in env.iter().collect::<BTreeMap<_, _>>() {
        if !name.starts_with(PREFIX) || FOREIGN.contains(&name.as_str()) || is_service_link(name) {
            continue;
        }
        match KNOBS.iter().find(|knob| knob.variable() == *name) {
            Some(knob) => settings.push((knob.key, Setting { text: text.clone(), origin: name.clone() })),
            None => problems
                .push(Problem { key: name.clone(), message: "is not a variable of this version".into() }),
        }
    }
    settings
}

/// Whether Kubernetes made the variable for a service whose name starts with `autolrs`.
fn is_service_link(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end))
        || ["_SERVICE_PORT_", "_PORT_"].iter().any(|part| name.contains(part))
}
