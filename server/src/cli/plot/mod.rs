//! `autolrs jobs plot`: a job as a picture. One drawing, made by plotters as SVG; a PNG is that SVG, rasterised with a
//! font that the binary brings.

mod axis;
mod data;
mod legend;
mod loss;
mod page;
mod png;
mod schedule;
mod scores;
mod style;
#[cfg(test)]
mod tests;
mod trials;

pub(super) use data::Run;

use plotters::{
    coord::Shift,
    prelude::{DrawingArea, DrawingAreaErrorKind, SVGBackend},
};
use std::{io, path::Path};

/// A part of the picture.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What plotters says; drawing into memory does not fail for reasons of its own.
type Result<T = ()> = std::result::Result<T, DrawingAreaErrorKind<io::Error>>;

/// The form of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Curves and text, for browsers and papers.
    Svg,
    /// Points, two for each of the SVG's pixels in both directions.
    Png,
}

impl Format {
    /// The format that a file's name asks for.
    pub(super) fn of(path: &Path) -> std::result::Result<Self, String> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(format!("must end in .svg or .png, is {path:?}")),
        }
    }
}

/// The picture of a run with the searches of `stages`, or the last ones if there are none.
pub(super) fn draw(run: &Run, stages: &[u32], format: Format) -> io::Result<Vec<u8>> {
    let svg = page::draw(run, stages).map_err(io::Error::other)?;
    match format {
        Format::Svg => Ok(svg.into_bytes()),
        Format::Png => png::rasterise(&svg),
    }
}
