//! The actors on a store in memory: what they keep, what they refuse, and what happens when the store fails them.

mod crashes;
mod crowds;
mod lives;
mod mishaps;
mod retention;
mod trap;

use super::*;
use crate::actor::JobView;
use autolrs_core::{
    directive::Action,
    job::{Ack, Cancel, Open, Opened, Report, Resume},
    spec::{ConstantOptions, JobSpec, PolicySpec, resolve},
};
use trap::Trap;

/// Steps of the job that the tests run.
const STEPS: u64 = 100;
/// Directives that are kept in detail.
const HISTORY: u64 = 16;
/// When the first server of a test starts, in milliseconds since 1970.
const START: u64 = 1_000_000_000;

/// A server's actors.
struct Server {
    registry: Registry,
    key: JobKey,
}

impl Server {
    fn new() -> Self {
        Self::on(Arc::new(Trap::default()), START)
    }

    fn on(store: Arc<dyn JobStore>, started: u64) -> Self {
        let bounds = Bounds { jobs: 100, mailbox: 4, idle: Duration::from_secs(600), history: HISTORY };
        let registry = Registry::new(store, Clock::starting_at(started), bounds);
        Self { registry, key: JobKey::new("default", "job") }
    }

    async fn create(&self, total_steps: u64) -> Result<JobView, Error> {
        let policy = Some(PolicySpec::Constant(ConstantOptions::default()));
        let (total_steps, fallback_lr) = (Some(total_steps), Some(0.1));
        let asked = JobSpec { total_steps, fallback_lr, policy, ..JobSpec::default() };
        let resolved = resolve(&asked).unwrap();
        self.registry.ask(&self.key, |reply| Message::Create(Box::new((asked, resolved)), reply)).await
    }

    async fn open(&self, open: Open) -> Result<Opened, Error> {
        self.registry.ask(&self.key, |reply| Message::Open(Box::new((open, None)), reply)).await
    }

    async fn report(&self, report: Report) -> Result<Ack, Error> {
        self.registry.ask(&self.key, |reply| Message::Report(report, reply)).await
    }

    async fn cancel(&self) -> Result<JobView, Error> {
        let cancel = Cancel { request_id: "c".into(), live: false };
        self.registry.ask(&self.key, |reply| Message::Cancel(cancel, reply)).await
    }

    async fn show(&self) -> JobView {
        match self.registry.ask(&self.key, Message::Show).await {
            Ok(Shown::Whole(view)) => *view,
            other => panic!("not a job: {other:?}"),
        }
    }

    fn live(&self) -> usize {
        self.registry.shared.lock().taken()
    }
}

/// A report of `steps` losses from the start of the first directive.
fn losses(opened: &Opened, steps: u64) -> Report {
    Report {
        session: opened.session,
        seq: opened.directive.seq,
        train_losses: vec![1.0; steps as usize],
        finished: steps == STEPS,
        ..Report::default()
    }
}

fn reason(error: &Error) -> String {
    let status = crate::rpc::status::status(error);
    let details = tonic_types::StatusExt::get_error_details(&status);
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
