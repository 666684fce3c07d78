//! Jobs whose server and trainer, real processes both, are killed again and again: nothing may be lost, no decision may
//! change, no job may hang.
//!
//! Each job of [`Recipe::ALL`] is first run undisturbed. Its trainer's line (the LR and the loss of every step) and its
//! server's books are what every later run is compared with, to the bit, and its system calls say where a process can be
//! killed. Then job after job is run to its end through kills of the server, of the trainer, of both in turn and of both
//! at once; every process that dies is started again, on what the last one left.

mod books;
mod kill;
mod life;
mod process;
mod recipe;
mod table;

pub use kill::Side;
pub use process::can_trace;
pub use recipe::Recipe;

use kill::{Kill, below, draw};
use life::{Outcome, Undisturbed};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    thread,
};

/// Processes that a job's life goes through on a side, one more than it has kills.
const LIVES: u64 = 9;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kills at least.
    pub kills: u64,
    /// What every draw follows from.
    pub seed: u64,
    /// Jobs at once.
    pub parallel: usize,
    /// Whether strace is there: without it processes are killed where the trainer says something.
    pub trace: bool,
    /// The jobs that are run.
    pub recipes: Vec<Recipe>,
    /// The first job's number: with the seed it says what happens to it.
    pub first: u64,
}

/// A line of the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Jobs that were run.
    pub jobs: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Losses of the undisturbed job that the server does not hold.
    pub lost_reports: usize,
    /// Directives with other steps, and other decisions in the server's books.
    pub changed_decisions: usize,
    /// Jobs that did not come to their end.
    pub stuck: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Totals {
    rows: BTreeMap<Recipe, Row>,
    points: BTreeMap<usize, u64>,
    beside: u64,
}

impl Totals {
    /// All jobs together.
    pub fn all(&self) -> Row {
        self.rows.values().fold(Row::default(), |sum, row| Row {
            jobs: sum.jobs + row.jobs,
            kills: sum.kills + row.kills,
            lost_reports: sum.lost_reports + row.lost_reports,
            changed_decisions: sum.changed_decisions + row.changed_decisions,
            stuck: sum.stuck + row.stuck,
        })
    }

    fn enter(&mut self, recipe: Recipe, outcome: &Outcome) {
        let row = self.rows.entry(recipe).or_default();
        row.jobs += 1;
        row.kills += outcome.kills();
        row.lost_reports += outcome.lost_reports;
        row.changed_decisions += outcome.changed_decisions;
        row.stuck += u64::from(outcome.stuck.is_some());
        self.beside += outcome.beside;
        for (point, kills) in &outcome.kills {
            *self.points.entry(*point).or_default() += kills;
        }
    }
}

/// Jobs that are under way or done.
struct Progress {
    next: u64,
    totals: Totals,
    failed: Option<String>,
}

/// Kills until there are enough kills. `say` is told how it goes.
///
/// # Errors
/// What has nothing to do with a kill: a program that is missing, a file that can't be written.
pub fn run(options: &Options, say: &(dyn Fn(&str) + Sync)) -> Result<Totals, String> {
    let mut undisturbed = BTreeMap::new();
    for recipe in &options.recipes {
        let life = life::undisturbed(*recipe, options.trace).map_err(|error| error.to_string())?;
        undisturbed.insert(*recipe, life);
    }
    say(&format!("{} jobs were run undisturbed", undisturbed.len()));
    let progress = Progress { next: options.first, totals: Totals::default(), failed: None };
    let progress = Mutex::new(progress);
    thread::scope(|scope| {
        for _ in 0..options.parallel.max(1) {
            scope.spawn(|| work(options, &undisturbed, &progress, say));
        }
    });
    let Progress { totals, failed, .. } = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(totals), Err)
}

fn work(
    options: &Options,
    undisturbed: &BTreeMap<Recipe, Undisturbed>,
    progress: &Mutex<Progress>,
    say: &(dyn Fn(&str) + Sync),
) {
    let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let number = {
            let mut progress = lock();
            if progress.failed.is_some() || progress.totals.all().kills >= options.kills {
                return;
            }
            progress.next += 1;
            progress.next - 1
        };
        let recipe = options.recipes[usize::try_from(number).unwrap_or(0) % options.recipes.len()];
        let expected = &undisturbed[&recipe];
        let plans = plans(options, number, expected);
        let outcome = life::disturbed(recipe, expected, plans.clone());
        let mut progress = lock();
        match outcome {
            Ok(outcome) => {
                progress.totals.enter(recipe, &outcome);
                for remark in outcome.remarks.iter().chain(&outcome.stuck) {
                    say(&format!(
                        "job {number}, {}, seed {}: {remark}\n  {plans:?}",
                        recipe.name(),
                        options.seed
                    ));
                }
                say(&told(&progress.totals, options.kills));
            }
            Err(error) => progress.failed = Some(format!("job {number}: {error}")),
        }
    }
}

fn told(totals: &Totals, wanted: u64) -> String {
    let Row { jobs, kills, lost_reports, changed_decisions, stuck } = totals.all();
    format!(
        "{kills:>5} of {wanted} kills, {jobs} jobs: {lost_reports} lost reports, {changed_decisions} changed decisions, \
         {stuck} stuck jobs"
    )
}

/// The kills of job `number`: of the server, of the trainer, of both in turn, of both at once.
fn plans(options: &Options, number: u64, expected: &Undisturbed) -> BTreeMap<Side, VecDeque<Kill>> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_mul(1 << 32).wrapping_add(number));
    let way = number % 4;
    let mut plans: BTreeMap<Side, VecDeque<Kill>> = BTreeMap::new();
    for _ in 1..LIVES {
        let side = match way {
            0 => Side::Server,
            1 => Side::Trainer,
            _ if below(&mut rng, 2) == 0 => Side::Server,
            _ => Side::Trainer,
        };
        let lives = if way < 2 { LIVES } else { LIVES / 2 };
        let kill = draw(&mut rng, side, &expected.counts, lives, way == 3);
        plans.entry(side).or_default().push_back(kill);
    }
    plans
}
