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

/// Which slot to save to and which to restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SafeSlots {
    newest: Option<Slot>,
    older: Option<Slot>,
    /// Steps since the newest save or the last restore.
    since: u64,
    /// Whether a slot was restored after the newest save.
    restored: bool,
}

impl SafeSlots {
    /// The save at the start of a directive that goes on; none while the newest save is not judged.
    pub(super) fn save(&mut self) -> Option<Keep> {
        if self.newest.is_some() && self.since < JUDGED_AFTER {
            return None;
        }
        let slot = if self.newest == Some(Slot::Safe) { Slot::SafePrev } else { Slot::Safe };
        *self = Self { newest: Some(slot), older: self.newest, since: 0, restored: false };
        Some(Keep::Save(slot))
    }

    /// Enters steps after which no guard had fired.
    pub(super) fn ran(&mut self, steps: u64) {
        self.since = self.since.saturating_add(steps);
    }

    /// The slot to restore when a guard fires at `offset` of the directive; it is entered as restored. The older one
    /// if the guard fires within 40 steps of the newest save, or a second time after one restore.
    pub(super) fn restore(&mut self, offset: u64) -> Slot {
        let unjudged = self.restored || self.since.saturating_add(offset) < JUDGED_AFTER;
        let slot = if unjudged { self.oldest() } else { self.newest() };
        let older = self.older.filter(|_| slot == self.newest());
        *self = Self { newest: Some(slot), older, since: 0, restored: true };
        slot
    }

    /// What a guard restores at any offset that [`SafeSlots::restore`] is not asked about: in an outage.
    pub(super) fn in_outage(&self) -> Slot {
        if self.restored { self.oldest() } else { self.newest() }
    }

    /// The newest save.
    pub(super) fn newest(&self) -> Slot {
        self.newest.unwrap_or(Slot::Safe)
    }

    /// The oldest save that is still held.
    pub(super) fn oldest(&self) -> Slot {
        self.older.unwrap_or(self.newest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> SafeSlots {
        let mut slots = SafeSlots::default();
        assert_eq!(slots.save(), Some(Keep::Save(Slot::Safe)));
        slots.ran(100);
        assert_eq!(slots.save(), Some(Keep::Save(Slot::SafePrev)));
        slots
    }

    #[test]
    fn a_late_stop_restores_the_newest_then_the_older() {
        let mut slots = judged();
        assert_eq!(slots.restore(40), Slot::SafePrev);
        assert_eq!(slots.restore(90), Slot::Safe);
        assert_eq!(slots.restore(90), Slot::Safe);
        slots.ran(100);
        assert_eq!(slots.save(), Some(Keep::Save(Slot::SafePrev)));
        assert_eq!(slots.oldest(), Slot::Safe);
    }

    #[test]
    fn an_early_stop_restores_the_older() {
        let mut slots = judged();
        assert_eq!(slots.restore(39), Slot::Safe);
        let mut only = SafeSlots::default();
        only.save();
        assert_eq!(only.restore(0), Slot::Safe);
    }

    #[test]
    fn an_unjudged_save_is_not_followed_by_another() {
        let mut slots = judged();
        slots.ran(39);
        assert_eq!(slots.save(), None);
        slots.ran(1);
        assert_eq!(slots.save(), Some(Keep::Save(Slot::Safe)));
    }

    #[test]
    fn a_guard_loses_at_most_2_percent() {
        assert_eq!([3, 5_000, 45_000, 1_000_000_000].map(directive_steps), [100, 100, 900, MAX_RUN_STEPS]);
    }
}
