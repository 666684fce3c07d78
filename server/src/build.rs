//! What this binary was built from.

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, 12 digits; `unknown` where there was none to ask for.
pub const COMMIT: &str = env!("BUILD_COMMIT");
/// The compiler's version.
pub const RUSTC: &str = env!("BUILD_RUSTC");
/// For `autolrs --version`.
pub const LINE: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("BUILD_COMMIT"),
    ", rustc ",
    env!("BUILD_RUSTC"),
    ")"
);
