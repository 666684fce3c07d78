//! Disk use under overwrites: `cargo bench -p autolrs-server --bench disk_use [-- OVERWRITES JOBS BYTES]`.
//!
//! Snapshots of JOBS jobs are overwritten OVERWRITES times in all, 64 at once, as busy trainers do; every tenth save
//! also writes a row and deletes one. Prints what is alive, what the store takes on the disk, and what it takes after
//! it was opened again, and after `export | import`.

use autolrs_server::store::{
    JobKey, JobStore, RowKey, RowWrite, SledOptions, SledStore,
    export::{ExportError, Exporter, Reader},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::task::JoinSet;

const AT_ONCE: u64 = 64;
const LINES: u64 = 10;
/// Rows that a job keeps.
const ROWS: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` adds flags of its own.
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let number = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let plan = Plan { overwrites: number(0, 1_000_000), jobs: number(1, 1000), bytes: number(2, 6000) };
    let folder = tempfile::Builder::new().prefix("disk-use").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    tokio::runtime::Runtime::new()?.block_on(plan.measure(folder.path()))
}

#[derive(Clone, Copy)]
struct Plan {
    overwrites: u64,
    jobs: u64,
    bytes: u64,
}

impl Plan {
    async fn measure(self, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let Self { overwrites, jobs, bytes } = self;
        println!("{overwrites} overwrites of {jobs} jobs, snapshots of about {bytes} bytes");
        println!("{:>10} {:>9} {:>9} {:>6} {:>8}", "overwrites", "live MB", "disk MB", "ratio", "saves/s");
        let path = folder.join("store");
        let store = Arc::new(SledStore::open(&path, SledOptions::default())?);
        let live = self.live();
        for line in 0..LINES {
            let started = Instant::now();
            self.overwrite(&store, line * overwrites / LINES, (line + 1) * overwrites / LINES).await;
            let rate = overwrites as f64 / LINES as f64 / started.elapsed().as_secs_f64();
            print_line(&((line + 1) * overwrites / LINES).to_string(), live, size(&path)?, rate);
        }
        store.close().await;
        let started = Instant::now();
        let store = Arc::new(SledStore::open(&path, SledOptions::default())?);
        let opened = started.elapsed();
        print_line("reopened", live, size(&path)?, f64::NAN);
        let mut exporter = Exporter::new(store.clone());
        let mut file = Vec::new();
        while let Some(part) = exporter.next().await? {
            file.extend(part.data);
        }
        store.close().await;
        let mut reader = Reader::new(&file[..])?;
        let anew = folder.join("anew");
        let read = std::iter::from_fn(|| reader.next_job().map_err(Failed::from).transpose());
        SledStore::import(&anew, SledOptions::default(), read).await?;
        print_line("imported", live, size(&anew)?, f64::NAN);
        println!(
            "the export has {:.1} MB; opening took {:.2} s",
            mb(file.len() as u64),
            opened.as_secs_f64()
        );
        Ok(())
    }

    /// Overwrites number `from` to `to`: number n is of job n % jobs.
    async fn overwrite(self, store: &Arc<SledStore>, from: u64, to: u64) {
        let next = Arc::new(AtomicU64::new(0));
        let mut writers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (store, next) = (store.clone(), next.clone());
            writers.spawn(async move {
                // A writer takes a job and does all of its overwrites.
                loop {
                    let job = next.fetch_add(1, Relaxed);
                    if job >= self.jobs {
                        return;
                    }
                    self.overwrite_job(&store, job, from / self.jobs, to / self.jobs).await;
                }
            });
        }
        writers.join_all().await;
    }

    async fn overwrite_job(self, store: &SledStore, job: u64, from: u64, to: u64) {
        let key = JobKey::new("bench", format!("job-{job:06}"));
        let mut version = store.load(&key).await.expect("a read").map(|stored| stored.version);
        for n in from..to {
            let rows = if n % 10 == 0 { self.rows(job, n / 10) } else { Vec::new() };
            let snapshot = self.content(job, n);
            version = Some(store.save(&key, version, snapshot.into(), rows).await.expect("saved"));
        }
    }

    fn rows(self, job: u64, n: u64) -> Vec<RowWrite> {
        let row = |seq| RowKey::Directive { seq };
        let record = self.content(job, n).into();
        let old = n.checked_sub(ROWS).map(|seq| RowWrite::Delete(row(seq)));
        [RowWrite::Put { key: row(n), record }].into_iter().chain(old).collect()
    }

    /// Bytes whose length goes up and down by a third.
    fn content(self, job: u64, n: u64) -> Vec<u8> {
        let third = self.bytes / 3;
        let len = self.bytes - third + (n * 7919 + job * 104_729) % (2 * third).max(1);
        (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ n.wrapping_mul(131) ^ job) as u8).collect()
    }

    /// About what is kept at the end: a snapshot and the rows of each job.
    fn live(self) -> u64 {
        let rows = (self.overwrites / self.jobs / 10).min(ROWS);
        self.jobs * (1 + rows) * self.bytes
    }
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] autolrs_server::store::StoreError),
    #[error(transparent)]
    Export(#[from] ExportError),
}

fn print_line(what: &str, live: u64, disk: u64, rate: f64) {
    let rate = if rate.is_nan() { String::new() } else { format!("{rate:.0}") };
    let ratio = disk as f64 / live as f64;
    println!("{what:>10} {:>9.1} {:>9.1} {ratio:>6.2} {rate:>8}", mb(live), mb(disk));
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn size(path: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { size(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(sum)
}
