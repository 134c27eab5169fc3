//! Users, groups and privileges of a process.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::check;
use crate::descriptor::open_write;
use crate::process::{Fork, Namespaces, exit_now, fork, prctl};

/// The calling process's effective user and group. Child-safe.
pub fn effective() -> (u32, u32) {
    // SAFETY: neither can fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Has the calling thread become `uid` and `gid` in every sense, without supplementary groups if
/// `drop_groups`. Capabilities in a user namespace of the caller's own stay until an exec. Child-safe:
/// the C library's own calls would wait in a child for the threads that its parent had (nptl(7)).
pub fn become_user(uid: u32, gid: u32, drop_groups: bool) -> io::Result<()> {
    if drop_groups {
        let none = std::ptr::null::<libc::gid_t>();
        // SAFETY: an empty list has no members to be read.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, none) })?;
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Does `work` with the rights over files that `uid` and `gid` have, which may be more than those of
/// a user 0 without capabilities, who must be who calls.
pub fn with_files_of<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    // SAFETY: no memory is involved. Whoever may not change them goes on with those that there are.
    let set = |uid, gid| unsafe { (libc::setfsgid(gid), libc::setfsuid(uid)) };
    set(uid, gid);
    let done = work();
    let (own, group) = effective();
    set(own, group);
    done
}

/// Keeps every later exec from granting a privilege, by setuid bits or otherwise. Child-safe.
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Keeps every later exec from granting a capability, not even to user 0: empties the bounding
/// set. Child-safe.
pub fn drop_bounding_capabilities() -> io::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            // The kernel knows fewer; all that it knows are dropped.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            // Whoever may drop none may have none to be dropped.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                // SAFETY: no memory is involved.
                match check(unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability) }) {
                    Ok(0) => {}
                    Err(unknown) if unknown.raw_os_error() == Some(libc::EINVAL) => break,
                    _ => return Err(error),
                }
            }
            result => result?,
        }
    }
    Ok(())
}

/// Gives up every capability at once: the effective, permitted, inheritable and ambient sets are
/// empty afterwards. Child-safe.
pub fn drop_capabilities() -> io::Result<()> {
    /// The version of the interface with two words for each set, `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: VERSION_3, pid: 0 };
    // Effective, permitted and inheritable, twice 32 bits each. The ambient set follows.
    let none = [0_u32; 6];
    // SAFETY: header and sets have the sizes that this version of the interface reads.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) }).map(drop)
}

/// One range of numbers that a user namespace maps: `count` numbers from `inside` on stand for
/// those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// Sets the users and groups that `process`'s new user namespace maps. Whoever may not set
/// groups outside can map only itself, and has first to forbid it inside: `deny_groups`.
/// `process` is a folder of `/proc` such as `self`. Child-safe.
pub fn map_ids(process: &CStr, uid: Range, gid: Range, deny_groups: bool) -> io::Result<()> {
    let mut path = Text::<64>::default();
    let mut write = |file: &[u8], line: &[u8]| {
        path.clear();
        path.push(b"/proc/");
        path.push(process.to_bytes());
        path.push(file);
        let target = open_write(path.as_c_str()?)?;
        crate::descriptor::write(target.as_fd(), line).map(drop)
    };
    if deny_groups {
        write(b"/setgroups", b"deny")?;
    }
    for (file, range) in [(&b"/uid_map"[..], uid), (b"/gid_map", gid)] {
        let mut line = Text::<64>::default();
        for number in [range.inside, range.outside, range.count] {
            line.push_number(number);
            line.push(b" ");
        }
        write(file, line.as_bytes())?;
    }
    Ok(())
}

/// How many inotify instances a place may have: they count against the caller, who has 128 as a rule,
/// and needs some for itself.
pub const INOTIFY_INSTANCES: u32 = 16;

/// Limits how many inotify instances processes in the calling process's user namespace may have
/// together. Child-safe.
pub fn limit_inotify_instances(most: u32) -> io::Result<()> {
    let mut text = Text::<64>::default();
    text.push_number(most);
    let setting = open_write(c"/proc/sys/user/max_inotify_instances")?;
    crate::descriptor::write(setting.as_fd(), text.as_bytes()).map(drop)
}

/// Text on the stack, for places where nothing may allocate. What does not fit is cut off, which
/// its readers notice.
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn push(&mut self, bytes: &[u8]) {
        // The last byte stays 0, which ends the text for as_c_str.
        let take = bytes.len().min(N - 1 - self.len);
        self.bytes[self.len..self.len + take].copy_from_slice(&bytes[..take]);
        self.len += take;
    }

    fn push_number(&mut self, number: u32) {
        let mut digits = [0; 10];
        let (mut first, mut rest) = (digits.len(), number);
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn as_c_str(&self) -> io::Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes)
            .map_err(|_| io::Error::from_raw_os_error(libc::ENAMETOOLONG))
    }
}

/// Whether the calling process's user namespace has the user and group numbers from `first` on.
pub fn has_numbers(first: u32, count: u32) -> bool {
    [c"/proc/self/uid_map", c"/proc/self/gid_map"].iter().all(|path| {
        // Without /proc nothing can be mapped, and whoever tries says so.
        file_covers(path, first, count).unwrap_or(true)
    })
}

/// Reads a map until a line covers the numbers, which most often is its only one. A line that is cut
/// off where a read ends covers less than it says, never more.
fn file_covers(path: &CStr, first: u32, count: u32) -> io::Result<bool> {
    let file = crate::descriptor::open_read(path)?;
    let (mut map, mut buffer) = (String::new(), [0; 1024]);
    loop {
        let read = crate::descriptor::read(file.as_fd(), &mut buffer)?;
        map += &String::from_utf8_lossy(&buffer[..read]);
        if read == 0 || covers(&map, first, count) {
            return Ok(read > 0);
        }
    }
}

/// Whether a line of `map` covers the numbers from `first` on, seen from inside.
fn covers(map: &str, first: u32, count: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
        let (start, _, len) = (numbers.next(), numbers.next(), numbers.next());
        let (start, len) = (start.unwrap_or(0), len.unwrap_or(0));
        start <= u64::from(first) && u64::from(first) + u64::from(count) <= start + len
    })
}

/// A user namespace that nobody lives in, mapping `uid` and `gid`: for
/// [`Detached::map_owners`](crate::mount::Detached::map_owners).
pub fn mapping_namespace(uid: Range, gid: Range) -> io::Result<OwnedFd> {
    let (reading, writing) = crate::descriptor::pipe()?;
    let child = match fork(Namespaces::USER, None)? {
        Fork::Child => {
            drop(writing);
            // It lives until the parent has what it wants and closes the pipe, or dies.
            let _ = crate::descriptor::read(reading.as_fd(), &mut [0]);
            exit_now(0)
        }
        Fork::Parent(child) => child,
    };
    let process = CString::new(child.pid().to_string())?;
    let opened = map_ids(&process, uid, gid, false).and_then(|()| child.user_namespace());
    drop(writing);
    child.wait()?;
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_covers_what_lies_in_one_of_its_lines() {
        let host = "         0          0 4294967295\n";
        assert!(covers(host, 1_790_967_808, 65536));
        let container = "0 100000 65536\n70000 200000 10\n";
        assert!(covers(container, 0, 65536));
        assert!(!covers(container, 1, 65536));
        assert!(!covers(container, 1_790_967_808, 65536));
        assert!(!covers("", 0, 1));
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut text = Text::<64>::default();
        for number in [0, 7, 65536, u32::MAX] {
            text.push_number(number);
            text.push(b" ");
        }
        assert_eq!(text.as_bytes(), b"0 7 65536 4294967295 ");
    }
}
