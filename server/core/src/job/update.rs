//! Updates: an operator changes the LR or the budget of a job under way.
//!
//! | word | meaning |
//! |---|---|
//! | line | the LRs planned for the steps that are left |
//! | LR override | the highest LR of the line from the switch point on; its other LRs keep their ratio to that |

use super::{
    Answer, Current, End, Job, Mode, Refusal, Verdict,
    operator::check_request_id,
    record::Row,
    validations,
    wishes::{Ending, Wish},
};
use crate::{
    directive::{Phase, Run},
    lr_pieces,
    plan::Plan,
    policy::{Change, CommitNote, PolicyState, Segment},
    spec::{Budget, MAX_LR},
};

/// An operator changes the course of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The same id has one effect.
    pub request_id: String,
    /// What is to change; nothing: the id is remembered.
    pub change: Change,
}

impl Job {
    pub(super) fn admit_update(&self, update: Update) -> Result<Verdict, Refusal> {
        check_request_id(&update.request_id)?;
        if self.requests.contains(&update.request_id) {
            return Ok(Verdict::Nothing(Answer::Accepted));
        }
        if update.change != Change::default() {
            if let Some(reason) = self.ended {
                return Err(Refusal::Ended(reason));
            }
            self.check_lr(update.change.lr)?;
            self.check_total_steps(update.change.total_steps)?;
            if self.in_search() {
                return Err(Refusal::UpdateInSearch);
            }
        }
        if update.change.total_steps.is_some()
            && let Some(why) = self.budget_is_fixed()
        {
            return Err(Refusal::BudgetFixed(why));
        }
        Ok(Verdict::Update(update))
    }

    fn check_lr(&self, lr: Option<f64>) -> Result<(), Refusal> {
        match lr {
            Some(lr) if !(lr > 0.0 && lr <= MAX_LR) => {
                let description = format!("must be above 0 and at most {MAX_LR:e}, is {lr}");
                Err(Refusal::InvalidField { field: "lr_override", description })
            }
            _ => Ok(()),
        }
    }

    fn check_total_steps(&self, total_steps: Option<u64>) -> Result<(), Refusal> {
        let Some(total_steps) = total_steps else { return Ok(()) };
        let (done, most) = (self.steps_done(), self.spec.most_steps());
        if total_steps > done && total_steps <= most {
            return Ok(());
        }
        let description =
            format!("must be above the {done} steps that are done and at most {most}, is {total_steps}");
        Err(Refusal::InvalidField { field: "total_steps", description })
    }

    /// Why the budget can't change any more, if it can't.
    fn budget_is_fixed(&self) -> Option<&'static str> {
        if self.spec.budget.is_open() {
            Some("it is open: finish the job when it has trained enough")
        } else if matches!(self.mode, Mode::Coda { .. }) {
            Some("its trainer runs a last line, which no policy steers")
        } else if self.current_run().is_some_and(|run| run.phase == Phase::Cooldown) {
            Some("it cools down")
        } else if self.wishes.waiting().ending.is_some() {
            Some("it is about to end at an operator's request")
        } else {
            None
        }
    }

    pub(super) fn update(&mut self, update: Update) -> Answer {
        self.remember(update.request_id);
        let mut change = update.change;
        if self.current.is_none()
            && let Some(total_steps) = change.total_steps.take()
        {
            self.spec.budget = Budget::Known(total_steps);
            self.policy = PolicyState::new(&self.spec);
        }
        let cancelling = self.wishes.waiting().ending == Some(Ending::Cancel);
        if change != Change::default() && !cancelling {
            self.wishes.ask(Wish::Update(change));
        }
        Answer::Accepted
    }

    /// What follows `current` now that an operator's LR, if it is one, takes effect; the budget is changed already.
    pub(super) fn updated(
        &mut self,
        current: &Current,
        run: &Run,
        change: Change,
        end: End,
        rows: &mut Vec<Row>,
    ) -> Plan {
        let losses = &current.progress.losses;
        if self.mode == Mode::Policy {
            let validations = validations::asked_for(run, end, &current.progress);
            let segment = Segment { run, losses, validations: &validations };
            return self.ask_policy(rows, |policy, cx, notes| {
                policy.update(change, cx, notes);
                policy.ended(&segment, cx, notes)
            });
        }
        let mut line = self.coda_line(run, losses.len() as u64);
        if let Some(lr) = change.lr
            && let Some(scaled) = lr_pieces::scaled_to(&line, lr)
        {
            let why = "an operator set it".into();
            self.note_commit(
                CommitNote { stage: run.stage, lr, why, forecast: None, curve: Vec::new() },
                rows,
            );
            line = scaled;
        }
        self.coda(&line, run.phase, run.stage)
    }

    /// A budget that came too late changes nothing: the job may have begun to cool down while it waited.
    pub(super) fn change_budget(&mut self, total_steps: Option<u64>, phase: Phase) {
        let Some(total_steps) = total_steps else { return };
        if phase == Phase::Cooldown || matches!(self.mode, Mode::Coda { .. }) {
            return self.warn(format!("an operator's budget of {total_steps} steps came too late"));
        }
        let total_steps = total_steps.max(self.books.spent.total());
        let before = self.spec.budget.limit();
        self.warn(format!("an operator set the budget: {total_steps} steps, not {before}"));
        self.spec.budget = Budget::Known(total_steps);
    }
}
