//! What the server says of itself while a job runs from its first session to its end: metrics and log lines.

mod harness;

use autolrs_proto::v1::{AdvanceRequest, CancelJobRequest, Report};
use autolrs_server::telemetry::table::{Kind, Metric, TABLE};
use harness::{STEPS, Server, losses};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
};

async fn metrics(address: SocketAddr) -> String {
    let ask = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// A sample's name and labels.
fn series(line: &str) -> (&str, BTreeMap<&str, &str>) {
    let key = line.rsplit_once(' ').unwrap().0;
    let Some((name, labels)) = key.split_once('{') else { return (key, BTreeMap::new()) };
    let labels = labels.strip_suffix("\"}").unwrap().split("\",");
    (name, labels.map(|label| label.split_once("=\"").unwrap()).collect())
}

/// The metric of a series: those of a histogram have endings.
fn metric(name: &str) -> Option<&'static Metric> {
    let ends = ["_bucket", "_sum", "_count"].into_iter().filter_map(|end| name.strip_suffix(end));
    let of =
        |kind, name: &str| TABLE.iter().find(|metric| metric.kind == kind && metric.name == name).copied();
    [Kind::Counter, Kind::Gauge]
        .into_iter()
        .find_map(|kind| of(kind, name))
        .or_else(|| ends.into_iter().find_map(|name| of(Kind::Histogram, name)))
}

/// Everything in the answer stands in the table, and the other way round.
fn check(answer: &str) {
    let mut seen = BTreeSet::new();
    for line in answer.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, labels) = series(line);
        let metric = metric(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let mut expected: BTreeSet<_> = metric.labels.iter().copied().collect();
        if name.ends_with("_bucket") {
            expected.insert("le");
        }
        assert_eq!(labels.keys().copied().collect::<BTreeSet<_>>(), expected, "{line}");
        assert!(labels.values().all(|value| !value.contains("secret-name")), "{line}");
        seen.insert(metric.name);
    }
    for Metric { name, kind, help, .. } in TABLE {
        assert!(seen.contains(name), "{name} is not in {answer}");
        assert!(answer.contains(&format!("# HELP {name} {help}\n")), "{name} lacks its meaning");
        let kind = format!("{kind:?}").to_lowercase();
        assert!(answer.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
    }
}

/// The lines of the log as JSON.
fn lines(path: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(path).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test]
async fn metrics_and_log_lines_of_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let flags = ["--log-format", "json", "--slow-decision", "0s"];
    let server = Server::start_logging(&flags, File::create(&log).unwrap()).await;
    server.create("secret-name").await;
    let opened = server.open("secret-name").await;
    let advance = |report| AdvanceRequest { report: Some(report) };
    for steps in [10, 20, 30] {
        server.trainer().advance(advance(losses("secret-name", &opened, steps))).await.unwrap();
    }
    let quiet = lines(&log).len();
    let stranger = Report { session: 7, ..losses("secret-name", &opened, STEPS) };
    server.trainer().advance(advance(stranger)).await.unwrap_err();
    let answer = metrics(server.http).await;
    for part in ["autolrs_jobs{state=\"training\"} 1", "autolrs_sessions_active 1", "autolrs_jobs_live 1"] {
        assert!(answer.contains(&format!("{part}\n")), "no {part} in {answer}");
    }
    server.trainer().advance(advance(losses("secret-name", &opened, STEPS))).await.unwrap();
    server.create("other").await;
    let cancel = CancelJobRequest { name: "other".into(), request_id: "from-a-person".into() };
    server.jobs().cancel_job(cancel).await.unwrap();
    let answer = metrics(server.http).await;
    check(&answer);
    for part in [
        "autolrs_decisions_total{policy=\"constant\",phase=\"stable\"} 1",
        "autolrs_decisions_total{policy=\"constant\",phase=\"done\"} 1",
        "autolrs_directives_ended_total{end=\"completed\"} 1",
        "autolrs_directives_ended_total{end=\"void\"} 0",
        "autolrs_rejections_total{reason=\"SESSION_ACTIVE\"} 0",
        "autolrs_rejections_total{reason=\"UNKNOWN_DIRECTIVE\"} 1",
        "autolrs_losses_received_total 260",
        "autolrs_sessions_opened_total 1",
        "autolrs_jobs_created_total{policy=\"constant\"} 2",
        "autolrs_jobs_ended_total{state=\"finished\"} 1",
        "autolrs_jobs_ended_total{state=\"cancelled\"} 1",
        "autolrs_jobs{state=\"finished\"} 1",
        "autolrs_jobs{state=\"cancelled\"} 1",
        "autolrs_jobs{state=\"training\"} 0",
        "autolrs_sessions_active 0",
        "autolrs_store_pending_saves 0",
        "autolrs_store_healthy 1",
        "autolrs_slow_decisions_total 3",
    ] {
        assert!(answer.contains(&format!("{part}\n")), "no {part} in {answer}");
    }
    let lines = lines(&log);
    let told = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    assert_eq!(told("slow decision").len(), 3);
    for line in told("slow decision") {
        assert!(line["seconds"].as_f64() >= line["storing"].as_f64(), "{line}");
    }
    // The line of an opening: three reports of losses have none.
    assert_eq!(quiet, 1 + position(&lines, "session opened"));
}

fn position(lines: &[Value], message: &str) -> usize {
    lines.iter().position(|line| line["message"] == message).unwrap()
}
