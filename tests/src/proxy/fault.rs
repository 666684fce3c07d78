//! What can go wrong.

use super::call::Call;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// The server never gets the request; the caller's stream is reset.
    LoseRequest,
    /// The server has answered; the caller's stream is reset.
    LoseReply,
    /// The server gets the request twice, one after the other; the caller gets this answer.
    Repeat(Nth),
    /// As [`Fault::LoseReply`]; the reply is given to the caller's next call of the same method, in place of that one's.
    LateReply,
    /// The caller's stream is reset; the request arrives after this many later calls.
    LateRequest(u8),
    /// The call is carried; a copy of its request arrives after this many later calls.
    LateCopy(u8),
    /// The server gets the request up to this share of its bytes, in 256ths; the caller's stream is reset.
    CutRequest(u8, Cut),
    /// The caller gets the reply up to this share of its bytes, in 256ths.
    CutReply(u8, Cut),
}

/// One of two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// That to the first copy.
    First,
    /// That to the second.
    Second,
}

/// What follows the bytes that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The stream is reset.
    Reset,
    /// The whole connection goes away, without a word.
    HangUp,
    /// The stream ends in order, as if this were all.
    Short,
}

/// What becomes of all calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Each meets its fault.
    Open,
    /// Connections are made and stand, but nothing gets through. What was sent arrives when the line is open again.
    BlackHole,
    /// Each is answered UNAVAILABLE, and never gets to the server.
    Unavailable,
}

/// A request that arrives late.
pub(super) struct Late {
    pub(super) call: Call,
    /// Calls before it.
    pub(super) after: u8,
}

/// The first part of `bytes`, in 256ths; never all of it.
pub(super) fn part(bytes: &bytes::Bytes, share: u8) -> bytes::Bytes {
    bytes.slice(..bytes.len() * usize::from(share) / 256)
}
