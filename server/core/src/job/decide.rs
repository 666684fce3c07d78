//! Closing a directive and giving the next.

use super::{
    Ack, Closed, Current, End, Job, KEPT_CHECKPOINTS, KEPT_STAGE_STARTS, Mode, Progress, coda,
    record::{Books, Checkpoint, DirectiveRecord, Row},
    validations,
};
use crate::{
    directive::{Action, Directive, DoneReason, Phase, Run, Slot},
    lr_pieces::{self, Piece},
    plan::{FromSlot, Plan},
    policy::{CommitNote, Notes, Segment, downsample},
};

impl Job {
    /// Enters the last losses of the current directive, closes it and decides what follows.
    pub(super) fn close(&mut self, last: Progress, end: End, rows: &mut Vec<Row>) -> Ack {
        self.close_with(last, end, rows, |job, current, rows| job.decide(current, end, rows))
    }

    /// As [`Job::close`], where `decide` says what follows.
    pub(super) fn close_with(
        &mut self,
        last: Progress,
        end: End,
        rows: &mut Vec<Row>,
        decide: impl FnOnce(&mut Self, &Current, &mut Vec<Row>) -> Plan,
    ) -> Ack {
        self.enter(last);
        let Some(current) = self.current.take() else { return self.heartbeat() };
        let (seq, received) = (current.directive.seq, current.progress.received());
        self.watch_parting(&current, end);
        self.close_books(&current, received, end, rows);
        let plan = decide(self, &current, rows);
        self.previous = Some(current.closed(end));
        self.issue(plan, seq, rows);
        let directive = self.current.as_ref().map(|c| c.directive.clone());
        Ack { seq, received_through: received, directive, ..self.heartbeat() }
    }

    /// Enters the steps run of a directive that is over, and its record.
    pub(super) fn close_books(&mut self, current: &Current, steps: u64, end: End, rows: &mut Vec<Row>) {
        rows.push(Row::Directive(Box::new(DirectiveRecord { steps, ..self.record(current, end) })));
        if let Some(run) = current.directive.run() {
            self.books.run(run.phase, steps);
        }
    }

    fn decide(&mut self, current: &Current, end: End, rows: &mut Vec<Row>) -> Plan {
        let stopped = matches!(end, End::Stopped(_));
        let asked = if stopped { None } else { self.operators_plan(current, end, rows) };
        if let Some(plan) = asked {
            return plan;
        }
        let Some(run) = current.directive.run() else { return Plan::done(DoneReason::Finished) };
        if let Mode::Coda { stops, .. } = self.mode {
            return match end {
                End::Stopped(_) => {
                    let (plan, rest) = coda::stopped(&current.directive, self.newest_slot(), stops);
                    self.mode = Mode::Coda { rest, stops: stops + 1 };
                    plan.into()
                }
                _ => self.coda(&self.coda_line(run, current.progress.received()), run.phase, run.stage),
            };
        }
        let validations = validations::asked_for(run, end, &current.progress);
        let segment = Segment { run, losses: &current.progress.losses, validations: &validations };
        self.ask_policy(rows, |policy, cx, notes| match end {
            End::Stopped(stop) => policy.stopped(&segment, stop, cx, notes).into(),
            _ => policy.ended(&segment, cx, notes),
        })
    }

    /// What is left of a coda after `done` steps of `run`.
    pub(super) fn coda_line(&self, run: &Run, done: u64) -> Vec<Piece> {
        let rest = match &self.mode {
            Mode::Coda { rest, .. } => rest.as_slice(),
            Mode::Policy => &[],
        };
        [&lr_pieces::cut(&run.lr, done).1, rest].concat()
    }

    /// Times that a coda was stopped.
    fn stops(&self) -> u32 {
        match self.mode {
            Mode::Coda { stops, .. } => stops,
            Mode::Policy => 0,
        }
    }

    /// The next stretch of a coda, or the end where nothing is left of it.
    pub(super) fn coda(&mut self, line: &[Piece], phase: Phase, stage: u32) -> Plan {
        if line.is_empty() {
            return Plan::done(DoneReason::Finished);
        }
        let (plan, rest) = coda::go_on(line, phase, stage);
        self.mode = Mode::Coda { rest, stops: self.stops() };
        plan
    }

    /// Lets the policy decide and enters its notes.
    pub(super) fn ask_policy(
        &mut self,
        rows: &mut Vec<Row>,
        ask: impl FnOnce(&mut dyn crate::policy::Policy, &crate::policy::Context<'_>, &mut Notes) -> Plan,
    ) -> Plan {
        let mut policy = self.policy.clone();
        let mut notes = Notes::default();
        let plan = ask(policy.get_mut(), &self.context(), &mut notes);
        self.policy = policy;
        self.note(notes, rows);
        plan
    }

    pub(super) fn note(&mut self, notes: Notes, rows: &mut Vec<Row>) {
        for warning in notes.warnings {
            self.warn(warning);
        }
        rows.extend(notes.trials.into_iter().map(Row::Trial));
        rows.extend(notes.stage_ends.into_iter().map(Row::StageEnd));
        for commit in notes.commits {
            self.note_commit(commit, rows);
        }
    }

    pub(super) fn note_commit(&mut self, commit: CommitNote, rows: &mut Vec<Row>) {
        rows.push(Row::Commit(self.commits.enter(commit)));
    }

    /// Makes a plan the current directive, with its slot operations entered in the books. A trainer that can is asked
    /// for a validation loss at the end of every committed stretch.
    pub(super) fn issue(&mut self, plan: Plan, follows: u64, rows: &mut Vec<Row>) {
        let before = self.books.clone();
        let mut books = before.clone();
        let plan = if self.validate { plan.validated() } else { plan };
        let directive = number(&mut self.next_seq, plan, &mut books);
        self.make_current(directive, follows, before, rows);
    }

    pub(super) fn make_current(
        &mut self,
        directive: Directive,
        follows: u64,
        before: Books,
        rows: &mut Vec<Row>,
    ) {
        self.books = before.clone();
        self.books.begin(directive.seq, &directive.slot_ops, &directive.action);
        self.ended = match directive.action {
            Action::Done(reason) => Some(reason),
            Action::Run(_) => None,
        };
        let stage_before =
            self.previous.as_ref().and_then(|closed| closed.directive.run().map(|run| run.stage));
        let starts_stage = directive.run().is_some_and(|run| Some(run.stage) != stage_before);
        let budget = self.spec.budget;
        let current = Current { directive, follows, before, budget, progress: Progress::default() };
        rows.push(Row::Directive(Box::new(self.record(&current, End::Open))));
        rows.push(Row::Checkpoint(Box::new(self.checkpoint(&current))));
        self.keep_checkpoint(current.directive.seq, starts_stage, rows);
        self.current = Some(current);
    }

    /// Keeps the last checkpoints and those of stage starts, and drops the others.
    fn keep_checkpoint(&mut self, seq: u64, starts_stage: bool, rows: &mut Vec<Row>) {
        // A fallback that is adopted again, after a rewind, has been here before.
        self.checkpoints.retain(|kept| *kept != seq);
        self.stage_starts.retain(|kept| *kept != seq);
        if starts_stage {
            self.stage_starts.push_back(seq);
            let too_many = self.stage_starts.len() > KEPT_STAGE_STARTS;
            let dropped = too_many.then(|| self.stage_starts.pop_front()).flatten();
            rows.extend(dropped.filter(|seq| !self.checkpoints.contains(seq)).map(Row::DropCheckpoint));
        }
        self.checkpoints.push_back(seq);
        let too_many = self.checkpoints.len() > KEPT_CHECKPOINTS;
        let dropped = too_many.then(|| self.checkpoints.pop_front()).flatten();
        rows.extend(dropped.filter(|seq| !self.stage_starts.contains(seq)).map(Row::DropCheckpoint));
    }

    fn checkpoint(&self, current: &Current) -> Checkpoint {
        Checkpoint {
            directive: current.directive.clone(),
            follows: current.follows,
            before: current.before.clone(),
            budget: current.budget,
            policy: self.policy.clone(),
            mode: self.mode.clone(),
            commits: self.commits.clone(),
        }
    }

    /// The record of the current directive, whose own steps are not in the books yet.
    pub(super) fn record(&self, current: &Current, end: End) -> DirectiveRecord {
        DirectiveRecord {
            directive: current.directive.clone(),
            session: self.session,
            follows: current.follows,
            kept_before: self.books.spent.committed,
            end,
            steps: current.progress.received(),
            losses: downsample(&current.progress.losses, 128),
            validations: current.progress.validations.clone(),
        }
    }

    /// The trainer never saw the current directive: it runs a fallback of the one before.
    pub(super) fn adopt(&mut self, seq: u64, rows: &mut Vec<Row>) -> Ack {
        let Some(Closed { directive, budget, .. }) = &self.previous else { return self.heartbeat() };
        let searched = directive.run().is_some_and(|run| run.phase == Phase::Trial);
        let (fallback, budget) = (directive.fallback_with(seq).cloned(), *budget);
        let (Some(fallback), Some(void)) = (fallback, self.current.take()) else { return self.heartbeat() };
        rows.push(Row::Directive(Box::new(self.record(&void, End::Void))));
        (self.books, self.spec.budget) = (void.before.clone(), budget);
        if searched {
            self.commits.forget_choice();
        }
        self.run_fallback(fallback, void.follows, searched, rows)
    }

    /// The trainer's account of the current directive's end was refused; it runs the `fallback_on_stop`.
    pub(super) fn dispute(&mut self, seq: u64, rows: &mut Vec<Row>) -> Ack {
        let Some(current) = self.current.take() else { return self.heartbeat() };
        let Some(fallback) = current.directive.fallback_with(seq).cloned() else {
            self.current = Some(current);
            return self.heartbeat();
        };
        self.close_books(&current, current.progress.received(), End::Disputed, rows);
        let searched = current.directive.run().is_some_and(|run| run.phase == Phase::Trial);
        let follows = current.directive.seq;
        self.previous = Some(current.closed(End::Disputed));
        self.run_fallback(fallback, follows, searched, rows)
    }

    pub(super) fn run_fallback(
        &mut self,
        fallback: Directive,
        follows: u64,
        searched: bool,
        rows: &mut Vec<Row>,
    ) -> Ack {
        self.mode = Mode::Coda { rest: Vec::new(), stops: self.stops() };
        if let (true, Some(run)) = (searched, fallback.run()) {
            let lr = run.lr.iter().flat_map(|piece| [piece.start, piece.end]).fold(0.0, f64::max);
            let why = "the trainer had no answer in time and went on with its fallback".into();
            let commit = CommitNote { stage: run.stage, lr, why, forecast: None, curve: Vec::new() };
            self.note_commit(commit, rows);
        }
        self.warn(format!("the trainer had no answer in time: fallback {} is in force", fallback.seq));
        self.wishes.wait_again(fallback.seq);
        let before = self.books.clone();
        self.make_current(fallback, follows, before, rows);
        self.heartbeat()
    }

    pub(super) fn newest_slot(&self) -> Slot {
        let newest = self.books.slots.iter().max_by_key(|(_, entry)| entry.seq);
        newest.map_or(Slot::Safe, |(slot, _)| *slot)
    }

    /// The plan that ends the job where the last search started, or where the trainer stands.
    pub(super) fn done_here(&self, slot: Option<Slot>, reason: DoneReason) -> Plan {
        match slot {
            Some(slot) => FromSlot::done(slot, reason).into(),
            None => Plan::done(reason),
        }
    }
}

/// Numbers a plan and its fallbacks. Committed steps at the start of a fallback are those after the full segment; for
/// one that follows a stop, those in the slot it restores.
fn number(next_seq: &mut u64, plan: Plan, books: &mut Books) -> Directive {
    let seq = *next_seq;
    *next_seq += 1;
    books.begin(seq, &plan.slot_ops, &plan.action);
    let committed_step_at_start = books.spent.committed;
    if let Action::Run(run) = &plan.action {
        books.run(run.phase, run.steps());
    }
    let mut below = |child: Plan| Box::new(number(next_seq, child, &mut books.clone()));
    Directive {
        seq,
        slot_ops: plan.slot_ops,
        action: plan.action,
        committed_step_at_start,
        fallback: plan.fallback.map(|child| below(*child)),
        fallback_on_stop: plan.fallback_on_stop.map(|child| below((*child).into())),
    }
}
