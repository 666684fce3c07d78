//! The panel of the LR over the committed steps.

use super::{
    Area, Result, Run, axis,
    legend::{self, Mark},
    page::{self, Words},
    style::{self, BLUE, GREEN, ORANGE, SKY, VERMILION, px},
};
use autolrs_proto::v1::Phase;
use plotters::{
    prelude::{EmptyElement, IntoLogRange, LineSeries, RGBColor, Rectangle, Text},
    style::text_anchor::HPos,
};

/// Most commits that are labelled with their LR.
const LABELLED: usize = 8;

/// Draws the LR, the phases below it, commits and rollbacks.
pub(super) fn draw(area: &Area<'_>, run: &Run) -> Result {
    let (head, body) = area.split_vertically(px(legend::HEAD));
    legend::head(&head, page::LEFT, "Learning rate of the steps that were kept", &entries(run))?;
    let commits = run.commit_points();
    let lines = run.lr_lines();
    let lost: Vec<_> =
        run.lost().map(|s| ((s.start_step + s.steps) as f64, s.lr)).filter(|p| p.1 > 0.0).collect();
    let shown = lines.iter().flatten().chain(&commits).chain(&lost).map(|point| point.1);
    let range = axis::lrs(shown);
    let mut chart = page::chart(&body).build_cartesian_2d(0.0..run.last_step(), range.clone().log_scale())?;
    for (phase, from, to) in run.phases() {
        let fill = style::faint(tint(phase), 0.13);
        chart.draw_series([Rectangle::new([(from, range.start), (to, range.end)], fill)])?;
    }
    page::mesh(
        &mut chart,
        &Words { x: "committed step", y: "LR", x_label: &axis::step_label, x_labels: 10 },
    )?;
    for line in lines {
        chart.draw_series(LineSeries::new(line, style::line(BLUE, 8)))?;
    }
    let lost = lost.into_iter().map(|point| (Mark::Cross(VERMILION), point));
    for (mark, point) in lost.chain(commits.iter().map(|&point| (Mark::Dot(GREEN), point))) {
        mark.draw(&chart, point)?;
    }
    if commits.len() <= LABELLED {
        for &point in &commits {
            let right = point.0 > 0.85 * run.last_step();
            let (anchor, shift) = if right { (HPos::Right, -8) } else { (HPos::Left, 8) };
            let style = style::anchored(style::text(11.0, GREEN), anchor);
            let high = (point.1 / range.start).ln() > 0.8 * (range.end / range.start).ln();
            let rise = if high { 11 } else { -9 };
            let shift = (shift * style::UNIT as i32, rise * style::UNIT as i32);
            chart.draw_series([EmptyElement::at(point) + Text::new(style::number(point.1), shift, style)])?;
        }
    }
    Ok(())
}

fn entries(run: &Run) -> Vec<(Mark, &'static str)> {
    let phases = run.phases();
    let mut entries = vec![(Mark::Line(style::line(BLUE, 8)), "LR"), (Mark::Dot(GREEN), "committed LR")];
    if run.lost().next().is_some() {
        entries.push((Mark::Cross(VERMILION), "rolled back by a guard"));
    }
    for (phase, name) in
        [(Phase::Warmup, "warm-up"), (Phase::Stable, "stable"), (Phase::Cooldown, "cooldown")]
    {
        if phases.iter().any(|p| p.0 == phase) {
            entries.push((Mark::Band(style::faint(tint(phase), 0.25)), name));
        }
    }
    entries
}

fn tint(phase: Phase) -> RGBColor {
    match phase {
        Phase::Warmup => ORANGE,
        Phase::Cooldown => SKY,
        Phase::Stable | Phase::Trial | Phase::Unspecified => style::GREY,
    }
}
