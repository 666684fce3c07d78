//! Exit codes, as in sysexits(3).

/// It did what it was asked to.
pub const OK: u8 = 0;
/// `autolrs health`: the server is not serving. `autolrs store`: something is damaged, or the store or the file is not
/// one that can be used here. `autolrs conformance`: a check failed. Other commands: the server refused, or can't be reached.
pub const FAILED: u8 = 1;
/// The command line or the configuration can't be used.
pub const USAGE: u8 = 64;
/// The store is locked or can't be opened, or a port is in use.
pub const UNAVAILABLE: u8 = 69;
/// A defect, or the machine failed us.
pub const INTERNAL: u8 = 70;
