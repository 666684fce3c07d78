//! The pure core of AutoLRS. There is no `async` here, no I/O, no clock and no randomness of the operating
//! system: the same events give the same directives, bit for bit.

pub mod directive;
pub mod forecast;
pub mod job;
pub mod linalg;
pub mod lr_pieces;
pub mod plan;
pub mod policy;
pub mod schedule;
pub mod search;
pub mod simulate;
pub mod spec;
pub mod stop_rules;
