//! `make torture`: kills real servers and real trainers until there are enough kills, and prints what it cost.

use autolrs_tests::torture::{Options, Recipe, can_trace, run};
use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
struct Args {
    /// Kills at least.
    #[arg(long, default_value_t = 1000)]
    kills: u64,
    /// What every draw follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Jobs at once.
    #[arg(long, default_value_t = 2)]
    parallel: usize,
    /// Jobs to run; all by default.
    #[arg(long)]
    recipe: Vec<Recipe>,
    /// Number of the first job.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Kill only where the trainer says something, as if strace were missing.
    #[arg(long)]
    no_strace: bool,
}

fn main() -> ExitCode {
    let Args { kills, seed, parallel, recipe, first, no_strace } = Args::parse();
    let trace = !no_strace && can_trace();
    if !trace {
        eprintln!(
            "without strace: processes are killed where the trainer says something, not at their system calls"
        );
    }
    let recipes = if recipe.is_empty() { Recipe::ALL.to_vec() } else { recipe };
    let options = Options { kills, seed, parallel, trace, recipes, first };
    match run(&options, &|text| eprintln!("{text}")) {
        Ok(totals) => {
            println!("\n{totals}");
            let all = totals.all();
            ExitCode::from(u8::from((all.lost_reports, all.changed_decisions, all.stuck) != (0, 0, 0)))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
