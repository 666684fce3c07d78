//! A job that has nothing to do with what is done to its server: the real client, and a model whose losses show every LR and
//! every restore. Whatever happens around it, its line is the one of a quiet server.

use crate::{
    server::Server,
    sim::{Optimum, SimTrainer, Step},
};
use autolrs_client::{DoneReason, Handle, JobSpec, PolicySpec, ScanOptions, Session, SessionConfig, Status};
use std::time::Duration;

/// The LR and the loss of every step, as bits.
pub type Line = Vec<(u64, u64)>;

/// Trains a new job of this name to its end.
///
/// # Panics
/// If the server lets it down.
pub async fn train(server: &Server, name: &str) -> Line {
    let spec = JobSpec {
        total_steps: Some(1000),
        lr_min: Some(1e-4),
        lr_max: Some(1.0),
        fallback_lr: Some(0.05),
        policy: Some(PolicySpec::Scan(ScanOptions::default())),
        ..JobSpec::default()
    };
    let config =
        SessionConfig { server: server.url(), token: None, replay: true, ..SessionConfig::new(name, spec) };
    let session = Session::open(config).await.expect("a session");
    let mut trainer = SimTrainer::new(Optimum::default());
    while session.done().is_none() {
        carry_out(&session, &mut trainer);
        session.next().await.expect("the next directive");
        assert!(!session.snapshot().detached, "the server answers: {:?}", session.take_notices());
    }
    carry_out(&session, &mut trainer);
    assert_eq!(session.done(), Some(DoneReason::Finished));
    session.close(Duration::from_secs(20)).await;
    trainer.line.iter().map(Step::bits).collect()
}

/// Runs the directive in force to its end.
fn carry_out(session: &Handle, trainer: &mut SimTrainer) {
    trainer.carry_out(&session.take_slot_ops(), session.snapshot().replay);
    if session.done().is_some() {
        return;
    }
    loop {
        let now = session.snapshot();
        if session.record(trainer.step(now.seq, now.lr)) == Status::Ended {
            return;
        }
    }
}
