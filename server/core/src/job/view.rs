//! What people are shown of a job.

use super::{Holder, Job};
use crate::{
    directive::{DoneReason, Failure, Phase},
    lr_pieces,
    policy::Spent,
};

/// Where a job stands. DETACHED is told by the clock, which the core has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// No trainer has come yet.
    Created,
    /// Trials are run.
    Searching,
    /// Committed steps before the cooldown.
    Training,
    /// The LR falls to its end.
    Cooling,
    /// Done.
    Finished,
    /// Cancelled by an operator.
    Cancelled,
    /// The policy could not go on.
    Failed(Failure),
}

/// A job as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Where it stands.
    pub state: JobState,
    /// What the present segment is for.
    pub phase: Option<Phase>,
    /// Its stage, from 0.
    pub stage: u32,
    /// Its trial, from 0.
    pub trial: Option<u32>,
    /// LR of the last step that was reported, or of the segment's first.
    pub lr: Option<f64>,
    /// Steps by kind, those of the present segment included.
    pub spent: Spent,
    /// Steps that were run again after a crash or a rewind.
    pub repeated: u64,
    /// (stage, LR), one per committed stage; the last 128.
    pub commits: Vec<(u32, f64)>,
    /// Number of the newest session; 0: none.
    pub session: u64,
    /// Its process.
    pub holder: Holder,
    /// The last finite training loss.
    pub train_loss: Option<f64>,
    /// The newest validation loss.
    pub validation_loss: Option<f64>,
    /// Sentences for the user, oldest first.
    pub warnings: Vec<String>,
}

impl View {
    /// The newest stage that there can be something to say about.
    pub fn last_stage(&self) -> u32 {
        self.commits.iter().map(|commit| commit.0).fold(self.stage, u32::max)
    }
}

impl Job {
    /// The job as people see it.
    pub fn view(&self) -> View {
        let run = self.current_run();
        let mut books = self.books.clone();
        if let Some(run) = run {
            books.run(run.phase, self.received());
        }
        View {
            state: self.state(),
            phase: run.map(|run| run.phase),
            stage: run.map_or_else(
                || self.commits.iter().next_back().map_or(0, |commit| commit.0),
                |run| run.stage,
            ),
            trial: run.and_then(|run| run.trial),
            lr: run.and_then(|run| lr_pieces::lr_at(&run.lr, self.received().saturating_sub(1))),
            spent: books.spent,
            repeated: self.repeated,
            commits: self.commits.iter().collect(),
            session: self.session,
            holder: self.holder.clone(),
            train_loss: self.train_loss,
            validation_loss: self.validation_loss,
            warnings: self.warnings.iter().cloned().collect(),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> JobState {
        match (self.ended, self.current_run().map(|run| run.phase)) {
            (Some(DoneReason::Finished), _) => JobState::Finished,
            (Some(DoneReason::Cancelled), _) => JobState::Cancelled,
            (Some(DoneReason::Failed(failure)), _) => JobState::Failed(failure),
            (None, None) => JobState::Created,
            (None, Some(Phase::Trial)) => JobState::Searching,
            (None, Some(Phase::Warmup | Phase::Stable)) => JobState::Training,
            (None, Some(Phase::Cooldown)) => JobState::Cooling,
        }
    }
}
