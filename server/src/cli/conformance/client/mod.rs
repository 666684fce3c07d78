//! The half for clients: a scripted server, and a program of the client's that trains the toy problem with it.

mod scenes;
mod script;
mod stage;
mod toy;
mod wire;

use super::{
    Checked, Half, Promise, Ran,
    verdict::{Broken, Verdict, expect, unwound},
};
use crate::cli::client::ClientError;
use autolrs_proto::v1::{job_service_server::JobServiceServer, trainer_service_server::TrainerServiceServer};
use script::Script;
use stage::Stage;
use std::{ffi::OsString, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    process::Command,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_stream::wrappers::TcpListenerStream;
use wire::Wire;

/// Programs that run at once.
const AT_ONCE: usize = 2;
/// Longest time for a program.
const PROGRAM_WITHIN: Duration = Duration::from_secs(60);
/// Seconds that a program waits for an answer before it runs the fallback.
const DECISION_TIMEOUT: &str = "1";
/// Most bytes of what a program has said that are shown.
const SAID: usize = 600;

/// A promise, and the script that shows whether it is kept.
pub(super) struct Check {
    pub(super) promise: Promise,
    script: fn() -> Script,
}

macro_rules! checks {
    ($($name:literal, $place:literal, $promise:literal, $script:path;)*) => {
        &[$(Check {
            promise: Promise { half: Half::Client, name: $name, place: $place, promise: $promise },
            script: $script,
        }),*]
    };
}

/// All checks.
pub(super) const CHECKS: &[Check] = checks! {
    "lr-pieces", "LrPiece", "every step has the LR of its piece, in all shapes, whole and cut", scenes::lr_pieces;
    "slots", "SlotOp", "slot operations are done in their order, before the action", scenes::slots;
    "replay", "BATCHES_REPLAY", "the batches that followed the save come once more, then fresh ones", scenes::replay;
    "stop-rules", "StopIf", "every rule ends the segment where it must, the first in the list is named", scenes::stop_rules;
    "non-finite", "StopIf.non_finite", "NaN is reported and ends the segment", scenes::non_finite;
    "switch-points", "OpenSessionResponse.switch_every", "a stop takes effect at the first switch point at or after k + switch_every", scenes::switch_points;
    "rungs", "Run.rungs", "at a rung all losses are reported; go_on goes on, a directive is taken", scenes::rungs;
    "validations", "Run.validate_at", "validation losses are measured after the steps named, and are there at the end", scenes::validations;
    "lost-replies", "Report", "a report whose answer is lost is sent again", scenes::lost_replies;
    "lost-opening", "OpenSessionRequest.nonce", "an opening whose answer is lost is sent again with the same nonce", scenes::lost_opening;
    "repeated", "Ack", "an answer to a repeated report changes nothing", scenes::repeated;
    "unavailable", "ERROR_REASON_STORE_UNAVAILABLE", "a refusal that passes is waited for", scenes::unavailable;
    "forgetful-server", "Ack.received_through", "losses that the server has lost are sent again", scenes::forgetful;
    "fallback", "Directive.fallback", "without an answer the fallback is run, and told afterwards", scenes::fallback;
    "fallback-on-stop", "Directive.fallback_on_stop", "after a stop without an answer it is run in place of the fallback", scenes::fallback_on_stop;
    "fenced", "ERROR_REASON_FENCED", "a fenced trainer goes on alone to its end and says no more", scenes::fenced;
    "job-not-found", "ERROR_REASON_JOB_NOT_FOUND", "a trainer whose job is gone says no more and ends without an error", scenes::job_not_found;
    "interrupt", "Ack.interrupt", "an interrupt ends the segment at a switch point and is named", scenes::interrupt;
};

/// Runs the program once for every check.
pub(super) async fn run(
    command: &[OsString],
    chosen: impl Iterator<Item = &'static Check>,
    interrupted: impl Future<Output = ()>,
) -> Result<Ran, ClientError> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut plays = JoinSet::new();
    for (number, check) in chosen.enumerate() {
        let (places, command) = (places.clone(), command.to_vec());
        plays.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            (number, Checked { promise: check.promise, verdict: unwound(play(check, &command)).await })
        });
    }
    let mut checked = Vec::new();
    let all = async {
        while let Some(played) = plays.join_next().await {
            checked.extend(played.ok());
        }
    };
    let interrupted = tokio::select! {
        () = all => false,
        () = interrupted => true,
    };
    checked.sort_by_key(|(number, _)| *number);
    let checked = checked.into_iter().map(|(_, checked)| checked).collect();
    Ok(Ran { checked, interrupted, left: Vec::new() })
}

/// Plays one script with a program of its own.
async fn play(check: &Check, command: &[OsString]) -> Verdict {
    let failed = |what: &str, error: std::io::Error| Broken::new(what, error);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed("a free port", error))?;
    let address = listener.local_addr().map_err(|error| failed("its address", error))?;
    let (script, job) = ((check.script)(), format!("conformance-{}", check.promise.name));
    let step_seconds = script.step_seconds.to_string();
    let wire = Wire::new(Stage::new(script, job.clone()));
    let server = tonic::transport::Server::builder()
        .add_service(TrainerServiceServer::new(wire.clone()))
        .add_service(JobServiceServer::new(wire.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = AbortOnDrop(tokio::spawn(server));
    let Some((program, args)) = command.split_first() else {
        return Err(Broken::new("a command", "none"));
    };
    let child = Command::new(program)
        .args(args)
        .env("AUTOLRS_SERVER", format!("http://{address}"))
        .env("AUTOLRS_JOB", job)
        .env("AUTOLRS_DECISION_TIMEOUT", DECISION_TIMEOUT)
        .env("AUTOLRS_STEP_SECONDS", step_seconds)
        .env_remove("AUTOLRS_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("the program, started", error))?;
    let ended = tokio::time::timeout(PROGRAM_WITHIN, child.wait_with_output()).await;
    drop(server);
    let verdict = wire.stage().verdict();
    if matches!(verdict, Err(Broken::Skipped(_))) {
        return verdict;
    }
    let within = format!("the program's end within {} s", PROGRAM_WITHIN.as_secs());
    let output = match ended {
        Ok(output) => output.map_err(|error| failed("the program's end", error))?,
        Err(_) => return verdict.and(Err(Broken::new(within, "none"))),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let from = said.char_indices().rev().nth(SAID).map_or(0, |(at, _)| at);
    let said = if said.is_empty() { String::new() } else { format!("; it said: {}", &said[from..]) };
    verdict.map_err(|broken| broken.at(format!("{}{said}", output.status)))?;
    expect(output.status.success(), "the program's end with exit code 0", format!("{}{said}", output.status))
}

/// Ends a task that nobody waits for any more.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
