//! The trainer's slots: what they hold, and the operations that it still has to do.

use autolrs_core::directive::{Directive, Slot, SlotOp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The directive that saved it.
    pub(super) seq: u64,
    /// Steps that the job had spent then.
    pub(super) total: u64,
}

/// The slots as they are after the operations that were taken, and those that were not.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    held: BTreeMap<Slot, Entry>,
    /// (seq of the directive, operation), in order.
    queue: Vec<(u64, SlotOp)>,
}

impl Slots {
    /// A trainer that holds these slots.
    pub(super) fn holding(held: impl IntoIterator<Item = (Slot, Entry)>) -> Self {
        Self { held: held.into_iter().collect(), queue: Vec::new() }
    }

    pub(super) fn entry(&self, slot: Slot) -> Option<Entry> {
        self.held.get(&slot).copied()
    }

    pub(super) fn push(&mut self, seq: u64, ops: impl IntoIterator<Item = SlotOp>) {
        self.queue.extend(ops.into_iter().map(|op| (seq, op)));
    }

    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands the operations to the trainer and enters them.
    pub(super) fn take(&mut self, total: u64) -> Vec<SlotOp> {
        let queue = std::mem::take(&mut self.queue);
        for &(seq, op) in &queue {
            match op {
                SlotOp::Save(slot) => drop(self.held.insert(slot, Entry { seq, total })),
                SlotOp::Drop(slot) => drop(self.held.remove(&slot)),
                SlotOp::Restore(_) => {}
            }
        }
        queue.into_iter().map(|(_, op)| op).collect()
    }

    /// The held slot whose content will be the trainer's state once the operations that wait are done; none: the
    /// state as it is.
    pub(super) fn state_comes_from(&self) -> Option<Slot> {
        let ops: Vec<SlotOp> = self.queue.iter().map(|(_, op)| *op).collect();
        restored(&ops).filter(|slot| self.held.contains_key(slot))
    }

    /// Whether a slot will be there once the operations that wait are done.
    pub(super) fn will_hold(&self, slot: Slot) -> bool {
        self.queue.iter().fold(self.held.contains_key(&slot), |held, (_, op)| match *op {
            SlotOp::Save(saved) => held || saved == slot,
            SlotOp::Drop(dropped) => held && dropped != slot,
            SlotOp::Restore(_) => held,
        })
    }
}

/// The slot whose content, as it was before `ops`, is the state after them; none: the state before them.
pub(super) fn restored(ops: &[SlotOp]) -> Option<Slot> {
    let mut state = None;
    let mut saved: BTreeMap<Slot, Option<Slot>> = BTreeMap::new();
    for op in ops {
        match *op {
            SlotOp::Save(slot) => drop(saved.insert(slot, state)),
            SlotOp::Restore(slot) => state = saved.get(&slot).copied().unwrap_or(Some(slot)),
            SlotOp::Drop(_) => {}
        }
    }
    state
}

/// The slots that a fallback of `directive`, at any depth, restores without having saved them itself.
pub(super) fn needed_by_fallbacks(directive: &Directive) -> Vec<Slot> {
    let mut needed = Vec::new();
    let saved: Vec<Slot> = Vec::new();
    for fallback in [&directive.fallback, &directive.fallback_on_stop].into_iter().flatten() {
        collect_needed(fallback, saved.clone(), &mut needed);
    }
    needed
}

fn collect_needed(directive: &Directive, mut saved: Vec<Slot>, needed: &mut Vec<Slot>) {
    for op in &directive.slot_ops {
        match *op {
            SlotOp::Save(slot) => saved.push(slot),
            SlotOp::Restore(slot) if !saved.contains(&slot) && !needed.contains(&slot) => needed.push(slot),
            SlotOp::Restore(_) | SlotOp::Drop(_) => {}
        }
    }
    for fallback in [&directive.fallback, &directive.fallback_on_stop].into_iter().flatten() {
        collect_needed(fallback, saved.clone(), needed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SlotOp::{Drop, Restore, Save};

    #[test]
    fn the_state_after_operations_is_followed() {
        assert_eq!(restored(&[Save(Slot::Start)]), None);
        assert_eq!(restored(&[Save(Slot::Best), Restore(Slot::Stage)]), Some(Slot::Stage));
        assert_eq!(restored(&[Save(Slot::Best), Restore(Slot::Stage), Restore(Slot::Best)]), None);
        assert_eq!(
            restored(&[Restore(Slot::Safe), Save(Slot::SafePrev), Drop(Slot::Safe), Restore(Slot::SafePrev)]),
            Some(Slot::Safe)
        );
    }

    #[test]
    fn operations_are_entered_when_they_are_taken() {
        let mut slots = Slots::default();
        slots.push(3, [Save(Slot::Start), Save(Slot::Safe), Drop(Slot::Start)]);
        assert!(
            slots.will_hold(Slot::Safe) && !slots.will_hold(Slot::Start) && slots.entry(Slot::Safe).is_none()
        );
        assert_eq!(slots.take(7).len(), 3);
        assert_eq!(slots.entry(Slot::Safe), Some(Entry { seq: 3, total: 7 }));
        assert!(slots.is_settled() && slots.take(8).is_empty());
    }
}
