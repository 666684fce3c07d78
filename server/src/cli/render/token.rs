//! The tokens of a file. Their secrets are not in it.

use super::{json::print, table::Table};
use crate::auth::{Record, Tokens, file::SERVER};
use serde_json::json;
use std::time::SystemTime;

/// A line per token.
pub(in crate::cli) fn table(tokens: &Tokens) -> String {
    let now = SystemTime::now();
    let row = |record: &Record| {
        let expires = record.expires.map_or_else(|| "never".to_owned(), moment);
        let past = if record.is_expired(now) { " (expired)" } else { "" };
        let tenant = if record.tenant == SERVER { "* (the server)" } else { &record.tenant };
        vec![
            record.id.to_string(),
            tenant.to_owned(),
            record.role.to_string(),
            moment(record.created),
            expires + past,
        ]
    };
    Table::new(&["<ID", "<TENANT", "<ROLE", "<CREATED", "<EXPIRES"]).with(tokens.iter().map(row)).print()
}

/// For programs.
pub(in crate::cli) fn json(tokens: &Tokens) -> String {
    let token = |record: &Record| {
        json!({
            "id": record.id.as_str(),
            "tenant": record.tenant,
            "role": record.role.to_string(),
            "created": moment(record.created),
            "expires": record.expires.map(moment),
        })
    };
    print(&json!({ "tokens": tokens.iter().map(token).collect::<Vec<_>>() }))
}

fn moment(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}
