//! The AutoLRS daemon: the wire, the actors that own the jobs, and what operates them. The decisions are made in
//! `autolrs-core`, which knows none of this.

pub mod actor;
pub mod audit;
pub mod auth;
pub mod build;
pub mod cli;
pub mod clock;
pub mod config;
mod connections;
pub mod error;
pub mod exit;
mod layers;
pub mod limit;
pub mod listen;
pub mod live;
pub mod operate;
pub mod quotas;
pub mod registry;
mod reload;
mod retention;
pub mod rpc;
pub mod serve;
mod socket;
pub mod store;
mod supervisor;
pub mod telemetry;
pub mod tls;
