//! What a policy answers with: a directive without its numbers. The types hold one promise of the protocol: a plan
//! that follows an early stop starts with a restore, and a plan without a restore continues exactly at its
//! predecessor's last step.

use crate::directive::{Action, DoneReason, Phase, Run, Slot, SlotOp};

/// A slot operation that does not move the trainer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// See [`SlotOp::Save`].
    Save(Slot),
    /// See [`SlotOp::Drop`].
    Drop(Slot),
}

impl From<Keep> for SlotOp {
    fn from(keep: Keep) -> Self {
        match keep {
            Keep::Save(slot) => Self::Save(slot),
            Keep::Drop(slot) => Self::Drop(slot),
        }
    }
}

/// The next directive: slot operations, an action, and what to do when no answer comes after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(crate) slot_ops: Vec<SlotOp>,
    pub(crate) action: Action,
    pub(crate) fallback: Option<Box<Self>>,
    pub(crate) fallback_on_stop: Option<Box<FromSlot>>,
}

/// A [`Plan`] that restores a slot first: the only kind that may follow an early stop.
#[derive(Debug, Clone, PartialEq)]
pub struct FromSlot(Plan);

impl Plan {
    /// Goes on where the trainer stands.
    pub fn go_on(keep: impl IntoIterator<Item = Keep>, run: Run) -> Self {
        Self::new(keep.into_iter().map(SlotOp::from).collect(), Action::Run(run))
    }

    /// Ends the job where the trainer stands.
    pub fn done(reason: DoneReason) -> Self {
        Self::new(Vec::new(), Action::Done(reason))
    }

    /// What to run when no answer comes after the end.
    #[must_use]
    pub fn or_else(mut self, fallback: impl Into<Self>) -> Self {
        self.fallback = Some(Box::new(fallback.into()));
        self
    }

    /// What to run when no answer comes after an early stop.
    #[must_use]
    pub fn on_stop(mut self, fallback: FromSlot) -> Self {
        self.fallback_on_stop = Some(Box::new(fallback));
        self
    }

    /// The segment, if it is not the end of the job.
    pub fn run(&self) -> Option<&Run> {
        match &self.action {
            Action::Run(run) => Some(run),
            Action::Done(_) => None,
        }
    }

    /// Asks for a validation loss at the end of a committed segment that asks for none.
    #[must_use]
    pub(crate) fn validated(mut self) -> Self {
        if let Action::Run(run) = &mut self.action
            && run.phase != Phase::Trial
            && run.validate_at.is_empty()
        {
            run.validate_at = vec![run.steps()];
        }
        self
    }

    fn new(slot_ops: Vec<SlotOp>, action: Action) -> Self {
        Self { slot_ops, action, fallback: None, fallback_on_stop: None }
    }
}

impl FromSlot {
    /// Restores `slot`, does `keep`, then runs.
    pub fn run(slot: Slot, keep: impl IntoIterator<Item = Keep>, run: Run) -> Self {
        let ops = std::iter::once(SlotOp::Restore(slot)).chain(keep.into_iter().map(SlotOp::from));
        Self(Plan::new(ops.collect(), Action::Run(run)))
    }

    /// Saves the state where the trainer stands before anything else.
    #[must_use]
    pub fn saving(mut self, slot: Slot) -> Self {
        self.0.slot_ops.insert(0, SlotOp::Save(slot));
        self
    }

    /// Restores `slot` and ends the job.
    pub fn done(slot: Slot, reason: DoneReason) -> Self {
        Self(Plan::new(vec![SlotOp::Restore(slot)], Action::Done(reason)))
    }

    /// See [`Plan::or_else`].
    #[must_use]
    pub fn or_else(self, fallback: impl Into<Plan>) -> Self {
        Self(self.0.or_else(fallback))
    }

    /// See [`Plan::on_stop`].
    #[must_use]
    pub fn on_stop(self, fallback: Self) -> Self {
        Self(self.0.on_stop(fallback))
    }

    /// The plan itself.
    pub fn plan(&self) -> &Plan {
        &self.0
    }
}

impl From<FromSlot> for Plan {
    fn from(plan: FromSlot) -> Self {
        plan.0
    }
}
