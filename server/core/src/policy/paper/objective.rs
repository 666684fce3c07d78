//! Which loss a search goes by: as published the training loss until a stage of tau_max steps is behind, the validation
//! loss after. The rules that stop a stretch always judge training losses.

use super::Paper;
use crate::{
    forecast::LossKind,
    policy::{Context, Notes, Segment, StageEndNote, stage_end},
    spec::Objective,
};

/// Validation losses of a trial.
const EVALUATIONS: u64 = 16;

impl Paper {
    /// The loss that the next search goes by.
    pub(super) fn choose_objective(&mut self, cx: &Context<'_>, notes: &mut Notes) {
        let validation = match self.options.objective {
            Objective::Auto => self.full_stage,
            Objective::Training => false,
            Objective::Validation => true,
        };
        if validation && !cx.validate && !self.told {
            self.told = true;
            let why = match self.options.objective {
                Objective::Validation => "the validation loss was asked for",
                _ => "the searches of stages after one of tau_max steps go by the validation loss",
            };
            notes.warnings.push(format!("{why}, but the trainer measures none (validate): they go by the training loss"));
        }
        self.objective = if validation && cx.validate { LossKind::Validation } else { LossKind::Training };
    }

    /// Where a trial of `steps` steps is validated: evenly, the last time at its end.
    pub(super) fn validate_at(&self, steps: u64) -> Vec<u64> {
        match self.objective {
            LossKind::Training => Vec::new(),
            LossKind::Validation => evenly(EVALUATIONS.min(steps), steps),
        }
    }

    /// What came of a stage, in the loss that its search went by.
    pub(super) fn stage_end(&self, segment: &Segment<'_>) -> Option<StageEndNote> {
        match (self.objective, segment.validations.last()) {
            (LossKind::Validation, Some(last)) => Some(StageEndNote { stage: self.stage, loss: last.loss }),
            _ => stage_end(self.stage, segment.losses),
        }
    }
}

/// ceil(j steps / count) for j = 1 to count <= steps.
fn evenly(count: u64, steps: u64) -> Vec<u64> {
    (1..=count).map(|j| (j * steps).div_ceil(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_or_every_step() {
        assert_eq!(evenly(16, 20), [2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19, 20]);
        assert_eq!(evenly(5, 5), [1, 2, 3, 4, 5]);
        assert_eq!((evenly(16, 800)[0], evenly(16, 800)[15]), (50, 800));
    }
}
