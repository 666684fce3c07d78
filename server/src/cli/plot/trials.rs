//! The panel of a search's loss curves.

use super::{
    Area, Result, axis,
    axis::Losses,
    data,
    legend::{self, Mark},
    page::{self, Words},
    scores::{Lrs, best},
    style::{self, INK, VERMILION, px},
};
use autolrs_proto::v1::{Stage, Trial, trial::Outcome};
use plotters::{
    chart::ChartContext,
    coord::{
        ranged1d::{Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::{Cartesian2d, IntoLogRange, LineSeries, Rectangle, SVGBackend, Text},
    style::{Color, text_anchor::HPos},
};

/// Bins of a trial's losses: see `Trial.losses` in the proto.
const BINS: u64 = 128;

/// Draws the losses of every trial over its own steps, in the colour of its LR.
pub(super) fn draw(area: &Area<'_>, stage: &Stage) -> Result {
    let (head, body) = area.split_vertically(px(legend::HEAD));
    let colours = Lrs::of(stage);
    legend::head(&head, page::LEFT, "Training losses of the trials", &entries(stage))?;
    scale(&head, &colours)?;
    let losses = range(stage);
    let mut builder = page::chart(&body);
    let x = 0.0..stage.trials.iter().map(|trial| trial.steps).max().unwrap_or(1).max(1) as f64;
    if losses.log {
        let mut chart = builder.build_cartesian_2d(x, losses.range.clone().log_scale())?;
        series(&mut chart, stage, &losses, &colours)
    } else {
        let mut chart = builder.build_cartesian_2d(x, losses.range.clone())?;
        series(&mut chart, stage, &losses, &colours)
    }
}

fn range(stage: &Stage) -> Losses {
    let of = |completed: bool| {
        let trials = stage.trials.iter().filter(move |t| (t.outcome() == Outcome::Completed) == completed);
        trials.flat_map(|trial| trial.losses.clone())
    };
    let first =
        stage.trials.iter().filter_map(|trial| trial.losses.first().copied()).fold(f64::NAN, f64::max);
    // A trial that ended well may have been far up in between.
    let near = move |loss: &f64| first.is_nan() || *loss <= 3.0 * first.abs();
    Losses::of(of(true).filter(near), of(false))
}

fn series<Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, Y>>,
    stage: &Stage,
    losses: &Losses,
    colours: &Lrs,
) -> Result
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    page::mesh(chart, &Words { x: "step of the trial", y: "loss", x_label: &axis::step_label, x_labels: 6 })?;
    let best = best(stage).map(|trial| trial.trial);
    for trial in &stage.trials {
        let points = data::means(&trial.losses, trial.steps, BINS);
        let width = if best == Some(trial.trial) { 12 } else { 5 };
        for line in losses.lines(&points) {
            chart.draw_series(LineSeries::new(line, style::line(colours.colour(trial.lr), width)))?;
        }
    }
    for trial in &stage.trials {
        let last = trial.losses.iter().rev().find(|loss| loss.is_finite()).copied();
        let y = losses.clip(if trial.outcome() == Outcome::Diverged {
            f64::NAN
        } else {
            last.unwrap_or(f64::NAN)
        });
        if let Some(mark) = end(trial, colours) {
            mark.draw(chart, (trial.steps as f64, y))?;
        }
    }
    Ok(())
}

/// How the end of a trial is marked.
fn end(trial: &Trial, colours: &Lrs) -> Option<Mark> {
    match trial.outcome() {
        Outcome::Diverged => Some(Mark::Cross(VERMILION)),
        Outcome::Stopped => Some(Mark::Square(colours.colour(trial.lr))),
        Outcome::Completed | Outcome::Unspecified => None,
    }
}

fn entries(stage: &Stage) -> Vec<(Mark, &'static str)> {
    let any = |outcome| stage.trials.iter().any(|trial| trial.outcome() == outcome);
    let middle = style::shade(0.4);
    let mut entries = Vec::new();
    if best(stage).is_some() {
        entries.push((Mark::Line(style::line(middle, 12)), "best"));
    }
    if any(Outcome::Stopped) {
        entries.push((Mark::Square(middle), "stopped"));
    }
    if any(Outcome::Diverged) {
        entries.push((Mark::Cross(VERMILION), "diverged"));
    }
    entries
}

/// The scale of the colours, at the right end of the strip above the panel.
fn scale(head: &Area<'_>, colours: &Lrs) -> Result {
    const PARTS: i32 = 32;
    let (width, _) = head.dim_in_pixel();
    let (low, high) = colours.ends();
    let unit = style::UNIT as i32;
    let (y, part) = (31 * unit, 2 * unit);
    let right = width as i32 - (page::RIGHT as i32 + 52) * unit;
    let left = right - PARTS * part;
    for i in 0..PARTS {
        let colour = style::shade(f64::from(i) / f64::from(PARTS - 1));
        let from = left + i * part;
        head.draw(&Rectangle::new([(from, y - 4 * unit), (from + part, y + 4 * unit)], colour.filled()))?;
    }
    let words = |anchor| style::anchored(style::text(11.0, INK), anchor);
    head.draw(&Text::new(format!("LR {}", style::number(low)), (left - 6 * unit, y), words(HPos::Right)))?;
    head.draw(&Text::new(style::number(high), (right + 6 * unit, y), words(HPos::Left)))
}
