//! Disk, clock and limits of the machine.

use super::Finding;
use crate::{connections::OTHER_DESCRIPTORS, store::SledOptions, telemetry::disk::taken};
use rustix::process::{Resource, getrlimit};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// Syncs that are timed, and the time of one above which decisions are slow.
const SYNCS: usize = 16;
const SLOW: Duration = Duration::from_millis(50);
/// Clocks that differ by less agree.
const SAME: Duration = Duration::from_secs(60);

/// The room for the store, what it takes, and the time of a sync there.
pub(super) fn disk(data_dir: &Path, warning: u64) -> Vec<Finding> {
    let place = nearest(data_dir);
    let shown = place.display();
    let room = match rustix::fs::statvfs(&place) {
        Err(error) => {
            Finding::fail("disk", format!("the free space of {shown} is unknown: {error}"), "mount it")
        }
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let least = SledOptions::default().min_free_bytes;
            let used = taken(data_dir).unwrap_or_default();
            let what = format!("{} MiB are free at {shown}, {} MiB are the store's", free >> 20, used >> 20);
            if free < least {
                Finding::fail(
                    "disk",
                    what,
                    format!("make room: the store writes nothing below {} MiB", least >> 20),
                )
            } else if free < warning {
                let remedy = format!(
                    "make room, or keep ended jobs for a shorter time (keep_ended): the store writes nothing below {} MiB",
                    least >> 20
                );
                Finding::warn("disk", what, remedy)
            } else {
                Finding::ok("disk", what)
            }
        }
    };
    let sync = match time_syncs(&place) {
        Err(error) => {
            let remedy = "give the directory to the server's user (chown), and mount it writable";
            Finding::fail("sync", format!("{shown} can't be written: {error}"), remedy)
        }
        Ok((median, longest)) => {
            let what = format!("a sync at {shown} takes {median:.1?}, at most {longest:.1?} of {SYNCS}");
            if median > SLOW {
                Finding::warn("sync", what, "take a faster disk: every decision waits for one sync")
            } else {
                Finding::ok("sync", what)
            }
        }
    };
    vec![room, sync]
}

/// The directory, or the one that it will be made in.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Median and longest of some syncs of 4 KiB.
fn time_syncs(place: &Path) -> io::Result<(Duration, Duration)> {
    let path = place.join(format!(".autolrs-doctor-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let mut times = (0..SYNCS)
        .map(|_| {
            file.write_all(&[0; 4096])?;
            let before = Instant::now();
            file.sync_data()?;
            Ok(before.elapsed())
        })
        .collect::<io::Result<Vec<_>>>();
    fs::remove_file(&path)?;
    if let Ok(times) = &mut times {
        times.sort_unstable();
    }
    times.map(|times| (times[SYNCS / 2], times[SYNCS - 1]))
}

/// Whether the time of day can be right.
pub(super) fn clock(data_dir: &Path) -> Finding {
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let known = [std::env::current_exe().ok(), Some(data_dir.join("LOCK")), Some(data_dir.join("sled/db"))];
    let ahead =
        |path: &PathBuf| changed(path)?.duration_since(SystemTime::now()).ok().filter(|by| *by > SAME);
    match known.into_iter().flatten().find_map(|path| Some((ahead(&path)?, path))) {
        None => Finding::ok("clock", "no file is from the future"),
        Some((by, path)) => {
            let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
            let what = format!("the clock is behind: {} was changed {by} from now", path.display());
            Finding::fail(
                "clock",
                what,
                "set it, and keep it right (timedatectl set-ntp true): times of jobs and \
                           certificates go by it",
            )
        }
    }
}

/// Whether enough files may be open.
pub(super) fn descriptors(connections: usize) -> Finding {
    let wanted = connections as u64 + OTHER_DESCRIPTORS;
    match getrlimit(Resource::Nofile).maximum {
        Some(allowed) if allowed < wanted => {
            let what = format!("{allowed} files may be open, {connections} connections need {wanted}");
            let remedy = "raise the limit (LimitNOFILE=, `ulimit -Hn`), or lower max_connections";
            Finding::warn("descriptors", what, remedy)
        }
        _ => Finding::ok("descriptors", format!("enough files may be open for {connections} connections")),
    }
}
