//! What operators ask for. A request takes effect at the trainer's next switch point; the offset that the trainer
//! reports is the event.

use super::{
    Answer, Cancel, Current, End, Finish, Job, Mode, Refusal, Verdict, coda,
    record::Row,
    validations,
    wishes::{Due, Ending, Wish, Wishes},
};
use crate::{
    directive::{DoneReason, Phase, Run},
    lr_pieces::{self, MAX_RUN_STEPS, Piece},
    plan::Plan,
    policy::{CommitNote, OpenSearch, Segment},
};

/// Request ids that are remembered.
const KEPT_REQUESTS: usize = 64;

/// The interrupt that ends an adopted fallback of more than [`MAX_RUN_STEPS`]: the rest follows in parts.
const CUT: u64 = 0;

impl Job {
    /// The number of the request that waits for the trainer's next switch point, if one does.
    pub fn interrupt(&self) -> Option<u64> {
        let run = self.current_run()?;
        let cut = (run.steps() > MAX_RUN_STEPS).then_some(CUT);
        self.wishes.number(self.in_search()).or(cut)
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
        self.wishes.waiting().ending == Some(Ending::Cancel)
    }

    pub(super) fn finish(&mut self, finish: Finish) -> Answer {
        self.remember(finish.request_id);
        self.wishes.ask(Wish::End(Ending::Finish { cooldown_steps: finish.cooldown_steps }));
        Answer::Accepted
    }

    pub(super) fn cancel(&mut self, cancel: Cancel, rows: &mut Vec<Row>) -> Answer {
        self.remember(cancel.request_id);
        if cancel.live && self.current.is_some() {
            self.wishes.ask(Wish::End(Ending::Cancel));
            return Answer::Accepted;
        }
        self.wishes = Wishes::none(self.wishes.next_number());
        match self.current.take() {
            None => self.ended = Some(DoneReason::Cancelled),
            Some(current) => {
                self.close_books(&current, current.progress.received(), End::Interrupted, rows);
                let slot = self.search_slot(&current);
                let seq = current.directive.seq;
                self.previous = Some(current.closed(End::Interrupted));
                self.issue(self.done_here(slot, DoneReason::Cancelled), seq, rows);
            }
        }
        Answer::Accepted
    }

    pub(super) fn remember(&mut self, request_id: String) {
        self.requests.retain(|known| *known != request_id);
        if self.requests.len() == KEPT_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request_id);
    }

    /// What follows the current directive now that the requests that wait, if there are any, take effect.
    pub(super) fn operators_plan(
        &mut self,
        current: &Current,
        end: End,
        rows: &mut Vec<Row>,
    ) -> Option<Plan> {
        let search = self.open_search(current);
        let Due { change, ending } = self.wishes.obey(self.next_seq, search.is_some())?;
        let Some(run) = current.directive.run() else { return Some(Plan::done(DoneReason::Finished)) };
        if ending != Some(Ending::Cancel) {
            self.change_budget(change.total_steps, run.phase);
        }
        Some(match (ending, search) {
            (None, _) => self.updated(current, run, change, end, rows),
            (Some(Ending::Cancel), search) => {
                self.done_here(search.map(|search| search.slot), DoneReason::Cancelled)
            }
            (Some(Ending::Finish { cooldown_steps }), Some(mut search)) => {
                if end == End::Completed {
                    search.lr = self.lr_after_trial(current, run, rows).unwrap_or(search.lr);
                }
                search.lr = change.lr.unwrap_or(search.lr);
                self.finish_search(&search, run.stage, cooldown_steps.unwrap_or(0), rows)
            }
            (Some(Ending::Finish { cooldown_steps }), None) => {
                self.finish_stretch(current, run, cooldown_steps, change.lr)
            }
        })
    }

    /// The search that `current` is part of.
    fn open_search(&self, current: &Current) -> Option<OpenSearch> {
        let trial = current.directive.run().is_some_and(|run| run.phase == Phase::Trial);
        self.policy.get().search(&self.spec).filter(|_| trial && self.mode == Mode::Policy)
    }

    /// What would be committed, or was, now that the trial under way is over too.
    fn lr_after_trial(&mut self, current: &Current, run: &Run, rows: &mut Vec<Row>) -> Option<f64> {
        let validations = validations::asked_for(run, End::Completed, &current.progress);
        let segment = Segment { run, losses: &current.progress.losses, validations: &validations };
        self.ask_policy(rows, |policy, cx, notes| policy.ended(&segment, cx, notes));
        let open = self.policy.get().search(&self.spec).map(|search| search.lr);
        open.or_else(|| self.commits.lr(run.stage))
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
        self.mode = Mode::Coda { rest, stops: 0 };
        plan.into()
    }

    /// `lr`: where an operator has set it.
    fn finish_stretch(
        &mut self,
        current: &Current,
        run: &Run,
        cooldown_steps: Option<u64>,
        lr: Option<f64>,
    ) -> Plan {
        let done = current.progress.received();
        if done == run.steps() && current.directive.fallback.is_none() {
            // The job's last step: a trainer without an answer ends here too.
            return Plan::done(DoneReason::Finished);
        }
        if run.phase == Phase::Cooldown {
            let planned =
                current.directive.fallback.as_deref().and_then(|f| f.run()).map_or(&[][..], |r| &r.lr);
            let line = [lr_pieces::cut(&run.lr, done).1, planned.to_vec()].concat();
            let line = lr.and_then(|lr| lr_pieces::scaled_to(&line, lr)).unwrap_or(line);
            return self.coda(&line, Phase::Cooldown, run.stage);
        }
        let last = lr_pieces::lr_at(&run.lr, done.saturating_sub(1)).unwrap_or(self.spec.fallback_lr);
        let lr = lr.unwrap_or(last);
        let steps = cooldown_steps.unwrap_or(self.books.spent.committed * 2 / 3).min(self.context().left());
        let line = if steps == 0 { Vec::new() } else { vec![Piece::cooldown(steps, lr)] };
        self.coda(&line, Phase::Cooldown, run.stage)
    }
}

pub(super) fn check_request_id(request_id: &str) -> Result<(), Refusal> {
    if (1..=128).contains(&request_id.len()) {
        return Ok(());
    }
    let description = format!("must be 1 to 128 bytes, has {}", request_id.len());
    Err(Refusal::InvalidField { field: "request_id", description })
}
