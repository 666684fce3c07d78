//! `make soak`: the real server under jobs that come and go, each trained by the real client over a connection of its own.
//! Prints a JSON line every few seconds: what the server's process holds, what it has done. `tests/bench/soak.py` draws
//! them.
//!
//! Every job is a scan of 900 steps. A directive takes its trainer `--pace` seconds; when a job has ended, its trainer
//! begins another, and the server removes what has ended `--keep` seconds ago. So after a while as much goes as comes,
//! and memory, open files and disk have to stay as they are.

use autolrs_client::{OnOutage, Session, SessionConfig};
use autolrs_tests::{
    jobs::Kind,
    server::Server,
    sim::{Optimum, SimTrainer},
    training::carry_out,
};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::time::{interval, sleep, sleep_until};

/// Time within which a client finds a server that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Args {
    /// Jobs at once.
    #[arg(long, default_value_t = 1000)]
    jobs: u64,
    /// Seconds in all.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Seconds that a trainer takes for a directive.
    #[arg(long, default_value_t = 10.0)]
    pace: f64,
    /// Seconds that the server keeps jobs that have ended.
    #[arg(long, default_value_t = 60)]
    keep: u64,
    /// Seconds between two lines.
    #[arg(long, default_value_t = 5)]
    every: u64,
}

/// What the trainers have done.
#[derive(Default)]
struct Done {
    /// Directives that were run.
    directives: AtomicU64,
    /// Jobs that were trained to their end.
    jobs: AtomicU64,
    /// Times that a trainer had to do without an answer, or was refused.
    troubles: AtomicU64,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    // Each job has a connection.
    let files = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, files).expect("as many files as the system allows");
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::prepare(data);
    server.flags = vec![format!("--keep-ended={}s", args.keep), "--idle=30s".into()];
    server.up().await;
    let (done, begin) = (Arc::new(Done::default()), Instant::now());
    let end = begin + Duration::from_secs(args.seconds);
    println!(
        r#"{{"jobs": {}, "seconds": {}, "pace": {}, "keep": {}, "version": {:?}, "cores": {}}}"#,
        args.jobs,
        args.seconds,
        args.pace,
        args.keep,
        version(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let pace = Duration::from_secs_f64(args.pace);
    for number in 0..args.jobs {
        let (url, done) = (server.url(), done.clone());
        // All of them begin within two paces.
        let first = begin + 2 * pace * number as u32 / args.jobs as u32;
        tokio::spawn(async move {
            sleep_until(first.into()).await;
            for generation in 0.. {
                train(&url, &format!("job-{number}-{generation}"), pace, &done).await;
            }
        });
    }
    let mut look = interval(Duration::from_secs(args.every));
    while Instant::now() < end {
        look.tick().await;
        row(&server, begin, &done).await;
    }
    let ended = server.terminate();
    assert_eq!(ended.code(), Some(0), "the server ends in order");
}

/// Trains a job to its end.
async fn train(url: &str, job: &str, pace: Duration, done: &Done) {
    let config = SessionConfig {
        server: url.to_owned(),
        token: None,
        connect_timeout: PATIENCE,
        on_outage: OnOutage::Auto,
        ..SessionConfig::new(job, Kind::Scan.spec())
    };
    let session = match Session::open(config).await {
        Ok(session) => session,
        Err(error) => {
            eprintln!("{job}: {error}");
            done.troubles.fetch_add(1, Relaxed);
            return sleep(pace).await;
        }
    };
    let mut trainer = SimTrainer::new(Optimum::default());
    let mut next = Instant::now();
    while session.done().is_none() {
        carry_out(&session, &mut trainer);
        next += pace;
        sleep_until(next.into()).await;
        session.next().await.expect("a directive or its fallback");
        done.directives.fetch_add(1, Relaxed);
        done.troubles.fetch_add(u64::from(session.snapshot().detached), Relaxed);
    }
    session.close(PATIENCE).await;
    done.jobs.fetch_add(1, Relaxed);
}

async fn row(server: &Server, begin: Instant, done: &Done) {
    let metrics = server.probe("/metrics").await.1;
    let metric = |name: &str| {
        let values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        values.sum::<f64>()
    };
    println!(
        r#"{{"t": {:.1}, "rss": {}, "open_files": {}, "threads": {}, "disk": {}, "jobs_in_memory": {}, "expired": {}, "decisions": {}, "trained": {}, "directives": {}, "troubles": {}}}"#,
        begin.elapsed().as_secs_f64(),
        server.memory_kib() * 1024,
        fs::read_dir(format!("/proc/{}/fd", server.pid())).map_or(0, Iterator::count),
        status(server.pid(), "Threads:"),
        metric("autolrs_store_size_bytes"),
        metric("autolrs_jobs_live"),
        metric("autolrs_jobs_expired_total"),
        metric("autolrs_decision_seconds_count"),
        done.jobs.load(Relaxed),
        done.directives.load(Relaxed),
        done.troubles.load(Relaxed),
    );
}

/// A number of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn version() -> String {
    let ran = std::process::Command::new(autolrs_tests::server::binary()).arg("--version").output();
    String::from_utf8_lossy(&ran.expect("it runs").stdout).trim().to_owned()
}
