//! Settings with their origins.

use super::{json, table::Table, text::plain};
use crate::config::{Origin, Setting, Settings};
use serde_json::{Value, json};

/// For people.
pub(in crate::cli) fn table(settings: &Settings) -> String {
    let row = |setting: &Setting| {
        let value = setting.knob.shown(&setting.text);
        vec![setting.knob.key.to_owned(), plain(&value), plain(&setting.origin.to_string())]
    };
    Table::new(&["<KEY", "<VALUE", "<ORIGIN"]).with(settings.iter().map(row)).print()
}

/// For programs.
pub(in crate::cli) fn json(settings: &Settings) -> String {
    let one = |setting: &Setting| {
        let text = setting.knob.shown(&setting.text);
        let value: Value = bare(setting).unwrap_or_else(|| text.into());
        let origin = match &setting.origin {
            Origin::Default => json!({ "kind": "default" }),
            Origin::File { path, line } => {
                json!({ "kind": "file", "path": path.display().to_string(), "line": line })
            }
            Origin::Variable(name) => json!({ "kind": "variable", "name": name }),
            Origin::Flag(name) => json!({ "kind": "flag", "name": name }),
        };
        json!({ "key": setting.knob.key, "value": value, "origin": origin })
    };
    json::print(&json!({ "settings": settings.iter().map(one).collect::<Vec<_>>() }))
}

/// The number or the truth value that the text is read as: `064` is 64.
fn bare(setting: &Setting) -> Option<Value> {
    let Setting { knob, text, .. } = setting;
    if !knob.is_bare() {
        return None;
    }
    let number = text.parse::<u64>().ok().map(Value::from);
    number.or_else(|| text.parse::<bool>().ok().map(Value::from))
}

/// For `autolrs serve --config`.
pub(in crate::cli) fn toml(settings: &Settings) -> String {
    let line = |setting: &Setting| {
        let Setting { knob, text, origin } = setting;
        let (key, origin) = (knob.key, plain(&origin.to_string()));
        if knob.shown(text) != *text {
            return format!("# {key} is hidden: {origin}\n");
        }
        let value = bare(setting)
            .map_or_else(|| toml::Value::from(text.as_str()).to_string(), |value| value.to_string());
        format!("{key} = {value} # {origin}\n")
    };
    settings.iter().map(line).collect()
}
