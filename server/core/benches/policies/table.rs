//! The table and its captions, which say where a policy that searches is not worth it.

use crate::measure::{Bench, Row};
use autolrs_core::simulate::surface::SurfaceName;
use std::fmt::Write;

pub(crate) fn head(bench: &Bench) -> String {
    let Bench { steps, seeds, range, shelf_lr } = bench;
    format!(
        "{steps} steps in all for everybody, {seeds} seeds; LRs from {:e} to {:e}; every surface diverges above LR 1.\n\
         Plain schedules at the shelf LR {shelf_lr}, then tuned: the best of so many LRs, each with a full run per seed.\n\
         Regret: final true loss minus that of the best of 123 schedules (constant, wsd, cosine) on the same seed; \
         +- is the standard deviation over seeds.\n",
        range.lo, range.hi
    )
}

pub(crate) fn surface(bench: &Bench, surface: SurfaceName, rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10} {:<14} {:>22} {:>11} {:>24} {:>9} {:>7} {:>7}\n",
        surface.as_str(),
        "policy",
        "lr",
        "final loss",
        "regret",
        "overhead",
        "lost",
        "failed"
    );
    for row in rows {
        let lr = match (row.lr, row.tuned) {
            (None, _) => "searched".into(),
            (Some(lr), 0) => format!("{lr:.3} shelf"),
            (Some(lr), tuned) => format!("{lr:.4} tuned ({tuned} LRs)"),
        };
        let regret = format!("{} +- {}", number(row.mean(|run| run.regret)), number(row.regret_sd()));
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let line = format!(
            "{:<10} {:<14} {lr:>22} {:>11} {regret:>24} {:>9} {:>7} {:>4}/{}",
            "",
            row.policy,
            number(row.mean(|run| run.loss)),
            percent(row.mean(|run| run.overhead)),
            percent(row.mean(|run| run.lost)),
            row.failed(),
            bench.seeds
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    captions(rows, &mut text);
    text
}

fn captions(rows: &[Row], text: &mut String) {
    let regret = |row: &Row| row.mean(|run| run.regret);
    let beaten_by = |row: &Row, tuned: bool| -> Vec<&str> {
        let better = rows
            .iter()
            .filter(|r| !r.searches && (r.tuned > 0) == tuned && regret(r).total_cmp(&regret(row)).is_le());
        better.map(|r| r.policy.as_str()).collect()
    };
    for row in rows.iter().filter(|row| row.searches) {
        for (tuned, what) in [(false, "untuned, at the shelf LR"), (true, "tuned")] {
            let better = beaten_by(row, tuned);
            let said = match better.len() {
                0 => continue,
                7 => format!("loses to every plain schedule {what}"),
                _ => format!("loses to {} {what}", better.join(", ")),
            };
            writeln!(text, "  {}: {said}", row.policy).expect("a string");
        }
        let failed = row.failed();
        if failed > 0 {
            writeln!(text, "  {}: FAILED in {failed} of {} runs", row.policy, row.runs.len())
                .expect("a string");
        }
    }
}

fn number(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-3..1e4).contains(&value.abs()) {
        format!("{value:.2e}")
    } else {
        format!("{value:.4}")
    }
}
