//! What operators ask for. A request takes effect at the trainer's next switch point; the offset that the trainer
//! reports is the event.

use super::{Answer, Cancel, Current, End, Finish, Job, Mode, Refusal, Verdict, coda, record::Row};
use crate::{
    directive::{DoneReason, Phase, Run},
    lr_pieces::{self, MAX_RUN_STEPS, Piece},
    plan::Plan,
    policy::{CommitNote, OpenSearch},
};
use serde::{Deserialize, Serialize};

/// Request ids that are remembered.
const KEPT_REQUESTS: usize = 64;

/// A request that waits for the trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    number: u64,
    wish: Wish,
    /// The directive that obeys it, once there is one. Kept because the trainer may never see that directive, or go
    /// back to before it: what was asked for holds then too.
    obeyed_by: Option<u64>,
}

/// The interrupt that ends an adopted fallback of more than [`MAX_RUN_STEPS`]: the rest follows in parts.
const CUT: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Wish {
    Finish { cooldown_steps: Option<u64> },
    Cancel,
}

impl Job {
    /// The number of the request that waits for the trainer's next switch point, if one does.
    pub fn interrupt(&self) -> Option<u64> {
        let run = self.current_run()?;
        let cut = (run.steps() > MAX_RUN_STEPS).then_some(CUT);
        self.waiting().map(|pending| pending.number).or(cut)
    }

    /// The request that has not taken effect yet.
    pub(super) fn waiting(&self) -> Option<&Pending> {
        self.pending.as_ref().filter(|pending| pending.obeyed_by.is_none())
    }

    /// The trainer goes on at directive `seq`. A request that took effect later in the job waits once more.
    pub(super) fn wait_again(&mut self, seq: u64) {
        if let Some(pending) = &mut self.pending
            && pending.obeyed_by.is_some_and(|by| seq < by)
        {
            (pending.obeyed_by, pending.number) = (None, self.next_interrupt);
            self.next_interrupt += 1;
        }
    }

    /// Whether it may be forgotten: it has ended, or no trainer has come yet.
    pub fn may_be_deleted(&self) -> bool {
        self.session == 0 || self.ended.is_some()
    }

    pub(super) fn admit_finish(&self, finish: Finish) -> Result<Verdict, Refusal> {
        check_request_id(&finish.request_id)?;
        if self.requests.contains(&finish.request_id) {
            return Ok(Verdict::Nothing(Answer::Accepted));
        }
        if let Some(reason) = self.ended {
            return Err(Refusal::Ended(reason));
        }
        let cooling = self.current_run().is_some_and(|run| run.phase == Phase::Cooldown);
        let cancelling = self.cancelling();
        Ok(if cooling || cancelling { Verdict::Nothing(Answer::Accepted) } else { Verdict::Finish(finish) })
    }

    /// The same request once more has an effect where the first waits for a trainer that has fallen silent.
    pub(super) fn admit_cancel(&self, cancel: Cancel) -> Result<Verdict, Refusal> {
        check_request_id(&cancel.request_id)?;
        let waits_in_vain = self.cancelling() && !cancel.live;
        let known = self.requests.contains(&cancel.request_id) && !waits_in_vain;
        let nothing = known || self.ended.is_some();
        Ok(if nothing { Verdict::Nothing(Answer::Accepted) } else { Verdict::Cancel(cancel) })
    }

    fn cancelling(&self) -> bool {
        self.waiting().is_some_and(|pending| pending.wish == Wish::Cancel)
    }

    pub(super) fn finish(&mut self, finish: Finish) -> Answer {
        self.remember(finish.request_id);
        self.ask_trainer(Wish::Finish { cooldown_steps: finish.cooldown_steps })
    }

    pub(super) fn cancel(&mut self, cancel: Cancel, rows: &mut Vec<Row>) -> Answer {
        self.remember(cancel.request_id);
        if cancel.live && self.current.is_some() {
            return self.ask_trainer(Wish::Cancel);
        }
        self.pending = None;
        match self.current.take() {
            None => self.ended = Some(DoneReason::Cancelled),
            Some(current) => {
                self.close_books(&current, current.progress.received(), End::Interrupted, rows);
                let slot = self.search_slot(&current);
                let seq = current.directive.seq;
                self.previous = Some((current.directive, End::Interrupted));
                self.issue(self.done_here(slot, DoneReason::Cancelled), seq, rows);
            }
        }
        Answer::Accepted
    }

    fn ask_trainer(&mut self, wish: Wish) -> Answer {
        self.pending = Some(Pending { number: self.next_interrupt, wish, obeyed_by: None });
        self.next_interrupt += 1;
        Answer::Accepted
    }

    fn remember(&mut self, request_id: String) {
        self.requests.retain(|known| *known != request_id);
        if self.requests.len() == KEPT_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request_id);
    }

    /// What follows the current directive now that the pending request, if there is one, takes effect.
    pub(super) fn operators_plan(&mut self, current: &Current, rows: &mut Vec<Row>) -> Option<Plan> {
        let pending = self.pending.as_mut().filter(|pending| pending.obeyed_by.is_none())?;
        pending.obeyed_by = Some(self.next_seq);
        Some(match pending.wish {
            Wish::Cancel => self.done_here(self.search_slot(current), DoneReason::Cancelled),
            Wish::Finish { cooldown_steps } => match (self.open_search(current), current.directive.run()) {
                (Some(search), _) => {
                    let stage = current.directive.run().map_or(0, |run| run.stage);
                    self.finish_search(&search, stage, cooldown_steps.unwrap_or(0), rows)
                }
                (None, Some(run)) => self.finish_stretch(current, run, cooldown_steps),
                (None, None) => Plan::done(DoneReason::Finished),
            },
        })
    }

    /// The search that `current` is part of.
    fn open_search(&self, current: &Current) -> Option<OpenSearch> {
        let trial = current.directive.run().is_some_and(|run| run.phase == Phase::Trial);
        self.policy.get().search(&self.spec).filter(|_| trial && self.mode == Mode::Policy)
    }

    fn search_slot(&self, current: &Current) -> Option<crate::directive::Slot> {
        self.open_search(current).map(|search| search.slot)
    }

    fn finish_search(
        &mut self,
        search: &OpenSearch,
        stage: u32,
        cooldown_steps: u64,
        rows: &mut Vec<Row>,
    ) -> Plan {
        let steps = cooldown_steps.min(self.context().left());
        let why = "an operator finished the job during the search: from what was measured".into();
        self.note_commit(CommitNote { stage, lr: search.lr, why, forecast: None, curve: Vec::new() }, rows);
        let line = coda::warm_and_cool(steps, search.lr);
        if line.is_empty() {
            return self.done_here(Some(search.slot), DoneReason::Finished);
        }
        let (plan, rest) = coda::from_slot(search.slot, &line, Phase::Cooldown, stage);
        self.mode = Mode::Coda { rest };
        plan.into()
    }

    fn finish_stretch(&mut self, current: &Current, run: &Run, cooldown_steps: Option<u64>) -> Plan {
        let done = current.progress.received();
        if done == run.steps() && current.directive.fallback.is_none() {
            // The job's last step: a trainer without an answer ends here too.
            return Plan::done(DoneReason::Finished);
        }
        if run.phase == Phase::Cooldown {
            let planned =
                current.directive.fallback.as_deref().and_then(|f| f.run()).map_or(&[][..], |r| &r.lr);
            let line = [lr_pieces::cut(&run.lr, done).1, planned.to_vec()].concat();
            return self.coda(&line, Phase::Cooldown, run.stage);
        }
        let lr = lr_pieces::lr_at(&run.lr, done.saturating_sub(1)).unwrap_or(self.spec.fallback_lr);
        let steps = cooldown_steps.unwrap_or(self.books.spent.committed * 2 / 3).min(self.context().left());
        let line = if steps == 0 { Vec::new() } else { vec![Piece::cooldown(steps, lr)] };
        self.coda(&line, Phase::Cooldown, run.stage)
    }
}

fn check_request_id(request_id: &str) -> Result<(), Refusal> {
    if (1..=128).contains(&request_id.len()) {
        return Ok(());
    }
    let description = format!("must be 1 to 128 bytes, has {}", request_id.len());
    Err(Refusal::InvalidField { field: "request_id", description })
}
