//! The panel of the losses over the committed steps.

use super::{
    Area, Result, Run,
    axis::{self, Losses},
    data,
    legend::{self, Mark},
    page::{self, Words},
    style::{self, BLUE, INK, ORANGE, PURPLE, VERMILION, px},
};
use plotters::{
    chart::ChartContext,
    coord::ranged1d::{Ranged, ValueFormatter},
    prelude::{Cartesian2d, IntoLogRange, LineSeries, PathElement, SVGBackend},
    style::Color,
};

/// Draws training and validation losses, what was lost, and forecasts against what came.
pub(super) fn draw(area: &Area<'_>, run: &Run) -> Result {
    let (head, body) = area.split_vertically(px(legend::HEAD));
    legend::head(&head, page::LEFT, "Loss over the same steps", &entries(run))?;
    let losses = range(run);
    let mut builder = page::chart(&body);
    let x = 0.0..run.last_step();
    if losses.log {
        let mut chart = builder.build_cartesian_2d(x, losses.range.clone().log_scale())?;
        series(&mut chart, run, &losses)
    } else {
        let mut chart = builder.build_cartesian_2d(x, losses.range.clone())?;
        series(&mut chart, run, &losses)
    }
}

fn range(run: &Run) -> Losses {
    let kept = run.kept_losses().into_iter().flatten().chain(run.validations()).map(|point| point.1);
    let lost = run.lost().flat_map(|stretch| stretch.losses.clone());
    let ends = run.stages.iter().flat_map(|stage| {
        let (mean, sd) = (stage.forecast?, stage.forecast_sd.unwrap_or(0.0));
        Some([mean - sd, mean, mean + sd])
    });
    Losses::of(kept, lost.chain(ends.flatten()))
}

fn series<Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    run: &Run,
    losses: &Losses,
) -> Result
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    page::mesh(chart, &Words { x: "committed step", y: "loss", x_label: &axis::step_label, x_labels: 10 })?;
    let clip = |(x, y): data::Point| (x, losses.clip(y));
    for lost in run.lost().map(data::losses) {
        for line in losses.lines(&lost) {
            chart.draw_series(LineSeries::new(line, style::line(VERMILION, 5)))?;
        }
        if let Some(&end) = lost.last() {
            Mark::Cross(VERMILION).draw(chart, clip(end))?;
        }
    }
    let means = run.mean_losses();
    let raw = if means.is_empty() { style::line(BLUE, 5) } else { BLUE.mix(0.35).stroke_width(3) };
    for (lines, style) in [(run.kept_losses(), raw), (means, style::line(BLUE, 8))] {
        for line in lines.iter().flat_map(|line| losses.lines(line)) {
            chart.draw_series(LineSeries::new(line, style))?;
        }
    }
    let validations: Vec<_> = run.validations().into_iter().map(clip).collect();
    chart.draw_series(LineSeries::new(validations.clone(), style::line(ORANGE, 5)))?;
    for point in validations {
        Mark::Diamond(ORANGE).draw(chart, point)?;
    }
    for (step, stage) in run.forecasts() {
        let (mean, sd) = (stage.forecast.unwrap_or_default(), stage.forecast_sd.unwrap_or_default());
        let band = [clip((step, mean - sd)), clip((step, mean + sd))];
        chart.draw_series([PathElement::new(band.to_vec(), style::line(PURPLE, 8))])?;
        let mark = if mean > losses.range.end { Mark::Up(PURPLE) } else { Mark::Ring(PURPLE) };
        mark.draw(chart, clip((step, mean)))?;
        if let Some(came) = stage.end_loss {
            Mark::Point(INK).draw(chart, clip((step, came)))?;
        }
    }
    Ok(())
}

fn entries(run: &Run) -> Vec<(Mark, &'static str)> {
    let mut entries = vec![(Mark::Line(style::line(BLUE, 6)), "training")];
    if !run.validations().is_empty() {
        entries.push((Mark::Diamond(ORANGE), "validation"));
    }
    if run.lost().next().is_some() {
        entries.push((Mark::Cross(VERMILION), "rolled back by a guard"));
    }
    if !run.forecasts().is_empty() {
        entries.push((Mark::Ring(PURPLE), "forecast of the stage's end \u{b1} 1 sd"));
        entries.push((Mark::Point(INK), "what came"));
    }
    entries
}
