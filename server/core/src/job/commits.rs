//! The LRs that were committed, and what explains the newest choice.

use crate::policy::{CommitNote, CurvePoint};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Commits that are kept to be shown; all of them are rows.
const KEPT: usize = 128;

/// By stage, the newest of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Commits {
    lrs: VecDeque<(u32, f64)>,
    choice: Option<Choice>,
}

/// What a search left of its choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Choice {
    stage: u32,
    forecast: Option<(f64, f64)>,
    curve: Vec<CurvePoint>,
}

impl Commits {
    /// Enters a commit; the note to keep of the stage. Where a guard or an operator changes the LR that a search has
    /// chosen for the stage, the note keeps the forecast and the curve of the choice.
    pub(super) fn enter(&mut self, note: CommitNote) -> CommitNote {
        self.lrs.retain(|(stage, _)| *stage != note.stage);
        if self.lrs.len() == KEPT {
            self.lrs.pop_front();
        }
        self.lrs.push_back((note.stage, note.lr));
        let CommitNote { stage, forecast, .. } = note;
        if forecast.is_some() || !note.curve.is_empty() {
            self.choice = Some(Choice { stage, forecast, curve: note.curve.clone() });
            return note;
        }
        self.choice.take_if(|choice| choice.stage != stage);
        match &self.choice {
            Some(Choice { forecast, curve, .. }) => {
                CommitNote { forecast: *forecast, curve: curve.clone(), ..note }
            }
            None => note,
        }
    }

    /// The search's choice was taken back: it explains no LR any more.
    pub(super) fn forget_choice(&mut self) {
        self.choice = None;
    }

    /// (stage, LR), oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, f64)> {
        self.lrs.iter().copied()
    }

    /// The LR of a stage.
    pub(super) fn lr(&self, stage: u32) -> Option<f64> {
        self.iter().find(|(of, _)| *of == stage).map(|(_, lr)| lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(stage: u32, lr: f64, forecast: Option<(f64, f64)>) -> CommitNote {
        let curve = forecast.map(|(mean, sd)| CurvePoint { log10_lr: -1.0, mean, sd });
        CommitNote { stage, lr, why: "because".into(), forecast, curve: curve.into_iter().collect() }
    }

    #[test]
    fn a_changed_lr_keeps_what_explains_the_choice_of_its_stage() {
        let mut commits = Commits::default();
        let chosen = note(1, 0.3, Some((0.5, 0.1)));
        assert_eq!(commits.enter(chosen.clone()), chosen);
        for lr in [0.1, 0.05] {
            assert_eq!(commits.enter(note(1, lr, None)), CommitNote { lr, ..chosen.clone() });
        }
        assert_eq!(commits.enter(note(2, 0.05, None)), note(2, 0.05, None));
        assert_eq!(commits.enter(note(1, 0.2, None)), note(1, 0.2, None), "it was let go of");
        let again = note(2, 0.7, Some((0.4, 0.1)));
        assert_eq!(commits.enter(again.clone()), again);
        assert_eq!(commits.iter().collect::<Vec<_>>(), [(1, 0.2), (2, 0.7)]);
        assert_eq!((commits.lr(2), commits.lr(3)), (Some(0.7), None));
    }

    #[test]
    fn old_commits_are_let_go_of() {
        let mut commits = Commits::default();
        for stage in 0..1000 {
            commits.enter(note(stage, 0.1, Some((0.0, 1.0))));
        }
        assert_eq!((commits.iter().count(), commits.iter().next()), (KEPT, Some((872, 0.1))));
    }
}
