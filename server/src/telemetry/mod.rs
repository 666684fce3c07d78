//! What operators see: log lines, metrics, and the layer that counts and traces every RPC.

pub mod logs;
pub mod metrics;
pub mod rpc;
