//! What `autolrs doctor` has found.

use super::{json, table::paint, text::plain};
use crate::cli::doctor::{Finding, Level};
use anstyle::{AnsiColor, Style};
use serde_json::json;

/// For people: a line per check, and below it what to do.
pub(in crate::cli) fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let (word, colour) = match finding.level {
            Level::Ok => ("OK", AnsiColor::Green),
            Level::Warn => ("WARN", AnsiColor::Yellow),
            Level::Fail => ("FAIL", AnsiColor::Red),
        };
        let level = paint(&format!("{word:<4}"), Style::new().fg_color(Some(colour.into())));
        let remedy = finding
            .remedy
            .as_ref()
            .map(|remedy| format!("{:indent$}-> {}\n", "", plain(remedy), indent = width + 8));
        format!(
            "{level}  {:<width$}  {}\n{}",
            finding.check,
            plain(&finding.what),
            remedy.unwrap_or_default()
        )
    };
    findings.iter().map(line).collect()
}

/// For programs.
pub(in crate::cli) fn json(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        json!({ "check": finding.check, "level": level, "what": finding.what, "remedy": finding.remedy })
    };
    json::print(&json!({ "checks": findings.iter().map(one).collect::<Vec<_>>() }))
}
