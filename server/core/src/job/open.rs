//! Sessions: who speaks for the job, and where its checkpoint stands.
//!
//! A resume truncates: losses of its directive at and after its offset, and all later directives, are an abandoned
//! timeline. An older directive rewinds to the checkpoint stored at its start. Slots that the trainer has lost are
//! saved anew from the checkpoint at hand; a search whose slot was lost is closed with what was measured.

use super::{
    Answer, Checkpoint, Current, End, Job, Mode, Open, Opened, Progress, Refusal, Resume, Verdict,
    record::{Books, Row},
    wishes::Wishes,
};
use crate::{
    directive::{Directive, DoneReason, Run, Slot, SlotOp},
    policy::SlotEntry,
    stop_rules::Judge,
};
use serde::{Deserialize, Serialize};

/// How a session is opened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Way {
    /// From the trainer's initial state.
    Fresh,
    /// At the current directive.
    Same(Resume),
    /// At an older directive.
    Rewind(Resume, Box<Checkpoint>),
    /// All over again.
    Restart,
}

/// Most bytes of a nonce.
pub const MAX_NONCE: usize = 128;
/// Openings that are remembered.
const KEPT_OPENINGS: usize = 32;

/// A session that was opened, for when a copy of the request arrives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Opening {
    nonce: String,
    session: u64,
    slot_ops: Vec<SlotOp>,
}

impl Job {
    /// The directive whose checkpoint must be put into [`Open::checkpoint`] before the event is admitted.
    pub fn needs_checkpoint(&self, open: &Open) -> Option<u64> {
        let resume = open.resume.as_ref().filter(|_| !open.restart)?;
        (Some(resume.seq) != self.current.as_ref().map(|c| c.directive.seq)).then_some(resume.seq)
    }

    pub(super) fn admit_open(&self, open: Open) -> Result<Verdict, Refusal> {
        if open.nonce.len() > MAX_NONCE {
            let description = format!("must be at most {MAX_NONCE} bytes, has {}", open.nonce.len());
            return Err(Refusal::InvalidField { field: "nonce", description });
        }
        if let Some(opening) = self.openings.iter().find(|o| !open.nonce.is_empty() && o.nonce == open.nonce)
        {
            return self.admit_copy(opening);
        }
        let way = if open.restart { self.admit_restart(&open)? } else { self.admit_way(&open)? };
        Self::refuse_without_validation(self.run_after(&way), open.validate)?;
        Ok(Verdict::Open(Box::new(open), way))
    }

    /// A copy of a request gets the session of the first, and makes no other.
    fn admit_copy(&self, opening: &Opening) -> Result<Verdict, Refusal> {
        if opening.session == self.session {
            let opened = self.opened(opening.slot_ops.clone());
            return Ok(Verdict::Nothing(Answer::Opened(Box::new(opened))));
        }
        Err(Refusal::Fenced { session: opening.session, newest: self.session })
    }

    /// The segment that the session will begin with, if the job has one for it already.
    fn run_after<'a>(&'a self, way: &'a Way) -> Option<&'a Run> {
        match way {
            Way::Restart => None,
            Way::Fresh | Way::Same(_) => self.current_run(),
            Way::Rewind(_, checkpoint) => checkpoint.directive.run(),
        }
    }

    fn admit_restart(&self, open: &Open) -> Result<Way, Refusal> {
        if open.resume.is_some() {
            let description = "can't be combined with restart: a restart forgets every checkpoint".into();
            return Err(Refusal::InvalidField { field: "resume", description });
        }
        self.refuse_if_active(open)?;
        Ok(Way::Restart)
    }

    fn admit_way(&self, open: &Open) -> Result<Way, Refusal> {
        if open.new_spec.is_some() {
            let description = "is only for a restart".into();
            return Err(Refusal::InvalidField { field: "spec", description });
        }
        match (self.ended, &open.resume) {
            (Some(reason), None) | (Some(reason @ DoneReason::Cancelled), _) => Err(Refusal::Ended(reason)),
            (None, None) => self.admit_fresh(open),
            (_, Some(resume)) => self.admit_resume(open, resume),
        }
    }

    fn admit_fresh(&self, open: &Open) -> Result<Way, Refusal> {
        self.refuse_if_active(open)?;
        let total_steps_done = self.steps_done();
        let progressed = total_steps_done > 0 || self.current.as_ref().is_some_and(|c| c.follows > 0);
        if progressed { Err(Refusal::ResumeRequired { total_steps_done }) } else { Ok(Way::Fresh) }
    }

    pub(super) fn steps_done(&self) -> u64 {
        self.books.spent.total() + self.received()
    }

    fn refuse_if_active(&self, open: &Open) -> Result<(), Refusal> {
        let refused = open.active && !open.takeover && self.session > 0 && self.ended.is_none();
        if refused { Err(Refusal::SessionActive { holder: self.holder.clone() }) } else { Ok(()) }
    }

    fn admit_resume(&self, open: &Open, resume: &Resume) -> Result<Way, Refusal> {
        if resume.uid != self.uid {
            let detail = format!("it was made under uid {:016x}, the job has {:016x}", resume.uid, self.uid);
            return Err(Refusal::CheckpointMismatch(detail));
        }
        let current = self.current.as_ref().filter(|c| c.directive.seq == resume.seq);
        let directive = match (current, &open.checkpoint) {
            (Some(current), _) => &current.directive,
            (None, Some(checkpoint)) if checkpoint.seq() == resume.seq => &checkpoint.directive,
            (None, _) => return Err(self.no_checkpoint(resume)),
        };
        let steps = directive.run().map_or(0, Run::steps);
        if resume.offset > steps {
            let description = format!("must be at most the directive's {steps} steps, is {}", resume.offset);
            return Err(Refusal::InvalidField { field: "resume.offset", description });
        }
        Ok(match (current, &open.checkpoint) {
            (None, Some(checkpoint)) => Way::Rewind(resume.clone(), checkpoint.clone()),
            _ => Way::Same(resume.clone()),
        })
    }

    fn no_checkpoint(&self, resume: &Resume) -> Refusal {
        let newest = self.current.as_ref().map_or(0, |c| c.directive.seq);
        // From that one on all are kept; the start of a stage before it would be one that stands alone.
        let newer = self.checkpoints.iter().find(|seq| **seq > resume.seq);
        if let Some(&oldest) = newer.filter(|_| resume.seq > 0) {
            return Refusal::CheckpointTooOld { seq: resume.seq, oldest };
        }
        Refusal::CheckpointMismatch(format!("it is at directive {}, the job at {newest}", resume.seq))
    }

    pub(super) fn open(&mut self, open: Open, way: Way, rows: &mut Vec<Row>) -> Opened {
        if way == Way::Restart {
            self.forget(open.new_spec, rows);
        }
        self.session += 1;
        self.holder = open.holder;
        self.replay = open.replay;
        self.validate = open.validate;
        let slot_ops = match way {
            Way::Fresh | Way::Restart => {
                self.begin(rows);
                Vec::new()
            }
            Way::Same(resume) => {
                self.truncate(resume.offset);
                self.settle_slots(&resume, rows)
            }
            Way::Rewind(resume, checkpoint) => {
                self.rewind(&resume, *checkpoint);
                self.settle_slots(&resume, rows)
            }
        };
        self.settle_validation();
        self.remember_opening(open.nonce, &slot_ops);
        self.opened(slot_ops)
    }

    fn remember_opening(&mut self, nonce: String, slot_ops: &[SlotOp]) {
        if nonce.is_empty() {
            return;
        }
        if self.openings.len() == KEPT_OPENINGS {
            self.openings.pop_front();
        }
        self.openings.push_back(Opening { nonce, session: self.session, slot_ops: slot_ops.to_vec() });
    }

    fn forget(&mut self, new_spec: Option<crate::spec::ResolvedSpec>, rows: &mut Vec<Row>) {
        let spec = new_spec.unwrap_or_else(|| self.spec.clone());
        let (session, next_seq) = (self.session, self.next_seq);
        let wishes = Wishes::none(self.wishes.next_number());
        let (requests, openings) = (std::mem::take(&mut self.requests), std::mem::take(&mut self.openings));
        *self = Self { session, next_seq, wishes, requests, openings, ..Self::create(spec, self.uid) };
        rows.push(Row::Clear);
    }

    /// The first directive, unless an earlier session was given it and did nothing.
    fn begin(&mut self, rows: &mut Vec<Row>) {
        if self.current.is_none() {
            let plan = self.ask_policy(rows, |policy, cx, notes| policy.begin(cx, notes));
            self.issue(plan, 0, rows);
        }
    }

    fn truncate(&mut self, offset: u64) {
        let received = self.received();
        self.repeated += received.saturating_sub(offset);
        let Some(current) = &mut self.current else { return };
        let progress = &mut current.progress;
        progress.losses.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        progress.validations.retain(|v| v.offset < offset);
        progress.judge = current.directive.run().map(|run| Judge::over(&run.stop_if, &progress.losses));
    }

    fn rewind(&mut self, resume: &Resume, checkpoint: Checkpoint) {
        let now = self.steps_done();
        self.repeated += now.saturating_sub(checkpoint.before.spent.total() + resume.offset);
        self.policy = checkpoint.policy;
        self.mode = checkpoint.mode;
        self.spec.budget = checkpoint.budget;
        self.commits = checkpoint.commits;
        self.wishes.wait_again(checkpoint.directive.seq);
        self.previous = None;
        self.ended = match checkpoint.directive.action {
            crate::directive::Action::Done(reason) => Some(reason),
            crate::directive::Action::Run(_) => None,
        };
        self.books = at_start(&checkpoint.before, &checkpoint.directive);
        self.current = Some(Current {
            directive: checkpoint.directive,
            follows: checkpoint.follows,
            before: checkpoint.before,
            budget: checkpoint.budget,
            progress: Progress::default(),
        });
    }

    /// Saves for the slots that the trainer has lost, or the end of a search that can't go on without them.
    fn settle_slots(&mut self, resume: &Resume, rows: &mut Vec<Row>) -> Vec<SlotOp> {
        let Some(current) = &self.current else { return Vec::new() };
        let table = if resume.offset == 0 { &current.before.slots } else { &self.books.slots };
        let lost: Vec<Slot> = table.keys().filter(|slot| !resume.slots.contains(slot)).copied().collect();
        if self.search_is_lost(resume, &lost) {
            self.close_lost_search(resume.offset, &lost, rows);
        } else {
            self.refill_slots(resume.offset, &lost);
        }
        lost.into_iter().map(SlotOp::Save).collect()
    }

    fn search_is_lost(&self, resume: &Resume, lost: &[Slot]) -> bool {
        let Some(current) = &self.current else { return false };
        let search =
            self.policy.get().search(&self.spec).filter(|_| self.in_trial() && self.mode == Mode::Policy);
        search.is_some_and(|search| {
            let at_its_start =
                resume.offset == 0 && current.directive.slot_ops.contains(&SlotOp::Save(search.slot));
            lost.contains(&search.slot) && !at_its_start
        })
    }

    /// `offset`: steps of the current directive that the trainer has run, whether or not their losses ever came.
    fn close_lost_search(&mut self, offset: u64, lost: &[Slot], rows: &mut Vec<Row>) {
        let Some(current) = self.current.take() else { return };
        let seq = current.directive.seq;
        self.close_books(&current, offset, End::Abandoned, rows);
        for &slot in lost {
            let committed = self.books.spent.committed;
            self.books.slots.insert(slot, SlotEntry { seq, committed, tried: 0 });
        }
        let warning =
            "the trainer came back without the search's slot: the search was closed with what was measured";
        self.warn(warning);
        let plan = self.ask_policy(rows, |policy, cx, notes| policy.close_search(cx, notes).into());
        self.previous = Some(current.closed(End::Abandoned));
        self.issue(plan, seq, rows);
    }

    /// Enters the checkpoint at hand as what the lost slots hold from now on.
    fn refill_slots(&mut self, offset: u64, lost: &[Slot]) {
        let Some(current) = &mut self.current else { return };
        let seq = current.directive.seq;
        if offset == 0 {
            // A checkpoint at the start of a directive with a restore holds the state after it.
            let at_hand = SlotEntry { seq, committed: self.books.spent.committed, tried: self.books.tried };
            for &slot in lost {
                let restored = current.directive.slot_ops.contains(&SlotOp::Restore(slot));
                let held = current.before.slots.get(&slot).filter(|_| restored);
                let entry = held.map_or(at_hand, |held| SlotEntry { seq, ..*held });
                current.before.slots.insert(slot, entry);
            }
            self.books = at_start(&current.before, &current.directive);
        } else {
            let mut at_hand = self.books.clone();
            if let Some(run) = current.directive.run() {
                at_hand.run(run.phase, offset);
            }
            let entry = SlotEntry { seq, committed: at_hand.spent.committed, tried: at_hand.tried };
            self.books.slots.extend(lost.iter().map(|&slot| (slot, entry)));
        }
    }

    fn opened(&self, slot_ops: Vec<SlotOp>) -> Opened {
        let directive = self.current.as_ref().map(|c| c.directive.clone()).unwrap_or_else(|| Directive {
            seq: self.next_seq,
            slot_ops: Vec::new(),
            action: crate::directive::Action::Done(self.ended.unwrap_or(DoneReason::Finished)),
            committed_step_at_start: self.books.spent.committed,
            fallback: None,
            fallback_on_stop: None,
        });
        Opened {
            session: self.session,
            directive,
            received_through: self.received(),
            slot_ops,
            uid: self.uid,
            switch_every: self.spec.switch_every,
        }
    }
}

/// The books at a directive's first step.
fn at_start(before: &Books, directive: &Directive) -> Books {
    let mut books = before.clone();
    books.begin(directive.seq, &directive.slot_ops, &directive.action);
    books
}
