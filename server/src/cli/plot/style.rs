//! Colours, text and numbers. The colours are Okabe and Ito's, which colour-blind people tell apart; the LRs of trials
//! go from dark to light as well as from blue to yellow (viridis, van der Walt and Smith 2015).

use crate::cli::render;
use plotters::{
    prelude::{BLACK, IntoFont, RGBColor, ShapeStyle, TextStyle},
    style::{
        Color, FontFamily,
        text_anchor::{HPos, Pos, VPos},
    },
};

/// Units of the drawing in one pixel of the picture: plotters rounds to whole units, and whole pixels would show.
pub(super) const UNIT: u32 = 4;

pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const SKY: RGBColor = RGBColor(86, 180, 233);
pub(super) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub(super) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
pub(super) const PALE: RGBColor = RGBColor(222, 222, 222);

/// Nine points of viridis, from the lowest LR to the highest; the lightest end is left out, it is hard to see on white.
const VIRIDIS: [(u8, u8, u8); 9] = [
    (68, 1, 84),
    (71, 39, 119),
    (62, 73, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (109, 205, 89),
    (180, 214, 44),
];

/// The colour of a share from 0 to 1.
pub(super) fn shade(share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let below = (place as usize).min(VIRIDIS.len() - 2);
    let (a, b, part) = (VIRIDIS[below], VIRIDIS[below + 1], place - below as f64);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Pixels in units.
pub(super) const fn px(pixels: u32) -> u32 {
    pixels * UNIT
}

/// A line of so many quarter pixels.
pub(super) fn line(colour: RGBColor, quarters: u32) -> ShapeStyle {
    colour.stroke_width(quarters)
}

/// Text of so many pixels. The SVG says `sans-serif`: every browser has one.
pub(super) fn text(pixels: f64, colour: RGBColor) -> TextStyle<'static> {
    // plotters divides by 1.24.
    (FontFamily::SansSerif, pixels * f64::from(UNIT) * 1.24).into_font().color(&colour)
}

/// Text anchored at its left or right end, or in its middle.
pub(super) fn anchored(style: TextStyle<'static>, horizontal: HPos) -> TextStyle<'static> {
    style.pos(Pos::new(horizontal, VPos::Center))
}

/// Text of a panel's axes.
pub(super) fn small() -> TextStyle<'static> {
    text(11.0, INK)
}

/// Width of a text in units, about: no font is at hand, and a browser's may be another.
pub(super) fn width(words: &str, pixels: f64) -> u32 {
    (words.chars().count() as f64 * pixels * 0.57 * f64::from(UNIT)) as u32
}

/// Nothing of a shape, for what is not to be seen.
pub(super) fn faint(colour: RGBColor, share: f64) -> ShapeStyle {
    colour.mix(share).filled()
}

/// What a mark is drawn on to stand out.
pub(super) fn white() -> ShapeStyle {
    plotters::prelude::WHITE.filled()
}

/// A thin black line.
pub(super) fn hair() -> ShapeStyle {
    BLACK.mix(0.6).stroke_width(3)
}

/// A loss or an LR, for people.
pub(super) fn number(x: f64) -> String {
    render::number::digits(x, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_go_from_end_to_end() {
        assert_eq!(shade(-1.0), RGBColor(68, 1, 84));
        assert_eq!(shade(1.0), RGBColor(180, 214, 44));
        assert_eq!(shade(0.5), RGBColor(38, 130, 142));
    }
}
