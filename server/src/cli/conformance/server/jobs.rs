//! Checks of jobs without a trainer: making, finding, listing, watching, deleting them.

use super::kit::{Kit, LABEL, bad_fields, constant, metadata, refused, scan, search};
use crate::cli::conformance::verdict::{Broken, Verdict, expect, same, short};
use autolrs_proto::v1::{
    ErrorReason, GetStageRequest, Job, JobSpec, JobState, ListJobsRequest, OpenSessionRequest, Report,
    ScanPolicy, UpdateJobRequest, ValidateJobSpecRequest, WatchJobRequest, job_spec::Policy,
};
use std::{collections::BTreeSet, time::Duration};
use tonic::{Code, Status, Streaming};

/// Longest wait for a message of a stream that is due at once.
const SOON: Duration = Duration::from_secs(10);

pub(super) async fn created_again(kit: &Kit) -> Verdict {
    let name = kit.name();
    let first = kit.ask(&name, scan(), "a").await?;
    same("the state of a new job", &JobState::Created, &first.state())?;
    same("its name", &name, &first.name)?;
    let hexadecimal = first.uid.len() == 16 && first.uid.bytes().all(|byte| byte.is_ascii_hexdigit());
    expect(hexadecimal, "a uid of 16 hexadecimal digits", &first.uid)?;
    same("the name of its policy", &"scan".to_owned(), &first.policy)?;
    for request_id in ["a", "b", ""] {
        let again = kit.ask(&name, scan(), request_id).await?;
        same("the uid when it is made again", &first.uid, &again.uid)?;
    }
    // A default that is spelled out says the same as one that is left out, or it is another field that is set.
    same("GetJob", &first, &kit.get(&name).await?)
}

pub(super) async fn other_spec(kit: &Kit) -> Verdict {
    let job = kit.create(scan()).await?;
    let other = JobSpec { total_steps: Some(700), lr_max: Some(5.0), ..scan() };
    let again = kit.ask(&job.name, other, "").await;
    let status = refused("CreateJob with another spec", again, Code::AlreadyExists, ErrorReason::JobDiffers)?;
    let fields = metadata(&status, "fields");
    let named: BTreeSet<&str> = fields.split(',').collect();
    same("the fields that differ", &BTreeSet::from(["lr_max", "total_steps"]), &named)?;
    same("the job, unchanged", &job, &kit.get(&job.name).await?)
}

pub(super) async fn violations(kit: &Kit) -> Verdict {
    let bad = JobSpec {
        total_steps: Some(0),
        lr_min: Some(1.0),
        lr_max: Some(0.5),
        fallback_lr: Some(f64::NAN),
        max_overhead: Some(7.0),
        ..search(100, Policy::Scan(ScanPolicy { lr_factor: Some(-1.0), ..ScanPolicy::default() }))
    };
    let wanted = ["total_steps", "lr_max", "fallback_lr", "max_overhead", "scan.lr_factor"];
    let wanted: BTreeSet<String> = wanted.iter().map(|field| format!("spec.{field}")).collect();
    let request = ValidateJobSpecRequest { spec: Some(bad.clone()) };
    let answer = kit.jobs().validate_job_spec(request).await?.into_inner();
    let found: BTreeSet<String> = answer.violations.iter().map(|note| note.field.clone()).collect();
    same("violations of ValidateJobSpec:", &wanted, &found)?;
    let described = answer.violations.iter().all(|note| !note.description.is_empty());
    expect(described, "a description with each", short(&answer.violations))?;
    let name = kit.name();
    let made = kit.ask(&name, bad, "").await;
    let status = refused("CreateJob with it", made, Code::InvalidArgument, ErrorReason::InvalidField)?;
    same("the fields of its BadRequest:", &wanted, &bad_fields(&status).into_iter().collect())?;
    refused("GetJob after it", kit.get(&name).await, Code::NotFound, ErrorReason::JobNotFound)?;
    let good = ValidateJobSpecRequest { spec: Some(scan()) };
    let answer = kit.jobs().validate_job_spec(good).await?.into_inner();
    expect(answer.violations.is_empty(), "no violation of a good spec", short(&answer.violations))
}

pub(super) async fn bad_names(kit: &Kit) -> Verdict {
    for name in ["", "Upper", "-begins-with-a-dash", "has space", "a/b", &"x".repeat(64)] {
        let made = kit.ask(name, constant(10), "").await;
        let what = format!("CreateJob {name:?}");
        let status = refused(&what, made, Code::InvalidArgument, ErrorReason::InvalidField)?;
        same("the fields of its BadRequest:", &vec!["name".to_owned()], &bad_fields(&status))?;
    }
    Ok(())
}

pub(super) async fn not_found(kit: &Kit) -> Verdict {
    let (name, reason) = (kit.name(), ErrorReason::JobNotFound);
    let open = OpenSessionRequest { job: name.clone(), ..OpenSessionRequest::default() };
    let report = Report { job: name.clone(), session: 1, seq: 1, ..Report::default() };
    let stage = GetStageRequest { job: name.clone(), stage: 0 };
    let status = refused("GetJob", kit.get(&name).await, Code::NotFound, reason)?;
    same("the job's name in the metadata:", &name, &metadata(&status, "job"))?;
    refused("OpenSession", kit.open(open).await, Code::NotFound, reason)?;
    refused("Advance", kit.advance(report).await, Code::NotFound, reason)?;
    refused("CancelJob", kit.cancel(&name).await, Code::NotFound, reason)?;
    refused("DeleteJob", kit.delete(&name, "").await, Code::NotFound, reason)?;
    refused("GetStage", kit.jobs().get_stage(stage).await, Code::NotFound, reason).map(drop)
}

pub(super) async fn pages(kit: &Kit) -> Verdict {
    let label = ("autolrs-conformance-page".to_owned(), kit.name());
    let mut names = Vec::new();
    for _ in 0..5 {
        let spec = JobSpec { labels: [label.clone()].into(), ..constant(10) };
        names.push(kit.create(spec).await?.name);
    }
    names.sort();
    let filters = ListJobsRequest { labels: [label].into(), page_size: 2, ..ListJobsRequest::default() };
    let listed = list(kit, filters.clone()).await?;
    same("the jobs with a label, in the order of their names:", &names, &listed)?;
    kit.cancel(&names[1]).await?;
    let states = vec![JobState::Cancelled.into()];
    let cancelled = list(kit, ListJobsRequest { states, ..filters.clone() }).await?;
    same("those of them that are cancelled:", &vec![names[1].clone()], &cancelled)?;
    let policies = vec!["scan".into()];
    let scans = list(kit, ListJobsRequest { policies, ..filters }).await?;
    same("those of them that scan:", &Vec::<String>::new(), &scans)?;
    let large = ListJobsRequest { page_size: 1001, ..ListJobsRequest::default() };
    let answer = kit.jobs().list_jobs(large).await;
    refused("a page_size of 1001", answer, Code::InvalidArgument, ErrorReason::InvalidField).map(drop)
}

/// The names that pages give, one after the other.
async fn list(kit: &Kit, mut request: ListJobsRequest) -> Verdict<Vec<String>> {
    const MOST_PAGES: usize = 100_000;
    let mut names = Vec::new();
    for _ in 0..MOST_PAGES {
        let page = kit.jobs().list_jobs(request.clone()).await?.into_inner();
        let size = page.jobs.len();
        let most = request.page_size;
        expect(size <= most as usize, format!("at most {most} jobs on a page"), size)?;
        names.extend(page.jobs.into_iter().map(|job| job.name));
        if page.next_page_token.is_empty() {
            return Ok(names);
        }
        request.page_token = page.next_page_token;
    }
    Err(Broken::new("a last page", format!("none among {MOST_PAGES}")))
}

pub(super) async fn watched(kit: &Kit) -> Verdict {
    let job = kit.create(constant(10)).await?;
    let mut stream = watch(kit, &job.name, 0).await?;
    let first = next(&mut stream).await?;
    same("the stream's first message from revision 0:", &job.revision, &first.revision)?;
    label(kit, &job.name, "1").await?;
    let changed = next(&mut stream).await?;
    let expected = format!("a revision above {} after a change", first.revision);
    expect(changed.revision > first.revision, expected, changed.revision)?;
    drop(stream);
    let mut resumed = watch(kit, &job.name, first.revision).await?;
    same("what a resumed stream begins with:", &changed.revision, &next(&mut resumed).await?.revision)?;
    let mut current = watch(kit, &job.name, changed.revision).await?;
    label(kit, &job.name, "2").await?;
    let newest = next(&mut current).await?.revision;
    let expected = format!("nothing but what is above revision {}", changed.revision);
    expect(newest > changed.revision, expected, newest)?;
    kit.delete(&job.name, &job.uid).await?;
    let end = loop {
        match next_or_end(&mut current).await? {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    let end: Result<(), Status> = Err(end);
    refused("the end of a stream whose job is deleted", end, Code::NotFound, ErrorReason::JobNotFound)
        .map(drop)
}

async fn watch(
    kit: &Kit,
    name: &str,
    from_revision: u64,
) -> Verdict<Streaming<autolrs_proto::v1::WatchJobResponse>> {
    let request = WatchJobRequest { name: name.into(), from_revision };
    Ok(kit.jobs().watch_job(request).await?.into_inner())
}

async fn next(stream: &mut Streaming<autolrs_proto::v1::WatchJobResponse>) -> Verdict<Job> {
    Ok(next_or_end(stream).await??)
}

async fn next_or_end(
    stream: &mut Streaming<autolrs_proto::v1::WatchJobResponse>,
) -> Verdict<Result<Job, Status>> {
    let message = tokio::time::timeout(SOON, stream.message()).await;
    let message = message.map_err(|_| Broken::new("a message of WatchJob", "none within 10 s"))?;
    Ok(match message {
        Ok(Some(response)) => Ok(response.job.unwrap_or_default()),
        Ok(None) => Err(Status::ok("the stream ended without an error")),
        Err(status) => Err(status),
    })
}

async fn label(kit: &Kit, name: &str, value: &str) -> Verdict<Job> {
    let labels = [("step".to_owned(), value.to_owned())].into();
    let request =
        UpdateJobRequest { name: name.into(), request_id: kit.name(), labels, ..Default::default() };
    Ok(kit.jobs().update_job(request).await?.into_inner().job.unwrap_or_default())
}

pub(super) async fn labels(kit: &Kit) -> Verdict {
    let job = kit.create(constant(10)).await?;
    let labels = |job: &Job| job.spec.as_ref().map(|spec| spec.labels.clone()).unwrap_or_default();
    let own = [(LABEL.to_owned(), kit.run.clone())];
    let updated = label(kit, &job.name, "1").await?;
    let mut wanted: std::collections::HashMap<_, _> = own.clone().into();
    wanted.insert("step".into(), "1".into());
    same("labels after one was set:", &wanted, &labels(&updated))?;
    let remove_labels = vec!["step".into(), "never-set".into()];
    let name = job.name.clone();
    let request = UpdateJobRequest { name, request_id: kit.name(), remove_labels, ..Default::default() };
    let updated = kit.jobs().update_job(request).await?.into_inner().job.unwrap_or_default();
    same("labels after it was removed:", &own.into(), &labels(&updated))?;
    let request = UpdateJobRequest { name: job.name.clone(), request_id: kit.name(), ..Default::default() };
    let nothing = kit.jobs().update_job(request).await;
    refused("UpdateJob that asks for nothing", nothing, Code::InvalidArgument, ErrorReason::InvalidField)?;
    let request = UpdateJobRequest { name: job.name, total_steps: Some(20), ..Default::default() };
    let unnamed = kit.jobs().update_job(request).await;
    refused("UpdateJob without request_id", unnamed, Code::InvalidArgument, ErrorReason::InvalidField)
        .map(drop)
}

pub(super) async fn deleted(kit: &Kit) -> Verdict {
    let job = kit.create(constant(10)).await?;
    let other = kit.delete(&job.name, "0123456789abcdef").await;
    refused("DeleteJob with another uid", other, Code::NotFound, ErrorReason::JobNotFound)?;
    kit.delete(&job.name, &job.uid).await?;
    refused("GetJob after it", kit.get(&job.name).await, Code::NotFound, ErrorReason::JobNotFound)?;
    let again = kit.ask(&job.name, constant(10), "").await?;
    expect(again.uid != job.uid, "another uid for a new job of the name", again.uid)
}
