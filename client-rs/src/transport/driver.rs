//! The background task: sends what is due, takes in the answers.

use super::{
    Shared, backoff,
    link::{Link, Missed},
};
use crate::session::Due;
use autolrs_core::job::Report;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Losses are reported once in this time.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A trainer with nothing to report is heard once in this time.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);
/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Runs until the session is closed.
pub(super) async fn drive(shared: Arc<Shared>, mut link: Link) {
    let mut pause = backoff();
    let mut last_contact = Instant::now();
    let mut last_report = None;
    while !shared.is_closing() {
        let Some(report) = next_report(&shared, last_contact.elapsed()) else {
            shared.wake_within(REPORT_EVERY).await;
            continue;
        };
        let key = (report.seq, report.first_offset, report.train_losses.len(), report.finished);
        let answered = send(&shared, &mut link, report).await;
        last_contact = Instant::now();
        shared.announce();
        // An answer that led nowhere (the same report is due again) is worth no more than none.
        if answered && last_report.replace(key) != Some(key) {
            pause = backoff();
            if !shared.is_due_now() {
                shared.wake_within(REPORT_EVERY).await;
            }
        } else {
            tokio::select! {
                () = link.pause(&mut pause) => {}
                () = shared.closed() => {}
            }
        }
    }
}

fn next_report(shared: &Shared, silent_for: Duration) -> Option<Report> {
    let mut state = shared.lock();
    match state.machine.due() {
        Due::Now | Due::Soon => state.machine.poll_report(),
        Due::Heartbeat if silent_for >= HEARTBEAT_EVERY => state.machine.poll_heartbeat(),
        Due::Heartbeat | Due::Never => None,
    }
}

async fn send(shared: &Shared, link: &mut Link, report: Report) -> bool {
    let seq = report.seq;
    let answer = tokio::select! {
        answer = link.advance(report, ANSWER_WITHIN) => answer,
        () = shared.closed() => return false,
    };
    let mut state = shared.lock();
    match answer {
        Ok(ack) => {
            state.last_error = None;
            state.trace.answered();
            state.machine.handle_ack(ack);
            state.follow();
            true
        }
        Err(Missed::Refused(refused, error)) => {
            state.trace.answered();
            state.trace.refused(&error);
            state.last_error = Some(error);
            state.machine.handle_refusal(seq, refused);
            state.follow();
            true
        }
        Err(Missed::Outage(error)) => {
            state.trace.outage(&error);
            if !error.is_transient() {
                state.tell(&error);
            }
            state.last_error = Some(error);
            false
        }
    }
}
