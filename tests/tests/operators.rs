//! What operators do to jobs of the real server, with the real command line.

use autolrs_proto::v1::{
    CancelJobRequest, ConstantPolicy, DeleteJobRequest, ExportScheduleRequest, GetJobRequest,
    GetStageRequest, Job, JobState, ListJobsRequest, ListStagesRequest, PaperPolicy, Report, ScanPolicy,
    StoppedBecause, ValidateJobSpecRequest, WatchJobRequest, WatchJobResponse, job_spec::Policy,
    stopped_because::Cause,
};
use autolrs_tests::{
    server::{Server, binary},
    trainer::{Model, advance, assert_refused, bad_fields, open, piece_lrs, spec},
};
use std::{
    process::{Command, Output},
    time::Duration,
};
use tonic::Code;

fn constant() -> Policy {
    Policy::Constant(ConstantPolicy::default())
}

/// `autolrs jobs ARGS`.
async fn jobs(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("jobs").args(args).args(["--server", &server.url()]);
    tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.unwrap()
}

/// What a command printed, if it ended well.
async fn says(server: &Server, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = jobs(server, args).await;
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// What a command that was refused printed.
async fn refuses(server: &Server, args: &[&str]) -> String {
    let Output { status, stderr, .. } = jobs(server, args).await;
    assert_eq!(status.code(), Some(1), "{args:?}");
    String::from_utf8(stderr).unwrap()
}

async fn state(server: &Server, name: &str) -> JobState {
    server
        .jobs()
        .get_job(GetJobRequest { name: name.into() })
        .await
        .unwrap()
        .into_inner()
        .job
        .unwrap()
        .state()
}

#[tokio::test]
async fn a_spec_is_validated_and_nothing_is_made() {
    let server = Server::start().await;
    let mut narrow = spec(500, Policy::Scan(ScanPolicy::default()));
    narrow.lr_min = Some(1.0);
    let validate = |spec| ValidateJobSpecRequest { spec: Some(spec) };
    let said = server.jobs().validate_job_spec(validate(narrow.clone())).await.unwrap().into_inner();
    assert_eq!(said.violations, []);
    let fields: Vec<_> = said.warnings.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(fields, ["spec.total_steps", "spec.lr_max"]);
    (narrow.total_steps, narrow.lr_max) = (Some(0), Some(0.5));
    let said = server.jobs().validate_job_spec(validate(narrow)).await.unwrap().into_inner();
    let fields: Vec<_> = said.violations.iter().map(|note| note.field.as_str()).collect();
    assert_eq!((fields, said.warnings), (vec!["spec.total_steps", "spec.lr_max"], vec![]));
    assert_eq!(says(&server, &["list"]).await, "no jobs\n");
}

#[tokio::test]
async fn a_job_is_cancelled_and_then_deleted() {
    let mut server = Server::start().await;
    let opened = open(&server, "resnet50", spec(1000, constant())).await.unwrap();
    assert!(refuses(&server, &["delete", "resnet50"]).await.contains("[JOB_NOT_ENDED]"));
    assert!(says(&server, &["cancel", "resnet50"]).await.starts_with("job resnet50 is training; "));
    let report = Report { job: "resnet50".into(), session: opened.session, seq: 1, ..Report::default() };
    let number = advance(&server, report.clone()).await.unwrap().interrupt.expect("the trainer is told");
    let last = Report {
        train_losses: vec![1.0; 5],
        finished: true,
        stopped_because: Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) }),
        ..report.clone()
    };
    advance(&server, last).await.unwrap();
    assert_eq!(state(&server, "resnet50").await, JobState::Cancelled);
    let delete =
        |uid: &str| DeleteJobRequest { name: "resnet50".into(), request_id: "r".into(), uid: uid.into() };
    let refused = server.jobs().delete_job(delete("0000000000000001")).await;
    assert_refused(refused, Code::NotFound, "JOB_NOT_FOUND");
    let refused = server.jobs().delete_job(delete("x")).await;
    assert_eq!(bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")), ["uid"]);
    assert_eq!(says(&server, &["delete", "resnet50"]).await, "job resnet50 is deleted\n");
    assert!(refuses(&server, &["delete", "resnet50"]).await.contains("[JOB_NOT_FOUND]"));
    server.kill();
    server.up().await;
    assert_refused(advance(&server, report).await, Code::NotFound, "JOB_NOT_FOUND");
    assert_eq!(says(&server, &["list"]).await, "no jobs\n");
}

#[tokio::test]
async fn a_job_without_a_trainer_is_cancelled_at_once() {
    let server = Server::start().await;
    open(&server, "a", spec(1000, constant())).await.unwrap();
    let create = autolrs_proto::v1::CreateJobRequest {
        name: "b".into(),
        spec: Some(spec(1000, constant())),
        ..Default::default()
    };
    server.jobs().create_job(create).await.unwrap();
    assert_eq!(says(&server, &["cancel", "b"]).await, "job b is cancelled\n");
    let again = CancelJobRequest { name: "b".into(), request_id: "again".into() };
    server.jobs().cancel_job(again).await.expect("changes nothing");
    assert!(refuses(&server, &["finish", "b"]).await.contains("[JOB_FINISHED]"));
    assert!(refuses(&server, &["cancel", "nobody"]).await.contains("[JOB_NOT_FOUND]"));
}

#[tokio::test]
async fn a_job_is_finished_with_a_cooldown() {
    let server = Server::start().await;
    let opened = open(&server, "a", spec(1000, constant())).await.unwrap();
    let json = says(&server, &["finish", "a", "--cooldown-steps", "7", "--output", "json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((shown["name"].as_str(), shown["state"].as_str()), (Some("a"), Some("training")));
    let report = Report { job: "a".into(), session: opened.session, seq: 1, ..Report::default() };
    let number = advance(&server, report.clone()).await.unwrap().interrupt.expect("the trainer is told");
    let last = Report {
        train_losses: vec![1.0; 5],
        finished: true,
        stopped_because: Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) }),
        ..report
    };
    let cooldown = advance(&server, last).await.unwrap().directive.unwrap();
    assert_eq!(state(&server, "a").await, JobState::Cooling);
    let report = Model::default().carry_out("a", opened.session, &cooldown).unwrap();
    assert_eq!(report.train_losses.len(), 7);
    advance(&server, report).await.unwrap();
    assert_eq!(state(&server, "a").await, JobState::Finished);
    assert_eq!(says(&server, &["delete", "a"]).await, "job a is deleted\n");
}

async fn shown(server: &Server, name: &str) -> Job {
    let request = GetJobRequest { name: name.into() };
    server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap()
}

#[tokio::test]
async fn a_job_is_updated_in_flight_and_a_killed_server_remembers() {
    let mut server = Server::start().await;
    let asked = spec(1000, constant());
    let opened = open(&server, "a", asked.clone()).await.unwrap();
    let update =
        ["update", "a", "--lr", "0.02", "--total-steps", "600", "--label", "team=x", "--label", "run=1"];
    let said = says(&server, &update).await;
    assert_eq!(said, "job a is training; its trainer takes it up at its next switch point\n");
    server.kill();
    server.up().await;
    let waiting = shown(&server, "a").await;
    assert_eq!((waiting.total_steps, waiting.spec.as_ref().unwrap().total_steps), (Some(1000), Some(600)));
    let report = Report { job: "a".into(), session: opened.session, seq: 1, ..Report::default() };
    let number = advance(&server, report.clone()).await.unwrap().interrupt.expect("the trainer is told");
    let last = Report {
        train_losses: vec![1.0; 5],
        finished: true,
        stopped_because: Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) }),
        ..report
    };
    let mut directive = advance(&server, last).await.unwrap().directive;
    let mut model = Model::default();
    while let Some(report) = directive.take().and_then(|d| model.carry_out("a", opened.session, &d)) {
        directive = advance(&server, report).await.unwrap().directive;
    }
    assert!(
        model.line.len() == 595 && model.line.iter().all(|(_, lr)| *lr == 0.02),
        "{:?}",
        model.line.len()
    );
    let text = says(&server, &["show", "a"]).await + &says(&server, &["stages", "a"]).await;
    for part in [
        "labels      run=1, team=x",
        "600 of 600",
        "stage 0: LR 0.02",
        "an operator set it",
        "600 steps, not 1000",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let csv = says(&server, &["export", "a", "--output", "csv"]).await;
    let lrs: Vec<&str> = csv.lines().skip(1).map(|line| line.split_once(',').unwrap().1).collect();
    assert_eq!((lrs.len(), lrs[4], lrs[5]), (600, "5e-2", "2e-2"));
    assert_eq!(
        says(&server, &["update", "a", "--label", "run=2", "--remove-label", "team"]).await,
        "job a is updated\n"
    );
    assert_eq!(shown(&server, "a").await.spec.unwrap().labels, [("run".into(), "2".into())].into());
    assert!(refuses(&server, &["update", "a", "--lr", "0.1"]).await.contains("[JOB_FINISHED]"));
    assert_eq!(jobs(&server, &["update", "a"]).await.status.code(), Some(64), "nothing to change");
    let create = |spec| autolrs_proto::v1::CreateJobRequest {
        name: "a".into(),
        spec: Some(spec),
        ..Default::default()
    };
    server.jobs().create_job(create(asked.clone())).await.expect("the trainer's own script is not refused");
    let mut other = asked;
    other.total_steps = Some(700);
    assert_refused(server.jobs().create_job(create(other)).await, Code::AlreadyExists, "JOB_DIFFERS");
}

#[tokio::test]
async fn an_update_that_can_not_be_is_refused() {
    let server = Server::start().await;
    open(&server, "a", spec(1500, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    let refused = |args: &'static [&'static str]| refuses(&server, args);
    assert!(refused(&["update", "a", "--lr", "0.1"]).await.contains("[UPDATE_IN_SEARCH]"));
    assert!(
        refused(&["update", "a", "--total-steps", "99", "--label", "a=b"])
            .await
            .contains("[UPDATE_IN_SEARCH]")
    );
    assert_eq!(
        shown(&server, "a").await.spec.unwrap().labels.len(),
        0,
        "nothing of a refused request is done"
    );
    assert!(refused(&["update", "a", "--lr", "0"]).await.contains("[INVALID_FIELD]"));
    assert!(refused(&["update", "nobody", "--lr", "1"]).await.contains("[JOB_NOT_FOUND]"));
    open(&server, "b", spec(1000, constant())).await.unwrap();
    says(&server, &["finish", "b"]).await;
    assert!(refused(&["update", "b", "--total-steps", "2000"]).await.contains("[BUDGET_FIXED]"));
}

#[tokio::test]
async fn hundreds_of_jobs_are_filtered_a_page_at_a_time() {
    let mut server = Server::start().await;
    let mut client = server.jobs();
    for n in 0..300 {
        let mut spec = spec(1000, if n % 2 == 0 { constant() } else { Policy::Scan(ScanPolicy::default()) });
        spec.labels = [("team".to_owned(), format!("t{}", n % 3)), ("n".to_owned(), n.to_string())].into();
        let name = format!("job-{n:03}");
        let request = autolrs_proto::v1::CreateJobRequest { name, spec: Some(spec), ..Default::default() };
        client.create_job(request).await.unwrap();
    }
    for n in (0..300).step_by(5) {
        let request = CancelJobRequest { name: format!("job-{n:03}"), request_id: "c".into() };
        client.cancel_job(request).await.unwrap();
    }
    server.kill();
    server.up().await;
    let expected: Vec<String> =
        (0..300).filter(|n| n % 3 == 1 && n % 5 == 0 && n % 2 == 0).map(|n| format!("job-{n:03}")).collect();
    for page_size in [1, 7, 100, 1000] {
        let mut request = ListJobsRequest {
            page_size,
            states: vec![JobState::Cancelled.into()],
            labels: [("team".to_owned(), "t1".to_owned())].into(),
            policies: vec!["constant".into()],
            ..ListJobsRequest::default()
        };
        let mut found = Vec::new();
        loop {
            let page = server.jobs().list_jobs(request.clone()).await.unwrap().into_inner();
            assert!(page.jobs.len() <= page_size as usize);
            found.extend(page.jobs.into_iter().map(|job| job.name));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "{page_size}");
    }
    let args = ["list", "--label", "team=t1", "--state", "cancelled", "--policy", "constant"];
    let text = says(&server, &args).await;
    let names: Vec<&str> = text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, expected);
    assert_eq!(says(&server, &["list", "--label", "team=t1", "--label", "n=4"]).await.lines().count(), 2);
    assert_eq!(says(&server, &["list", "--label", "team=t2", "--label", "n=4"]).await, "no jobs\n");
}

/// Runs a job of the real server to its end with the test's own trainer.
async fn run(server: &Server, name: &str, policy: Policy) -> Model {
    let opened = open(server, name, spec(1500, policy)).await.unwrap();
    let (mut model, mut directive) = (Model::default(), opened.directive.unwrap());
    while let Some(report) = model.carry_out(name, opened.session, &directive) {
        directive = advance(server, report).await.unwrap().directive.expect("the next directive");
    }
    model
}

#[tokio::test]
async fn stages_are_listed_a_page_at_a_time() {
    let server = Server::start().await;
    let options =
        PaperPolicy { tau: Some(100), tau_max: Some(200), candidates: Some(3), ..PaperPolicy::default() };
    run(&server, "a", Policy::Paper(options)).await;
    let mut request = ListStagesRequest { job: "a".into(), page_size: 2, page_token: String::new() };
    let (mut stages, mut pages) = (Vec::new(), 0);
    loop {
        let page = server.jobs().list_stages(request.clone()).await.unwrap().into_inner();
        assert!(page.stages.len() <= 2);
        (pages, request.page_token) = (pages + 1, page.next_page_token);
        stages.extend(page.stages);
        if request.page_token.is_empty() {
            break;
        }
    }
    assert!(pages > 2 && stages.len() >= 2 * pages - 1, "{} stages on {pages} pages", stages.len());
    for (number, stage) in (0..).zip(&stages) {
        let request = GetStageRequest { job: "a".into(), stage: number };
        assert_eq!(server.jobs().get_stage(request).await.unwrap().into_inner().stage.as_ref(), Some(stage));
    }
    let refused = server.jobs().list_stages(ListStagesRequest { page_token: "x".into(), ..request }).await;
    assert_eq!(bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")), ["page_token"]);
    let text = says(&server, &["stages", "a"]).await;
    assert!(text.starts_with("stage 0: LR ") && text.contains("TRIAL"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&says(&server, &["stages", "a", "--output", "json"]).await).unwrap();
    assert_eq!(json["stages"].as_array().unwrap().len(), stages.len());
}

#[tokio::test]
async fn a_schedule_is_exported_without_its_search() {
    let mut server = Server::start().await;
    let model = run(&server, "a", Policy::Scan(ScanPolicy::default())).await;
    server.kill();
    server.up().await;
    let job =
        server.jobs().get_job(GetJobRequest { name: "a".into() }).await.unwrap().into_inner().job.unwrap();
    let steps = job.steps.unwrap();
    assert!(steps.search > 0 && steps.lost == 0);
    let ran: Vec<f64> = model.line.iter().skip(steps.search as usize).map(|(_, lr)| *lr).collect();
    let export = ExportScheduleRequest { job: "a".into(), ..ExportScheduleRequest::default() };
    let schedule = server.jobs().export_schedule(export).await.unwrap().into_inner().schedule.unwrap();
    assert_eq!((schedule.steps, schedule.state()), (steps.committed, JobState::Finished));
    assert_eq!(schedule.pieces.iter().flat_map(piece_lrs).collect::<Vec<_>>(), ran);
    assert!(schedule.pieces.len() <= 3, "warm-up, stable, cooldown: {:?}", schedule.pieces);
    let csv = says(&server, &["export", "a", "--output", "csv"]).await;
    let table: Vec<f64> =
        csv.lines().skip(1).map(|l| l.split_once(',').unwrap().1.parse().unwrap()).collect();
    assert_eq!(table, ran);
    let json: serde_json::Value = serde_json::from_str(&says(&server, &["export", "a"]).await).unwrap();
    assert_eq!(
        (json["format"].as_str(), json["steps"].as_u64()),
        (Some("autolrs.schedule.v1"), Some(steps.committed))
    );
    assert_eq!(json["pieces"].as_array().unwrap().len(), schedule.pieces.len());
}

/// The next job that a watcher sees, within 10 s.
async fn next(stream: &mut tonic::Streaming<WatchJobResponse>) -> Job {
    let message = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    message.expect("pushed, not polled").unwrap().unwrap().job.unwrap()
}

#[tokio::test]
async fn a_watcher_hears_of_every_change_and_resumes() {
    let server = Server::start().await;
    let watch = |from_revision| WatchJobRequest { name: "resnet50".into(), from_revision };
    assert_refused(server.jobs().watch_job(watch(0)).await, Code::NotFound, "JOB_NOT_FOUND");
    let opened = open(&server, "resnet50", spec(1000, constant())).await.unwrap();
    let mut stream = server.jobs().watch_job(watch(0)).await.unwrap().into_inner();
    let first = next(&mut stream).await;
    assert_eq!((first.state(), first.train_loss), (JobState::Training, None));
    let report = Report { job: "resnet50".into(), session: opened.session, seq: 1, ..Report::default() };
    advance(&server, Report { train_losses: vec![2.0; 5], ..report.clone() }).await.unwrap();
    let second = next(&mut stream).await;
    assert_eq!((second.train_loss, second.revision), (Some(2.0), first.revision));
    let mut resumed = server.jobs().watch_job(watch(first.revision)).await.unwrap().into_inner();
    let silent = tokio::time::timeout(Duration::from_millis(500), resumed.message()).await;
    assert!(silent.is_err(), "nothing is new: {silent:?}");
    assert!(says(&server, &["cancel", "resnet50"]).await.contains("training"));
    for stream in [&mut stream, &mut resumed] {
        assert!(next(stream).await.revision > first.revision);
    }
    let number = advance(&server, report.clone()).await.unwrap().interrupt.unwrap();
    let cause = Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) });
    let last = Report { first_offset: 5, finished: true, stopped_because: cause, ..report };
    advance(&server, last).await.unwrap();
    assert_eq!(next(&mut stream).await.state(), JobState::Cancelled);
    assert_eq!(says(&server, &["delete", "resnet50"]).await, "job resnet50 is deleted\n");
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap();
    assert_refused(ended, Code::NotFound, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn watching_on_the_command_line_outlives_the_server() {
    let mut server = Server::start().await;
    let opened = open(&server, "a", spec(1000, constant())).await.unwrap();
    let mut command = Command::new(binary());
    command.args(["jobs", "watch", "a", "--server", &server.url()]).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().starts_with("training  stable, stage 0  step 0 of 1000"));
    server.kill();
    server.up().await;
    let (mut model, mut directive) = (Model::default(), opened.directive);
    while let Some(report) = directive.take().and_then(|d| model.carry_out("a", opened.session, &d)) {
        directive = advance(&server, report).await.unwrap().directive;
    }
    let seen: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(seen.last().unwrap().starts_with("finished  step 1000 of 1000"), "{seen:?}");
    assert!(child.wait().unwrap().success());
}
