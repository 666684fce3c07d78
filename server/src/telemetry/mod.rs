//! What operators see: log lines, metrics, and the layer that counts and traces every RPC.

pub mod decisions;
pub(crate) mod disk;
pub mod exposition;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod rpc;
pub mod table;
