//! A real process that is killed at an exact point of its life: strace sends it SIGKILL on entry to its n-th call of a
//! system call, so the call itself never happens. The program is the one that users run.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

/// What reading of a process that ends just then gives.
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// What strace is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trace<'a> {
    /// Not to run.
    Off,
    /// To kill on entry to the `nth` call, of one thread, of one of the `calls` (names with commas).
    Kill { calls: &'a str, nth: u64 },
    /// To write down the calls.
    Log { calls: &'a str, log: &'a Path },
}

/// A process, with strace beside it or without.
pub(super) struct Process {
    /// strace, or the program itself.
    child: Child,
    traced: bool,
}

/// Whether strace is here and may trace.
pub fn can_trace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Process {
    /// Starts a program; what it says on its standard error is appended to `log`.
    pub(super) fn start(program: Command, trace: Trace<'_>, log: &Path) -> io::Result<Self> {
        let traced = !matches!(trace, Trace::Off);
        let mut command = match trace {
            Trace::Off => program,
            Trace::Kill { calls, nth } => {
                let inject = format!("inject={calls}:signal=SIGKILL:when={nth}");
                under_strace(&program, calls, &["-o", "/dev/null", "-e", &inject])
            }
            Trace::Log { calls, log } => under_strace(&program, calls, &["-o", &log.to_string_lossy()]),
        };
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(Self { child: command.spawn()?, traced })
    }

    /// What it says.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// `kill -9`. False: it had ended by itself.
    pub(super) fn kill(&mut self) -> io::Result<bool> {
        let own = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(is_killed(status));
            }
            // A tracer that dies leaves the program running. If the program dies, the tracer ends by itself.
            let victim = if self.traced { traced_by(own)? } else { Some(own) };
            if let Some(pid) = victim.and_then(rustix::process::Pid::from_raw) {
                // It may have ended in between.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// Whether a process was killed; strace ends in the way of the program that it traced.
pub(super) fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

fn under_strace(program: &Command, calls: &str, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={calls}")]).args(options);
    strace.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}

/// The program that strace runs; none yet, or none any more. strace's other children, which try out what the kernel can do,
/// are strace itself.
fn traced_by(strace: i32) -> io::Result<Option<i32>> {
    let Some(children) = found(fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")))? else {
        return Ok(None);
    };
    let program = |pid: i32| found(fs::read_link(format!("/proc/{pid}/exe")));
    let own = program(strace)?;
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        if program(child)?.is_some_and(|program| Some(program) != own) {
            return Ok(Some(child));
        }
    }
    Ok(None)
}

/// None of a process that has ended.
fn found<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traced_process_is_killed_at_once_however_young_it_is() {
        if !can_trace() {
            return println!("skipped: no strace");
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        for pause in 0..60 {
            let mut program = Command::new("sleep");
            program.arg("1000");
            let trace = Trace::Kill { calls: "writev", nth: 1000 };
            let mut process = Process::start(program, trace, log.path()).unwrap();
            thread::sleep(Duration::from_micros(100 * pause));
            assert!(process.kill().unwrap(), "after {pause} tenths of a millisecond");
        }
    }
}
