//! What a real trainer does with a session of the real client, for [`SimTrainer`].

use crate::sim::SimTrainer;
use autolrs_client::{Handle, Session, Status};

/// Does the slot operations that wait.
pub fn enter(session: &Handle, trainer: &mut SimTrainer) {
    let ops = session.take_slot_ops();
    trainer.carry_out(&ops, session.snapshot().replay);
}

/// Runs a step and gives its loss to the session.
pub fn step(session: &Handle, trainer: &mut SimTrainer) -> Status {
    let now = session.snapshot();
    session.record(trainer.step(now.seq, now.lr))
}

/// Runs the directive in force to its end; at the job's end its slot operations alone.
pub fn carry_out(session: &Handle, trainer: &mut SimTrainer) {
    enter(session, trainer);
    while session.done().is_none() && step(session, trainer) != Status::Ended {}
}

/// The LR and the loss of every step, as bits.
pub fn bits(trainer: &SimTrainer) -> Vec<(u64, u64)> {
    trainer.line.iter().map(crate::sim::Step::bits).collect()
}

/// Trains to the end of the job. The session must not be one that raises.
pub async fn train(session: &Session, trainer: &mut SimTrainer) {
    while session.done().is_none() {
        carry_out(session, trainer);
        session.next().await.expect("a directive or its fallback");
    }
    carry_out(session, trainer);
}
