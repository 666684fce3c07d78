//! Where a process is killed.

use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use std::collections::BTreeMap;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The server.
    Server,
    /// The trainer.
    Trainer,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Server => Self::Trainer,
            Self::Trainer => Self::Server,
        }
    }
}

/// A kind of point in a process's life. Where strace is missing only those are used that the harness hits by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// On entry to one of these system calls (names with commas).
    Call(&'static str),
    /// Once the trainer has said that it was given a directive.
    Next,
    /// Once the trainer has said that it has run a step.
    Step,
}

/// Every kind of point, and what it means.
pub(super) const POINTS: [(Side, Point, &str); 12] = [
    (Side::Server, Point::Call("pwrite64"), "in the middle of a store write"),
    (Side::Server, Point::Call("fdatasync,fsync"), "written, not yet durable"),
    (Side::Server, Point::Call("writev,sendto"), "durable, before the reply is out"),
    (Side::Server, Point::Call("epoll_wait"), "after the reply is out"),
    (Side::Server, Point::Next, "after the trainer has its directive"),
    (Side::Server, Point::Step, "between two reports"),
    (Side::Trainer, Point::Call("writev,sendto"), "before a report is out"),
    (Side::Trainer, Point::Call("epoll_wait"), "after a report is out, or a reply is read"),
    (Side::Trainer, Point::Call("write"), "after a step or a reply, in a checkpoint"),
    (Side::Trainer, Point::Call("fsync,rename"), "before a checkpoint counts"),
    (Side::Trainer, Point::Next, "after it has its directive"),
    (Side::Trainer, Point::Step, "between two steps"),
];

/// A kill to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kill {
    /// Number of the kind in [`POINTS`].
    pub(super) point: usize,
    /// The n-th time since the process was started, from 1.
    pub(super) nth: u64,
    /// The other process dies with it.
    pub(super) both: bool,
}

/// How often a point of each kind comes in an undisturbed life, by number in [`POINTS`].
pub(super) type Counts = BTreeMap<usize, u64>;

/// Draws a kill of `side`, whose job goes on through `lives` processes.
pub(super) fn draw(rng: &mut ChaCha8Rng, side: Side, counts: &Counts, lives: u64, both: bool) -> Kill {
    let kinds: Vec<(usize, u64)> = counts
        .iter()
        .filter(|(point, count)| POINTS[**point].0 == side && **count > 0)
        .map(|(point, count)| (*point, *count))
        .collect();
    let (point, count) = kinds[usize::try_from(below(rng, kinds.len() as u64)).unwrap_or(0)];
    // On the average an equal share of the job each, so that the last one dies near its end.
    let nth = 1 + below(rng, (2 * count).div_ceil(lives));
    Kill { point, nth, both }
}

/// A number below `n`.
pub(super) fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    rng.next_u64() % n.max(1)
}
