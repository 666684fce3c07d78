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

/// A reason as it stands in `google.rpc.ErrorInfo`: without the prefix that every value of the enum has.
pub fn reason_name(reason: v1::ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// The reason of that name; none: no value of the enum.
pub fn reason_of(name: &str) -> Option<v1::ErrorReason> {
    v1::ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
}

/// Domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "autolrs.dev";
