//! The harness of the stories in `tests/`: the real `autolrs` binary as a process of its own, trainers for it, a network
//! that can be broken; [`torture`], which kills both; and [`sim`], a whole training in one function call.

pub mod bystander;
pub mod command;
pub mod disk;
pub mod jobs;
pub mod manager;
pub mod proxy;
pub mod rpcs;
pub mod security;
pub mod server;
pub mod sim;
pub mod story;
pub mod torture;
pub mod trainer;
pub mod training;
