//! The harness of the stories in `tests/`: the real `autolrs` binary as a process of its own, and trainers for it;
//! [`torture`], which kills both; and [`sim`], a whole training in one function call.

pub mod server;
pub mod sim;
pub mod torture;
pub mod trainer;
pub mod training;
