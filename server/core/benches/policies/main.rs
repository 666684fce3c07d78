//! `make bench-policies`: every policy on every surface with a known optimum, as a table. With a file's name as
//! argument it appends the rows there, one JSON object a line, with the commit that they were measured at.
//!
//! Every policy spends the same budget, its search included, on the same noise (one seed per run). Plain schedules are
//! shown twice: at one LR for all surfaces, as taken from the shelf, and at the best LR of a grid of full runs, which is
//! the tuning that a search is meant to save. Regret is what `autolrs simulate` prints: the final true loss minus that of
//! the best of 123 plain schedules on the same seed ([`autolrs_core::simulate::reference`]).

mod measure;
mod table;

use autolrs_core::{
    forecast::Forecaster,
    simulate::surface::SurfaceName,
    spec::{
        ClrOptions, ConstantOptions, CosineOptions, OneCycleOptions, PaperOptions, PolicySpec, ScanOptions,
        SgdrOptions, StagedOptions, StepOptions, WsdOptions,
    },
};
use measure::{Bench, Row};
use std::{fs::OpenOptions, io::Write, process::Command};

fn main() {
    // Cargo passes `--bench`.
    let rows_file = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let bench = Bench::default();
    println!("{}", table::head(&bench));
    let mut all = Vec::new();
    for &surface in SurfaceName::ALL {
        let rows = measure(&bench, surface);
        println!("{}", table::surface(&bench, surface, &rows));
        all.extend(rows);
    }
    if let Some(file) = rows_file {
        append(&file, &bench, &all);
    }
}

/// Policies that search, and plain ones at the shelf LR and tuned.
fn measure(bench: &Bench, surface: SurfaceName) -> Vec<Row> {
    let references = bench.references(surface);
    let mixture = PaperOptions { forecaster: Some(Forecaster::Mixture), ..PaperOptions::default() };
    let searching = [
        ("scan", PolicySpec::Scan(ScanOptions::default())),
        ("paper", PolicySpec::Paper(PaperOptions::default())),
        ("paper+mixture", PolicySpec::Paper(mixture)),
        ("staged", PolicySpec::Staged(StagedOptions::default())),
    ];
    let searching = searching.into_iter().map(|(name, policy)| bench.run(surface, name, policy, &references));
    let shelf = plain().map(|policy| bench.run(surface, policy.name(), policy, &references));
    let tuned = plain().map(|policy| bench.tune(surface, policy, &references));
    searching.chain(shelf).chain(tuned).collect()
}

/// All plain schedules, at the fallback LR.
fn plain() -> [PolicySpec; 7] {
    [
        PolicySpec::Constant(ConstantOptions::default()),
        PolicySpec::Cosine(CosineOptions::default()),
        PolicySpec::Wsd(WsdOptions::default()),
        PolicySpec::OneCycle(OneCycleOptions::default()),
        PolicySpec::Step(StepOptions::default()),
        PolicySpec::Clr(ClrOptions::default()),
        PolicySpec::Sgdr(SgdrOptions::default()),
    ]
}

fn append(file: &str, bench: &Bench, rows: &[Row]) {
    let git = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().expect("git");
    let commit = String::from_utf8(git.stdout).expect("text");
    let mut out = OpenOptions::new().create(true).append(true).open(file).expect("a file to append to");
    for row in rows {
        writeln!(out, "{}", row.json(bench, commit.trim())).expect("written");
    }
}
