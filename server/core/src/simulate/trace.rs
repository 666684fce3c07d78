//! What a simulated training leaves.

use crate::{
    directive::{Directive, DoneReason, Phase},
    policy::{CommitNote, Spent, StageEndNote, TrialNote},
    stop_rules::Stop,
};

/// A training from its first step to its last.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Why it ended.
    pub done: Option<DoneReason>,
    /// Steps by kind.
    pub spent: Spent,
    /// Loss of the final state without noise, in loss units.
    pub final_loss: f64,
    /// Every directive that was carried out, without the last, which ends the job.
    pub directives: Vec<Directive>,
    /// One per directive.
    pub segments: Vec<Segment>,
    /// Every step that was run.
    pub steps: Vec<Step>,
    /// Trials that ended.
    pub trials: Vec<TrialNote>,
    /// LRs that were committed.
    pub commits: Vec<CommitNote>,
    /// Losses reached at the end of stages.
    pub stage_ends: Vec<StageEndNote>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// A directive as it was run.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The directive.
    pub seq: u64,
    /// What it was for.
    pub phase: Phase,
    /// Its stage, from 0.
    pub stage: u32,
    /// Its trial, from 0.
    pub trial: Option<u32>,
    /// Its first step in [`Trace::steps`].
    pub first: usize,
    /// Its steps.
    pub steps: usize,
    /// The rule that ended it early.
    pub stop: Option<Stop>,
    /// Whether its steps are part of the final state: false of what was rolled back, as most trials are.
    pub kept: bool,
}

/// A step that was run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Its LR.
    pub lr: f64,
    /// Its loss, before the update, as reported.
    pub loss: f64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            done: None,
            spent: Spent::default(),
            final_loss: f64::NAN,
            directives: Vec::new(),
            segments: Vec::new(),
            steps: Vec::new(),
            trials: Vec::new(),
            commits: Vec::new(),
            stage_ends: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Trace {
    /// The steps of a segment.
    pub fn steps_of(&self, segment: &Segment) -> &[Step] {
        &self.steps[segment.first..segment.first + segment.steps]
    }

    /// The LR of every step that was kept.
    pub fn kept_line(&self) -> Vec<f64> {
        let kept = self.segments.iter().filter(|segment| segment.kept);
        kept.flat_map(|segment| self.steps_of(segment)).map(|step| step.lr).collect()
    }

    /// Search steps as a share of all steps; 0 before the first.
    pub fn overhead(&self) -> f64 {
        self.spent.search as f64 / self.spent.total().max(1) as f64
    }
}
