//! The half for servers: a scripted trainer and a scripted operator, and what they must see.

mod decisions;
mod edge;
mod jobs;
mod kit;
mod ledger;
mod operators;
mod reading;
mod reports;
mod sessions;
mod surface;
mod trainer;

use super::{
    Checked, Half, Promise, Ran,
    verdict::{Broken, Verdict, unwound},
};
use crate::cli::client::{ClientError, Target};
use kit::Kit;
use std::{pin::Pin, time::Duration};

/// Longest time for one check.
const CHECK_WITHIN: Duration = Duration::from_secs(120);
/// Longest time to remove what was made.
const CLEAR_WITHIN: Duration = Duration::from_secs(60);

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// A promise, and the function that looks whether it is kept.
pub(super) struct Check {
    pub(super) promise: Promise,
    run: for<'a> fn(&'a Kit) -> Running<'a>,
}

macro_rules! checks {
    ($($name:literal, $place:literal, $promise:literal, $function:path;)*) => {
        &[$(Check {
            promise: Promise { half: Half::Server, name: $name, place: $place, promise: $promise },
            run: |kit| Box::pin($function(kit)),
        }),*]
    };
}

/// All checks.
pub(super) const CHECKS: &[Check] = checks! {
    "health", "grpc.health.v1",
        "the whole server is SERVING, and a service that it has not is NOT_FOUND", edge::health;
    "reflection", "grpc.reflection.v1",
        "the services and their files are described", edge::reflection;
    "reflection-v1alpha", "grpc.reflection.v1alpha",
        "the services and their files are described to older tools, too", edge::reflection_alpha;
    "message-limit", "error_reason.proto",
        "a message that is far too large is refused, and the next call is answered", edge::oversized;
    "create-again", "JobService.CreateJob",
        "an equal spec returns the job that exists, whatever the request_id", jobs::created_again;
    "create-differs", "ERROR_REASON_JOB_DIFFERS",
        "another spec is refused naming the fields that differ, and changes nothing", jobs::other_spec;
    "spec-violations", "JobService.ValidateJobSpec",
        "every violation is told at once, CreateJob tells the same and makes nothing", jobs::violations;
    "job-names", "CreateJobRequest.name",
        "names are [a-z0-9]([a-z0-9._-]{0,62})", jobs::bad_names;
    "job-not-found", "ERROR_REASON_JOB_NOT_FOUND",
        "every call about a job that is not there says so, with its name", jobs::not_found;
    "list-pages", "JobService.ListJobs",
        "pages give every job once in the order of names; filters hold", jobs::pages;
    "watch-resumes", "JobService.WatchJob",
        "it begins above from_revision, tells every change, ends when the job is deleted", jobs::watched;
    "labels", "JobService.UpdateJob",
        "labels are set and removed one by one; a request for nothing is refused", jobs::labels;
    "delete", "JobService.DeleteJob",
        "only the job with the uid is deleted; a new one of the name has another uid", jobs::deleted;
    "open-nonce", "OpenSessionRequest.nonce",
        "a copy of an opening gets the same session and opens none; a late one is FENCED", sessions::nonce;
    "session-active", "ERROR_REASON_SESSION_ACTIVE",
        "a trainer beside one that was just heard is refused and told who that is", sessions::active;
    "fencing", "ERROR_REASON_FENCED",
        "after a takeover the old session is told so and changes nothing", sessions::fenced;
    "resume-in-a-trial", "TrainerService.OpenSession, Resume",
        "a resume within a directive gives it again, and the decisions are the undisturbed ones", sessions::resumed;
    "rewind", "Resume",
        "an older checkpoint leads back to its directive; the same losses, the same decisions, no seq twice",
        sessions::rewound;
    "resume-refused", "error_reason.proto",
        "no checkpoint, one of another job or of a future is refused, each with its reason", sessions::mismatched;
    "checkpoint-too-old", "ERROR_REASON_CHECKPOINT_TOO_OLD",
        "a checkpoint that is not kept is refused naming the oldest that is", sessions::too_old;
    "restart", "OpenSessionRequest.restart",
        "an ended job is opened only with restart, which forgets it and may bring another spec", sessions::restarted;
    "exactly-once", "Report",
        "repeated, late, overlapping and contradicting reports change nothing", reports::exactly_once;
    "gap", "Ack.received_through",
        "a report from beyond what is held changes nothing and is told where to go on", reports::gap;
    "end-again", "TrainerService.Advance",
        "the answer to an end is the same however often it is asked for", reports::end_again;
    "durable-seq", "Ack.durable_seq",
        "a directive is closed and stored when what follows it is told, and no sooner", reports::durable;
    "wrong-ends", "ERROR_REASON_STOP_MISMATCH",
        "an end that does not follow from the losses is refused and changes nothing", reports::wrong_ends;
    "unknown-directive", "ERROR_REASON_UNKNOWN_DIRECTIVE",
        "a report of a directive or session that was never given is refused", reports::unknown_directive;
    "stream-is-unary", "TrainerService.Train",
        "Train gives the answers of Advance, and ends with the error of a refused report", reports::stream_is_unary;
    "fallback-adopted", "Directive.fallback",
        "what a trainer ran without an answer is taken over, to the step", reports::fallback_adopted;
    "switch-every", "JobSpec.switch_every",
        "a stop takes effect at the first switch point at or after k + switch_every", reports::wide_switch_points;
    "diverged-trial", "invariant 7",
        "an LR whose trial diverged is never committed; what follows it restores", decisions::diverged;
    "nan-at-start", "FAILURE_LOSS_NOT_FINITE_AT_START",
        "NaN from the first step ends the job as failed, with that reason", decisions::nan_from_the_start;
    "infinite-losses", "Report.train_losses",
        "infinite losses and NaN are information: the trial ends, the job goes on", decisions::infinite;
    "guard", "invariant 7",
        "a committed stretch that breaks is rolled back with a lower LR", decisions::guarded;
    "rungs", "Ack.go_on",
        "at a rung the answer is go_on or a directive, the same when asked again", decisions::rungs;
    "validations", "Run.validate_at",
        "an end without the validation losses that it needs is refused, as is a session that can't",
        decisions::validated;
    "capabilities", "Capabilities",
        "a trainer that can neither replay nor validate is asked for neither", decisions::incapable;
    "determinism", "invariant 3",
        "two jobs of the same spec, seed and losses get the same directives to the bit", decisions::deterministic;
    "whole-scan", "invariant 8, JobSpec.scan",
        "a whole job: directives valid, budget and overhead kept, the export is what was run",
        decisions::whole_scan;
    "whole-staged", "invariant 8, JobSpec.staged", "the same of staged", decisions::whole_staged;
    "whole-paper", "invariant 8, JobSpec.paper", "the same of paper", decisions::whole_paper;
    "whole-constant", "invariant 8, JobSpec.constant", "the same of constant", decisions::whole_constant;
    "whole-cosine", "invariant 8, JobSpec.cosine", "the same of cosine", decisions::whole_cosine;
    "whole-wsd", "invariant 8, JobSpec.wsd", "the same of wsd", decisions::whole_wsd;
    "whole-step", "invariant 8, JobSpec.step", "the same of step", decisions::whole_step;
    "whole-one-cycle", "invariant 8, JobSpec.one_cycle", "the same of one_cycle", decisions::whole_one_cycle;
    "whole-clr", "invariant 8, JobSpec.clr", "the same of clr", decisions::whole_clr;
    "whole-sgdr", "invariant 8, JobSpec.sgdr", "the same of sgdr", decisions::whole_sgdr;
    "whole-replay", "invariant 8, JobSpec.replay", "the same of replay", decisions::whole_replay;
    "stages", "JobService.ListStages, GetStage",
        "pages give every stage once with its trials, as GetStage does", reading::stages;
    "stretches", "ExportScheduleRequest.losses",
        "the stretches are the steps that were kept, with their losses", reading::stretches;
    "finish", "JobService.FinishJob",
        "a stable stretch cools down over the steps asked for, once for a request_id", operators::finished;
    "finish-in-search", "JobService.FinishJob",
        "a search is closed and restored; without cooldown_steps the job ends there", operators::finished_in_search;
    "cancel", "JobService.CancelJob",
        "a search is restored, the job ends, and can be deleted; its trainer meets JOB_NOT_FOUND",
        operators::cancelled;
    "cancel-untouched", "JobService.CancelJob",
        "a job without a trainer ends at once", operators::cancelled_untouched;
    "update", "JobService.UpdateJob",
        "LR and budget change at the next switch point, and are refused where the table says so",
        operators::updated;
};

/// Runs the checks and removes what they have made, also when `interrupted` comes first.
pub(super) async fn run(
    target: &Target,
    chosen: impl Iterator<Item = &'static Check>,
    interrupted: impl Future<Output = ()>,
) -> Result<Ran, ClientError> {
    let kit = Kit::connect(target).await?;
    let mut ran = Ran::default();
    let checks = async {
        for check in chosen {
            let verdict = unwound((check.run)(&kit));
            let verdict = tokio::time::timeout(CHECK_WITHIN, verdict).await.unwrap_or_else(|_| {
                let expected = format!("an end of the check within {} s", CHECK_WITHIN.as_secs());
                Err(Broken::new(expected, "none"))
            });
            ran.checked.push(Checked { promise: check.promise, verdict });
        }
    };
    let broke_off = tokio::select! {
        () = checks => false,
        () = interrupted => true,
    };
    ran.interrupted = broke_off;
    ran.left = match tokio::time::timeout(CLEAR_WITHIN, kit.clear()).await {
        Ok(left) => left,
        Err(_) => vec![format!("jobs named {}{}-*: no answer", kit::PREFIX, kit.run)],
    };
    Ok(ran)
}
