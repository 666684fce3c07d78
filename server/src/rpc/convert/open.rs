//! Opening a session.

use super::{Violations, directive, spec};
use crate::error::Error;
use autolrs_core::{
    job::{Holder, MAX_NONCE, Open, Opened, Resume},
    spec::JobSpec,
};
use autolrs_proto::v1 as pb;

/// Most bytes of a host's name.
const MAX_HOST: usize = 255;

/// A checked request.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rpc) struct Opening {
    pub(in crate::rpc) job: String,
    pub(in crate::rpc) open: Open,
    /// The new spec as it was asked for.
    pub(in crate::rpc) asked: Option<JobSpec>,
}

pub(in crate::rpc) fn decode(wire: pb::OpenSessionRequest) -> Result<Opening, Error> {
    let mut violations = Violations::default();
    violations.name("job", &wire.job);
    if wire.spec.is_some() && !wire.restart {
        violations.add("spec", "is only for a restart");
    }
    let resume = wire.resume.and_then(|resume| decode_resume(resume, &mut violations));
    let holder = wire.holder.unwrap_or_default();
    if holder.host.len() > MAX_HOST {
        violations.add("holder.host", format!("must be at most {MAX_HOST} bytes, has {}", holder.host.len()));
    }
    if wire.nonce.len() > MAX_NONCE {
        violations.add("nonce", format!("must be at most {MAX_NONCE} bytes, has {}", wire.nonce.len()));
    }
    let specs = wire.spec.and_then(|wire| spec::decode(wire, &mut violations));
    let (asked, new_spec) = specs.map(|specs| (specs.asked, specs.resolved)).unzip();
    let can = wire.capabilities.unwrap_or_default();
    let open = Open {
        resume,
        takeover: wire.takeover,
        restart: wire.restart,
        new_spec,
        replay: can.replay,
        validate: can.validate,
        nonce: wire.nonce,
        holder: Holder { host: holder.host, pid: holder.pid },
        active: false,
        checkpoint: None,
    };
    violations.finish(&wire.job.clone(), Some(Opening { job: wire.job, open, asked }))
}

fn decode_resume(wire: pb::Resume, violations: &mut Violations) -> Option<Resume> {
    let uid = parse_uid(&wire.uid);
    if uid.is_none() {
        violations.add("resume.uid", format!("must be 16 hexadecimal digits, is {:?}", wire.uid));
    }
    let mut slots = Vec::new();
    for number in wire.slots {
        match directive::decode_slot(number) {
            Some(slot) if !slots.contains(&slot) => slots.push(slot),
            Some(_) => {}
            None => {
                violations.add("resume.slots", format!("must be slots of this version, has {number}"));
                break;
            }
        }
    }
    Some(Resume { uid: uid?, seq: wire.seq, offset: wire.offset, slots })
}

/// A uid from the wire.
pub(super) fn parse_uid(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

pub(in crate::rpc) fn encode(opened: &Opened) -> pb::OpenSessionResponse {
    pb::OpenSessionResponse {
        session: opened.session,
        directive: Some(directive::encode(&opened.directive, opened.session)),
        received_through: opened.received_through,
        slot_ops: opened.slot_ops.iter().map(|&op| directive::slot_op(op)).collect(),
        uid: super::job::uid(opened.uid),
        switch_every: opened.switch_every,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fields, *};
    use autolrs_core::directive::Slot;

    #[test]
    fn a_request_is_taken_as_it_is() {
        let stage = i32::from(pb::Slot::Stage);
        let resume =
            pb::Resume { uid: "00000000000000ff".into(), seq: 3, offset: 4, slots: vec![stage, stage] };
        let wire = pb::OpenSessionRequest {
            job: "j".into(),
            resume: Some(resume),
            takeover: true,
            capabilities: Some(pb::Capabilities { replay: true, validate: true }),
            holder: Some(pb::Holder { host: "h".into(), pid: 5 }),
            ..pb::OpenSessionRequest::default()
        };
        let opening = decode(wire).unwrap();
        let resume = opening.open.resume.unwrap();
        assert_eq!((resume.uid, resume.slots), (255, vec![Slot::Stage]));
        assert!(
            opening.open.takeover && opening.open.replay && opening.open.validate && !opening.open.restart
        );
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let wire = pb::OpenSessionRequest {
            job: "a/b".into(),
            resume: Some(pb::Resume { uid: "+1".into(), slots: vec![0, 9], ..pb::Resume::default() }),
            holder: Some(pb::Holder { host: "h".repeat(256), pid: 0 }),
            spec: Some(pb::JobSpec { lr_min: Some(1.0), lr_max: Some(0.1), ..pb::JobSpec::default() }),
            ..pb::OpenSessionRequest::default()
        };
        let expected = [
            "job",
            "spec",
            "resume.uid",
            "resume.slots",
            "holder.host",
            "spec.total_steps",
            "spec.fallback_lr",
            "spec.lr_max",
        ];
        assert_eq!(fields(decode(wire)), expected);
    }
}
