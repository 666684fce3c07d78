//! Jobs as people see them: core to wire.

use super::{directive, spec};
use crate::actor::{JobView, Shown};
use autolrs_core::{job::JobState, policy::Spent};
use autolrs_proto::v1 as pb;
use prost_types::Timestamp;

/// A uid on the wire.
pub(super) fn uid(uid: u64) -> String {
    format!("{uid:016x}")
}

/// A job, or what is left of it.
pub(in crate::rpc) fn encode_shown(shown: &Shown) -> pb::Job {
    match shown {
        Shown::Whole(view) => encode(view),
        Shown::Damaged { name, detail } => pb::Job {
            name: name.clone(),
            state: pb::JobState::Damaged.into(),
            warnings: vec![detail.clone()],
            ..pb::Job::default()
        },
    }
}

/// A job.
pub(in crate::rpc) fn encode(job: &JobView) -> pb::Job {
    let view = &job.view;
    let (state, failure) = state(view.state);
    let phase = view.phase.map_or(pb::Phase::Unspecified, directive::phase);
    let holder = pb::Holder { host: view.holder.host.clone(), pid: view.holder.pid };
    pb::Job {
        name: job.name.clone(),
        uid: uid(job.uid),
        spec: Some(spec::encode(&job.asked)),
        policy: job.policy.to_owned(),
        state: if job.detached { pb::JobState::Detached } else { state }.into(),
        failure: failure.into(),
        phase: phase.into(),
        stage: view.stage,
        trial: view.trial,
        lr: view.lr,
        total_steps: job.total_steps,
        steps: Some(steps(view.spent, view.repeated)),
        train_loss: view.train_loss,
        validation_loss: view.validation_loss,
        commits: view.commits.iter().map(|&(stage, lr)| pb::Commit { stage, lr }).collect(),
        session: view.session,
        holder: (view.session > 0).then_some(holder),
        warnings: view.warnings.clone(),
        revision: job.revision,
        create_time: Some(timestamp(job.created)),
        heard_time: job.heard.map(timestamp),
        policy_revision: job.policy_revision,
    }
}

const fn state(state: JobState) -> (pb::JobState, pb::Failure) {
    let none = pb::Failure::Unspecified;
    match state {
        JobState::Created => (pb::JobState::Created, none),
        JobState::Searching => (pb::JobState::Searching, none),
        JobState::Training => (pb::JobState::Training, none),
        JobState::Cooling => (pb::JobState::Cooling, none),
        JobState::Finished => (pb::JobState::Finished, none),
        JobState::Cancelled => (pb::JobState::Cancelled, none),
        JobState::Failed(failure) => (pb::JobState::Failed, directive::failure(failure)),
    }
}

const fn steps(spent: Spent, repeated: u64) -> pb::Steps {
    pb::Steps { committed: spent.committed, search: spent.search, lost: spent.lost, repeated }
}

fn timestamp(millis: u64) -> Timestamp {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    // The remainder is below 1000, its nanoseconds below 10^9.
    Timestamp { seconds, nanos: (millis % 1000) as i32 * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_uids_have_their_wire_form() {
        assert_eq!(timestamp(1_500), Timestamp { seconds: 1, nanos: 500_000_000 });
        assert_eq!(uid(255), "00000000000000ff");
    }

    #[test]
    fn a_damaged_job_says_so() {
        let job = encode_shown(&Shown::Damaged { name: "j".into(), detail: "checksum".into() });
        assert_eq!((job.state(), job.warnings), (pb::JobState::Damaged, vec!["checksum".to_owned()]));
    }
}
