//! The images, and batches of them by number.

/// Pixels of an image.
pub(crate) const PIXELS: usize = 64;
/// Images in a batch.
pub(crate) const BATCH: usize = 32;

const CSV: &str = include_str!("../data/digits.csv");
/// Every fifth image is kept for the test.
const TEST_EVERY: usize = 5;

/// An image, its pixels from 0 to 1, and the digit it shows.
pub(crate) struct Image {
    pub(crate) pixels: [f64; PIXELS],
    pub(crate) digit: usize,
}

/// See `examples/data/README.md`.
pub(crate) struct Digits {
    pub(crate) train: Vec<Image>,
    pub(crate) test: Vec<Image>,
}

impl Digits {
    pub(crate) fn load() -> Self {
        let images: Vec<Image> = CSV.lines().filter_map(image).collect();
        let (test, train): (Vec<_>, Vec<_>) =
            images.into_iter().enumerate().partition(|(number, _)| number % TEST_EVERY == 0);
        let plain = |numbered: Vec<(usize, Image)>| numbered.into_iter().map(|(_, image)| image).collect();
        Self { train: plain(train), test: plain(test) }
    }
}

fn image(line: &str) -> Option<Image> {
    let mut numbers = line.split(',').map(str::parse::<u8>);
    let mut pixels = [0.0; PIXELS];
    for pixel in &mut pixels {
        *pixel = f64::from(numbers.next()?.ok()?) / 16.0;
    }
    Some(Image { pixels, digit: numbers.next()?.ok()?.into() })
}

/// The images of batch `number`: drawn at random, the draw depending on the number alone.
pub(crate) fn batch(images: &[Image], number: u64) -> Vec<&Image> {
    let first = number * BATCH as u64;
    let pick = |i: u64| &images[(mixed(first + i) % images.len() as u64) as usize];
    (0..BATCH as u64).map(pick).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
