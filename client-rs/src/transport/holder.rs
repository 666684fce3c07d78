//! Who this process is, and whether another process of this host still lives.

use autolrs_core::job::Holder;

/// This process. The host is its name and, on Linux, the process name space: two containers with one host name are
/// different hosts here.
pub(super) fn this_process() -> Holder {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name_space = std::fs::read_link("/proc/self/ns/pid").ok();
    let host = match name_space {
        Some(name_space) => format!("{name}/{}", name_space.display()),
        None => name,
    };
    Holder { host, pid: std::process::id() }
}

/// Whether no process of this number runs on this host.
pub(super) fn is_dead(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| {
        matches!(rustix::process::test_kill_process(pid), Err(error) if error == rustix::io::Errno::SRCH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead_are_told_apart() {
        assert!(!is_dead(this_process().pid));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_dead(child.id()));
        assert!(!is_dead(0) && !is_dead(u32::MAX));
    }
}
