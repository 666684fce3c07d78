use super::*;
use crate::{auth::roles::Role, error::Violation};
use autolrs_core::job::Holder;

#[track_caller]
fn check(error: &Error, code: Code, reason: &str, metadata: &[(&str, &str)]) {
    let status = status(error);
    assert_eq!(status.code(), code, "{error}");
    assert!(!status.message().is_empty());
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "autolrs.dev"));
    let expected: HashMap<_, _> = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert_eq!(info.metadata, expected, "{reason}");
}

#[track_caller]
fn refused(refusal: Refusal, code: Code, reason: &str, metadata: &[(&str, &str)]) {
    let error = Error::Refused { job: "j".into(), refusal, silent_seconds: 3 };
    check(&error, code, reason, &[&[("job", "j")], metadata].concat());
}

#[test]
fn every_refusal_has_its_code_reason_and_metadata() {
    let precondition = Code::FailedPrecondition;
    let mismatch = Refusal::StopMismatch { seq: 41, expected: "x".into(), reported: "y".into() };
    refused(mismatch, Code::InvalidArgument, "STOP_MISMATCH", &[("seq", "41"), ("expected", "x")]);
    let invalid = Refusal::InvalidField { field: "resume", description: "is bad".into() };
    refused(invalid, Code::InvalidArgument, "INVALID_FIELD", &[]);
    let fenced = Refusal::Fenced { session: 2, newest: 3 };
    refused(fenced, precondition, "FENCED", &[("session", "2"), ("newest", "3")]);
    let active = Refusal::SessionActive { holder: Holder { host: "node7".into(), pid: 4711 } };
    let holder = [("host", "node7"), ("pid", "4711"), ("heard_seconds_ago", "3")];
    refused(active, precondition, "SESSION_ACTIVE", &holder);
    let resume = Refusal::ResumeRequired { total_steps_done: 9 };
    refused(resume, precondition, "RESUME_REQUIRED", &[("total_steps_done", "9")]);
    for (reason, state) in [(DoneReason::Finished, "FINISHED"), (DoneReason::Cancelled, "CANCELLED")] {
        refused(Refusal::Ended(reason), precondition, "JOB_FINISHED", &[("state", state)]);
    }
    refused(Refusal::UpdateInSearch, precondition, "UPDATE_IN_SEARCH", &[]);
    refused(
        Refusal::BudgetFixed("it cools down"),
        precondition,
        "BUDGET_FIXED",
        &[("detail", "it cools down")],
    );
    let old = Refusal::CheckpointTooOld { seq: 5, oldest: 93 };
    refused(old, precondition, "CHECKPOINT_TOO_OLD", &[("seq", "5"), ("oldest_seq", "93")]);
    let other = Refusal::CheckpointMismatch("d".into());
    refused(other, precondition, "CHECKPOINT_MISMATCH", &[("detail", "d")]);
    let unknown = Refusal::UnknownDirective { session: 1, seq: 99 };
    refused(unknown, precondition, "UNKNOWN_DIRECTIVE", &[("seq", "99")]);
}

#[test]
fn every_other_error_has_them_too() {
    let job = || "j".to_owned();
    let detail = || "d".to_owned();
    check(&Error::JobNotFound { job: job() }, Code::NotFound, "JOB_NOT_FOUND", &[("job", "j")]);
    let stage = Error::StageNotFound { job: job(), stage: 3 };
    check(&stage, Code::NotFound, "STAGE_NOT_FOUND", &[("job", "j"), ("stage", "3")]);
    let differs = Error::JobDiffers { job: job(), fields: vec!["total_steps", "lr_max"] };
    let fields = [("job", "j"), ("fields", "total_steps,lr_max")];
    check(&differs, Code::AlreadyExists, "JOB_DIFFERS", &fields);
    let not_ended = Error::JobNotEnded { job: job() };
    check(&not_ended, Code::FailedPrecondition, "JOB_NOT_ENDED", &[("job", "j")]);
    let damaged = Error::JobDamaged { job: job(), detail: detail() };
    check(&damaged, Code::Internal, "JOB_DAMAGED", &[("job", "j"), ("detail", "d")]);
    check(&Error::Draining, Code::Unavailable, "DRAINING", &[]);
    let limit = Error::LimitReached { limit: Limit::Requests };
    let metadata = [("limit", "requests under way"), ("setting", "max_requests")];
    check(&limit, Code::ResourceExhausted, "LIMIT_REACHED", &metadata);
    let quota = Error::QuotaExceeded { limit: Limit::TenantJobs };
    let metadata = [("limit", "stored jobs of one tenant"), ("setting", "tenant_jobs")];
    check(&quota, Code::ResourceExhausted, "QUOTA_EXCEEDED", &metadata);
    assert!(status(&quota).get_error_details().retry_info().is_none(), "waiting does not help");
    let large = explained(Status::out_of_range("5 bytes, the limit is 4"));
    assert_eq!((large.code(), large.message()), (Code::OutOfRange, "5 bytes, the limit is 4"));
    let metadata = [("limit", "bytes of one message"), ("setting", "max_message")];
    check(&Error::MessageTooLarge { detail: detail() }, Code::OutOfRange, "MESSAGE_TOO_LARGE", &metadata);
    assert!(explained(Status::cancelled("x")).get_error_details().error_info().is_none());
    let store = Error::StoreUnavailable { detail: detail() };
    check(&store, Code::Unavailable, "STORE_UNAVAILABLE", &[]);
    for retried in [limit, store] {
        assert!(status(&retried).get_error_details().retry_info().is_some());
    }
    for (why, reason) in [
        (Unproven::NoToken, "TOKEN_MISSING"),
        (Unproven::Unknown, "TOKEN_UNKNOWN"),
        (Unproven::Expired, "TOKEN_EXPIRED"),
    ] {
        check(&Error::Unauthenticated(why), Code::Unauthenticated, reason, &[]);
    }
    let denied = Code::PermissionDenied;
    let low = Error::RoleTooLow { rpc: "DeleteJob", needed: Role::Admin, has: Role::Write };
    check(&low, denied, "ROLE_TOO_LOW", &[("method", "DeleteJob"), ("needed", "admin"), ("role", "write")]);
    let none = Error::NoTenant { rpc: "GetJob" };
    check(&none, denied, "WRONG_TENANT", &[("method", "GetJob"), ("needed", "the jobs'")]);
    let whole = Error::NotTheServers { rpc: "Backup" };
    check(&whole, denied, "WRONG_TENANT", &[("method", "Backup"), ("needed", "*")]);
    assert_eq!(status(&Error::TimedOut).code(), Code::DeadlineExceeded);
    assert_eq!(status(&Error::Defect { detail: detail() }).code(), Code::Internal);
}

#[test]
fn all_violations_are_listed_and_long_values_clipped() {
    let violation = |field: &str| Violation { field: field.into(), description: "x".repeat(5000) };
    let violations = vec![violation("name"), violation("spec.lr_min")];
    let status = status(&Error::Invalid { job: "y".repeat(5000), violations });
    let details = status.get_error_details();
    let fields = &details.bad_request().unwrap().field_violations;
    assert_eq!(fields.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["name", "spec.lr_min"]);
    assert!(status.details().len() + status.message().len() < 2048);
}

/// What the other implementations of gRPC take at most: sentence and details stand in the headers.
#[test]
fn a_status_fits_into_the_headers_however_much_is_wrong() {
    for text in ["x", "\u{202e}", "\0"] {
        let violation = |i: usize| Violation { field: format!("f[{i}]"), description: text.repeat(9000) };
        let violations: Vec<_> = (0..10_000).map(violation).collect();
        let status = status(&Error::Invalid { job: text.repeat(9000), violations });
        let details = status.get_error_details();
        let fields = &details.bad_request().unwrap().field_violations;
        assert!(fields.len() > 1 && fields.last().unwrap().description == "more is wrong");
        let bytes: usize =
            status.into_http::<()>().headers().iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        assert!(bytes < 8192, "{bytes}");
    }
}
