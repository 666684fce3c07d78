//! From SVG to PNG.

use resvg::{
    tiny_skia::{Color, Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};
use std::{io, sync::Arc};

/// Points for each of the SVG's pixels, in both directions.
const SCALE: f32 = 2.0;

/// Draws an SVG on white. The text is set in DejaVu Sans, whatever fonts the machine has.
pub(super) fn rasterise(svg: &str) -> io::Result<Vec<u8>> {
    let mut fonts = Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(io::Error::other)?;
    let side = |length: f32| (length * SCALE).ceil() as u32;
    let size = tree.size();
    let pixmap = Pixmap::new(side(size.width()), side(size.height()));
    let mut pixmap = pixmap.ok_or_else(|| io::Error::other("the picture is too large for a PNG"))?;
    pixmap.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(io::Error::other)
}
