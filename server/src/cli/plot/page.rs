//! The page: what stands where.

use super::{
    Area, Result, Run, loss, schedule, scores,
    style::{self, GREY, INK, PALE, px},
    trials,
};
use crate::cli::render;
use autolrs_proto::v1::Stage;
use plotters::{
    chart::ChartContext,
    coord::ranged1d::{Ranged, ValueFormatter},
    prelude::{Cartesian2d, ChartBuilder, IntoDrawingArea, PathElement, SVGBackend, Text, WHITE},
    style::text_anchor::HPos,
};

/// Width of the page, in pixels. All of the following are.
const WIDTH: u32 = 1000;
/// Height of the headline.
const HEADLINE: u32 = 64;
/// Height of the panel of the LR.
const SCHEDULE: u32 = 260;
/// Height of the panel of the losses.
const LOSS: u32 = 300;
/// Height of a search's headline.
const SEARCH_HEADLINE: u32 = 62;
/// Height of a search's panels.
const SEARCH: u32 = 300;
/// Where a panel begins.
pub(super) const LEFT: u32 = 76;
/// Room to the left of the labels.
const EDGE: u32 = 16;
/// Room for the labels below a panel.
const BOTTOM: u32 = 38;
/// Room to the right of a panel.
pub(super) const RIGHT: u32 = 24;
/// Room below that.
const GAP: u32 = 10;

/// Searches that are drawn unless stages are named: the last ones.
const SEARCHES: usize = 8;

/// The words of a panel's axes.
pub(super) struct Words<'a> {
    /// Name and unit of the lower axis.
    pub(super) x: &'a str,
    /// Those of the left one.
    pub(super) y: &'a str,
    /// The labels of the lower axis.
    pub(super) x_label: &'a dyn Fn(&f64) -> String,
    /// Most of them.
    pub(super) x_labels: usize,
}

/// The whole page as SVG.
pub(super) fn draw(run: &Run, stages: &[u32]) -> Result<String> {
    let all = run.searches();
    let wanted = |stage: &&Stage| stages.contains(&stage.stage);
    let searches: Vec<&Stage> = if stages.is_empty() {
        all[all.len().saturating_sub(SEARCHES)..].to_vec()
    } else {
        all.iter().copied().filter(|s| wanted(s)).collect()
    };
    let rows = searches.len() as u32;
    let kept = if run.stretches.is_empty() { 0 } else { SCHEDULE + LOSS };
    let height = HEADLINE + kept + rows * (SEARCH_HEADLINE + SEARCH) + 8;
    let mut svg = String::new();
    {
        let page = SVGBackend::with_string(&mut svg, (px(WIDTH), px(height))).into_drawing_area();
        page.fill(&WHITE)?;
        let (top, rest) = page.split_vertically(px(HEADLINE));
        headline(&top, run, all.len() - searches.len())?;
        let (top, mut rest) = rest.split_vertically(px(kept));
        if kept > 0 {
            let (above, below) = top.split_vertically(px(SCHEDULE));
            schedule::draw(&above, run)?;
            loss::draw(&below, run)?;
        }
        for stage in searches {
            let (row, below) = rest.split_vertically(px(SEARCH_HEADLINE + SEARCH));
            search(&row, stage, &run.job.policy)?;
            rest = below;
        }
        page.present()?;
    }
    Ok(in_pixels(&svg, height))
}

/// Names the size in pixels; the view box stays in the units of the drawing.
fn in_pixels(svg: &str, height: u32) -> String {
    let units = format!("width=\"{}\" height=\"{}\"", px(WIDTH), px(height));
    svg.replacen(&units, &format!("width=\"{WIDTH}\" height=\"{height}\""), 1)
}

fn headline(area: &Area<'_>, run: &Run, hidden: usize) -> Result {
    let style = |size, colour| style::anchored(style::text(size, colour), HPos::Left);
    let place = |y: u32| (px(20) as i32, px(y) as i32);
    let title = format!("{}: policy {}, {}", run.job.name, run.job.policy, render::state(&run.job));
    area.draw(&Text::new(title, place(24), style(18.0, INK)))?;
    let mut line = render::steps_line(&run.job);
    if hidden > 0 {
        line += &format!("; {hidden} more searches are not drawn (--stage)");
    }
    area.draw(&Text::new(line, place(48), style(12.0, GREY)))
}

fn search(area: &Area<'_>, stage: &Stage, policy: &str) -> Result {
    let (head, body) = area.split_vertically(px(SEARCH_HEADLINE));
    let (width, _) = head.dim_in_pixel();
    let rule = vec![(px(20) as i32, px(10) as i32), ((width - px(20)) as i32, px(10) as i32)];
    head.draw(&PathElement::new(rule, style::line(PALE, 4)))?;
    let style = |size, colour| style::anchored(style::text(size, colour), HPos::Left);
    let place = |y: u32| (px(20) as i32, px(y) as i32);
    head.draw(&Text::new(search_title(stage), place(28), style(15.0, INK)))?;
    head.draw(&Text::new(cut(&stage.why, 165), place(48), style(11.0, GREY)))?;
    let (left, right) = body.split_horizontally(px(WIDTH / 2));
    scores::draw(&left, stage, if policy == "scan" { "score" } else { "forecast" })?;
    trials::draw(&right, stage)
}

fn search_title(stage: &Stage) -> String {
    let mut title = match stage.lr {
        Some(lr) => format!("Search of stage {}: LR {}", stage.stage, style::number(lr)),
        None => format!("Search of stage {}: still open", stage.stage),
    };
    if let Some(forecast) = stage.forecast {
        let sd = stage.forecast_sd.map(|sd| format!(" \u{b1} {}", style::number(sd))).unwrap_or_default();
        title += &format!("; loss {}{sd} forecast", style::number(forecast));
        if let Some(came) = stage.end_loss {
            title += &format!(", {} came", style::number(came));
        }
    }
    title
}

/// A text of at most so many characters.
fn cut(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= most {
        plain.collect()
    } else {
        plain.take(most - 1).chain(['\u{2026}']).collect()
    }
}

/// A chart with room for its labels.
pub(super) fn chart<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart
        .margin_top(px(6))
        .margin_right(px(RIGHT))
        .margin_bottom(px(GAP))
        .margin_left(px(EDGE))
        .y_label_area_size(px(LEFT - EDGE))
        .x_label_area_size(px(BOTTOM));
    chart
}

/// Draws axes, their labels and a quiet grid.
pub(super) fn mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    words: &Words<'_>,
) -> Result
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(words.x)
        .y_desc(words.y)
        .x_labels(words.x_labels)
        .y_labels(6)
        .max_light_lines(0)
        .bold_line_style(style::line(PALE, 2))
        .axis_style(style::hair())
        .set_all_tick_mark_size(px(4))
        .label_style(style::small())
        .axis_desc_style(style::text(11.0, GREY))
        .x_label_formatter(words.x_label)
        .y_label_formatter(&super::axis::label)
        .draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_says_what_was_forecast_and_what_came() {
        let open = Stage { stage: 3, ..Stage::default() };
        assert_eq!(search_title(&open), "Search of stage 3: still open");
        let stage = Stage { lr: Some(0.1), forecast: Some(0.5), forecast_sd: Some(0.02), ..open };
        assert_eq!(search_title(&stage), "Search of stage 3: LR 0.1; loss 0.5 \u{b1} 0.02 forecast");
        let ended = Stage { end_loss: Some(0.55), ..stage };
        assert!(search_title(&ended).ends_with(" forecast, 0.55 came"));
        assert_eq!((cut("abcdef", 4).as_str(), cut("a\nb", 4).as_str()), ("abc\u{2026}", "a b"));
    }
}
