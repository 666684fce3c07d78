//! The AutoLRS daemon: the wire, the actors that own the jobs, and what operates them. The decisions are made in
//! `autolrs-core`, which knows none of this.

pub mod store;
