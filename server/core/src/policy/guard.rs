//! The slots of a committed stretch, and the length of its directives.
//!
//! A directive saves at its start, alternately to `SAFE` and `SAFE_PREV`: a save may hold an update that no loss has
//! judged yet, so a guard that fires soon after it goes back to the older one.

use crate::{directive::Slot, lr_pieces::MAX_RUN_STEPS, plan::Keep};
use serde::{Deserialize, Serialize};

/// Steps until the losses have judged a save.
const JUDGED_AFTER: u64 = 40;

/// Steps of a directive in a committed stretch of a budget: max(100, round(B / 50)), so that a guard loses at most
/// about 2 % of the budget.
pub(super) fn directive_steps(total_steps: u64) -> u64 {
    (libm::round(total_steps as f64 / 50.0) as u64).clamp(100, MAX_RUN_STEPS)
}

/// Which slot to save to and which to restore. `M` is what the policy wants to know of a save.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct SafeSlots<M> {
    newest: Option<(Slot, M)>,
    older: Option<(Slot, M)>,
    /// Steps since the newest save or the last restore.
    since: u64,
    /// Whether a slot was restored after the newest save.
    restored: bool,
}

impl<M: Copy> SafeSlots<M> {
    /// Before the first save.
    pub(super) const fn new() -> Self {
        Self { newest: None, older: None, since: 0, restored: false }
    }

    /// Whether the next directive that goes on is to save: the losses have judged the newest save.
    pub(super) fn is_due(&self) -> bool {
        self.newest.is_none() || self.since >= JUDGED_AFTER
    }

    /// The save at the start of a directive that goes on, if it is due.
    pub(super) fn save(&mut self, mark: M) -> Option<Keep> {
        if !self.is_due() {
            return None;
        }
        let slot = if self.newest().is_some_and(|(slot, _)| slot == Slot::Safe) {
            Slot::SafePrev
        } else {
            Slot::Safe
        };
        *self = Self { newest: Some((slot, mark)), older: self.newest, since: 0, restored: false };
        Some(Keep::Save(slot))
    }

    /// Enters steps after which no guard had fired.
    pub(super) fn ran(&mut self, steps: u64) {
        self.since = self.since.saturating_add(steps);
    }

    /// The save to restore when a guard fires at `offset` of the directive; it is entered as restored. The older one
    /// if the guard fires within 40 steps of the newest save, or a second time after one restore. None before the
    /// first save.
    pub(super) fn restore(&mut self, offset: u64) -> Option<(Slot, M)> {
        let unjudged = self.restored || self.since.saturating_add(offset) < JUDGED_AFTER;
        if unjudged && self.older.is_some() {
            (self.newest, self.older) = (self.older, None);
        }
        (self.since, self.restored) = (0, true);
        self.newest
    }

    /// What an unattended trainer restores after a stop, wherever that is.
    pub(super) fn unattended(&self) -> Option<(Slot, M)> {
        if self.restored { self.oldest() } else { self.newest }
    }

    /// Changes what is known of the saves.
    pub(super) fn map(&mut self, change: impl Fn(M) -> M) {
        for saved in [&mut self.newest, &mut self.older] {
            *saved = saved.map(|(slot, mark)| (slot, change(mark)));
        }
    }

    /// The newest save.
    pub(super) fn newest(&self) -> Option<(Slot, M)> {
        self.newest
    }

    /// The oldest save that is still held.
    pub(super) fn oldest(&self) -> Option<(Slot, M)> {
        self.older.or(self.newest)
    }
}

/// The slot of a save. A stretch saves before anything can be restored; `SAFE` is its first slot.
pub(super) fn slot_of<M>(saved: Option<(Slot, M)>) -> Slot {
    saved.map_or(Slot::Safe, |(slot, _)| slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> SafeSlots<u8> {
        let mut slots = SafeSlots::new();
        assert_eq!(slots.save(1), Some(Keep::Save(Slot::Safe)));
        slots.ran(100);
        assert_eq!(slots.save(2), Some(Keep::Save(Slot::SafePrev)));
        slots
    }

    #[test]
    fn a_late_stop_restores_the_newest_then_the_older() {
        let mut slots = judged();
        assert_eq!(slots.restore(40), Some((Slot::SafePrev, 2)));
        assert_eq!(slots.restore(90), Some((Slot::Safe, 1)));
        assert_eq!(slots.restore(90), Some((Slot::Safe, 1)));
        slots.ran(100);
        assert_eq!(slots.save(3), Some(Keep::Save(Slot::SafePrev)));
        assert_eq!(slots.oldest(), Some((Slot::Safe, 1)));
    }

    #[test]
    fn an_early_stop_restores_the_older() {
        let mut slots = judged();
        assert_eq!(slots.restore(39), Some((Slot::Safe, 1)));
        let mut only = SafeSlots::new();
        assert_eq!(only.restore(0), None);
        only.save(());
        assert_eq!(only.restore(0), Some((Slot::Safe, ())));
    }

    #[test]
    fn an_unjudged_save_is_not_followed_by_another() {
        let mut slots = judged();
        slots.ran(39);
        assert_eq!(slots.save(3), None);
        slots.ran(1);
        assert_eq!(slots.save(3), Some(Keep::Save(Slot::Safe)));
    }

    #[test]
    fn a_guard_loses_at_most_2_percent() {
        assert_eq!([3, 5_000, 45_000, 1_000_000_000].map(directive_steps), [100, 100, 900, MAX_RUN_STEPS]);
    }
}
