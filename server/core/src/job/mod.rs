//! The state machine of one job. Its methods by direction:
//!
//! - in: [`Job::admit`] judges an [`Event`] and may refuse it; [`Job::apply`] then can't fail;
//! - out: [`Effects`]: the answer, and the rows to store with the job;
//! - getters: [`Job::view`], [`Job::kept_line`], [`Job::heartbeat`], [`Job::interrupt`].
//!
//! The caller stores the job and the rows before it lets the answer out whenever [`Admitted::must_store`] says so:
//! a decision is durable before it is visible.
//!
//! | word | meaning |
//! |---|---|
//! | current | the directive that the trainer carries out or is about to |
//! | close | enter the end of the current directive and decide what follows |
//! | void | take back a decision that the trainer never saw |
//! | coda | the last stretch of a job that no policy steers any more |

mod coda;
mod commits;
mod decide;
mod event;
mod kept_line;
mod open;
mod operator;
mod parting;
mod record;
mod report;
mod rung;
mod update;
mod validations;
mod view;
mod wishes;

pub use event::{
    Ack, Answer, Cancel, Effects, Event, Finish, Holder, Open, Opened, Refusal, Report, Resume,
    StoppedBecause, Validation,
};
pub use kept_line::{KeptLine, Stretch};
pub use open::MAX_NONCE;
pub use record::{Books, Checkpoint, DirectiveRecord, End, Row};
pub use update::Update;
pub use view::{JobState, View};

use crate::{
    directive::{Directive, DoneReason, Phase, Run},
    lr_pieces::Piece,
    policy::{Context, PolicyState},
    spec::{Budget, ResolvedSpec},
    stop_rules::Judge,
};
use commits::Commits;
use open::Opening;
use parting::Parting;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use wishes::Wishes;

/// Directives whose checkpoints are kept, besides the first of every stage.
pub const KEPT_CHECKPOINTS: usize = 64;
/// Stage starts whose checkpoints are kept.
const KEPT_STAGE_STARTS: usize = 1024;
/// Warnings that are kept.
const KEPT_WARNINGS: usize = 32;

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    spec: ResolvedSpec,
    uid: u64,
    session: u64,
    holder: Holder,
    replay: bool,
    validate: bool,
    next_seq: u64,
    policy: PolicyState,
    mode: Mode,
    books: Books,
    repeated: u64,
    current: Option<Current>,
    /// The directive closed last and how, for a trainer that adopted its fallback.
    previous: Option<Closed>,
    ended: Option<DoneReason>,
    wishes: Wishes,
    requests: VecDeque<String>,
    openings: VecDeque<Opening>,
    checkpoints: VecDeque<u64>,
    stage_starts: VecDeque<u64>,
    commits: Commits,
    warnings: VecDeque<String>,
    train_loss: Option<f64>,
    validation_loss: Option<f64>,
    parting: Parting,
}

/// Who decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The policy.
    Policy,
    /// Nobody any more: the rest of the line is run.
    Coda {
        /// What follows the current directive.
        rest: Vec<Piece>,
        /// Times that a rule has ended one of its directives.
        stops: u32,
    },
}

/// The directive under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Current {
    directive: Directive,
    /// Number of the directive before; 0: none.
    follows: u64,
    /// The books before its slot operations.
    before: Books,
    /// The budget that it was made for.
    budget: Budget,
    /// What was reported of it. Lives in memory: the trainer keeps a directive's losses until it is closed.
    #[serde(skip)]
    progress: Progress,
}

/// The directive closed last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Closed {
    directive: Directive,
    end: End,
    /// The budget that it was made for.
    budget: Budget,
}

impl Current {
    fn closed(self, end: End) -> Closed {
        Closed { directive: self.directive, end, budget: self.budget }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Progress {
    losses: Vec<f64>,
    judge: Option<Judge>,
    validations: Vec<Validation>,
}

impl Progress {
    fn received(&self) -> u64 {
        self.losses.len() as u64
    }
}

/// An event that was judged and accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted(Verdict);

#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    /// Answer, change nothing.
    Nothing(Answer),
    /// Enter a trainer's losses.
    Progress(Box<Progress>),
    /// Enter its last losses and decide.
    Close(Box<Progress>, End),
    /// Enter a trial's losses up to a rung; it goes on.
    GoOn(Box<Progress>),
    /// Enter a trial's losses up to a rung; it ends there.
    Cut(Box<Progress>, Box<rung::Cut>),
    /// Enter a trial's losses up to a rung; the trainer runs the fallback, because no answer reached it.
    Leave(Box<Progress>),
    /// Void the current directive; the trainer runs this fallback of the one before.
    Adopt(u64),
    /// Leave the current directive undecided; the trainer runs its `fallback_on_stop`.
    Dispute(u64),
    Open(Box<Open>, open::Way),
    Finish(Finish),
    Cancel(Cancel),
    Update(Update),
}

impl Admitted {
    /// Whether the job must be stored before the answer is let out.
    pub fn must_store(&self) -> bool {
        !matches!(self.0, Verdict::Nothing(_) | Verdict::Progress(_) | Verdict::GoOn(_))
    }
}

impl Job {
    /// A job that no trainer has opened yet. `uid` tells it from other jobs of its name and decides nothing.
    pub fn create(spec: ResolvedSpec, uid: u64) -> Self {
        Self {
            policy: PolicyState::new(&spec),
            spec,
            uid,
            session: 0,
            holder: Holder::default(),
            replay: false,
            validate: false,
            next_seq: 1,
            mode: Mode::Policy,
            books: Books::default(),
            repeated: 0,
            current: None,
            previous: None,
            ended: None,
            wishes: Wishes::none(1),
            requests: VecDeque::new(),
            openings: VecDeque::new(),
            checkpoints: VecDeque::new(),
            stage_starts: VecDeque::new(),
            commits: Commits::default(),
            warnings: VecDeque::new(),
            train_loss: None,
            validation_loss: None,
            parting: Parting::default(),
        }
    }

    /// Judges an event. Changes nothing.
    pub fn admit(&self, event: Event) -> Result<Admitted, Refusal> {
        let verdict = match event {
            Event::Open(open) => self.admit_open(open)?,
            Event::Report(report) => self.admit_report(&report)?,
            Event::Finish(finish) => self.admit_finish(finish)?,
            Event::Cancel(cancel) => self.admit_cancel(cancel)?,
            Event::Update(update) => self.admit_update(update)?,
        };
        Ok(Admitted(verdict))
    }

    /// Carries out what [`Job::admit`] accepted. The job must not have changed in between.
    pub fn apply(&mut self, admitted: Admitted) -> Effects {
        let mut rows = Vec::new();
        let answer = match admitted.0 {
            Verdict::Nothing(answer) => answer,
            Verdict::Progress(progress) => Answer::Ack(self.enter(*progress)),
            Verdict::Close(progress, end) => Answer::Ack(self.close(*progress, end, &mut rows)),
            Verdict::GoOn(progress) => Answer::Ack(self.go_on(*progress)),
            Verdict::Cut(progress, cut) => Answer::Ack(self.end_at_rung(*progress, *cut, &mut rows)),
            Verdict::Leave(progress) => Answer::Ack(self.leave(*progress, &mut rows)),
            Verdict::Adopt(seq) => Answer::Ack(self.adopt(seq, &mut rows)),
            Verdict::Dispute(seq) => Answer::Ack(self.dispute(seq, &mut rows)),
            Verdict::Open(open, way) => Answer::Opened(Box::new(self.open(*open, way, &mut rows))),
            Verdict::Finish(finish) => self.finish(finish),
            Verdict::Cancel(cancel) => self.cancel(cancel, &mut rows),
            Verdict::Update(update) => self.update(update),
        };
        Effects { answer, rows }
    }

    /// What it was asked to do.
    pub fn spec(&self) -> &ResolvedSpec {
        &self.spec
    }

    /// Tells it from other jobs of its name.
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<DoneReason> {
        self.ended
    }

    /// Number of the newest session; 0: none yet.
    pub fn session(&self) -> u64 {
        self.session
    }

    fn context(&self) -> Context<'_> {
        Context {
            spec: &self.spec,
            spent: self.books.spent,
            slots: &self.books.slots,
            replay: self.replay,
            validate: self.validate,
        }
    }

    fn current_run(&self) -> Option<&Run> {
        self.current.as_ref().and_then(|current| current.directive.run())
    }

    fn in_trial(&self) -> bool {
        self.current_run().is_some_and(|run| run.phase == Phase::Trial)
    }

    /// Whether it runs a trial of a search that its policy has open.
    fn in_search(&self) -> bool {
        self.in_trial() && self.mode == Mode::Policy
    }

    fn received(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.progress.received())
    }

    fn warn(&mut self, warning: impl Into<String>) {
        if self.warnings.len() == KEPT_WARNINGS {
            self.warnings.pop_front();
        }
        self.warnings.push_back(warning.into());
    }
}
