//! Numbers and text out of a fuzzer's bytes. What has run out is 0.

/// Whole numbers at which something may overflow.
const WORDS: [u64; 8] =
    [0, 1, 2, u64::MAX, u64::MAX - 1, i64::MAX as u64, u32::MAX as u64, 1_000_000_000_000];

/// Losses and LRs that nobody hopes for.
const FLOATS: [f64; 16] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e300,
    -1e300,
    f64::MAX,
    f64::MIN,
    5e-324,
    -5e-324,
    f64::MIN_POSITIVE,
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-12,
    1e12,
];

/// What is left of the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// At most the next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Up to the next zero byte, which is skipped.
    pub fn until_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        let taken = self.bytes(end);
        self.byte();
        taken
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Sometimes none.
    pub fn maybe<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(some(self)) } else { None }
    }

    /// Mostly small, sometimes as large as can be.
    pub fn word(&mut self) -> u64 {
        match self.byte() {
            n @ 0..=199 => u64::from(n),
            n @ 200..=231 => u64::from(n) << 8 | u64::from(self.byte()),
            n @ 232..=247 => WORDS[usize::from(n) % WORDS.len()],
            _ => self.eight(),
        }
    }

    /// As [`Input::word`], around 0.
    pub fn near(&mut self) -> i64 {
        match self.byte() {
            n @ 0..=247 => i64::from(n as i8),
            n @ 248..=251 => i64::from(n as i8) << 6,
            252 => i64::MIN,
            253 => i64::MAX,
            _ => self.eight() as i64,
        }
    }

    /// Mostly a loss such as there are, sometimes one of `FLOATS` or any other bits.
    pub fn float(&mut self) -> f64 {
        match self.byte() {
            n @ 0..=175 => 0.05 + f64::from(n) / 32.0,
            n @ 176..=239 => FLOATS[usize::from(n) % FLOATS.len()],
            _ => f64::from_bits(self.eight()),
        }
    }

    fn eight(&mut self) -> u64 {
        self.bytes(8).iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }
}
