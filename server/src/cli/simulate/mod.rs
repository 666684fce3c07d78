//! `autolrs simulate`: plays a policy on a loss surface in memory and tells what it would do, before a GPU is spent.

pub mod curves;
mod report;
pub mod spec;
mod steps;

use crate::exit::{self, Failure};
use autolrs_core::{
    job::Refusal,
    policy,
    simulate::{
        self,
        surface::{Curves, Settings, Surface, SurfaceName, Synthetic},
    },
    spec::{JobSpec, LrRange, ResolvedSpec},
};
use clap::{Args, ValueEnum, builder::PossibleValuesParser, builder::TypedValueParser};
use report::{Report, Stated};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// Longest training that is played: every step is kept in memory, and the reference takes more than 100 full runs.
const MAX_STEPS: u64 = 1_000_000;
/// Where a surface diverges unless it is said: this far up the range that is searched.
const BREAKS_AT_SHARE: f64 = 0.75;
/// A job that searches nothing has a range of this factor around its fallback LR.
const FACTOR: f64 = 100.0;

/// What to play on what.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The job: a TOML file with the fields of `JobSpec` in the proto and a table for the policy, such as `[scan]`.
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
    /// A surface that is given by equations.
    #[arg(long, value_name = "NAME", default_value = "quadratic", conflicts_with = "curves", value_parser = surface_names())]
    surface: SurfaceName,
    /// Recorded losses instead: CSV (lr,step,loss) or JSON ({"curves": [{"lr": 0.1, "every": 1, "losses": [...]}]}, null
    /// where it had diverged); LRs in between are interpolated.
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,
    /// The LR above which the surface diverges; without it three quarters up the range that is searched (in log LR), or 10
    /// times the fallback LR.
    #[arg(long, value_name = "LR", conflicts_with = "curves")]
    breaks_at: Option<f64>,
    /// Seed of the surface's noise; the policy's own is the spec's.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Write every step to a CSV file: step,directive,phase,stage,trial,lr,loss,kept.
    #[arg(long, value_name = "FILE")]
    steps: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For machines.
    Json,
}

fn surface_names() -> impl TypedValueParser<Value = SurfaceName> {
    PossibleValuesParser::new(SurfaceName::ALL.iter().map(|name| name.as_str())).map(|text| {
        SurfaceName::ALL.iter().copied().find(|name| name.as_str() == text).unwrap_or(SurfaceName::Quadratic)
    })
}

/// Why nothing was played.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A file can't be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The job's file can't be used.
    #[error("{} is not usable:\n  {}", path.display(), problems.join("\n  "))]
    Spec {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, each with the field's name.
        problems: Vec<String>,
    },
    /// The recorded curves can't be used.
    #[error("{}: {problem}", path.display())]
    Curves {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// `--breaks-at` is out of range.
    #[error("--breaks-at must be a finite LR above 0, is {0}")]
    BreaksAt(f64),
    /// The job refused what the simulated trainer did: a defect.
    #[error("a defect: the job refused the simulated trainer: {0}")]
    Refused(#[from] Refusal),
    /// stdout is gone.
    #[error("{0}")]
    Out(#[from] io::Error),
}

impl Failure for SimulateError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Spec { .. } | Self::Curves { .. } | Self::BreaksAt(_) => exit::USAGE,
            Self::Refused(_) | Self::Out(_) => exit::INTERNAL,
        }
    }
}

/// Plays and prints.
///
/// # Errors
/// If a file can't be used, with everything that is wrong with a spec at once.
pub fn run(args: &SimulateArgs) -> Result<(), SimulateError> {
    let (asked, spec) = read_spec(&args.spec)?;
    let range = range(&asked, &spec);
    let text = match &args.curves {
        Some(path) => {
            let surface = read_curves(path, args.seed)?;
            let (lo, hi) = surface.lrs();
            let name = format!("recorded in {}, LRs {lo:.3e} to {hi:.3e}", path.display());
            let notes = |surface: &Curves| {
                let outside =
                    "the run used LRs beyond the recorded ones: they were trained as at the nearest";
                let past = "the run went on where no curve was recorded: there the loss was held";
                let notes = [(surface.used_lrs_outside(), outside), (surface.ran_past_the_end(), past)];
                notes.into_iter().filter(|note| note.0).map(|note| note.1.into()).collect()
            };
            play(args, &spec, LrRange { lo, hi }, name, surface, notes)?
        }
        None => {
            let breaks_at = breaks_at(args, range)?;
            let settings = Settings { breaks_at, steps: simulate::steps(&spec), seed: args.seed };
            let name = format!("{}, diverges above LR {breaks_at:.3e}", args.surface.as_str());
            play(args, &spec, range, name, Synthetic::new(args.surface, settings), |_| Vec::new())?
        }
    };
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn play<S: Surface>(
    args: &SimulateArgs,
    spec: &ResolvedSpec,
    range: LrRange,
    surface_name: String,
    surface: S,
    notes: impl Fn(&S) -> Vec<String>,
) -> Result<String, SimulateError> {
    let start = surface.clone();
    let (trace, surface) = simulate::simulate(spec.clone(), surface)?;
    let reference = simulate::reference(&start, trace.spent.total(), range);
    if let Some(path) = &args.steps {
        let file = fs::File::create(path).and_then(|file| steps::write(file, &trace));
        file.map_err(|error| SimulateError::File { path: path.clone(), error })?;
    }
    let stated = Stated { surface: surface_name, seed: args.seed, notes: notes(&surface) };
    let report = Report { spec, advice: policy::advice(spec), stated, reference, trace: &trace };
    Ok(match args.output {
        Output::Table => report.table(),
        Output::Json => report.json(),
    })
}

fn read_spec(path: &Path) -> Result<(JobSpec, ResolvedSpec), SimulateError> {
    let error = |problems| SimulateError::Spec { path: path.into(), problems };
    let text = fs::read_to_string(path).map_err(|error| SimulateError::File { path: path.into(), error })?;
    let (asked, resolved) = spec::read(&text).map_err(error)?;
    let steps = simulate::steps(&resolved);
    if steps > MAX_STEPS {
        let field = if resolved.budget.is_open() { "open_budget.expected_steps" } else { "total_steps" };
        return Err(error(vec![format!("{field} must be at most {MAX_STEPS} to be simulated, is {steps}")]));
    }
    Ok((asked, resolved))
}

fn read_curves(path: &Path, seed: u64) -> Result<Curves, SimulateError> {
    let text = fs::read_to_string(path).map_err(|error| SimulateError::File { path: path.into(), error })?;
    let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let curves = if json { curves::json(&text) } else { curves::csv(&text) };
    let surface = curves.and_then(|curves| Curves::new(curves, seed).map_err(|error| error.to_string()));
    surface.map_err(|problem| SimulateError::Curves { path: path.into(), problem })
}

/// The LRs that the reference is looked for in.
fn range(asked: &JobSpec, spec: &ResolvedSpec) -> LrRange {
    match (asked.lr_min, asked.lr_max) {
        (Some(lo), Some(hi)) => LrRange { lo, hi },
        _ => LrRange { lo: spec.fallback_lr / FACTOR, hi: spec.fallback_lr * FACTOR },
    }
}

fn breaks_at(args: &SimulateArgs, range: LrRange) -> Result<f64, SimulateError> {
    let share = range.lo.ln() + (range.hi.ln() - range.lo.ln()) * BREAKS_AT_SHARE;
    let lr = args.breaks_at.unwrap_or_else(|| share.exp());
    if lr.is_finite() && lr > 0.0 { Ok(lr) } else { Err(SimulateError::BreaksAt(lr)) }
}
