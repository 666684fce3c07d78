//! A disk that fills up.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of its own, unmounted at the end.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// 160 MiB in this folder. None, with the reason printed, where they can't be mounted.
    pub fn mount(path: &Path) -> Option<Self> {
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            other => {
                println!("skipped: a tmpfs needs root ({other:?})");
                None
            }
        }
    }

    /// Leaves less than a store needs.
    pub fn fill(&self) {
        fs::write(self.ballast(), vec![1; 120 << 20]).expect("it has as much room");
    }

    /// Makes room again.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it was full");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
