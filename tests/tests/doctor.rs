//! `autolrs doctor`: on a broken set-up it names every fault at once; beside a server that is well it finds nothing.

use autolrs_tests::{
    command::{Ran, autolrs},
    server::{Server, free_address},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, net::TcpListener};

/// Level and text of each check by its name. A name that comes twice has both texts, and the last level.
fn checks(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let printed: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let mut found = BTreeMap::<String, (String, String)>::new();
    for check in printed["checks"].as_array().unwrap() {
        let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
        let entry = found.entry(text("check")).or_default();
        entry.0 = text("level");
        entry.1 += &(text("what") + " -> " + &text("remedy") + "\n");
    }
    found
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = sled::open(folder.path().join("store/sled")).unwrap();
    foreign.insert("mine", "not a job").unwrap();
    drop(foreign);
    let lock = fs::File::create(folder.path().join("store/LOCK")).unwrap();
    lock.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(86_400)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = folder.path().join("autolrs.toml");
    fs::write(&file, "idle = \"soon\"\nlisen = 1\nmax_connections = 1000000\n").unwrap();
    let (listen, http) = (taken.local_addr().unwrap().to_string(), "192.0.2.1:7462");
    let store = folder.path().join("store");
    let args = [
        "doctor",
        "--output=json",
        "--config",
        file.to_str().unwrap(),
        "--listen",
        &listen,
        "--http-listen",
        http,
        "--insecure",
        "--data-dir",
        store.to_str().unwrap(),
        "--server",
        &format!("http://{}", free_address()),
    ];
    let ran = autolrs(args).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let found = checks(&ran);
    for (check, level, words) in [
        ("configuration", "fail", &["idle must be a duration", "did you mean listen?"][..]),
        ("port", "fail", &["can't listen on", "ss -ltnp", "--listen"]),
        ("probe port", "fail", &[http, "ip address"]),
        ("store", "fail", &["is not an AutoLRS store"]),
        ("clock", "fail", &["LOCK was changed", "timedatectl"]),
        ("client", "fail", &["no server answers", "autolrs serve"]),
        ("disk", "ok", &["MiB are free"]),
        ("sync", "ok", &["a sync at"]),
    ] {
        let (is, said) = found.get(check).unwrap_or_else(|| panic!("{check}: {ran:?}"));
        // How fast and full the disk of the tests is nobody knows.
        assert!(is == level || level == "ok", "{check}: {is} {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{check}: {said}");
    }
    assert!(ran.err.contains("checks failed"), "{}", ran.err);
    let left: Vec<_> = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".autolrs-doctor")), "{left:?}");

    // For people: a line each, and what to do below it.
    let table = autolrs(args.iter().filter(|arg| **arg != "--output=json")).await.out;
    assert!(table.contains("FAIL  port") && table.contains("-> stop what listens there"), "{table}");
    println!("{table}");
}

#[tokio::test]
async fn beside_a_server_that_is_well_it_finds_nothing() {
    let server = Server::start().await;
    let (listen, http) = (server.address.to_string(), server.http.to_string());
    let args = ["doctor", "--output=json", "--listen", &listen, "--http-listen", &http, "--data-dir"];
    let ran =
        autolrs([&args[..], &[server.data_dir().to_str().unwrap(), "--server", &server.url()]].concat())
            .await;
    let found = checks(&ran);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(found["store"].1.contains(&format!("in use by process {}", server.pid())), "{ran:?}");
    assert!(found["client"].1.contains("is serving"), "{ran:?}");
    assert!(found["port"].1.contains("an AutoLRS server listens"), "{ran:?}");
    assert!(found["probe port"].1.contains("an AutoLRS server listens"), "{ran:?}");
}

#[tokio::test]
async fn before_the_first_start_only_the_server_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a/b");
    let (listen, http) = (free_address().to_string(), free_address().to_string());
    let args = ["doctor", "--output=json", "--listen", &listen, "--http-listen", &http, "--data-dir"];
    let ran = autolrs([&args[..], &[store.to_str().unwrap()]].concat()).await;
    let found = checks(&ran);
    assert_eq!((ran.code, found["store"].0.as_str()), (Some(0), "ok"), "{ran:?}");
    assert!(!folder.path().join("a").exists(), "nothing was made");
}
