//! The harness of the stories in `tests/`: the real `autolrs` binary as a process of its own, and trainers for it.

pub mod server;
pub mod trainer;
