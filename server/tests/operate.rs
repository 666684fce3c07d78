//! What operators and their tools ask: the command line, probes, metrics, reflection.

mod harness;

use harness::{Server, binary, losses};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn get(address: SocketAddr, path: &'static str) -> String {
    let ask = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn jobs_are_listed_and_shown() {
    let server = Server::start(&[]).await;
    assert_eq!(server.command(&["jobs", "list"]).await.stdout, b"no jobs\n");
    server.create("b").await;
    server.create("a").await;
    let opened = server.open("a").await;
    let report = autolrs_proto::v1::AdvanceRequest { report: Some(losses("a", &opened, 40)) };
    server.trainer().advance(report).await.unwrap();
    let list = String::from_utf8(server.command(&["jobs", "list"]).await.stdout).unwrap();
    let names: Vec<_> = list.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(names, ["NAME", "a", "b"]);
    let training = server.command(&["jobs", "list", "--state", "training", "--output", "json"]).await;
    let training: serde_json::Value = serde_json::from_slice(&training.stdout).unwrap();
    assert_eq!(training["jobs"][0]["name"], "a");
    assert_eq!(training["jobs"].as_array().map(Vec::len), Some(1));
    let show = String::from_utf8(server.command(&["jobs", "show", "a"]).await.stdout).unwrap();
    assert!(show.contains("40 of 100 steps: 40 committed, 0 search (0.0 %), 0 lost"), "{show}");
    let shown = server.command(&["jobs", "show", "a", "--output", "json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["state"], &shown["steps"]["committed"]), (&"training".into(), &40.into()));
    let unknown = server.command(&["jobs", "show", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("JOB_NOT_FOUND"));
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let server = Server::start(&[]).await;
    assert_eq!(server.command(&["health"]).await.status.code(), Some(0));
    server.create("secret-name").await;
    server.open("secret-name").await;
    for path in ["/livez", "/readyz"] {
        assert!(get(server.http, path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let metrics = get(server.http, "/metrics").await;
    for part in [
        r#"grpc_server_handled_total{grpc_service="autolrs.v1.JobService",grpc_method="CreateJob",grpc_code="OK",grpc_type="unary"} 1"#,
        "grpc_server_handling_seconds_bucket",
        "autolrs_decision_seconds_count 1",
        "autolrs_store_commit_seconds_count 2",
        "autolrs_jobs_live 1",
        "autolrs_store_healthy 1",
    ] {
        assert!(metrics.contains(part), "no {part} in {metrics}");
    }
    assert!(!metrics.contains("secret-name"));
}

#[tokio::test]
async fn reflection_names_the_services() {
    let server = Server::start(&[]).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["autolrs.v1.JobService", "autolrs.v1.TrainerService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
}

#[test]
fn a_bad_configuration_is_told_whole_with_exit_code_64() {
    let output = binary()
        .args(["serve", "--listen", "0.0.0.0:1", "--idle", "x"])
        .env("AUTOLRS_TYPO", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["AUTOLRS_TYPO", "--insecure", "idle must be"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(binary().args(["serve", "--no-such-flag"]).output().unwrap().status.code(), Some(64));
    assert_eq!(binary().args(["serve", "--help"]).output().unwrap().status.code(), Some(0));
}
