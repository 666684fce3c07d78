//! Every fuzz target on its committed corpus, on changed copies of it and on random bytes. Under `make fuzz` libFuzzer takes
//! the place of the random bytes.

use autolrs_fuzz::{TARGETS, config, job, records, schedules, specs, wire};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A test per target: its name, the target, random inputs, changed copies of each file of the corpus.
macro_rules! targets {
    ($($name:ident: $random:literal, $changed:literal;)*) => {$(
        #[test]
        fn $name() {
            bolero::check!().with_iterations($random).for_each(|bytes: &[u8]| $name::target(bytes));
        }
    )*
        /// Names and changed copies.
        const CHANGED: &[(&str, u64)] = &[$((stringify!($name), $changed)),*];
    };
}

targets! {
    wire: 500, 20;
    records: 5000, 30;
    config: 500, 30;
    specs: 3000, 30;
    schedules: 3000, 30;
    job: 100, 3;
}

/// The files that are made, not found. `AUTOLRS_BLESS=1 cargo test -p autolrs-fuzz corpus` makes them anew.
#[test]
fn the_corpus_is_there() {
    let bless = std::env::var_os("AUTOLRS_BLESS").is_some();
    for (target, name, bytes) in autolrs_fuzz::corpus::files() {
        let path = folder(target).join(&name);
        if bless {
            fs::create_dir_all(folder(target)).expect("a folder");
            fs::write(&path, bytes).expect("written");
        }
        assert!(path.exists(), "{}", path.display());
    }
}

/// The same changes every time.
#[test]
fn changed_copies_of_the_corpus() {
    for ((name, target), (of, copies)) in TARGETS.iter().zip(CHANGED) {
        assert_eq!(name, of);
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "the corpus of {name} is committed");
        let mut random = Random(7);
        for bytes in &corpus {
            for _ in 0..*copies {
                let other = &corpus[random.below(corpus.len())];
                target(&changed(bytes, other, &mut random));
            }
        }
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__").join(target).join("corpus")
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder(name)).into_iter().flatten().map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("readable")).collect()
}

/// One to four changes such as a fuzzer makes.
fn changed(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.below(256) as u8),
            4 => {
                let end = (at + random.below(16)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            _ => {
                let from = random.below(other.len() + 1);
                let part = &other[from..(from + random.below(64)).min(other.len())];
                drop(bytes.splice(at..at, part.iter().copied()));
            }
        }
    }
    bytes
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n.max(1) as u64) as usize
    }
}
