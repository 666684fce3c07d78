//! `autolrs store`: what is exported, backed up and imported goes on as if nothing had happened; what is not whole is
//! refused as a whole.

use autolrs_proto::v1::{
    ExportScheduleRequest, Job, ListStagesRequest, ScanPolicy, Stage, Stretch, job_spec::Policy,
};
use autolrs_tests::{
    command::{Ran, autolrs},
    server::{Server, binary, free_address},
    story::{self, Story, job},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `autolrs store WHAT [FILE] --data-dir DIR`.
async fn offline(what: &str, file: Option<&Path>, data: &Path) -> Ran {
    let mut args = vec!["store".into(), what.into()];
    args.extend(file.map(|file| file.as_os_str().to_owned()));
    args.extend(["--data-dir".into(), data.as_os_str().to_owned()]);
    autolrs(args).await
}

/// The same as JSON, where it ends well.
async fn says(what: &str, file: Option<&Path>, data: &Path) -> Value {
    let mut args = vec!["store".into(), what.into(), "--output".into(), "json".into()];
    args.extend(file.map(|file| file.as_os_str().to_owned()));
    args.extend(["--data-dir".into(), data.as_os_str().to_owned()]);
    let ran = autolrs(args).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{what}");
    serde_json::from_str(&ran.out).expect("JSON")
}

async fn backup(server: &Server, file: &Path) -> Ran {
    autolrs([
        "store".as_ref(),
        "backup".as_ref(),
        file.as_os_str(),
        "--server".as_ref(),
        server.url().as_ref(),
    ])
    .await
}

/// The job without what the clock says.
fn timeless(job: Job) -> Job {
    Job { heard_time: None, state: 0, ..job }
}

/// Starts a server on what was imported from the file, and lives all jobs to their ends on it.
async fn goes_on(file: &Path, jobs: &[(&str, Story, usize)], shown: &[Job]) {
    let data = folder();
    let imported = says("import", Some(file), data.path()).await;
    assert_eq!(imported["jobs"], jobs.len());
    let verified = says("verify", None, data.path()).await;
    assert_eq!((&verified["jobs"], &verified["rows"]), (&imported["jobs"], &imported["rows"]));
    let server = Server::start_on(data).await;
    for ((name, story, at), shown) in jobs.iter().zip(shown) {
        assert_eq!(timeless(job(&server, name).await), *shown, "revision included");
        story.finish(&server, name, *at).await;
    }
}

#[tokio::test]
async fn what_was_exported_or_backed_up_goes_on_to_the_bit() {
    let jobs = story::everywhere().await;
    let mut server = Server::start().await;
    let mut shown = Vec::new();
    for (name, story, at) in &jobs {
        story.begin(&server, name, *at).await;
        shown.push(timeless(job(&server, name).await));
    }
    let files = folder();
    let (backed_up, exported) = (files.path().join("backup"), files.path().join("export"));
    let ran = backup(&server, &backed_up).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.contains("\njobs      8\n"), "{}", ran.out);
    server.kill();
    let count = says("export", Some(&exported), server.data_dir()).await;
    assert_eq!((&count["jobs"], &count["damaged"]), (&8.into(), &Value::Array(Vec::new())));
    assert!(fs::read(&backed_up).unwrap() == fs::read(&exported).unwrap(), "one form, one content");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&exported).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    goes_on(&exported, &jobs, &shown).await;
    // The store that was exported has not changed either.
    server.up().await;
    for (name, story, at) in &jobs {
        story.finish(&server, name, *at).await;
    }
}

/// Trains a job over and over under names of its own, and notes what is seen after every exchange, by revision.
async fn busy(
    server: Arc<Server>,
    story: Arc<Story>,
    number: usize,
    enough: Arc<AtomicBool>,
) -> BTreeMap<String, BTreeMap<u64, (usize, Job)>> {
    let mut seen = BTreeMap::new();
    for round in 0.. {
        if enough.load(SeqCst) {
            break;
        }
        let name = format!("job-{number}-{round}");
        story.begin(&server, &name, 0).await;
        let mut revisions = BTreeMap::new();
        for at in 0..=story.len() {
            if at > 0 {
                story.go_on(&server, &name, at - 1, at).await;
            }
            let shown = timeless(job(&server, &name).await);
            revisions.insert(shown.revision, (at, shown));
        }
        seen.insert(name, revisions);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_server_holds_states_that_were() {
    let story = Arc::new(Story::of(Policy::Scan(ScanPolicy::default())).await);
    let server = Arc::new(Server::start().await);
    let enough = Arc::new(AtomicBool::new(false));
    let trainers: Vec<_> =
        (0..4).map(|n| tokio::spawn(busy(server.clone(), story.clone(), n, enough.clone()))).collect();
    let files = folder();
    let mut made = Vec::new();
    for number in 0..4 {
        let file = files.path().join(format!("{number}"));
        // The backups meet the trainers at different places.
        while job_count(&server).await < 2 + 3 * number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ran = backup(&server, &file).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        made.push(file);
    }
    enough.store(true, SeqCst);
    let mut seen = BTreeMap::new();
    for trainer in trainers {
        seen.extend(trainer.await.expect("the trainer ends well"));
    }
    let whole = history(&server, "job-0-0").await;
    let mut midway = 0;
    for file in made {
        let data = folder();
        says("import", Some(&file), data.path()).await;
        assert_eq!(says("verify", None, data.path()).await["damaged"], Value::Array(Vec::new()));
        let restored = Server::start_on(data).await;
        for name in names(&restored).await {
            let shown = timeless(job(&restored, &name).await);
            // A job that its trainer had not opened yet was never seen.
            let Some((at, expected)) = seen[&name].get(&shown.revision) else {
                assert_eq!(shown.session, 0, "{name} at revision {} never was", shown.revision);
                continue;
            };
            assert_eq!(&shown, expected);
            midway += usize::from(*at < story.len());
            story.finish(&restored, &name, *at).await;
            assert_eq!(history(&restored, &name).await, whole, "{name}");
        }
    }
    assert!(midway > 3, "jobs were under way: {midway}");
}

/// What was run, with its losses, and what its trials were: the rows of a job, which lie beside its state.
async fn history(server: &Server, name: &str) -> (Vec<Stretch>, Vec<Stage>) {
    let export = ExportScheduleRequest { job: name.into(), losses: true, ..Default::default() };
    let exported = server.jobs().export_schedule(export).await.unwrap().into_inner();
    assert_eq!(exported.next_step, None, "the job is a small one");
    let list = ListStagesRequest { job: name.into(), ..Default::default() };
    (exported.stretches, server.jobs().list_stages(list).await.unwrap().into_inner().stages)
}

async fn names(server: &Server) -> Vec<String> {
    let request = autolrs_proto::v1::ListJobsRequest { page_size: 1000, ..Default::default() };
    let page = server.jobs().list_jobs(request).await.unwrap().into_inner();
    page.jobs.into_iter().map(|job| job.name).collect()
}

async fn job_count(server: &Server) -> usize {
    names(server).await.len()
}

/// A stopped server's store with one job in its search, exported.
async fn exported(files: &Path) -> (Story, std::path::PathBuf) {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let mut server = Server::start().await;
    story.begin(&server, "job", 5).await;
    server.kill();
    let file = files.join("export");
    says("export", Some(&file), server.data_dir()).await;
    (story, file)
}

#[tokio::test]
async fn a_file_that_is_not_whole_is_refused_and_changes_nothing() {
    let files = folder();
    let (story, file) = exported(files.path()).await;
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut broken = whole.clone();
        broken[at] ^= 0x10;
        broken
    };
    let newer = [b"autolrs export 2\n", &whole[17..]].concat();
    let cases = [
        (Vec::new(), "not an export"),
        (whole[..10].to_vec(), "not an export"),
        (whole[..17].to_vec(), "cut off"),
        (whole[..whole.len() / 2].to_vec(), "cut off"),
        (whole[..whole.len() - 1].to_vec(), "cut off"),
        ([&whole[..], b"\n"].concat(), "damaged"),
        (flipped(60), "does not match its checksum"),
        (flipped(whole.len() / 2), "does not match its checksum"),
        (flipped(whole.len() - 1), "does not match its checksum"),
        (newer, "export format 2, this release reads up to 1"),
    ];
    let absent = files.path().join("absent");
    let mut server = Server::start().await;
    server.terminate();
    let broken = files.path().join("broken");
    for (bytes, reason) in cases {
        fs::write(&broken, bytes).unwrap();
        for data in [absent.as_path(), server.data_dir()] {
            let ran = offline("import", Some(&broken), data).await;
            assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
            assert!(ran.err.contains(reason) && ran.err.contains("nothing was changed"), "{}", ran.err);
            assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        }
        assert!(!absent.exists());
    }
    assert_eq!(says("verify", None, server.data_dir()).await["jobs"], 0);
    says("import", Some(&file), server.data_dir()).await;
    let again = offline("import", Some(&file), server.data_dir()).await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("has jobs already (default/job is one)"), "{}", again.err);
    server.up().await;
    story.finish(&server, "job", 5).await;
}

#[tokio::test]
async fn an_import_that_is_killed_leaves_an_empty_store_and_can_be_repeated() {
    let files = folder();
    let (story, one) = exported(files.path()).await;
    let mut server = Server::start().await;
    for number in 0..20 {
        story.begin(&server, &format!("job-{number}"), 5).await;
    }
    server.kill();
    let many = files.path().join("many");
    says("export", Some(&many), server.data_dir()).await;
    let mut kills = 0;
    for _ in 0..5 {
        let data = folder();
        let mut import = Command::new(binary())
            .args(["store".as_ref(), "import".as_ref(), many.as_os_str(), "--data-dir".as_ref()])
            .arg(data.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Something of it has reached the disk.
        let log = data.path().join("import.new/sled/db");
        while fs::metadata(&log).map_or(0, |log| log.len()) < 4096 && import.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        import.kill().unwrap();
        import.wait().unwrap();
        // If it was killed after its rename, it is all there.
        let jobs = says("verify", None, data.path()).await["jobs"].as_u64().unwrap();
        if jobs > 0 {
            assert_eq!(jobs, 20);
            continue;
        }
        kills += 1;
        says("import", Some(&one), data.path()).await;
        assert_eq!(says("verify", None, data.path()).await["jobs"], 1, "nothing is left of the other file");
        assert!(!data.path().join("import.new").exists());
    }
    assert!(kills > 0, "an import was killed before its end");
}

#[tokio::test]
async fn a_store_in_use_or_absent_is_refused_with_the_other_way() {
    let server = Server::start().await;
    let files = folder();
    let file = files.path().join("export");
    fs::write(&file, b"autolrs export 1\n").unwrap();
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    story.begin(&server, "job", 1).await;
    let whole = files.path().join("whole");
    assert_eq!(backup(&server, &whole).await.code, Some(0));
    for (what, file) in [("verify", None), ("export", Some(&file)), ("import", Some(&whole))] {
        let ran = offline(what, file.map(|path| path.as_path()), server.data_dir()).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(69), ""), "{what}");
        let holder = format!("in use by process {}", server.pid());
        assert!(ran.err.contains(&holder) && ran.err.contains("autolrs store backup"), "{}", ran.err);
    }
    assert_eq!(fs::read(&file).unwrap(), b"autolrs export 1\n", "an export that failed replaces nothing");
    let absent = files.path().join("absent");
    for (what, file) in [("verify", None), ("export", Some(&file))] {
        let ran = offline(what, file.map(|path| path.as_path()), &absent).await;
        assert_eq!(ran.code, Some(69), "{what}");
        assert!(ran.err.contains("there is no AutoLRS store in"), "{}", ran.err);
        assert!(!absent.exists());
    }
    let ran = offline("import", Some(&absent), &absent).await;
    assert_eq!(ran.code, Some(64), "{}", ran.err);
    story.finish(&server, "job", 1).await;
}

#[tokio::test]
async fn a_backup_that_breaks_leaves_the_old_file() {
    let files = folder();
    let file = files.path().join("backup");
    fs::write(&file, b"the old one").unwrap();
    let url = format!("http://{}", free_address());
    let ran = autolrs(["store", "backup", file.to_str().unwrap(), "--server", &url]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert_eq!(fs::read(&file).unwrap(), b"the old one");
    assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1, "nothing else is left");
    let nowhere = files.path().join("nowhere/backup");
    let server = Server::start().await;
    let ran = backup(&server, &nowhere).await;
    assert_eq!(ran.code, Some(70), "{}", ran.err);
}
