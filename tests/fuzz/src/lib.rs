//! Fuzz targets. Each takes any bytes and panics if something does not hold that must hold whatever they are.
//!
//! `tests/targets.rs` runs them in `make test`: the committed corpus, changed copies of it and random bytes. `make fuzz`
//! lets libFuzzer look for more, led by the branches that an input reaches. The corpus lies in `tests/__fuzz__/`: what
//! [`corpus`] makes was taken from real jobs, and a file named `find-...` once broke a target.

// Under libFuzzer every program of the crate needs its counters, this crate's own tests too: there are none.
#[cfg(test)]
use bolero as _;

#[path = "../../../server/core/tests/common/mod.rs"]
mod common;
pub mod config;
pub mod corpus;
pub mod input;
pub mod job;
pub mod records;
pub mod schedules;
pub mod specs;
pub mod wire;

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("wire", wire::target),
    ("records", records::target),
    ("config", config::target),
    ("specs", specs::target),
    ("schedules", schedules::target),
    ("job", job::target),
];
