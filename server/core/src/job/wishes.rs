//! What operators have asked for: what waits for the trainer, and what has taken effect. The latter is kept because the
//! trainer may never see the directive that obeys it, or go back to before it: what was asked for holds then too.

use crate::policy::Change;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Requests that have taken effect and are remembered.
const KEPT_OBEYED: usize = 64;

/// A request that takes effect at one of the trainer's switch points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Wish {
    Update(Change),
    End(Ending),
}

/// How a job ends at an operator's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ending {
    Finish { cooldown_steps: Option<u64> },
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Pending {
    number: u64,
    wish: Wish,
    /// The directive that obeys it, once there is one.
    obeyed_by: Option<u64>,
}

/// All requests, oldest first: those that have taken effect, then at most one update and one ending that wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wishes {
    list: VecDeque<Pending>,
    next_number: u64,
}

/// What takes effect at once. An update that comes with an ending takes effect before it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Due {
    pub(super) change: Change,
    pub(super) ending: Option<Ending>,
}

impl Wishes {
    /// None; the first will have this number.
    pub(super) fn none(next_number: u64) -> Self {
        Self { list: VecDeque::new(), next_number }
    }

    /// Above every number that was given.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Lets a request wait. An update adds to the one that waits, an ending takes the place of the one that waits, a
    /// cancellation that of everything.
    pub(super) fn ask(&mut self, wish: Wish) {
        let mut due = self.waiting();
        match wish {
            Wish::Update(change) => due.change = due.change.then(change),
            Wish::End(Ending::Cancel) => due = Due { ending: Some(Ending::Cancel), ..Due::default() },
            Wish::End(finish) => due.ending = Some(finish),
        }
        self.list.retain(|pending| pending.obeyed_by.is_some());
        let excess = self.list.len().saturating_sub(KEPT_OBEYED);
        self.list.drain(..excess);
        let update = (due.change != Change::default()).then_some(Wish::Update(due.change));
        for wish in update.into_iter().chain(due.ending.map(Wish::End)) {
            self.list.push_back(Pending { number: self.next_number, wish, obeyed_by: None });
        }
        self.next_number += 1;
    }

    /// What has not taken effect yet.
    pub(super) fn waiting(&self) -> Due {
        let mut due = Due::default();
        for pending in self.list.iter().filter(|pending| pending.obeyed_by.is_none()) {
            match pending.wish {
                Wish::Update(change) => due.change = due.change.then(change),
                Wish::End(ending) => due.ending = Some(ending),
            }
        }
        due
    }

    /// The number of the newest request that waits and can take effect: a search lets updates wait.
    pub(super) fn number(&self, in_search: bool) -> Option<u64> {
        let waits = |pending: &&Pending| pending.obeyed_by.is_none();
        let number = self.list.iter().filter(waits).map(|pending| pending.number).max();
        number.filter(|_| !in_search || self.waiting().ending.is_some())
    }

    /// What takes effect now that directive `by` is about to be given; none if nothing waits.
    pub(super) fn obey(&mut self, by: u64, in_search: bool) -> Option<Due> {
        self.number(in_search)?;
        let due = self.waiting();
        for pending in &mut self.list {
            pending.obeyed_by.get_or_insert(by);
        }
        Some(due)
    }

    /// The trainer goes on at directive `seq`. What took effect later in the job waits once more.
    pub(super) fn wait_again(&mut self, seq: u64) {
        let mut again = false;
        for pending in &mut self.list {
            if pending.obeyed_by.is_some_and(|by| seq < by) {
                (pending.obeyed_by, pending.number, again) = (None, self.next_number, true);
            }
        }
        self.next_number += u64::from(again);
    }
}
