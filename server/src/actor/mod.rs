//! The owner of one job. Messages come through a bounded mailbox and are handled one after the other, so that a job
//! needs no lock. A decision is stored before it is answered; if another process stored one first, the job is loaded
//! again and the same event is judged again.

mod asked;
mod audited;
mod check;
mod differences;
mod judge;
mod loaded;
mod rows;

pub use self::{
    asked::SpecUpdate,
    check::problems,
    loaded::{JobView, Shown},
    rows::{ScheduleView, StageView},
};
pub(crate) use loaded::{Loaded, from_store};

use crate::{
    audit::Audit,
    auth::By,
    clock::Clock,
    error::Error,
    quotas::Quotas,
    registry::census::Standing,
    store::{JobKey, JobStore},
};
use autolrs_core::{
    job::{Ack, Cancel, Finish, Open, Opened, Report, Update},
    spec::{JobSpec, ResolvedSpec},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{oneshot, watch};
use tracing::Span;

/// Where the answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What may change the course of a trainer between its reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signal {
    /// Number of the newest session.
    pub session: u64,
    /// The interrupt that waits for the trainer.
    pub interrupt: Option<u64>,
}

/// Changes whenever what people see of a job does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The job's version in the store.
    pub version: u64,
    /// The directive under way.
    pub seq: u64,
    /// Its losses that are held.
    pub received_through: u64,
}

/// What can be asked of a job.
#[derive(Debug)]
pub enum Message {
    /// Make it, or check that it is the same.
    Create(Box<(JobSpec, ResolvedSpec)>, Reply<JobView>),
    /// Make the caller its trainer. The spec is the new one as it was asked for.
    Open(Box<(Open, Option<JobSpec>)>, Reply<Opened>),
    /// Enter losses.
    Report(Report, Reply<Ack>),
    /// Change its course and its spec.
    Update(Box<(Update, SpecUpdate)>, Reply<JobView>),
    /// End it early and in order.
    Finish(Finish, Reply<JobView>),
    /// End it without training on.
    Cancel(Cancel, Reply<JobView>),
    /// Forget it, if it has this uid (none: any).
    Delete(Option<u64>, Reply<()>),
    /// Forget it, if it ended longer ago than that and nobody watches it; whether it was.
    Expire(Duration, Reply<bool>),
    /// Show it.
    Show(Reply<Shown>),
    /// Show a stage.
    Stage(u32, Reply<StageView>),
    /// The LR of every step that it has kept, and if asked for the losses.
    Export(bool, Reply<ScheduleView>),
    /// Show it, and tell of what changes from then on.
    Watch(Reply<(JobView, watch::Receiver<Mark>)>),
    /// Repeat what is known, and tell of what changes from then on.
    Listen(Reply<(Ack, watch::Receiver<Signal>)>),
}

/// A message, who has sent it, and the request that it is part of.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) by: By,
    pub(crate) span: Span,
    pub(crate) message: Message,
}

/// What is in memory.
#[derive(Debug)]
enum Held {
    /// Not asked yet, or no longer to be trusted.
    Nothing,
    /// The store has no such job.
    Absent,
    /// The job.
    Present(Box<Loaded>),
    /// The job; a save failed and may or may not have happened.
    Doubtful(Box<Loaded>),
}

/// The owner of one job.
pub struct Actor {
    key: JobKey,
    store: Arc<dyn JobStore>,
    clock: Clock,
    held: Held,
    signal: watch::Sender<Signal>,
    mark: watch::Sender<Mark>,
    audit: Audit,
    quotas: Quotas,
    /// Who has sent the message that is handled.
    by: By,
    /// Numbers of directives, up to the newest, whose losses are kept in detail.
    history: u64,
}

impl Actor {
    /// An owner that has not loaded its job yet.
    pub fn new(
        key: JobKey,
        store: Arc<dyn JobStore>,
        clock: Clock,
        audit: Audit,
        quotas: Quotas,
        history: u64,
    ) -> Self {
        let (signal, mark) = (watch::Sender::new(Signal::default()), watch::Sender::new(Mark::default()));
        Self {
            key,
            store,
            clock,
            held: Held::Nothing,
            signal,
            mark,
            audit,
            quotas,
            by: By::default(),
            history,
        }
    }

    /// Does what a message asks and answers it. A caller that no longer waits changes nothing.
    pub(crate) async fn handle(&mut self, letter: Letter) {
        self.by = letter.by;
        match letter.message {
            Message::Create(specs, reply) => answer(reply, self.create(specs.0, specs.1).await),
            Message::Open(open, reply) => answer(reply, self.open(open.0, open.1).await),
            Message::Report(report, reply) => answer(reply, self.report(report).await),
            Message::Update(update, reply) => answer(reply, self.update(update.0, update.1).await),
            Message::Finish(finish, reply) => answer(reply, self.finish(finish).await),
            Message::Cancel(cancel, reply) => answer(reply, self.cancel(cancel).await),
            Message::Delete(uid, reply) => answer(reply, self.delete(uid).await),
            Message::Expire(keep, reply) => answer(reply, self.expire(keep).await),
            Message::Show(reply) => answer(reply, self.show().await),
            Message::Stage(stage, reply) => answer(reply, self.stage(stage).await),
            Message::Export(losses, reply) => answer(reply, self.export(losses).await),
            Message::Watch(reply) => answer(reply, self.watch().await),
            Message::Listen(reply) => answer(reply, self.listen().await),
        }
        self.tell();
    }

    /// Whether it holds no job: there is none, or its record can't be read.
    pub fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing | Held::Absent)
    }

    /// Until when it should stay in memory, in milliseconds since 1970: while someone watches, and while its trainer counts
    /// as active. When the trainer was last heard is stored with decisions alone.
    pub fn needed_until(&self) -> u64 {
        match &self.held {
            _ if self.is_watched() => u64::MAX,
            Held::Present(loaded) | Held::Doubtful(loaded) => loaded.active_until(),
            Held::Nothing | Held::Absent => 0,
        }
    }

    /// Where its job stands; none if it holds none.
    pub(crate) fn standing(&self) -> Option<Standing> {
        match &self.held {
            Held::Present(loaded) | Held::Doubtful(loaded) => Some(loaded.standing()),
            Held::Nothing | Held::Absent => None,
        }
    }

    /// Whether someone waits for what changes.
    pub fn is_watched(&self) -> bool {
        self.mark.receiver_count() > 0
    }

    async fn watch(&mut self) -> Result<(JobView, watch::Receiver<Mark>), Error> {
        let view = self.present().await?;
        self.tell();
        Ok((view, self.mark.subscribe()))
    }

    async fn show(&mut self) -> Result<Shown, Error> {
        match self.present().await {
            Ok(loaded) => Ok(Shown::Whole(Box::new(loaded))),
            Err(Error::JobDamaged { job, detail }) => Ok(Shown::Damaged { name: job, detail }),
            Err(error) => Err(error),
        }
    }

    async fn stage(&mut self, stage: u32) -> Result<StageView, Error> {
        let view = self.present().await?;
        let found = rows::stage(&*self.store, &self.key, stage).await?;
        let empty = found.trials.is_empty() && found.commit.is_none() && found.end.is_none();
        let open = view.view.phase.is_some() && view.view.stage == stage;
        if empty && !open {
            Err(Error::StageNotFound { job: self.key.name.clone(), stage })
        } else {
            Ok(found)
        }
    }

    async fn export(&mut self, losses: bool) -> Result<ScheduleView, Error> {
        let view = self.present().await?;
        let job = &self.load().await?.snapshot.job;
        let line = if losses { job.kept_line_with_losses() } else { job.kept_line() };
        let (pieces, stretches) = rows::line(&*self.store, &self.key, line).await?;
        Ok(ScheduleView { job: view, pieces, stretches })
    }

    async fn listen(&mut self) -> Result<(Ack, watch::Receiver<Signal>), Error> {
        let ack = self.load().await?.snapshot.job.heartbeat();
        self.tell();
        Ok((ack, self.signal.subscribe()))
    }

    async fn present(&mut self) -> Result<JobView, Error> {
        let (key, clock) = (self.key.clone(), self.clock);
        self.load().await.map(|loaded| loaded.view(&key, &clock))
    }

    /// Tells the listeners what has changed.
    fn tell(&self) {
        let Held::Present(loaded) = &self.held else { return };
        let job = &loaded.snapshot.job;
        let now = Signal { session: job.session(), interrupt: job.interrupt() };
        self.signal.send_if_modified(|signal| std::mem::replace(signal, now) != now);
        let Ack { seq, received_through, .. } = job.heartbeat();
        let now = Mark { version: loaded.version, seq, received_through };
        self.mark.send_if_modified(|mark| std::mem::replace(mark, now) != now);
    }

    /// The job, from memory or from the store.
    async fn load(&mut self) -> Result<&mut Loaded, Error> {
        if !matches!(self.held, Held::Present(_)) {
            let stored = self.store.load(&self.key).await.map_err(|e| from_store(&self.key, e))?;
            self.held = match (std::mem::replace(&mut self.held, Held::Nothing), stored) {
                (_, None) => Held::Absent,
                (Held::Doubtful(loaded), Some(stored)) if loaded.version == stored.version => {
                    Held::Present(loaded)
                }
                (_, Some(stored)) => {
                    Held::Present(Box::new(Loaded::decode(&self.key, &stored, &self.clock)?))
                }
            };
        }
        match &mut self.held {
            Held::Present(loaded) => Ok(loaded),
            _ => Err(Error::JobNotFound { job: self.key.name.clone() }),
        }
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    if reply.send(result).is_err() {
        tracing::debug!("the caller no longer waits for the answer");
    }
}
