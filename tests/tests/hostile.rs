//! Hostile clients over real sockets: whatever they send, it is refused in words or the connection ends; the memory of the
//! server stays bounded, and another job is trained meanwhile as on a quiet server.

use autolrs_proto::v1::{
    AdvanceRequest, Capabilities, ConstantPolicy, CreateJobRequest, GetJobRequest, Holder, JobSpec,
    ListJobsRequest, LrPiece, OpenSessionRequest, ReplayPolicy, Report, Resume, StepPolicy, TrainRequest,
    Validation, WatchJobRequest, job_service_client::JobServiceClient, job_spec::Policy,
    trainer_service_client::TrainerServiceClient,
};
use autolrs_tests::{
    bystander,
    server::{Server, binary},
    trainer::{advance, assert_refused, bad_fields, lrs, open, reason, spec},
};
use std::{process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// More than the memory of a quiet server varies by, in KiB.
const NOISE: u64 = 48 << 10;

fn constant() -> Policy {
    Policy::Constant(ConstantPolicy::default())
}

/// A server, the line of a job on it while it is quiet, and its memory then.
async fn quiet() -> (Server, bystander::Line, u64) {
    let server = Server::start().await;
    let line = bystander::train(&server, "quiet").await;
    let memory = server.memory_kib();
    (server, line, memory)
}

fn assert_memory(server: &Server, before: u64, most: u64) {
    let now = server.memory_kib();
    assert!(now < before + most, "{before} KiB before, {now} KiB now: more than {most} KiB on top");
}

async fn create(server: &Server, request: CreateJobRequest) -> Result<(), tonic::Status> {
    server.jobs().create_job(request).await.map(drop)
}

#[tokio::test]
async fn messages_that_are_too_large_or_no_messages() {
    let (server, line, memory) = quiet().await;
    let opened = open(&server, "a", spec(1000, constant())).await.unwrap();
    let report = Report { job: "a".into(), session: opened.session, seq: 1, ..Report::default() };
    for _ in 0..8 {
        let million = Report { train_losses: vec![1.0; 1_000_000], ..report.clone() };
        let refused = advance(&server, million).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
        assert!(refused.message().contains("the limit is: 4194304 bytes"), "{refused:?}");
        assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");
        let half = Report { train_losses: vec![1.0; 500_000], ..report.clone() };
        let refused = advance(&server, half).await;
        let fields = bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(fields, ["report.train_losses"], "the directive is shorter");
    }
    for body in
        [&b"\0\xff\xff\xff\xff"[..], b"\0\0\0\0\x04\xff\xff\xff\xff", b"\x01\0\0\0\x01x", b"\0\0", b""]
    {
        let code = raw(&server, "TrainerService/Advance", &[body]).await;
        assert_ne!(code.as_deref(), Some("0"), "{body:?}");
    }
    assert_eq!(raw(&server, "TrainerService/Nothing", &[b""]).await.as_deref(), Some("12"), "UNIMPLEMENTED");
    assert_eq!(bystander::train(&server, "bystander").await, line);
    assert_memory(&server, memory, NOISE);
}

/// A request whose body is any bytes; the `grpc-status` of the answer, if there is one.
async fn raw(server: &Server, method: &str, parts: &[&[u8]]) -> Option<String> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/autolrs.v1.{method}", server.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    for part in parts {
        body.send_data(part.to_vec().into(), false).unwrap();
    }
    body.send_data(Vec::new().into(), true).unwrap();
    let answer = answer.await.ok()?;
    let text = |headers: &http::HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.to_owned());
    if let Some(status) = text(answer.headers()) {
        return Some(status);
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        data.ok()?;
    }
    let status = body.trailers().await.ok()?.as_ref().and_then(text);
    connection.abort();
    status
}

#[tokio::test]
async fn garbage_and_malformed_frames_on_both_ports() {
    let (server, line, memory) = quiet().await;
    let frame = |length: u32, kind: u8, flags: u8, stream: u32, body: &[u8]| {
        [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    };
    let whole = |kind, flags, stream, body: &[u8]| frame(body.len() as u32, kind, flags, stream, body);
    let greeted = |frames: Vec<u8>| [PREFACE, &whole(4, 0, 0, &[]), &frames].concat();
    let mut attacks: Vec<Vec<u8>> = (0..24).map(|seed| random(seed, 4096)).collect();
    attacks.extend([
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        [b"GET /metrics HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(20_000)].concat(),
        [b"POST /livez HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(), random(7, 999)]
            .concat(),
        // The beginning of a TLS handshake.
        [b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), random(8, 512)].concat(),
        PREFACE[..20].to_vec(),
        [PREFACE, &random(9, 4096)].concat(),
        // A frame of 16 MiB; settings of an odd length; headers and data on stream 0; a window that overflows.
        greeted(frame(0xff_ffff, 0, 0, 1, &random(10, 65_536))),
        greeted(whole(4, 0, 0, &[1; 5])),
        greeted(whole(1, 4, 0, &random(11, 64))),
        greeted(whole(0, 1, 0, &[0; 9])),
        greeted(whole(8, 0, 0, &0x7fff_ffffu32.to_be_bytes())),
        // Header blocks that never end, pings, settings, resets of streams just opened, priorities of a stream by itself.
        greeted([whole(1, 0, 1, &[0x82]), whole(9, 0, 1, &[0; 4096]).repeat(400)].concat()),
        greeted(whole(6, 0, 0, &[1; 8]).repeat(50_000)),
        greeted(whole(4, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(20_000)),
        greeted(
            (0..20_000)
                .flat_map(|i| {
                    [whole(1, 5, 2 * i + 1, &[0x82, 0x86, 0x84]), whole(3, 0, 2 * i + 1, &[0, 0, 0, 8])]
                        .concat()
                })
                .collect(),
        ),
        greeted(whole(2, 0, 1, &[0, 0, 0, 1, 9]).repeat(1000)),
    ]);
    let mut attackers = tokio::task::JoinSet::new();
    for (i, attack) in attacks.into_iter().enumerate() {
        for address in [server.address, server.http] {
            let attack = attack.clone();
            attackers.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // The server may close before all is written.
                let written = stream.write_all(&attack).await;
                let mut answer = vec![0; 4096];
                while let Ok(Ok(n)) =
                    tokio::time::timeout(Duration::from_millis(300), stream.read(&mut answer)).await
                {
                    if n == 0 {
                        break;
                    }
                }
                (i, written.is_ok())
            });
        }
    }
    let (met, met_line) = tokio::join!(attackers.join_all(), bystander::train(&server, "bystander"));
    assert!(met.len() > 70 && met_line == line);
    assert_eq!(server.probe("/livez").await.1, "ok\n");
    assert_memory(&server, memory, NOISE);
}

/// SplitMix64 (Steele, Lea, Flood 2014), as bytes.
fn random(seed: u64, n: usize) -> Vec<u8> {
    let word = |i: u64| {
        let x = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) as u8
    };
    (0..n as u64).map(word).collect()
}

#[tokio::test]
async fn readers_that_never_read() {
    let (server, line, memory) = quiet().await;
    let opened = open(&server, "a", spec(1_000_000, constant())).await.unwrap();
    let report = Report { job: "a".into(), session: opened.session, seq: 1, ..Report::default() };
    // Room for a few answers, and nobody takes them.
    let narrow = || {
        let endpoint = tonic::transport::Endpoint::from_shared(server.url()).unwrap();
        endpoint.initial_stream_window_size(1024).connect_lazy()
    };
    let mut streams = Vec::new();
    for _ in 0..64 {
        let one = TrainRequest { report: Some(report.clone()) };
        let endless = tokio_stream::iter(std::iter::repeat_n(one, 200_000));
        streams.push(TrainerServiceClient::new(narrow()).train(endless).await.unwrap());
    }
    let mut watched = Vec::new();
    for _ in 0..64 {
        let request = WatchJobRequest { name: "a".into(), from_revision: 0 };
        watched.push(JobServiceClient::new(narrow()).watch_job(request).await.unwrap());
    }
    assert_eq!(bystander::train(&server, "bystander").await, line);
    assert_eq!(advance(&server, report).await.unwrap().seq, 1, "the job itself answers");
    assert_memory(&server, memory, NOISE);
}

#[tokio::test]
async fn writers_that_hardly_write() {
    let (server, line, memory) = quiet().await;
    let stream = async || {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        drop(tokio::spawn(connection));
        client
    };
    let mut bodies = Vec::new();
    for _ in 0..8 {
        let mut client = stream().await;
        for method in ["TrainerService/Advance", "JobService/CreateJob"].repeat(40) {
            client = client.ready().await.unwrap();
            let request = http::Request::post(format!("http://{}/autolrs.v1.{method}", server.address))
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let (answer, body) = client.send_request(request, false).unwrap();
            bodies.push((client.clone(), answer, body));
        }
    }
    // A message of 4 MB is announced; of its bytes, one comes at a time.
    let announced = [&[0][..], &4_000_000u32.to_be_bytes(), b"\n"].concat();
    for byte in announced {
        for (_, _, body) in &mut bodies {
            body.send_data(vec![byte].into(), false).unwrap();
        }
    }
    assert_eq!(bystander::train(&server, "bystander").await, line);
    assert_memory(&server, memory, NOISE);
    drop(bodies);
}

#[tokio::test]
async fn a_writer_that_hardly_writes_loses_its_place() {
    let server = Server::start_with(&["--request-timeout", "1s", "--max-requests", "1"]).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    drop(tokio::spawn(connection));
    let request = http::Request::post(format!("http://{}/autolrs.v1.TrainerService/Advance", server.address))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(vec![0].into(), false).unwrap();
    let answer =
        tokio::time::timeout(Duration::from_secs(60), answer).await.expect("it is given up").unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
    let get = server.jobs().get_job(GetJobRequest { name: "nobody".into() }).await;
    assert_refused(get, Code::NotFound, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn names_labels_and_identifiers_that_nobody_means() {
    let (server, line, memory) = quiet().await;
    let strange =
        ["../../etc/passwd", "a\0b", "\u{1b}[2J", "\u{202e}txt.exe", " ", "a\nb", "ａ", "%2e%2e", ".."];
    let long = ["a".repeat(64), "\u{202e}".repeat(100_000), "x".repeat(4_000_000)];
    for name in strange.into_iter().chain(long.iter().map(String::as_str)) {
        let request =
            CreateJobRequest { name: name.into(), spec: Some(spec(1000, constant())), ..Default::default() };
        let fields = bad_fields(&assert_refused(
            create(&server, request).await,
            Code::InvalidArgument,
            "INVALID_FIELD",
        ));
        assert_eq!(fields, ["name"]);
        let get = server.jobs().get_job(GetJobRequest { name: name.into() }).await;
        assert_refused(get, Code::InvalidArgument, "INVALID_FIELD");
        let report = Report { job: name.into(), session: 1, seq: 1, ..Report::default() };
        assert_refused(advance(&server, report).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    let labelled = |labels: Vec<(String, String)>| CreateJobRequest {
        name: "labelled".into(),
        spec: Some(JobSpec { labels: labels.into_iter().collect(), ..spec(1000, constant()) }),
        ..CreateJobRequest::default()
    };
    for labels in [
        vec![("k".to_owned(), "x".repeat(257))],
        vec![(String::new(), "x".to_owned())],
        (0..50_000).map(|i| (format!("k{i}"), "v".to_owned())).collect(),
    ] {
        let refused = create(&server, labelled(labels)).await;
        assert_eq!(
            bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")),
            ["spec.labels"]
        );
    }
    // What a label may hold is stored as it is, and shown without its power over a terminal.
    let labels =
        strange.iter().enumerate().map(|(i, text)| (format!("{i}{text}"), (*text).to_owned())).collect();
    create(&server, labelled(labels)).await.unwrap();
    let holder = Some(Holder { host: "\u{1b}]0;x\u{7}\u{202e}".into(), pid: u32::MAX });
    let open =
        OpenSessionRequest { job: "labelled".into(), holder, nonce: "\0".into(), ..Default::default() };
    server.trainer().open_session(open.clone()).await.unwrap();
    for wrong in [
        OpenSessionRequest { nonce: "n".repeat(100_000), ..open.clone() },
        OpenSessionRequest { holder: Some(Holder { host: "h".repeat(100_000), pid: 0 }), ..open.clone() },
        OpenSessionRequest {
            resume: Some(Resume { uid: "\u{202e}".repeat(9000), ..Resume::default() }),
            ..open.clone()
        },
        OpenSessionRequest {
            resume: Some(Resume { slots: vec![99; 500_000], ..Resume::default() }),
            ..open.clone()
        },
    ] {
        assert_refused(server.trainer().open_session(wrong).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    for output in [
        &["jobs", "show", "labelled"][..],
        &["jobs", "list"],
        &["jobs", "show", "labelled", "--output", "json"],
    ] {
        let shown = Command::new(binary()).args(output).args(["--server", &server.url()]).output().unwrap();
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.status.success() && text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(output.contains(&"json") || !text.contains('\u{202e}'), "{text:?}");
    }
    assert_eq!(bystander::train(&server, "bystander").await, line);
    assert_memory(&server, memory, NOISE);
}

#[tokio::test]
async fn numbers_and_lists_that_nobody_means() {
    let (server, line, memory) = quiet().await;
    let opened = open(&server, "a", spec(1000, constant())).await.unwrap();
    let directive = opened.directive.unwrap();
    let steps = lrs(&directive).len() as u64;
    let report = Report { job: "a".into(), session: opened.session, seq: directive.seq, ..Report::default() };
    let sent = |change: &dyn Fn(&mut Report)| {
        let mut report = report.clone();
        change(&mut report);
        advance(&server, report)
    };
    let refused = sent(&|report| report.session = 0).await;
    assert_eq!(
        bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")),
        ["report.session"]
    );
    let refused = sent(&|report| report.session = u64::MAX).await;
    assert_refused(refused, Code::FailedPrecondition, "UNKNOWN_DIRECTIVE");
    for seq in [u64::MAX, u64::MAX - 1, 1 << 63] {
        assert_refused(sent(&|report| report.seq = seq).await, Code::FailedPrecondition, "UNKNOWN_DIRECTIVE");
    }
    for offset in [steps + 1, u64::MAX, u64::MAX - 1, 1 << 63] {
        // A gap, or losses past the end: nothing changes.
        let far = sent(&|report| (report.first_offset, report.train_losses) = (offset, vec![1.0; 3])).await;
        assert!(
            far.as_ref().map_or_else(|e| reason(e) == "INVALID_FIELD", |ack| ack.received_through == 0),
            "{far:?}"
        );
        let validation = Validation { offset, loss: 1.0 };
        let far = sent(&|report| report.validations = vec![validation]).await;
        assert_refused(far, Code::InvalidArgument, "INVALID_FIELD");
    }
    let many =
        sent(&|report| report.validations = vec![Validation { offset: 1, loss: f64::NAN }; 150_000]).await;
    assert!(
        many.as_ref().map_or_else(|e| reason(e) == "INVALID_FIELD", |ack| ack.received_through == 0),
        "{many:?}"
    );
    let resume = Resume { uid: opened.uid.clone(), seq: u64::MAX, offset: u64::MAX, slots: vec![1; 500_000] };
    let capabilities = Some(Capabilities { replay: true, validate: true });
    let open = OpenSessionRequest {
        job: "a".into(),
        resume: Some(resume),
        capabilities,
        takeover: true,
        ..Default::default()
    };
    assert_refused(
        server.trainer().open_session(open).await,
        Code::FailedPrecondition,
        "CHECKPOINT_MISMATCH",
    );
    let states = ListJobsRequest { states: vec![-1; 400_000], ..ListJobsRequest::default() };
    let refused =
        assert_refused(server.jobs().list_jobs(states).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(refused.message().len() < 1024);
    let piece = LrPiece { steps: u64::MAX, start: f64::NAN, ..LrPiece::default() };
    for policy in [
        Policy::Replay(ReplayPolicy { pieces: vec![piece; 100_000] }),
        Policy::Step(StepPolicy { milestones: vec![u64::MAX; 300_000], ..StepPolicy::default() }),
    ] {
        let request =
            CreateJobRequest { name: "b".into(), spec: Some(spec(u64::MAX, policy)), ..Default::default() };
        assert_refused(create(&server, request).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    let whole = Report { train_losses: vec![1.0; steps as usize], finished: true, ..report.clone() };
    let request = AdvanceRequest { report: Some(whole) };
    let ack = server.trainer().advance(request).await.unwrap().into_inner().ack.unwrap();
    assert_eq!((ack.durable_seq, ack.received_through), (directive.seq, steps), "the job is as it was");
    assert_eq!(bystander::train(&server, "bystander").await, line);
    assert_memory(&server, memory, NOISE);
}
