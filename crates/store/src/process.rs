//! Processes that are remembered longer than the kernel remembers their numbers.

use std::fs::File;
use std::io::{self, Read};

/// One process of this boot or an earlier one, never to be mistaken for another one that got the
/// same number later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRef {
    pub pid: i32,
    /// When it was started, in clock ticks since boot; field 22 of `/proc/PID/stat`, see proc(5).
    pub start_time: u64,
    /// The boot that it was started in: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl ProcessRef {
    /// The process that has the number `pid` now, as the mounted `/proc` counts. A zombie has
    /// one, too.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self { pid, start_time: stat.start_time, boot_id: boot_id()? })
    }

    /// Whether it was started since the machine was booted. Where that can't be told, it was.
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Whether the process still runs. A zombie does not, and after a reboot none does. Where
    /// `/proc` can't tell, that is an error.
    pub fn is_alive(&self) -> io::Result<bool> {
        if boot_id()? != self.boot_id {
            return Ok(false);
        }
        match Stat::read(self.pid) {
            Ok(stat) => Ok(stat.start_time == self.start_time && !stat.dead),
            Err(err) if is_gone(&err) => Ok(false),
            Err(err) => Err(err),
        }
    }
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    dead: bool,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Self> {
        let text = read(&format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat makes no sense"))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold spaces and
        // parentheses itself. The third, the state, comes after the last one.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X" | "x");
        let start_time = fields.nth(22 - 4)?.parse().ok()?;
        Some(Self { dead, start_time })
    }
}

/// A process may go away before its file is opened (ENOENT) or while it is read (ESRCH).
fn is_gone(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::NotFound
        || err.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn boot_id() -> io::Result<String> {
    Ok(read("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// Reads a small file of the kernel's, whose size is not known before: so much at once as none has.
fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(1024);
    File::open(path)?.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn me() -> ProcessRef {
        ProcessRef::of(std::process::id() as i32).unwrap()
    }

    #[test]
    fn a_running_process_is_alive() {
        assert!(me().is_alive().unwrap());
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let earlier = ProcessRef { start_time: me().start_time - 1, ..me() };
        assert!(!earlier.is_alive().unwrap());
    }

    #[test]
    fn after_a_reboot_nothing_is_alive() {
        let earlier = ProcessRef { boot_id: "another".into(), ..me() };
        assert!(!earlier.is_alive().unwrap());
    }

    #[test]
    fn a_zombie_and_what_is_gone_are_dead() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = ProcessRef::of(child.id() as i32).unwrap();
        assert!(process.is_alive().unwrap());
        drop(child.stdin.take());
        // It has not been waited for, so once it ends it stays a zombie.
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).unwrap();
        assert_eq!(ProcessRef::of(process.pid).unwrap(), process);
        assert!(!process.is_alive().unwrap());
        child.wait().unwrap();
        assert!(!process.is_alive().unwrap());
    }

    #[test]
    fn a_program_may_have_any_name() {
        let after = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["cat", "a b", ") Z 1 (", ") Z "] {
            let stat = Stat::parse(&format!("7 ({name}) {after}")).unwrap();
            assert!(!stat.dead && stat.start_time == 4711, "{name}");
        }
        assert!(Stat::parse("7 (cat) S 1 2").is_none());
    }
}
