//! A server that starts while its store is away: it says why it is not serving, and serves when the store is there. What
//! no waiting mends ends the process.

use autolrs_proto::v1::{ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    command::{autolrs, finish},
    disk::Disk,
    server::Server,
    story::{Story, job},
};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// How far the job was lived before the store goes away.
const AT: usize = 3;

/// A store with the job of a story in it.
async fn lived(story: &Story) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.store = Some(folder.path().join("store"));
    server.up().await;
    story.begin(&server, "job", AT).await;
    assert_eq!(server.terminate().code(), Some(0));
    folder
}

/// Not serving, for this reason; alive all the same.
async fn is_away(server: &Server, reason: &str) {
    let said = server.until_answers("/readyz", 503).await;
    assert!(said.starts_with("the store is away: ") && said.contains(reason), "{said}");
    assert_eq!(server.probe("/livez").await.0, 200);
    let health = autolrs(["health", "--server", &server.url()]).await;
    assert_eq!(health.code, Some(1), "{health:?}");
    let list = autolrs(["jobs", "list", "--server", &server.url()]).await;
    assert!(list.code == Some(1) && list.err.contains("[STORE_UNAVAILABLE]"), "{list:?}");
}

/// Serving, and the job goes on to its end as in the story.
async fn goes_on(server: &Server, story: &Story) {
    server.until_answers("/readyz", 200).await;
    assert_eq!(autolrs(["health", "--server", &server.url()]).await.code, Some(0));
    job(server, "job").await;
    story.finish(server, "job", AT).await;
}

#[tokio::test]
async fn a_volume_that_is_not_mounted_is_waited_for() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let volume = lived(&story).await;
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    let store = server.data_dir().join("mount/store");
    (server.flags, server.store) = (vec!["--create-store=false".into()], Some(store.clone()));
    server.begin();
    is_away(&server, "there is no AutoLRS store in").await;
    assert!(!store.exists(), "nothing is made where the volume belongs");
    fs::rename(volume.path(), server.data_dir().join("mount")).unwrap();
    goes_on(&server, &story).await;
    assert_eq!(server.terminate().code(), Some(0));
}

#[tokio::test]
async fn a_store_that_another_process_has_is_waited_for() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let mut first = Server::start().await;
    story.begin(&first, "job", AT).await;
    let mut second = Server::prepare(tempfile::tempdir().unwrap());
    second.store = Some(first.data_dir().to_owned());
    second.begin();
    is_away(&second, &format!("is in use by process {}", first.pid())).await;
    first.terminate();
    goes_on(&second, &story).await;
}

#[tokio::test]
async fn a_server_that_waits_for_its_store_ends_when_it_is_told() {
    let first = Server::start().await;
    let mut second = Server::prepare(tempfile::tempdir().unwrap());
    second.store = Some(first.data_dir().to_owned());
    second.begin();
    is_away(&second, "is in use by").await;
    assert_eq!(second.terminate().code(), Some(0));
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let volume = lived(&story).await;
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path()) else { return };
    copy(&volume.path().join("store"), &folder.path().join("store"));
    disk.fill();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.store = Some(folder.path().join("store"));
    server.begin();
    let said = server.until_answers("/readyz", 503).await;
    assert!(said.starts_with("the store is away: only ") && said.contains("make room there"), "{said}");
    assert_eq!(autolrs(["health", "--server", &server.url()]).await.code, Some(1));
    job(&server, "job").await;
    disk.make_room();
    goes_on(&server, &story).await;
    assert_eq!(server.terminate().code(), Some(0));
}

#[tokio::test]
async fn what_no_waiting_mends_ends_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let other = sled::open(folder.path().join("sled")).unwrap();
    other.insert("mine", "not a job").unwrap();
    other.flush().unwrap();
    drop(other);
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.store = Some(folder.path().to_owned());
    let ran = finish(&mut server.command());
    assert!(ran.code == Some(65) && ran.err.contains("is not an AutoLRS store"), "{ran:?}");

    // Also when it comes to light later.
    let store = server.data_dir().join("mount/store");
    (server.flags, server.store) = (vec!["--create-store=false".into()], Some(store.clone()));
    server.begin();
    is_away(&server, "there is no AutoLRS store in").await;
    fs::create_dir(server.data_dir().join("mount")).unwrap();
    copy(folder.path(), &store);
    assert_eq!(server.wait().code(), Some(65));
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().expect("cp");
    assert!(done.success());
}
