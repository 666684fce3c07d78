//! The panel that explains a choice: what was measured over the LR, the curve it was read from, the LR taken.

use super::{
    Area, Result, axis,
    axis::Losses,
    legend::{self, Mark},
    page::{self, Words},
    style::{self, BLUE, GREEN, VERMILION, px},
};
use autolrs_proto::v1::{Stage, Trial, trial::Outcome};
use plotters::prelude::{IntoLogRange, LineSeries, PathElement, Polygon, RGBColor};
use std::ops::Range;

/// The LRs of a search, and the colours that they have in both of its panels.
pub(super) struct Lrs {
    low: f64,
    high: f64,
}

impl Lrs {
    /// Those of a stage's trials.
    pub(super) fn of(stage: &Stage) -> Self {
        let lrs = stage.trials.iter().map(|trial| trial.lr).filter(|lr| *lr > 0.0);
        let (low, high) = lrs.fold((f64::INFINITY, 0.0), |(low, high), lr| (lr.min(low), lr.max(high)));
        Self { low, high }
    }

    /// The lowest and the highest.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The colour of one.
    pub(super) fn colour(&self, lr: f64) -> RGBColor {
        let span = (self.high / self.low).log10();
        style::shade(if span > 0.0 { (lr / self.low).log10() / span } else { 0.5 })
    }
}

/// The completed trial with the least score.
pub(super) fn best(stage: &Stage) -> Option<&Trial> {
    let scored = stage.trials.iter().filter(|t| t.outcome() == Outcome::Completed && t.score.is_some());
    scored.min_by(|a, b| a.score.unwrap_or(f64::NAN).total_cmp(&b.score.unwrap_or(f64::NAN)))
}

/// Draws the panel. `score` is what the policy calls what it measures.
pub(super) fn draw(area: &Area<'_>, stage: &Stage, score: &str) -> Result {
    let (head, body) = area.split_vertically(px(legend::HEAD));
    legend::head(&head, page::LEFT, &format!("What was measured: {score} of each LR"), &entries(stage))?;
    let (losses, colours) = (range(stage), Lrs::of(stage));
    let tried = stage.trials.iter().map(|trial| trial.lr);
    let lrs = axis::lrs(tried.chain(stage.curve.iter().map(|p| 10f64.powf(p.log10_lr))).chain(stage.lr));
    let mut chart = page::chart(&body).build_cartesian_2d(lrs.log_scale(), losses.range.clone())?;
    page::mesh(&mut chart, &Words { x: "LR", y: score, x_label: &axis::label, x_labels: 6 })?;
    let Range { start: low, end: high } = losses.range;
    if has_band(stage) {
        let edge = |sign: f64| move |p: &autolrs_proto::v1::CurvePoint| (p.log10_lr, p.mean + sign * p.sd);
        let upper = stage.curve.iter().map(edge(1.0));
        let outline = upper.chain(stage.curve.iter().rev().map(edge(-1.0)));
        let outline: Vec<_> = outline.map(|(z, y)| (10f64.powf(z), losses.clip(y))).collect();
        chart.draw_series([Polygon::new(outline, style::faint(BLUE, 0.15))])?;
    }
    let curve: Vec<_> = stage.curve.iter().map(|p| (10f64.powf(p.log10_lr), p.mean)).collect();
    for line in losses.lines(&curve) {
        chart.draw_series(LineSeries::new(line, style::line(BLUE, 7)))?;
    }
    if let Some(lr) = stage.lr.filter(|lr| *lr > 0.0) {
        chart.draw_series([PathElement::new(vec![(lr, low), (lr, high)], style::line(GREEN, 8))])?;
        if let Some(best) = best(stage).filter(|best| factor(stage, best).is_some()) {
            let y = low + 0.03 * (high - low);
            chart.draw_series([PathElement::new(vec![(best.lr, y), (lr, y)], style::line(GREEN, 4))])?;
        }
    }
    for trial in &stage.trials {
        let colour = colours.colour(trial.lr);
        if let (Some(score), Some(sd)) = (trial.score, trial.sd) {
            let bar = [score - sd, score + sd].map(|y| (trial.lr, losses.clip(y)));
            chart.draw_series([PathElement::new(bar.to_vec(), style::line(colour, 6))])?;
        }
        let y = losses.clip(trial.score.unwrap_or(f64::NAN));
        mark(trial, &losses, colour).draw(&chart, (trial.lr, y))?;
    }
    Ok(())
}

/// All scores that lie near the better half of them, and the curve there.
fn range(stage: &Stage) -> Losses {
    let mut scores: Vec<f64> =
        stage.trials.iter().filter_map(|t| t.score).filter(|y| y.is_finite()).collect();
    scores.sort_by(f64::total_cmp);
    let (Some(&least), Some(&middle)) = (scores.first(), scores.get(scores.len() / 2)) else {
        return Losses::of([], stage.curve.iter().map(|p| p.mean));
    };
    let top = middle + 4.0 * (middle - least);
    let near = |y: &f64| *y <= top;
    let bars = stage.trials.iter().filter_map(|t| Some([t.score? - t.sd?, t.score? + t.sd?])).flatten();
    let may = stage.curve.iter().map(|p| p.mean).chain(bars);
    let floor = least - (top - least);
    let vertex = stage.curve.iter().map(|p| p.mean).filter(|y| *y >= floor).fold(f64::INFINITY, f64::min);
    let must = scores.into_iter().filter(near).chain([vertex]);
    let losses = Losses::of(must, may.filter(|y| *y >= floor));
    Losses { log: false, ..losses }
}

fn mark(trial: &Trial, losses: &Losses, colour: RGBColor) -> Mark {
    match (trial.outcome(), trial.score) {
        (Outcome::Diverged, _) => Mark::Cross(VERMILION),
        (Outcome::Stopped, _) | (_, None) => Mark::Square(colour),
        (_, Some(score)) if !losses.shows(score) => Mark::Up(colour),
        (_, Some(_)) => Mark::Dot(colour),
    }
}

fn has_band(stage: &Stage) -> bool {
    stage.curve.iter().any(|point| point.sd > 0.0)
}

/// The LR taken as a multiple of the best trial's, where it is none of the trials' own.
fn factor(stage: &Stage, best: &Trial) -> Option<f64> {
    let lr = stage.lr?;
    let tried = stage.trials.iter().any(|trial| (trial.lr / lr - 1.0).abs() < 1e-6);
    (!tried).then_some(lr / best.lr)
}

fn entries(stage: &Stage) -> Vec<(Mark, String)> {
    let losses = range(stage);
    let middle = style::shade(0.4);
    let mut entries = vec![(Mark::Dot(middle), "trial".to_owned())];
    let curve = if has_band(stage) { "posterior \u{b1} 1 sd" } else { "curve" };
    if !stage.curve.is_empty() {
        entries.push((Mark::Line(style::line(BLUE, 7)), curve.into()));
    }
    if stage.lr.is_some() {
        let factor = best(stage).and_then(|best| factor(stage, best)).map(style::number);
        let factor = factor.map(|x| format!(": {x} \u{d7} best trial")).unwrap_or_default();
        entries.push((Mark::Line(style::line(GREEN, 8)), format!("LR taken{factor}")));
    }
    let marks = [
        (Mark::Square(middle), "stopped"),
        (Mark::Cross(VERMILION), "diverged"),
        (Mark::Up(middle), "above"),
    ];
    let seen = |wanted: &Mark| {
        let same = |mark: Mark| std::mem::discriminant(&mark) == std::mem::discriminant(wanted);
        stage.trials.iter().any(|trial| same(mark(trial, &losses, middle)))
    };
    entries.extend(marks.into_iter().filter(|(mark, _)| seen(mark)).map(|(mark, name)| (mark, name.into())));
    entries
}
