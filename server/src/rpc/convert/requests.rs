//! The small requests of `JobService`.

use super::{Violations, open, spec, spec::Specs};
use crate::{actor::SpecUpdate, error::Error};
use autolrs_core::{
    job::{Cancel, Finish, Update},
    policy::Change,
};
use autolrs_proto::v1 as pb;
use std::collections::HashMap;

/// Jobs on a page when the caller does not say.
const DEFAULT_PAGE: u32 = 100;
/// Most jobs on a page.
const MAX_PAGE: u32 = 1000;
/// First byte of a page token: its form.
const TOKEN_V1: &str = "1";

/// The name of a job that is asked for.
pub(in crate::rpc) fn name(field: &str, name: String) -> Result<String, Error> {
    let mut violations = Violations::default();
    violations.name(field, &name);
    violations.finish(&name.clone(), Some(name))
}

/// The name and the spec of a job to make.
pub(in crate::rpc) fn create(wire: pb::CreateJobRequest) -> Result<(String, Specs), Error> {
    let mut violations = Violations::default();
    violations.name("name", &wire.name);
    if wire.spec.is_none() {
        violations.add("spec", "must be set");
    }
    let specs = wire.spec.and_then(|wire| spec::decode(wire, &mut violations));
    violations.request_id(&wire.request_id, true);
    violations.finish(&wire.name.clone(), specs.map(|specs| (wire.name, specs)))
}

/// The name of a job and its cancellation.
pub(in crate::rpc) fn cancel(wire: pb::CancelJobRequest) -> Result<(String, Cancel), Error> {
    let mut violations = Violations::default();
    violations.name("name", &wire.name);
    violations.request_id(&wire.request_id, false);
    let cancel = Cancel { request_id: wire.request_id, live: false };
    violations.finish(&wire.name.clone(), Some((wire.name, cancel)))
}

/// The name of a job and its early end.
pub(in crate::rpc) fn finish(wire: pb::FinishJobRequest) -> Result<(String, Finish), Error> {
    let mut violations = Violations::default();
    violations.name("name", &wire.name);
    violations.request_id(&wire.request_id, false);
    let finish = Finish { request_id: wire.request_id, cooldown_steps: wire.cooldown_steps };
    violations.finish(&wire.name.clone(), Some((wire.name, finish)))
}

/// The name of a job and what is to change.
pub(in crate::rpc) fn update(wire: pb::UpdateJobRequest) -> Result<(String, (Update, SpecUpdate)), Error> {
    let mut violations = Violations::default();
    violations.name("name", &wire.name);
    violations.request_id(&wire.request_id, false);
    let change = Change { lr: wire.lr_override, total_steps: wire.total_steps };
    if change == Change::default() && wire.labels.is_empty() && wire.remove_labels.is_empty() {
        violations.add("lr_override", "or total_steps, labels or remove_labels must be set");
    }
    let spec = SpecUpdate {
        total_steps: wire.total_steps,
        labels: wire.labels.into_iter().collect(),
        remove_labels: wire.remove_labels,
    };
    let update = Update { request_id: wire.request_id, change };
    violations.finish(&wire.name.clone(), Some((wire.name, (update, spec))))
}

/// The name of a job to delete, and the uid that it must have.
pub(in crate::rpc) fn delete(wire: pb::DeleteJobRequest) -> Result<(String, Option<u64>), Error> {
    let mut violations = Violations::default();
    violations.name("name", &wire.name);
    violations.request_id(&wire.request_id, false);
    let uid = open::parse_uid(&wire.uid);
    if uid.is_none() && !wire.uid.is_empty() {
        violations.add("uid", format!("must be 16 hexadecimal digits, is {:?}", wire.uid));
    }
    violations.finish(&wire.name.clone(), Some((wire.name, uid)))
}

/// What is to be said about a spec.
pub(in crate::rpc) fn validate(wire: pb::ValidateJobSpecRequest) -> pb::ValidateJobSpecResponse {
    let mut violations = Violations::default();
    let specs = spec::decode(wire.spec.unwrap_or_default(), &mut violations);
    let advice = specs.map(|specs| autolrs_core::policy::advice(&specs.resolved)).unwrap_or_default();
    let note = |field: String, description: String| pb::SpecNote { field, description };
    pb::ValidateJobSpecResponse {
        violations: violations.0.into_iter().map(|v| note(v.field, v.description)).collect(),
        warnings: advice.into_iter().map(|a| note(format!("spec.{}", a.field), a.description)).collect(),
    }
}

/// A page that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rpc) struct Page {
    pub(in crate::rpc) size: usize,
    /// The name that the page before ended with.
    pub(in crate::rpc) after: Option<String>,
    /// Which of the jobs there.
    pub(in crate::rpc) filter: Filter,
}

/// Which jobs are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::rpc) struct Filter {
    /// Empty: all.
    states: Vec<pb::JobState>,
    /// All must match.
    labels: HashMap<String, String>,
    /// Empty: all.
    policies: Vec<String>,
}

impl Filter {
    /// Whether a job is among them. What can't be read of a damaged job matches nothing.
    pub(in crate::rpc) fn matches(&self, job: &pb::Job) -> bool {
        let has = |(key, value)| job.spec.as_ref().is_some_and(|spec| spec.labels.get(key) == Some(value));
        (self.states.is_empty() || self.states.contains(&job.state()))
            && (self.policies.is_empty() || self.policies.contains(&job.policy))
            && self.labels.iter().all(has)
    }
}

pub(in crate::rpc) fn list(wire: &pb::ListJobsRequest) -> Result<Page, Error> {
    let mut violations = Violations::default();
    let size = violations.page_size(wire.page_size);
    let after = match wire.page_token.as_str() {
        "" => Some(None),
        token => decode_token(token).map(Some),
    };
    if after.is_none() {
        violations.add("page_token", "must be the next_page_token of an earlier answer");
    }
    violations.filter("states", wire.states.len());
    violations.filter("policies", wire.policies.len());
    violations.filter("labels", wire.labels.len());
    let mut states = Vec::new();
    for &number in &wire.states {
        match pb::JobState::try_from(number) {
            Ok(state) if state != pb::JobState::Unspecified => states.push(state),
            _ => violations.add("states", format!("must be states of this version, has {number}")),
        }
    }
    let filter = Filter { states, labels: wire.labels.clone(), policies: wire.policies.clone() };
    violations.finish("", after.map(|after| Page { size, after, filter }))
}

/// The job, the first stage and the size of a page of stages.
pub(in crate::rpc) fn stages(wire: pb::ListStagesRequest) -> Result<(String, u32, usize), Error> {
    let mut violations = Violations::default();
    violations.name("job", &wire.job);
    let size = violations.page_size(wire.page_size);
    let first = match wire.page_token.as_str() {
        "" => Some(0),
        token => decode_token(token).and_then(|stage| stage.parse().ok()),
    };
    if first.is_none() {
        violations.add("page_token", "must be the next_page_token of an earlier answer");
    }
    violations.finish(&wire.job.clone(), first.map(|first| (wire.job, first, size)))
}

impl Violations {
    /// The size of a page that is asked for.
    fn page_size(&mut self, asked: u32) -> usize {
        if asked > MAX_PAGE {
            self.add("page_size", format!("must be at most {MAX_PAGE}, is {asked}"));
        }
        if asked == 0 { DEFAULT_PAGE as usize } else { asked as usize }
    }
}

/// The token of a page, from what tells where it starts.
pub(in crate::rpc) fn encode_token(name: &str) -> String {
    name.bytes().fold(TOKEN_V1.to_owned(), |token, byte| token + &format!("{byte:02x}"))
}

fn decode_token(token: &str) -> Option<String> {
    let digits = token.strip_prefix(TOKEN_V1)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<_>>>()?;
    String::from_utf8(bytes).ok().filter(|name| encode_token(name) == token && name.len() <= 63)
}

#[cfg(test)]
mod tests {
    use super::{super::fields, *};

    #[test]
    fn names_follow_the_rule() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "resnet50", "a.b_c-d", &longest] {
            assert_eq!(name("name", good.into()).as_deref(), Ok(good));
        }
        for bad in ["", "A", "-a", ".a", "a/b", "a b", "ä", "a\n", &"a".repeat(64)] {
            assert_eq!(fields(name("job", bad.into())), ["job"], "{bad:?}");
        }
    }

    #[test]
    fn everything_wrong_with_a_job_is_named() {
        let spec = pb::JobSpec { total_steps: Some(0), ..pb::JobSpec::default() };
        let wire = pb::CreateJobRequest { name: "a/b".into(), spec: Some(spec), request_id: "x".repeat(129) };
        let expected =
            ["name", "spec.total_steps", "spec.fallback_lr", "spec.lr_min", "spec.lr_max", "request_id"];
        assert_eq!(fields(create(wire)), expected);
        assert_eq!(fields(create(pb::CreateJobRequest { name: "a".into(), ..Default::default() })), ["spec"]);
        assert_eq!(fields(cancel(pb::CancelJobRequest::default())), ["name", "request_id"]);
        assert_eq!(fields(finish(pb::FinishJobRequest::default())), ["name", "request_id"]);
        let nothing = pb::UpdateJobRequest::default();
        assert_eq!(fields(update(nothing)), ["name", "request_id", "lr_override"]);
    }

    #[test]
    fn a_uid_is_checked() {
        let wire =
            |uid: &str| pb::DeleteJobRequest { name: "a".into(), request_id: "r".into(), uid: uid.into() };
        assert_eq!(delete(wire("")), Ok(("a".into(), None)));
        assert_eq!(delete(wire("00000000000000ff")), Ok(("a".into(), Some(255))));
        assert_eq!(fields(delete(wire("ff"))), ["uid"]);
        assert_eq!(fields(delete(pb::DeleteJobRequest::default())), ["name", "request_id"]);
    }

    #[test]
    fn a_spec_is_judged_as_a_whole() {
        let said = |spec| {
            let answer = validate(pb::ValidateJobSpecRequest { spec });
            let fields = |notes: Vec<pb::SpecNote>| notes.into_iter().map(|n| n.field).collect::<Vec<_>>();
            (fields(answer.violations), fields(answer.warnings))
        };
        let all = ["spec.total_steps", "spec.fallback_lr", "spec.lr_min", "spec.lr_max"];
        assert_eq!(said(None), (all.map(String::from).to_vec(), vec![]));
        let (lr_min, lr_max, fallback_lr) = (Some(0.1), Some(1.0), Some(0.1));
        let spec = pb::JobSpec { total_steps: Some(100), lr_min, lr_max, fallback_lr, ..Default::default() };
        let warnings = ["spec.total_steps", "spec.lr_max"].map(String::from).to_vec();
        assert_eq!(said(Some(spec)), (vec![], warnings));
    }

    #[test]
    fn page_tokens_come_back_and_others_are_refused() {
        let page = |token: &str| pb::ListJobsRequest { page_token: token.into(), ..Default::default() };
        let next = list(&page(&encode_token("a.b"))).unwrap();
        assert_eq!((next.size, next.after.as_deref()), (100, Some("a.b")));
        for bad in ["x", "1zz", "16", "1ff", "a.b"] {
            assert_eq!(fields(list(&page(bad))), ["page_token"], "{bad}");
        }
        let of = |token: String| pb::ListStagesRequest { job: "a".into(), page_token: token, page_size: 7 };
        assert_eq!(stages(of(encode_token("12"))), Ok(("a".into(), 12, 7)));
        assert_eq!(fields(stages(of(encode_token("x")))), ["page_token"]);
        let wrong = pb::ListStagesRequest { page_size: 1001, ..of("y".into()) };
        assert_eq!(
            fields(stages(pb::ListStagesRequest { job: "A".into(), ..wrong })),
            ["job", "page_size", "page_token"]
        );
        let crowd = pb::ListJobsRequest {
            states: vec![99; 1000],
            policies: vec![String::new(); 65],
            labels: (0..65).map(|i| (i.to_string(), String::new())).collect(),
            ..pb::ListJobsRequest::default()
        };
        let told = fields(list(&crowd));
        assert_eq!(
            (&told[..4], told.len()),
            (&["states", "policies", "labels", "states"].map(String::from)[..], 101)
        );
        let wrong = pb::ListJobsRequest {
            page_size: 1001,
            states: vec![0, 99],
            page_token: "x".into(),
            ..pb::ListJobsRequest::default()
        };
        assert_eq!(fields(list(&wrong)), ["page_size", "page_token", "states", "states"]);
    }
}
