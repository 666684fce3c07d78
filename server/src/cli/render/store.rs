//! What the commands of `autolrs store` have found.

use super::{json, number, table::paint, table::word_style, text};
use crate::cli::store::Found;
use serde_json::json;

/// For people.
pub(in crate::cli) fn table(found: &Found) -> String {
    let mut lines = Vec::new();
    if let Some(file) = &found.file {
        lines.push(("file", file.display().to_string()));
    }
    for (key, count) in [("jobs", found.count.jobs), ("rows", found.count.rows), ("bytes", found.count.bytes)]
    {
        lines.push((key, number::steps(count)));
    }
    if let Some(bytes) = found.disk_bytes {
        lines.push(("on disk", number::steps(bytes)));
    }
    let mut printed: String = lines.iter().map(|(key, value)| format!("{key:<8}  {value}\n")).collect();
    for (job, problems) in &found.damaged {
        printed += &format!("{}   {job}\n", paint("damaged", word_style("damaged")));
        for problem in problems {
            printed += &format!("{}\n", text::wrapped(&text::plain(problem), 10, 80));
        }
    }
    printed
}

/// For programs.
pub(in crate::cli) fn json(found: &Found) -> String {
    let damaged = found
        .damaged
        .iter()
        .map(|(job, problems)| json!({ "tenant": job.tenant, "job": job.name, "problems": problems }));
    let mut value = json!({
        "jobs": found.count.jobs,
        "rows": found.count.rows,
        "bytes": found.count.bytes,
        "damaged": damaged.collect::<Vec<_>>(),
        "lost": found.lost,
    });
    if let Some(file) = &found.file {
        value["file"] = file.display().to_string().into();
    }
    if let Some(bytes) = found.disk_bytes {
        value["disk_bytes"] = bytes.into();
    }
    json::print(&value)
}
