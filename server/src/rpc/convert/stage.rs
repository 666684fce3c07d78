//! Stages: core to wire.

use crate::actor::StageView;
use autolrs_core::policy::{TrialNote, TrialOutcome};
use autolrs_proto::v1 as pb;

/// A stage with its search.
pub(crate) fn encode(view: &StageView) -> pb::Stage {
    let commit = view.commit.as_ref();
    let forecast = commit.and_then(|commit| commit.forecast);
    let curve = commit.map_or(&[][..], |commit| &commit.curve);
    pb::Stage {
        stage: view.stage,
        trials: view.trials.iter().map(trial).collect(),
        lr: commit.map(|commit| commit.lr),
        why: commit.map(|commit| commit.why.clone()).unwrap_or_default(),
        forecast: forecast.map(|(mean, _)| mean),
        forecast_sd: forecast.map(|(_, sd)| sd),
        end_loss: view.end.map(|end| end.loss),
        curve: curve
            .iter()
            .map(|point| pb::CurvePoint { log10_lr: point.log10_lr, mean: point.mean, sd: point.sd })
            .collect(),
    }
}

fn trial(note: &TrialNote) -> pb::Trial {
    use pb::trial::Outcome;
    let outcome = match note.outcome {
        TrialOutcome::Completed => Outcome::Completed,
        TrialOutcome::Stopped => Outcome::Stopped,
        TrialOutcome::Diverged => Outcome::Diverged,
    };
    pb::Trial {
        trial: note.trial,
        lr: note.lr,
        steps: note.steps,
        outcome: outcome.into(),
        score: note.score,
        sd: note.sd,
        losses: note.losses.clone(),
        validations: note
            .validations
            .iter()
            .map(|v| pb::Validation { offset: v.offset, loss: v.loss })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_core::{
        job::Validation,
        policy::{CommitNote, CurvePoint, StageEndNote},
    };

    #[test]
    fn a_stage_shows_its_search_and_its_choice() {
        let note = TrialNote {
            stage: 2,
            trial: 1,
            lr: 0.1,
            steps: 9,
            outcome: TrialOutcome::Diverged,
            score: None,
            sd: None,
            losses: vec![1.0, f64::NAN],
            validations: vec![Validation { offset: 9, loss: 0.7 }],
        };
        let commit = CommitNote {
            stage: 2,
            lr: 0.3,
            why: "because".into(),
            forecast: Some((0.5, 0.1)),
            curve: vec![CurvePoint { log10_lr: -1.0, mean: 0.5, sd: 0.0 }],
        };
        let end = Some(StageEndNote { stage: 2, loss: 0.4 });
        let stage = encode(&StageView { stage: 2, trials: vec![note], commit: Some(commit), end });
        assert_eq!(stage.trials[0].outcome(), pb::trial::Outcome::Diverged);
        assert_eq!(stage.trials[0].validations, [pb::Validation { offset: 9, loss: 0.7 }]);
        assert_eq!((stage.lr, stage.forecast, stage.forecast_sd), (Some(0.3), Some(0.5), Some(0.1)));
        assert_eq!((stage.end_loss, stage.curve.len(), stage.why.as_str()), (Some(0.4), 1, "because"));
        let open = encode(&StageView::default());
        assert_eq!((open.lr, open.end_loss), (None, None));
    }
}
