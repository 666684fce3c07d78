//! The corpus that is made, not found: messages, records and files of jobs that are really run.

use crate::{
    common::{self, Desk, Trainer, given, open, run_job},
    wire,
};
use autolrs_client::session::Machine;
use autolrs_core::{
    job::Row,
    schedule::{About, Schedule},
    spec::{CosineOptions, PolicySpec, ResolvedSpec},
};
use autolrs_proto::v1 as pb;
use autolrs_server::store::codec::{self, Kind};
use autolrs_tests::trainer::Model;

/// A file: its target, its name and its content.
pub type File = (&'static str, String, Vec<u8>);

/// Every file.
pub fn files() -> Vec<File> {
    let mut files = Vec::new();
    requests(&mut files);
    for (name, spec) in jobs() {
        records(&mut files, name, spec);
    }
    sessions(&mut files);
    settings(&mut files);
    specs(&mut files);
    events(&mut files);
    files
}

fn jobs() -> [(&'static str, ResolvedSpec); 4] {
    let cosine = PolicySpec::Cosine(CosineOptions { warmup_steps: Some(10), ..CosineOptions::default() });
    [
        ("scan", given::scan(900)),
        ("paper", given::paper(400, 50)),
        ("staged", given::staged(900, 60)),
        ("cosine", common::spec(120, cosine)),
    ]
}

/// Whole trainings, and what operators ask.
fn requests(files: &mut Vec<File>) {
    for (name, policy) in [
        ("scan", pb::job_spec::Policy::Scan(pb::ScanPolicy::default())),
        (
            "paper",
            pb::job_spec::Policy::Paper(pb::PaperPolicy {
                tau: Some(40),
                tau_max: Some(80),
                candidates: Some(3),
                ..pb::PaperPolicy::default()
            }),
        ),
        ("cosine", pb::job_spec::Policy::Cosine(pb::CosinePolicy::default())),
    ] {
        files.push(("wire", format!("training-{name}"), wire::training(policy, &mut Model::default())));
    }
    files.push(("wire", "operators".into(), operators()));
    files.push(("wire", "hostile".into(), hostile()));
}

fn operators() -> Vec<u8> {
    let name = || wire::JOB.to_owned();
    let request_id = || "r".to_owned();
    let labels = [("team".to_owned(), "x".to_owned())];
    let update = pb::UpdateJobRequest {
        name: name(),
        request_id: "u".into(),
        lr_override: Some(0.1),
        labels: labels.into(),
        remove_labels: vec!["y".into()],
        ..pb::UpdateJobRequest::default()
    };
    let list = pb::ListJobsRequest {
        page_size: 3,
        states: vec![2, 3],
        policies: vec!["scan".into()],
        page_token: "161".into(),
        ..pb::ListJobsRequest::default()
    };
    let resume = pb::Resume { uid: "00000000000000ff".into(), seq: 1, offset: 3, slots: vec![1, 2] };
    let open = pb::OpenSessionRequest {
        job: name(),
        resume: Some(resume),
        nonce: "n".into(),
        capabilities: Some(pb::Capabilities { replay: true, validate: true }),
        holder: Some(pb::Holder { host: "node".into(), pid: 7 }),
        ..pb::OpenSessionRequest::default()
    };
    let restart = pb::OpenSessionRequest {
        job: name(),
        restart: true,
        takeover: true,
        spec: Some(wire::spec()),
        ..pb::OpenSessionRequest::default()
    };
    [
        wire::request(3, &pb::ValidateJobSpecRequest { spec: Some(wire::spec()) }),
        wire::request(4, &pb::GetJobRequest { name: name() }),
        wire::request(5, &list),
        wire::request(6, &update),
        wire::request(1, &open),
        wire::request(1, &restart),
        wire::request(10, &pb::GetStageRequest { job: name(), stage: 0 }),
        wire::request(11, &pb::ListStagesRequest { job: name(), ..pb::ListStagesRequest::default() }),
        wire::request(12, &pb::ExportScheduleRequest { job: name(), losses: true, ..Default::default() }),
        wire::request(
            8,
            &pb::FinishJobRequest { name: name(), request_id: request_id(), cooldown_steps: Some(5) },
        ),
        wire::request(7, &pb::CancelJobRequest { name: name(), request_id: request_id() }),
        wire::request(
            9,
            &pb::DeleteJobRequest { name: name(), request_id: request_id(), uid: String::new() },
        ),
    ]
    .concat()
}

/// Numbers and text that nobody means.
fn hostile() -> Vec<u8> {
    let report = pb::Report { job: wire::JOB.into(), session: 1, seq: 1, ..pb::Report::default() };
    let far = pb::Report {
        first_offset: u64::MAX,
        train_losses: vec![f64::NAN; 9],
        validations: vec![pb::Validation { offset: u64::MAX, loss: f64::INFINITY }],
        finished: true,
        at_rung: true,
        ..report.clone()
    };
    let of_nobody = pb::Report { session: u64::MAX, seq: u64::MAX, ..report };
    let name = "../\u{202e}\0".to_owned();
    let advance = |report| wire::request(0, &pb::AdvanceRequest { report: Some(report) });
    let states = pb::ListJobsRequest { states: (100..700).collect(), ..pb::ListJobsRequest::default() };
    [
        advance(far),
        advance(of_nobody),
        wire::request(4, &pb::GetJobRequest { name: name.clone() }),
        wire::request(4, &pb::GetJobRequest { name: "\u{202e}".repeat(2000) }),
        wire::request(9, &pb::DeleteJobRequest { name, request_id: "x".repeat(999), uid: "y".repeat(999) }),
        wire::request(5, &states),
    ]
    .concat()
}

/// The job at several places of its life, its rows, and its schedule.
fn records(files: &mut Vec<File>, name: &'static str, spec: ResolvedSpec) {
    let mut desk = Desk::new(spec);
    let (mut loss, mut n) = (falling, 0usize);
    let mut push = |what: &str, kind: u8, record: Vec<u8>| {
        files.push(("records", format!("{name}-{what}"), [&[kind, 1][..], &record].concat()));
    };
    push("created", 0, encoded(Kind::Snapshot, &desk.job));
    let opened = desk.open(open()).expect("a session");
    push("opened", 0, encoded(Kind::Snapshot, &desk.job));
    let mut half = desk.clone();
    let mut trainer = Trainer::default();
    let mut directive = opened.directive;
    while let Ok(report) = trainer.run(&directive, 1, 1, &mut |state, lr| loss(state, lr)) {
        directive = half.report(report).expect("an answer").directive.expect("what follows");
        n += 1;
        if n == 4 {
            push("under-way", 0, encoded(Kind::Snapshot, &half.job));
        }
    }
    push("ended", 0, encoded(Kind::Snapshot, &half.job));
    for row in &half.rows {
        match row {
            Row::Directive(record) if record.directive.seq <= 2 => {
                push("directive", 1, encoded(Kind::Directive, &**record));
            }
            Row::Checkpoint(checkpoint) if checkpoint.seq() <= 4 => {
                push("checkpoint", 2, encoded(Kind::Checkpoint, &**checkpoint));
            }
            Row::Trial(note) if note.trial == 0 => push("trial", 3, encoded(Kind::Trial, note)),
            Row::Commit(note) if note.stage == 0 => push("commit", 4, encoded(Kind::Commit, note)),
            Row::StageEnd(note) if note.stage == 0 => push("stage-end", 5, encoded(Kind::StageEnd, note)),
            _ => {}
        }
    }
    let mut whole = Desk::new(half.job.spec().clone());
    run_job(&mut whole, &mut Trainer::default(), &mut loss);
    let mut line = whole.job.kept_line();
    while let Some(seq) = line.wants() {
        line.add(&whole.directives[&seq]);
    }
    let about = About { job: name.into(), policy: name.into(), state: "finished".into(), ..About::default() };
    let schedule = Schedule::new(about, line.finish()).expect("a schedule");
    files.push(("schedules", format!("{name}.json"), schedule.to_json().into_bytes()));
    let table: String = schedule.csv_lines().take(40).map(|line| line + "\n").collect();
    files.push(("schedules", format!("{name}.csv"), table.into_bytes()));
}

fn encoded<T: serde::Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    codec::encode(kind, value).expect("encodes")
}

fn falling(state: f64, lr: f64) -> f64 {
    0.3 + 2.0 / (1.0 + state) + 0.01 * lr
}

/// A session's state in a trainer's checkpoint, alone and with a server.
fn sessions(files: &mut Vec<File>) {
    let mut alone = Machine::alone("digits", autolrs_client::Budget::Known(30), 0.1);
    for (name, spec) in jobs() {
        let opened = Desk::new(spec).open(open()).expect("a session");
        let mut machine = Machine::open(name, 0.1, opened);
        for machine in [&mut machine, &mut alone] {
            machine.record(1.0);
            machine.record(0.9);
        }
        let state = machine.export().expect("every loss was delivered");
        files.push(("records", format!("{name}-session"), [&[6, 1][..], &state].concat()));
    }
    let state = alone.export().expect("every loss was delivered");
    files.push(("records", "alone-session".into(), [&[6, 0][..], &state].concat()));
    files.push(("records", "listed".into(), [&[7, 0][..], b"ALRS nothing of ours"].concat()));
}

fn settings(files: &mut Vec<File>) {
    let texts = [
        ("defaults", ""),
        (
            "file",
            "listen = \"127.0.0.1:0\"\nidle = \"5s\"\nlog_level = \"info,autolrs_server=debug\"\ninsecure = true\n",
        ),
        (
            "wrong",
            "lisen = 1\nmailbox = -1\n[limits]\nx = [1, 2]\n\0AUTOLRS_IDLE=soon\0AUTOLRS_X=1\0listen=[::]:1\0",
        ),
        (
            "mixed",
            "drain = \"1s\"\n\0AUTOLRS_DRAIN=2s\0drain=3s\0AUTOLRS_SERVICE_HOST=x\0http_listen=off\0max_message=64KiB\0",
        ),
    ];
    files.extend(texts.map(|(name, text)| ("config", name.to_owned(), text.as_bytes().to_vec())));
}

fn specs(files: &mut Vec<File>) {
    const BASE: &str = "total_steps = 1000\nfallback_lr = 0.1\nlr_min = 0.001\nlr_max = 1\n";
    let mut push = |name: &str, kind: u8, text: &str| {
        files.push(("specs", name.to_owned(), [&[kind], text.as_bytes()].concat()));
    };
    for (name, more) in [
        ("scan", "[scan]\nlr_factor = 0.3\nrms_decay = 0.99\n"),
        ("paper", "[paper]\ntau = 50\nforecaster = \"mixture\"\nobjective = \"validation\"\n"),
        ("staged", "seed = 3\nmax_overhead = 0.2\n[staged]\ntau = 60\n"),
        ("cosine", "guard = false\nloss_unbounded = true\n[cosine]\nwarmup_steps = 3\n"),
        ("wsd", "loss_lower_bound = -1\nswitch_every = 8\n[wsd]\n"),
        ("step", "[step]\nmilestones = [3, 40]\n[labels]\nteam = \"vision\"\n"),
        ("one_cycle", "[one_cycle]\n"),
        ("clr", "[clr]\nstep_size = 7\n"),
        ("sgdr", "[sgdr]\nt0 = 5\n"),
        ("constant", "[constant]\n"),
    ] {
        push(&format!("{name}.toml"), 0, &format!("{BASE}{more}"));
    }
    push(
        "open.toml",
        0,
        "fallback_lr = 0.1\nlr_min = 0.001\nlr_max = 1\n[open_budget]\nexpected_steps = 5000\n",
    );
    push(
        "wrong.toml",
        0,
        "total_steps = 0\nlr_mx = nan\npolicy = \"x\"\n[scan]\nlr_factor = 1e300\n[paper]\n",
    );
    push("curves.csv", 1, "lr,step,loss\n0.1,0,2.3\n0.1,1,nan\n1e-3,0,inf\n");
    push("curves.json", 2, r#"{"curves": [{"lr": 0.1, "every": 10, "losses": [2.3, 2.1, null]}]}"#);
}

/// A job of each policy that is trained to its end, one whose losses break, and one with everything.
fn events(files: &mut Vec<File>) {
    const TRAIN: u8 = 0;
    const TO_RUNG: u8 = 9;
    const NAN: u8 = 176;
    for policy in 0..16u8 {
        let steps: Vec<u8> = (0..40).flat_map(|n| [TRAIN, 60 - n]).collect();
        files.push(("job", format!("whole-{policy:02}"), [&[policy, 200][..], &steps].concat()));
        let broken: Vec<u8> = (0..30u8).flat_map(|n| [TRAIN, if n % 3 == 1 { NAN } else { 40 }]).collect();
        files.push(("job", format!("broken-{policy:02}"), [&[policy, 240][..], &broken].concat()));
    }
    // A rung, a raw report, a takeover, a rewind, an update, a restart of the server, an early end, a cancellation.
    let everything = [
        &[15, 200, TRAIN, 30, TO_RUNG, 30, TRAIN, 20][..],
        &[13, 0, 0, 0, 3, 10, 11, 12, 0, 0, 0],
        &[17, 1, 0, 1, 0, TRAIN, 30, 18, 255, 0, 1, 0, 0],
        &[TRAIN, 30, TRAIN, 20, 22, 1, 10, 1, 30, 23, TRAIN, 20, 20, 1, 40, TRAIN, 20, 21, 0],
    ];
    files.push(("job", "everything".into(), everything.concat()));
}
