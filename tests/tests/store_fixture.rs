//! Stores of released versions, in `tests/fixtures/`: this version opens each, as a store and as an export, and its
//! jobs go on with the very answers of the version that made them.

use autolrs_proto::v1::{Ack, JobState, Report};
use autolrs_tests::{
    command::autolrs,
    server::Server,
    story::{self, Story, job},
    trainer::advance,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn tar(args: &[&str], folder: &Path) {
    let ran = Command::new("tar").arg("-C").arg(folder).args(args).output().expect("tar is there");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// A job, and what was reported and answered after the store was put away.
struct Kept {
    name: String,
    rest: Vec<(Report, Ack)>,
}

fn kept(fixture: &Path) -> Vec<Kept> {
    let folder = tempfile::tempdir().unwrap();
    tar(&["-xzf", fixture.join("stories.tar.gz").to_str().unwrap()], folder.path());
    let mut jobs: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let rest = Story::rest_from_bytes(&fs::read(&path).unwrap()).expect("reports and answers");
            Kept { name: path.file_name().unwrap().to_str().unwrap().to_owned(), rest }
        })
        .collect();
    jobs.sort_by(|a, b| a.name.cmp(&b.name));
    jobs
}

async fn goes_on(data: TempDir, jobs: &[Kept]) {
    let verified = autolrs(["store", "verify", "--data-dir", data.path().to_str().unwrap()]).await;
    assert_eq!((verified.code, verified.err.as_str()), (Some(0), ""));
    let server = Server::start_on(data).await;
    for Kept { name, rest } in jobs {
        assert_eq!(job(&server, name).await.state() == JobState::Finished, rest.is_empty(), "{name}");
        for (number, (report, expected)) in rest.iter().enumerate() {
            let report = Report { job: name.clone(), ..report.clone() };
            let ack = advance(&server, report).await.expect("an answer");
            assert_eq!(&ack, expected, "{name}, exchange {number}");
        }
        assert_eq!(job(&server, name).await.state(), JobState::Finished, "{name}");
    }
}

#[tokio::test]
async fn stores_of_released_versions_are_opened_and_go_on() {
    let mut found = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let fixture = entry.unwrap().path();
        let jobs = kept(&fixture);
        assert!(jobs.len() > 6 && jobs.iter().map(|job| job.rest.len()).sum::<usize>() > 50);
        let data = tempfile::tempdir().unwrap();
        tar(&["-xzf", fixture.join("store.tar.gz").to_str().unwrap()], data.path());
        goes_on(data, &jobs).await;
        let (data, file) = (tempfile::tempdir().unwrap(), fixture.join("export"));
        let into = data.path().to_str().unwrap();
        let import = autolrs(["store", "import", file.to_str().unwrap(), "--data-dir", into]).await;
        assert_eq!((import.code, import.err.as_str()), (Some(0), ""));
        goes_on(data, &jobs).await;
        found += 1;
    }
    assert!(found > 0, "there is a fixture");
}

/// Writes the fixture of this version, unless there is one:
/// `cargo test -p autolrs-tests --test store_fixture -- --ignored`
#[tokio::test]
#[ignore = "writes files that are committed, once per release"]
async fn write_the_fixture_of_this_version() {
    let folder = fixtures().join(concat!("store-", env!("CARGO_PKG_VERSION")));
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::create_dir(&folder).expect("a version has one fixture, which never changes");
    let stories = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    for (name, story, at) in story::everywhere().await {
        story.begin(&server, name, at).await;
        fs::write(stories.path().join(name), story.rest_to_bytes(at)).unwrap();
    }
    server.terminate();
    let data = server.data_dir();
    tar(&["-czf", folder.join("stories.tar.gz").to_str().unwrap(), "."], stories.path());
    tar(&["-czf", folder.join("store.tar.gz").to_str().unwrap(), "./sled"], data);
    let export = folder.join("export");
    let ran =
        autolrs(["store", "export", export.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}
