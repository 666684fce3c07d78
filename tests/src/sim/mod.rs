//! A whole training without sockets, threads or clocks: the real job state machine, the real session machine, and
//! between them a network that loses, repeats and delays what it carries.

mod model;
mod server;
mod world;

pub use model::{File, Model, Optimum, SimTrainer, Step};
pub use server::SimServer;
pub use world::{Effect, Fault, Mishap, World};
