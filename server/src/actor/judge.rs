//! Events: judged, stored if they decide something, and only then answered.

use super::{
    Actor, Held, JobView,
    asked::{Asked, Edit, SpecUpdate},
    differences, from_store,
    loaded::{Loaded, Snapshot},
    rows,
};
use crate::{
    audit::Action as Entry,
    error::Error,
    limit::Limit,
    quotas::Count,
    store::{
        RowWrite, StoreError,
        codec::{self, Kind},
    },
    telemetry::{decisions::Decision, metrics},
};
use autolrs_core::{
    job::{Ack, Admitted, Answer, Cancel, Event, Finish, Job, Open, Opened, Report, Row, Update},
    spec::{JobSpec, ResolvedSpec},
};
use serde_json::json;
use std::time::{Duration, Instant};
use tracing::{Instrument, field};

/// How often one event is judged again because another process stored first.
const MAX_RACES: usize = 8;

impl Actor {
    pub(super) async fn create(&mut self, asked: JobSpec, resolved: ResolvedSpec) -> Result<JobView, Error> {
        for _ in 0..MAX_RACES {
            match self.load().await {
                Ok(had) => {
                    let Snapshot { job, asked: had_asked, .. } = &had.snapshot;
                    let mut fields = differences::differences(&asked, &resolved, job.spec(), &had_asked.spec);
                    fields.retain(|field| !had_asked.was(field, &asked));
                    if fields.is_empty() {
                        return self.present().await;
                    }
                    return Err(Error::JobDiffers { job: self.key.name.clone(), fields });
                }
                Err(Error::JobNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            let mut count = self.quotas.jobs(&self.key.tenant).await;
            if let Some(count) = &mut count {
                let room = count.has_room(&*self.store).await.map_err(|e| from_store(&self.key, e))?;
                if !room {
                    return Err(Error::QuotaExceeded { limit: Limit::TenantJobs });
                }
            }
            let job = Job::create(resolved.clone(), rand::random());
            let asked = Asked::new(asked.clone());
            let snapshot = Snapshot { created: self.clock.now(), heard: None, asked, job, ended: None };
            match self.save(None, snapshot, &[]).await {
                Err(StoreError::Conflict { .. }) => continue,
                Err(error) => {
                    // It may have been made.
                    count.into_iter().for_each(Count::unknown);
                    return Err(from_store(&self.key, error));
                }
                Ok(_) => count.into_iter().for_each(Count::made),
            }
            tracing::info!(job = %self.key, policy = resolved.policy_name(), "job created");
            metrics::job_created(resolved.policy_name());
            self.audit_as(Entry::Create, json!({ "policy": resolved.policy_name() })).await;
            return self.present().await;
        }
        Err(self.raced())
    }

    pub(super) async fn open(&mut self, open: Open, asked: Option<JobSpec>) -> Result<Opened, Error> {
        match self
            .judge(Event::Open(open), asked.map_or(Edit::Keep, |spec| Edit::Replace(Box::new(spec))))
            .await?
        {
            Answer::Opened(opened) => {
                let Opened { session, directive, .. } = &*opened;
                tracing::info!(job = %self.key, session, seq = directive.seq, "session opened");
                metrics::session_opened();
                Ok(*opened)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn report(&mut self, report: Report) -> Result<Ack, Error> {
        let now = self.clock.now();
        metrics::losses(report.train_losses.len());
        let loaded = self.load().await?;
        if report.session == loaded.snapshot.job.session() {
            loaded.snapshot.heard = Some(now);
        }
        match self.judge(Event::Report(report), Edit::Keep).await? {
            Answer::Ack(ack) => Ok(ack),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn update(&mut self, update: Update, spec: SpecUpdate) -> Result<JobView, Error> {
        self.judge(Event::Update(update), Edit::Update(spec)).await?;
        self.present().await
    }

    pub(super) async fn finish(&mut self, finish: Finish) -> Result<JobView, Error> {
        self.judge(Event::Finish(finish), Edit::Keep).await?;
        self.present().await
    }

    pub(super) async fn cancel(&mut self, cancel: Cancel) -> Result<JobView, Error> {
        self.judge(Event::Cancel(cancel), Edit::Keep).await?;
        self.present().await
    }

    /// A damaged job may go too, by its name alone: nobody can read its uid.
    pub(super) async fn delete(&mut self, uid: Option<u64>) -> Result<(), Error> {
        let job = self.key.name.clone();
        match self.load().await {
            Ok(loaded) if uid.is_some_and(|uid| uid != loaded.snapshot.job.uid()) => {
                return Err(Error::JobNotFound { job });
            }
            Ok(loaded) if !loaded.snapshot.job.may_be_deleted() => return Err(Error::JobNotEnded { job }),
            Err(Error::JobDamaged { .. }) if uid.is_none() => {}
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        if !self.remove().await? {
            return Err(Error::JobNotFound { job });
        }
        tracing::info!(job = %self.key, "job deleted");
        self.audit_as(Entry::Delete, json!({})).await;
        Ok(())
    }

    pub(super) async fn expire(&mut self, keep: Duration) -> Result<bool, Error> {
        let (clock, watched) = (self.clock, self.is_watched());
        let over = !watched && self.load().await?.is_over(keep, &clock);
        if over && self.remove().await? {
            metrics::job_expired();
            self.audit_as(Entry::Delete, json!({ "kept_seconds": keep.as_secs() })).await;
            tracing::info!(job = %self.key, "job removed: it has ended and was kept for its time");
        }
        Ok(over)
    }

    async fn remove(&mut self) -> Result<bool, Error> {
        // Whether a removal that failed has happened is the store's to say.
        self.held = Held::Nothing;
        let count = self.quotas.jobs(&self.key.tenant).await;
        let removed = match self.store.remove(&self.key).await {
            Ok(removed) => removed,
            Err(error) => {
                count.into_iter().for_each(Count::unknown);
                return Err(from_store(&self.key, error));
            }
        };
        if removed {
            count.into_iter().for_each(Count::removed);
        }
        self.held = Held::Absent;
        Ok(removed)
    }

    /// The answer to an event: durable before it is visible. `edit` changes the spec as it was asked for.
    async fn judge(&mut self, event: Event, edit: Edit) -> Result<Answer, Error> {
        for _ in 0..MAX_RACES {
            let prepared = self.prepare(event.clone()).await?;
            let started = Instant::now();
            let admitted = self.admit(prepared).await?;
            if !admitted.must_store() {
                return Ok(self.load().await?.snapshot.job.apply(admitted).answer);
            }
            let span = tracing::info_span!(
                "decision",
                job = %self.key,
                policy = field::Empty,
                seq = field::Empty,
                phase = field::Empty
            );
            let Loaded { version, mut snapshot } = self.load().await?.clone();
            snapshot.asked = snapshot.asked.edited(&self.key.name, edit.clone())?;
            let had_ended = snapshot.job.ended();
            let effects = span.in_scope(|| snapshot.job.apply(admitted));
            let ended = snapshot.job.ended().filter(|_| had_ended.is_none());
            let policy = snapshot.job.spec().policy_name();
            let decision = Decision::new(started, policy, &effects, ended, &span);
            if matches!(effects.answer, Answer::Opened(_)) {
                snapshot.heard = Some(self.clock.now());
            }
            snapshot.note_end(self.clock.now());
            match self.save(Some(version), snapshot, &effects.rows).instrument(span).await {
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(from_store(&self.key, error)),
                Ok(()) => {
                    decision.stored();
                    self.audit(&event, &effects).await;
                    return Ok(effects.answer);
                }
            }
        }
        Err(self.raced())
    }

    /// Whether the job accepts an event.
    async fn admit(&mut self, event: Event) -> Result<Admitted, Error> {
        let (clock, job) = (self.clock, self.key.name.clone());
        let loaded = self.load().await?;
        let silent_seconds = loaded.silence(&clock).unwrap_or_default().as_secs();
        let refused = |refusal| Error::Refused { job, refusal, silent_seconds };
        loaded.snapshot.job.admit(event).map_err(refused)
    }

    /// Puts what only the clock and the store know into an event.
    async fn prepare(&mut self, event: Event) -> Result<Event, Error> {
        let clock = self.clock;
        let loaded = self.load().await?;
        let active = loaded.active(&clock);
        Ok(match event {
            Event::Open(open) => {
                let checkpoint = match loaded.snapshot.job.needs_checkpoint(&open) {
                    Some(seq) => rows::checkpoint(&*self.store, &self.key, seq).await?,
                    None => None,
                };
                Event::Open(Open { active, checkpoint, ..open })
            }
            Event::Cancel(cancel) => Event::Cancel(Cancel { live: active, ..cancel }),
            Event::Report(_) | Event::Finish(_) | Event::Update(_) => event,
        })
    }

    /// Stores a snapshot with its rows and keeps it in memory. After an error the job is as it was.
    async fn save(
        &mut self,
        expected: Option<u64>,
        snapshot: Snapshot,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let encoded = codec::encode(Kind::Snapshot, &snapshot).map_err(|e| e.of(&self.key))?;
        let writes: Result<Vec<RowWrite>, _> = rows.iter().map(rows::write).collect();
        let mut writes = writes.map_err(|e| e.of(&self.key))?;
        writes.extend(rows::thinned(&*self.store, &self.key, rows, self.history).await);
        let saving = metrics::Saving::begin();
        let saved = self.store.save(&self.key, expected, encoded.into(), writes).await;
        drop(saving);
        match saved {
            Ok(version) => {
                tracing::debug!(version, rows = rows.len(), "stored");
                self.held = Held::Present(Box::new(Loaded { version, snapshot }));
                Ok(())
            }
            Err(error) => {
                self.doubt(&error);
                Err(error)
            }
        }
    }

    /// After a failed save: what memory holds must be compared with the store before it is used.
    fn doubt(&mut self, error: &StoreError) {
        tracing::warn!(job = %self.key, %error, "not stored");
        self.held = match (std::mem::replace(&mut self.held, Held::Nothing), error) {
            (_, StoreError::Conflict { .. }) => Held::Nothing,
            (Held::Present(loaded) | Held::Doubtful(loaded), _) => Held::Doubtful(loaded),
            (Held::Nothing | Held::Absent, _) => Held::Nothing,
        };
    }

    fn raced(&self) -> Error {
        let detail = format!("another process changed job {} at every attempt", self.key);
        Error::StoreUnavailable { detail }
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Defect { detail: format!("the job answered {answer:?}, which does not fit the question") }
}
