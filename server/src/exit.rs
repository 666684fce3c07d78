//! Exit codes, as in sysexits(3).

/// It did what it was asked to.
pub const OK: u8 = 0;
/// The answer is no.
pub const FAILED: u8 = 1;
/// The command line or the configuration can't be used.
pub const USAGE: u8 = 64;
/// The store is not for this release, or has lost records: starting again does not help.
pub const UNFIT: u8 = 65;
/// A port is in use, or the store can't be used now.
pub const UNAVAILABLE: u8 = 69;
/// A defect, or the machine failed us.
pub const INTERNAL: u8 = 70;

/// Every code with its meaning, for the help and the manual.
pub const CODES: [(u8, &str); 6] = [
    (OK, "done"),
    (FAILED, "refused, not reachable, not serving, or something was found wrong"),
    (USAGE, "the command line, the configuration or a file that was given can't be used"),
    (UNFIT, "the store is not for this release, or has lost records: starting again does not help"),
    (UNAVAILABLE, "a port is in use, or (store commands) the store is locked or away"),
    (INTERNAL, "a defect, or the machine failed"),
];

/// Why a command has failed.
pub trait Failure: std::error::Error {
    /// The exit code: one of [`CODES`].
    fn exit_code(&self) -> u8;
}

/// The codes as the end of a help text.
pub fn help() -> String {
    let lines = CODES.iter().map(|(code, meaning)| format!("  {code:<3} {meaning}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}
