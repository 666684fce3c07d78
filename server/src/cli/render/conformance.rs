//! What `autolrs conformance` has found.

use super::{json::print, table::Table, text::plain};
use crate::cli::conformance::{Broken, Checked, Promise, Ran};
use serde_json::{Value, json};

/// The checks.
pub(in crate::cli) fn list(promises: &[Promise]) -> String {
    let row = |p: &Promise| [p.half.name(), p.name, p.place, p.promise].map(str::to_owned).to_vec();
    Table::new(&["<HALF", "<CHECK", "<PLACE", "<PROMISE"]).with(promises.iter().map(row)).print()
}

/// `{"checks": [...]}`
pub(in crate::cli) fn list_json(promises: &[Promise]) -> String {
    print(&json!({ "checks": promises.iter().map(promise).collect::<Vec<_>>() }))
}

/// A line per check; of those that did not pass, what was expected and what came.
pub(in crate::cli) fn table(ran: &Ran) -> String {
    let row = |checked: &Checked| {
        let promise = checked.promise;
        [outcome(checked), promise.name, promise.place].map(str::to_owned).to_vec()
    };
    let mut text = Table::new(&["<OUTCOME", "<CHECK", "<PLACE"]).with(ran.checked.iter().map(row)).print();
    for checked in &ran.checked {
        let Promise { name, place, promise, .. } = checked.promise;
        match &checked.verdict {
            Ok(()) => {}
            Err(Broken::Skipped(why)) => text += &format!("\n{name} was skipped: {}\n", plain(why)),
            Err(Broken::Fails { expected, came }) => {
                // Both may hold what a foreign server or program has said.
                let [expected, came] = [expected, came].map(|said| plain(said));
                text +=
                    &format!("\n{name}: {promise} ({place})\n  expected: {expected}\n  came:     {came}\n");
            }
        }
    }
    let [passed, failed, skipped] = ran.counts();
    text += &format!("\n{passed} passed, {failed} failed, {skipped} skipped\n");
    for left in &ran.left {
        text += &format!("could not be removed: {}\n", plain(left));
    }
    text
}

/// See the help of the command.
pub(in crate::cli) fn json(ran: &Ran) -> String {
    let check = |checked: &Checked| {
        let mut value = promise(&checked.promise);
        value["outcome"] = outcome(checked).to_ascii_lowercase().into();
        let (expected, came, reason) = match &checked.verdict {
            Ok(()) => (None, None, None),
            Err(Broken::Skipped(why)) => (None, None, Some(why)),
            Err(Broken::Fails { expected, came }) => (Some(expected), Some(came), None),
        };
        value["expected"] = json!(expected);
        value["came"] = json!(came);
        value["reason"] = json!(reason);
        value
    };
    let [passed, failed, skipped] = ran.counts();
    print(&json!({
        "checks": ran.checked.iter().map(check).collect::<Vec<_>>(),
        "passed": passed,
        "failed": failed,
        "skipped": skipped,
        "left": ran.left,
    }))
}

fn promise(promise: &Promise) -> Value {
    let Promise { half, name, place, promise } = promise;
    json!({ "half": half.name(), "name": name, "place": place, "promise": promise })
}

fn outcome(checked: &Checked) -> &'static str {
    match checked.verdict {
        Ok(()) => "PASS",
        Err(Broken::Fails { .. }) => "FAIL",
        Err(Broken::Skipped(_)) => "SKIP",
    }
}
