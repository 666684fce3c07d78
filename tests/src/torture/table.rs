//! What is printed at the end.

use super::{Recipe, Totals, kill::POINTS};
use std::fmt;

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<52}{:>8}", "killed with SIGKILL", "kills")?;
        for (number, (side, _, meaning)) in POINTS.iter().enumerate() {
            let side = format!("{side:?}").to_lowercase();
            let kills = self.points.get(&number).copied().unwrap_or(0);
            writeln!(f, "{:<52}{kills:>8}", format!("{side}, {meaning}"))?;
        }
        writeln!(f, "{:<52}{:>8}\n", "either, together with the other one", self.beside)?;
        writeln!(
            f,
            "{:<20}{:>8}{:>8}{:>14}{:>19}{:>12}",
            "policy", "jobs", "kills", "lost reports", "changed decisions", "stuck jobs"
        )?;
        for recipe in Recipe::ALL {
            if let Some(row) = self.rows.get(&recipe) {
                writeln!(f, "{:<20}{row}", recipe.name())?;
            }
        }
        write!(f, "{:<20}{}", "all", self.all())
    }
}

impl fmt::Display for super::Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, kills, lost_reports, changed_decisions, stuck } = self;
        write!(f, "{jobs:>8}{kills:>8}{lost_reports:>14}{changed_decisions:>19}{stuck:>12}")
    }
}
