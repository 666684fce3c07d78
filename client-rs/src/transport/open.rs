//! Opening a session: the job is made or found, then asked for, until it answers or time is up.

use super::{
    holder,
    link::{Ask, Link},
};
use crate::{
    config::{OnOutage, SessionConfig},
    error::Error,
    session::{Checkpoint, Machine},
};
use autolrs_core::{
    job::Opened,
    schedule,
    spec::{self, PlainKind, ResolvedPlain, ResolvedPolicy, ResolvedSpec},
};
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};
use tokio::time::Instant;

/// A call is tried at least once, however little time is left.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(1);

/// A session that was opened; without a server no link. `connect` makes the link.
pub(super) async fn open(
    config: &SessionConfig,
    connect: impl FnOnce(&SessionConfig) -> Result<Link, Error>,
) -> Result<(Machine, Option<Link>), Error> {
    let checkpoint = config.resume.as_deref().map(Checkpoint::decode).transpose()?;
    if let Some(other) = checkpoint.as_ref().filter(|checkpoint| checkpoint.job() != config.job) {
        let detail = format!("it belongs to job {:?}, not {:?}", other.job(), config.job);
        return Err(Error::CheckpointMismatch(detail));
    }
    let fallback_lr = config.spec.fallback_lr.unwrap_or(0.0);
    let resume = checkpoint.as_ref().and_then(Checkpoint::resume);
    let checkpoint = match checkpoint {
        Some(checkpoint) if resume.is_none() => {
            return Ok((Machine::resume_alone(checkpoint, fallback_lr), None));
        }
        other => other,
    };
    let mut link = connect(config)?;
    let mut ask = Ask {
        resume,
        takeover: config.takeover,
        restart: config.restart && checkpoint.is_none(),
        spec: None,
        replay: config.replay,
        validate: config.validate,
        nonce: nonce(),
    };
    match persist(&mut link, config, &mut ask).await {
        Ok(opened) => {
            let machine = match checkpoint {
                Some(checkpoint) => Machine::resume(checkpoint, fallback_lr, opened),
                None => Machine::open(config.job.clone(), fallback_lr, opened),
            };
            Ok((machine, Some(link)))
        }
        Err(error) if error.is_transient() && config.on_outage == OnOutage::Fallback => {
            tracing::warn!(%error, "fallback: no server, training goes on without one");
            Ok((without_server(config, checkpoint)?, None))
        }
        Err(error) => Err(error),
    }
}

/// What the checkpoint foresees; else, for the whole budget, the schedule that is replayed or the job's `fallback_lr`.
fn without_server(config: &SessionConfig, checkpoint: Option<Checkpoint>) -> Result<Machine, Error> {
    let resolved = spec::resolve(&config.spec).map_err(|violations| Error::InvalidSpec {
        violations: violations.into_iter().map(|v| (v.field.into_owned(), v.description)).collect(),
    })?;
    Ok(match checkpoint {
        Some(checkpoint) => Machine::resume_alone(checkpoint, resolved.fallback_lr),
        None => alone(config.job.clone(), &resolved),
    })
}

fn alone(job: String, spec: &ResolvedSpec) -> Machine {
    match &spec.policy {
        ResolvedPolicy::Plain(ResolvedPlain { kind: PlainKind::Replay { pieces }, .. }) => {
            Machine::alone_with(job, schedule::fit(pieces, spec.budget.limit()), spec.fallback_lr)
        }
        _ => Machine::alone(job, spec.budget, spec.fallback_lr),
    }
}

async fn persist(link: &mut Link, config: &SessionConfig, ask: &mut Ask) -> Result<Opened, Error> {
    let until = Instant::now() + config.connect_timeout;
    let mut backoff = super::backoff();
    loop {
        let error = match attempt(link, config, ask, until).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if is_orphaned(&error) && !ask.takeover {
            ask.takeover = true;
            continue;
        }
        if !error.is_transient() || tokio::time::timeout_at(until, link.pause(&mut backoff)).await.is_err() {
            return Err(error);
        }
    }
}

async fn attempt(
    link: &mut Link,
    config: &SessionConfig,
    ask: &mut Ask,
    until: Instant,
) -> Result<Opened, Error> {
    let left = || until.saturating_duration_since(Instant::now()).max(SHORTEST_DEADLINE);
    match link.create_job(&config.spec, left()).await {
        Err(Error::JobDiffers { .. }) if ask.restart => ask.spec = Some(config.spec.clone()),
        other => other?,
    }
    link.open_session(ask, left()).await
}

/// The holder is a process of this host that is gone.
fn is_orphaned(error: &Error) -> bool {
    matches!(error, Error::SessionActive { pid, same_host: true, .. } if holder::is_dead(*pid))
}

/// 128 bits that no other session of any trainer has: the standard library's hasher is keyed at random.
fn nonce() -> String {
    let half = || RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()));
    format!("{:016x}{:016x}", half(), half())
}
