//! TLS, mTLS and the Unix socket, with verification on: the real binary, the real client, certificates of this test.

use autolrs_client::{EndpointConfig, Error, Session, SessionConfig};
use autolrs_proto::v1::{WatchJobRequest, job_service_client::JobServiceClient};
use autolrs_tests::{
    command::{autolrs, autolrs_as},
    jobs::Kind,
    rpcs::call,
    security::{Authority, Files, bearer, endpoint, start},
    server::{Server, serve},
    sim::{Optimum, SimTrainer},
    training::train,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const SOON: Duration = Duration::from_secs(20);

/// Flags of a server whose certificate and tokens are in these files.
fn flags(files: &Files) -> Vec<String> {
    [
        ["--tls-cert", &files.text("tls.crt")],
        ["--tls-key", &files.text("tls.key")],
        ["--tokens", &files.text("tokens.json")],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

async fn started(flags: &[String]) -> Server {
    start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn session(endpoint: &EndpointConfig) -> SessionConfig {
    let EndpointConfig { server, token, ca, cert, key } = endpoint.clone();
    let connect_timeout = SOON;
    SessionConfig {
        server,
        token,
        ca,
        cert,
        key,
        connect_timeout,
        replay: true,
        ..SessionConfig::new("job", Kind::Wsd.spec())
    }
}

/// Why a session can't be opened.
async fn refused(endpoint: &EndpointConfig) -> String {
    match Session::open(session(endpoint)).await {
        Err(error @ Error::Tls { .. }) => error.to_string(),
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn a_job_is_trained_over_tls_with_a_token() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    files.secret("v1", &authority.sign(&["localhost"]));
    let ca = files.write("ca.crt", &authority.pem);
    let token = files.token("a", "write").await;
    let server = started(&flags(&files)).await;
    let endpoint = endpoint(&server, &ca, Some(&token));
    let session = Session::open(session(&endpoint)).await.unwrap();
    train(&session, &mut SimTrainer::new(Optimum::default())).await;
    session.close(SOON).await;
    let args = ["jobs", "show", "job", "--server", &endpoint.server, "--ca", ca.to_str().unwrap()];
    let shown = autolrs_as(args, &[("AUTOLRS_TOKEN", &token)]).await;
    assert!(shown.code == Some(0) && shown.out.contains("finished"), "{shown:?}");
    let env = [("AUTOLRS_SERVER", &*endpoint.server), ("AUTOLRS_CA", ca.to_str().unwrap())];
    assert_eq!(autolrs_as(["health"], &env).await.code, Some(0));
    // The doctor knows its own server although it has another name for it, and what the secrets are worth.
    let [address, http] = [server.address, server.http].map(|address| address.to_string());
    let here = ["doctor", "--output", "json", "--listen", &address, "--http-listen", &http];
    let data = ["--data-dir", server.data_dir().to_str().unwrap()];
    let doctor = async |flags: &[String]| {
        let args = here.into_iter().chain(data).chain(flags.iter().map(String::as_str));
        let ran = autolrs_as(args, &env).await;
        let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let level = |check: &str| {
            let checks = found["checks"].as_array().unwrap();
            checks.iter().find(|found| found["check"] == check).unwrap()["level"].as_str().unwrap().to_owned()
        };
        ["port", "certificate", "tokens", "client"].map(level)
    };
    assert_eq!(doctor(&flags(&files)).await, ["ok"; 4]);
    let mut mixed = flags(&files);
    mixed[1] = ca.to_str().unwrap().into();
    mixed[5] = files.text("absent.json");
    assert_eq!(doctor(&mixed).await, ["ok", "fail", "fail", "ok"]);
}

#[tokio::test]
async fn whoever_is_not_trusted_is_told_apart_at_once() {
    let (files, authority, other) = (Files::new(), Authority::new("ours"), Authority::new("theirs"));
    files.secret("v1", &authority.sign(&["localhost"]));
    let ca = files.write("ca.crt", &authority.pem);
    let wrong = files.write("other.crt", &other.pem);
    files.token("a", "read").await;
    let server = started(&flags(&files)).await;
    let right = endpoint(&server, &ca, None);

    let unknown = refused(&EndpointConfig { ca: Some(wrong.clone()), ..right.clone() }).await;
    assert!(
        unknown.contains("an authority that is not trusted here") && unknown.contains("AUTOLRS_CA"),
        "{unknown}"
    );
    // The roots of this system have not signed it either.
    let system = refused(&EndpointConfig { ca: None, ..right.clone() }).await;
    assert!(system.contains("an authority that is not trusted here"), "{system}");
    let address = format!("https://127.0.0.1:{}", server.address.port());
    let host = refused(&EndpointConfig { server: address, ..right.clone() }).await;
    assert!(host.contains("is for") && host.contains("localhost") && host.contains("127.0.0.1"), "{host}");
    let plain = format!("http://localhost:{}", server.address.port());
    let short = Duration::from_millis(300);
    let config = SessionConfig {
        connect_timeout: short,
        ..session(&EndpointConfig { server: plain.clone(), ..right.clone() })
    };
    let error = Session::open(config).await.err().unwrap();
    assert!(matches!(error, Error::ServerUnavailable { .. }), "{error}");
    let list = ["jobs", "list", "--server", &right.server, "--ca", wrong.to_str().unwrap()];
    let told = autolrs(list).await;
    assert!(told.code == Some(1) && told.err.contains("an authority that is not trusted here"), "{told:?}");

    // The first days of 2100 and of 2021.
    server.until_metrics_say("autolrs_tls_certificate_expires_timestamp_seconds 4102444800").await;
    files.secret("v2", &authority.sign_until(&["localhost"], 2021));
    server.until_metrics_say("autolrs_reloads_total{what=\"certificate\",result=\"ok\"} 2").await;
    server.until_metrics_say("autolrs_tls_certificate_expires_timestamp_seconds 1609459200").await;
    let [cert, key] = ["tls.crt", "tls.key"].map(|name| files.text(name));
    let doctor = autolrs(["doctor", "--tls-cert", &cert, "--tls-key", &key]).await;
    assert!(doctor.out.contains("tls.crt is no longer valid"), "{doctor:?}");
    let expired = refused(&right).await;
    assert!(expired.contains("has expired"), "{expired}");
    // A server without TLS.
    let open = Server::start().await;
    let none = refused(&EndpointConfig {
        server: open.url().replace("http://127.0.0.1", "https://localhost"),
        ..right
    })
    .await;
    assert!(none.contains("does not speak TLS") && none.contains("http://"), "{none}");
}

#[tokio::test]
async fn clients_prove_themselves_with_certificates_and_still_need_a_token() {
    let (files, authority, other) = (Files::new(), Authority::new("ours"), Authority::new("theirs"));
    files.secret("v1", &authority.sign(&["localhost"]));
    let ca = files.write("ca.crt", &authority.pem);
    let token = files.token("a", "write").await;
    let flags = [flags(&files), vec!["--tls-client-ca".into(), files.text("ca.crt")]].concat();
    let server = started(&flags).await;
    let none = endpoint(&server, &ca, Some(&token));
    let with = |name: &str, authority: &Authority| {
        let signed = authority.sign(&["trainer"]);
        let cert = files.write(&format!("{name}.crt"), &signed.cert);
        let key = files.write(&format!("{name}.key"), &signed.key);
        EndpointConfig { cert: Some(cert), key: Some(key), ..none.clone() }
    };
    for wrong in [&none, &with("foreign", &other)] {
        // The last attempt may have had no time left for an answer.
        let mut told = String::new();
        for attempt in 0..20 {
            let connect_timeout = Duration::from_millis(300 << attempt.min(5));
            let config = SessionConfig { connect_timeout, ..session(wrong) };
            let error = Session::open(config).await.err().unwrap();
            assert!(matches!(error, Error::ServerUnavailable { .. }), "{error:?}");
            told = error.to_string();
            if told.contains("AUTOLRS_CERT") {
                break;
            }
        }
        assert!(told.contains("AUTOLRS_CERT"), "{told}");
    }
    let right = with("right", &authority);
    let error = Session::open(session(&EndpointConfig { token: None, ..right.clone() })).await.err().unwrap();
    assert!(matches!(error, Error::Unauthenticated(_)), "{error}");
    let session = Session::open(session(&right)).await.unwrap();
    session.close(SOON).await;
    let text = |path: &Option<std::path::PathBuf>| path.as_deref().and_then(Path::to_str).unwrap().to_owned();
    let (ca, cert, key) = (text(&right.ca), text(&right.cert), text(&right.key));
    let args = ["jobs", "list", "--server", &right.server, "--ca", &ca];
    let told = autolrs(args).await;
    assert!(told.code == Some(1) && told.err.contains("--cert and --key"), "{told:?}");
    let args = args.into_iter().chain(["--cert", &cert, "--key", &key]);
    let listed = autolrs_as(args, &[("AUTOLRS_TOKEN", &token)]).await;
    assert!(listed.code == Some(0) && listed.out.contains("job"), "{listed:?}");
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_broken_one_for_none() {
    let (files, old, new) = (Files::new(), Authority::new("old"), Authority::new("new"));
    files.secret("v1", &old.sign(&["localhost"]));
    let (old_ca, new_ca) = (files.write("old.crt", &old.pem), files.write("new.crt", &new.pem));
    let token = files.token("a", "write").await;
    let log = files.path("log");
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    (server.secured, server.log, server.flags) = (true, Some(log.clone()), flags(&files));
    server.up().await;
    let reach = async |ca: &Path| {
        let channel = endpoint(&server, ca, Some(&token)).endpoint().unwrap().connect().await;
        Ok::<_, tonic::transport::Error>(bearer(channel?, &token))
    };
    // It trusts the old authority alone: were it to connect again, it would fail.
    let line = reach(&old_ca).await.unwrap();
    call(line.clone(), "CreateJob", "job").await.unwrap();
    let watch = WatchJobRequest { name: "job".into(), ..Default::default() };
    let mut watched = JobServiceClient::new(line.clone()).watch_job(watch).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());

    // Broken: another key, then no certificate at all.
    let (signed, foreign) = (new.sign(&["localhost"]), old.sign(&["localhost"]));
    files.secret("v2", &autolrs_tests::security::Signed { cert: signed.cert.clone(), key: foreign.key });
    server.until_metrics_say("autolrs_last_reload_successful{what=\"certificate\"} 0").await;
    files.secret(
        "v3",
        &autolrs_tests::security::Signed { cert: "no certificate".into(), key: signed.key.clone() },
    );
    server.until_metrics_say("autolrs_reloads_total{what=\"certificate\",result=\"failed\"} 2").await;
    assert!(reach(&new_ca).await.is_err());
    call(reach(&old_ca).await.unwrap(), "ListJobs", "").await.unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("what was read before stays in use") && said.contains("tls.crt"), "{said}");
    assert!(!said.contains(signed.key.lines().nth(1).unwrap()), "no key is logged");

    files.secret("v4", &signed);
    server.until_metrics_say("autolrs_last_reload_successful{what=\"certificate\"} 1").await;
    call(reach(&new_ca).await.unwrap(), "ListJobs", "").await.unwrap();
    assert!(reach(&old_ca).await.is_err());
    // The old connection and its stream have noticed nothing.
    call(line, "OpenSession", "job").await.unwrap();
    assert!(watched.message().await.unwrap().is_some());
}

#[tokio::test]
async fn beyond_loopback_only_with_tls_and_tokens() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    files.secret("v1", &authority.sign(&["localhost"]));
    files.token("a", "read").await;
    let data = tempfile::tempdir().unwrap();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let flags = flags(&files);
    for (flags, missing) in [
        (&flags[..0], "without TLS (tls_cert and tls_key) and authentication (tokens)"),
        (&flags[..4], "without authentication (tokens)"),
        (&flags[4..], "without TLS (tls_cert and tls_key)"),
    ] {
        let (code, said) = ended(serve(everywhere, "off", data.path()).args(flags)).await;
        assert!(code == Some(64) && said.contains(missing), "{said}");
    }
    // What is there has to be usable.
    files.write("tokens.json", "{");
    let (code, said) = ended(serve(everywhere, "off", data.path()).args(&flags)).await;
    assert!(code == Some(64) && said.contains("tokens.json"), "{said}");
}

/// The exit code of a server that must not start, and what it says.
async fn ended(command: &mut Command) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::from(std::mem::replace(command, Command::new("")));
    command.stderr(Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(SOON, command.output()).await.expect("it does not start").unwrap();
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner() {
    let files = Files::new();
    let socket = files.text("socket");
    let url = format!("unix://{socket}");
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.secured = true;
    server.listen = Some(url.clone());
    server.up().await;
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let config =
        SessionConfig { server: url.clone(), token: None, ..SessionConfig::new("job", Kind::Wsd.spec()) };
    let session = Session::open(config).await.unwrap();
    train(&session, &mut SimTrainer::new(Optimum::default())).await;
    session.close(SOON).await;
    // Killed, it leaves its socket behind, and takes it up again.
    server.kill();
    server.up().await;
    let shown = autolrs(["jobs", "show", "job", "--server", &url]).await;
    assert!(shown.code == Some(0) && shown.out.contains("finished"), "{shown:?}");
    assert!(server.terminate().success());
    assert!(!Path::new(&socket).exists());
}
