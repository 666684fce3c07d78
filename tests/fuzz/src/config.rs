//! The configuration of the daemon: a file, then environment variables and flags as `NAME=VALUE`, each ended by a zero.

use crate::input::Input;
use autolrs_server::config::{Config, knobs::KNOBS};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

/// Every mistake has a sentence that names its key; what is accepted is within its range.
///
/// # Panics
/// If that does not hold.
pub fn target(bytes: &[u8]) {
    let mut input = Input(bytes);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("autolrs.toml");
    fs::write(&file, input.until_zero()).expect("written");
    let (mut flags, mut env) = (BTreeMap::new(), HashMap::new());
    while !input.is_empty() {
        let text = String::from_utf8_lossy(input.until_zero()).into_owned();
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        if KNOBS.iter().any(|knob| knob.key == name) {
            flags.insert(name.to_owned(), value.to_owned());
        } else {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    match Config::read(&flags, &env, Some(&file)) {
        Ok(config) => {
            let limits = &config.limits;
            assert!((65_536..=64 << 20).contains(&limits.max_message));
            assert!(limits.max_requests >= 1 && limits.max_trainers >= 1 && limits.mailbox >= 1);
            assert!(limits.request_timeout.as_secs() >= 1 && limits.idle.as_secs() >= 1);
            assert!(!config.data_dir.as_os_str().is_empty());
        }
        Err(error) => {
            assert!(!error.0.is_empty());
            let said = error.to_string();
            for problem in &error.0 {
                assert!(!problem.message.is_empty() && said.contains(&problem.key), "{said}");
            }
        }
    }
}
