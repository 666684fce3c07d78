//! What a check says.

use std::{
    fmt::{Debug, Display},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a check has found: nothing, if the promise is kept.
pub(in crate::cli) type Verdict<T = ()> = Result<T, Broken>;

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Broken {
    /// The promise is not kept.
    Fails {
        /// What was promised.
        expected: String,
        /// What came in its place.
        came: String,
    },
    /// It can't be checked here, for this reason.
    Skipped(String),
}

impl Broken {
    pub(super) fn new(expected: impl Into<String>, came: impl Display) -> Self {
        Self::Fails { expected: expected.into(), came: came.to_string() }
    }

    /// The same, and where it was.
    pub(super) fn at(self, place: impl Display) -> Self {
        match self {
            Self::Fails { expected, came } => Self::Fails { expected, came: format!("{came} ({place})") },
            skipped @ Self::Skipped(_) => skipped,
        }
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::new("an answer", told(&status))
    }
}

/// Fails unless `kept`.
pub(super) fn expect(kept: bool, expected: impl Into<String>, came: impl Display) -> Verdict {
    if kept { Ok(()) } else { Err(Broken::new(expected, came)) }
}

/// Fails unless both are the same.
pub(super) fn same<T: PartialEq + Debug>(what: &str, expected: &T, came: &T) -> Verdict {
    let differ = || Broken::new(format!("{what} {}", short(expected)), short(came));
    if expected == came { Ok(()) } else { Err(differ()) }
}

/// The verdict of a check; one that panics has met what no server or client of the protocol says.
pub(super) async fn unwound(check: impl Future<Output = Verdict>) -> Verdict {
    let mut check = std::pin::pin!(check);
    let polled =
        std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| check.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        });
    polled.await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let came = format!("one that it can't be checked with: {}", text.unwrap_or("no word of it"));
        Err(Broken::new("an answer in the ranges of the protocol", came))
    })
}

/// A value in few words.
pub(super) fn short(value: &impl Debug) -> String {
    const MOST: usize = 300;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// A status in one line.
pub(super) fn told(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| format!(" [{}]", info.reason));
    format!("{:?}{}: {}", status.code(), reason.unwrap_or_default(), status.message())
}

/// The code's name.
pub(super) fn code_name(code: Code) -> String {
    format!("{code:?}")
}
