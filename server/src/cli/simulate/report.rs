//! What `autolrs simulate` prints.

use crate::{actor::StageView, cli::render, rpc::convert};
use autolrs_core::{
    directive::{DoneReason, Failure},
    policy::Advice,
    simulate::{Reference, Trace},
    spec::ResolvedSpec,
};
use autolrs_proto::v1::Stage;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What was played on.
pub(super) struct Stated {
    pub(super) surface: String,
    pub(super) seed: u64,
    /// What the surface could not know.
    pub(super) notes: Vec<String>,
}

/// A run and what it is measured against.
pub(super) struct Report<'a> {
    pub(super) spec: &'a ResolvedSpec,
    pub(super) advice: Vec<Advice>,
    pub(super) stated: Stated,
    pub(super) reference: Reference,
    pub(super) trace: &'a Trace,
}

impl Report<'_> {
    /// For people.
    pub(super) fn table(&self) -> String {
        let (trace, spent, best) = (self.trace, self.trace.spent, self.reference);
        let kinds = format!("{} committed, {} search, {} lost", spent.committed, spent.search, spent.lost);
        let budget = self
            .spec
            .budget
            .known()
            .map_or_else(|| "an open budget, finished by its user".into(), |steps| steps.to_string());
        let lines = [
            ("policy", self.spec.policy_name().into()),
            ("surface", format!("{}; seed {}", self.stated.surface, self.stated.seed)),
            ("result", done(trace.done).into()),
            ("steps", format!("{} of {budget}: {kinds}", spent.total())),
            ("overhead", format!("{:.1} %", 100.0 * trace.overhead())),
            ("final loss", number(trace.final_loss)),
            (
                "reference",
                format!(
                    "{}: {} at LR {:.3e}, the best of {} full runs",
                    number(best.loss),
                    best.shape,
                    best.lr,
                    best.runs
                ),
            ),
            ("regret", number(self.regret())),
        ];
        let mut text: String = lines.iter().map(|(name, value)| format!("{name:<10}  {value}\n")).collect();
        for advice in &self.advice {
            text.push_str(&format!("advice: {} {}\n", advice.field, advice.description));
        }
        for warning in self.stated.notes.iter().chain(&trace.warnings) {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text + "\n" + &render::text::stages(&self.stages())
    }

    /// For machines. A number that is NaN or infinite is null.
    pub(super) fn json(&self) -> String {
        let (trace, spent, best) = (self.trace, self.trace.spent, self.reference);
        let advice = self.advice.iter().map(|a| json!({ "field": a.field, "description": a.description }));
        let stages = self.stages();
        render::json::print(&json!({
            "policy": self.spec.policy_name(),
            "policy_revision": self.spec.policy_revision,
            "surface": self.stated.surface,
            "seed": self.stated.seed,
            "result": done(trace.done),
            "total_steps": self.spec.budget.known(),
            "steps": { "committed": spent.committed, "search": spent.search, "lost": spent.lost },
            "overhead": trace.overhead(),
            "final_loss": trace.final_loss,
            "reference": { "shape": best.shape, "lr": best.lr, "loss": best.loss, "runs": best.runs },
            "regret": self.regret(),
            "advice": advice.collect::<Vec<_>>(),
            "warnings": self.stated.notes.iter().chain(&trace.warnings).collect::<Vec<_>>(),
            "stages": stages.iter().map(render::json::stage).collect::<Vec<Value>>(),
        }))
    }

    fn regret(&self) -> f64 {
        self.trace.final_loss - self.reference.loss
    }

    fn stages(&self) -> Vec<Stage> {
        let mut stages: BTreeMap<u32, StageView> = BTreeMap::new();
        let trace = self.trace;
        for note in &trace.trials {
            stages.entry(note.stage).or_default().trials.push(note.clone());
        }
        for note in &trace.commits {
            stages.entry(note.stage).or_default().commit = Some(note.clone());
        }
        for note in &trace.stage_ends {
            stages.entry(note.stage).or_default().end = Some(*note);
        }
        let view = |(stage, view)| convert::stage::encode(&StageView { stage, ..view });
        stages.into_iter().map(view).collect()
    }
}

const fn done(reason: Option<DoneReason>) -> &'static str {
    match reason {
        Some(DoneReason::Finished) => "finished",
        Some(DoneReason::Cancelled) => "cancelled",
        Some(DoneReason::Failed(Failure::LossNotFiniteAtStart)) => "failed (loss_not_finite_at_start)",
        Some(DoneReason::Failed(Failure::Unstable)) => "failed (unstable)",
        Some(DoneReason::Failed(Failure::AllCandidatesDiverged)) => "failed (all_candidates_diverged)",
        None => "not ended",
    }
}

fn number(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-3..1e5).contains(&value.abs()) {
        format!("{value:.3e}")
    } else {
        format!("{value:.4}")
    }
}
