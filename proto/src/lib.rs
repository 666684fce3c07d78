//! The AutoLRS protocol, package `autolrs.v1`: generated messages, clients and servers.
//!
//! # Stability
//! Before 0.2 the protocol may change between minor versions. From then on a client and a server one minor version
//! apart understand each other; `buf breaking` guards it.

/// Package `autolrs.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self)]
pub mod v1 {
    include!("generated/autolrs.v1.rs");
}

/// The file descriptors of the package, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");

/// Domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "autolrs.dev";
