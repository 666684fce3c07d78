//! Marks, and the strip above a panel that names them: it lies outside of the panel, so it hides nothing.

use super::{
    Area, Result,
    data::Point,
    style::{self, GREY, INK, px},
};
use plotters::{
    chart::ChartContext,
    coord::CoordTranslate,
    element::{DynElement, IntoDynElement},
    prelude::{
        Circle, Cross, EmptyElement, PathElement, Polygon, RGBColor, Rectangle, SVGBackend, ShapeStyle, Text,
    },
    style::{Color, text_anchor::HPos},
};

/// A mark of a chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mark {
    /// A filled circle.
    Dot(RGBColor),
    /// A small filled circle, which fits into an open one.
    Point(RGBColor),
    /// An open circle.
    Ring(RGBColor),
    /// A filled square on its corner.
    Diamond(RGBColor),
    /// An open square.
    Square(RGBColor),
    /// A filled triangle that points up: what lies above the picture.
    Up(RGBColor),
    /// What broke.
    Cross(RGBColor),
    /// A line.
    Line(ShapeStyle),
    /// An area.
    Band(ShapeStyle),
}

const R: i32 = 4 * style::UNIT as i32;

impl Mark {
    /// Draws the mark into a chart.
    pub(super) fn draw<T>(self, chart: &ChartContext<'_, SVGBackend<'_>, T>, point: Point) -> Result
    where
        T: CoordTranslate<From = Point>,
    {
        chart.plotting_area().draw(&self.at(point))
    }

    /// The mark at a place of an area or a chart.
    fn at<'a, C: Clone + 'static>(self, place: C) -> DynElement<'a, SVGBackend<'a>, C> {
        let here = EmptyElement::at(place);
        let white = style::white();
        let path = |points: &[(i32, i32)], style: ShapeStyle| PathElement::new(points.to_vec(), style);
        let square = [(-R, -R), (R, -R), (R, R), (-R, R), (-R, -R)];
        let diamond = |r: i32| vec![(0, -r), (r, 0), (0, r), (-r, 0)];
        let up = |r: i32| vec![(-r, r), (r, r), (0, -r)];
        let half = 11 * style::UNIT as i32;
        match self {
            Self::Dot(colour) => {
                (here + Circle::new((0, 0), R + 4, white) + Circle::new((0, 0), R, colour.filled()))
                    .into_dyn()
            }
            Self::Point(colour) => (here + Circle::new((0, 0), R / 2 + 1, colour.filled())).into_dyn(),
            Self::Ring(colour) => (here
                + Circle::new((0, 0), R + 2, white)
                + Circle::new((0, 0), R + 2, colour.stroke_width(7)))
            .into_dyn(),
            Self::Diamond(colour) => {
                (here + Polygon::new(diamond(R + 8), white) + Polygon::new(diamond(R + 3), colour.filled()))
                    .into_dyn()
            }
            Self::Square(colour) => {
                (here + Polygon::new(square.to_vec(), white) + path(&square, colour.stroke_width(7)))
                    .into_dyn()
            }
            Self::Up(colour) => {
                (here + Polygon::new(up(R + 5), white) + Polygon::new(up(R), colour.filled())).into_dyn()
            }
            Self::Cross(colour) => {
                let wide = Cross::new((0, 0), R, style::line(plotters::prelude::WHITE, 16));
                (here + wide + Cross::new((0, 0), R, style::line(colour, 8))).into_dyn()
            }
            Self::Line(line) => (here + path(&[(-half, 0), (half, 0)], line)).into_dyn(),
            Self::Band(fill) => (here + Rectangle::new([(-half, -R), (half, R)], fill)).into_dyn(),
        }
    }
}

/// Height of a panel's title and legend, in pixels.
pub(super) const HEAD: u32 = 42;

/// Writes a panel's title and the names of its marks into the strip above it.
pub(super) fn head(area: &Area<'_>, left: u32, title: &str, entries: &[(Mark, impl AsRef<str>)]) -> Result {
    let left = px(left) as i32;
    let place = |x: i32, y: u32| (x, px(y) as i32);
    let style = style::anchored(style::text(13.0, INK), HPos::Left);
    area.draw(&Text::new(title.to_owned(), place(left, 12), style))?;
    let mut x = left;
    for (mark, name) in entries {
        let name = name.as_ref();
        area.draw(&mark.at(place(x + px(12) as i32, 31)))?;
        let style = style::anchored(style::text(11.0, GREY), HPos::Left);
        area.draw(&Text::new(name.to_owned(), place(x + px(28) as i32, 31), style))?;
        x += (px(28) + style::width(name, 11.0) + px(14)) as i32;
    }
    Ok(())
}
