//! Who a command is, inside and outside.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use agentkernel_core::{BootError, User};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity::{self, Range};

/// The host's numbers for the users of sandboxes that root starts: 65536 from here on, so that no
/// process in a sandbox is root, or anybody else, outside. They lie in the range that systemd
/// leaves to containers (524288 to 1879048191, systemd's UIDS-GIDS).
pub const OUTSIDE_BASE: u32 = 0x6ac0_0000;
pub const OUTSIDE_COUNT: u32 = 0x1_0000;

/// A user as a sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Empty where the image has no name for the number.
    pub name: String,
    pub home: String,
}

/// How the numbers inside stand for numbers outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Root has a whole range of numbers mapped, none of them anyone's.
    Many,
    /// An ordinary user is all users of its sandboxes.
    Single { uid: u32, gid: u32 },
}

impl Mapping {
    /// What the caller may map. A root that has too few numbers itself, because it is one in a
    /// user namespace, can map only itself, as anybody can.
    pub fn for_caller() -> Self {
        static CALLER: OnceLock<Mapping> = OnceLock::new();
        *CALLER.get_or_init(|| match identity::effective() {
            (0, _) if identity::has_numbers(OUTSIDE_BASE, OUTSIDE_COUNT) => Self::Many,
            (uid, gid) => Self::Single { uid, gid },
        })
    }

    /// The ranges of users and of groups for a sandbox whose command is `identity`.
    pub fn ranges(self, identity: &Identity) -> (Range, Range) {
        match self {
            Self::Many => {
                let all = Range { inside: 0, outside: OUTSIDE_BASE, count: OUTSIDE_COUNT };
                (all, all)
            }
            Self::Single { uid, gid } => (one(identity.uid, uid), one(identity.gid, gid)),
        }
    }

    /// The host's numbers for `identity`.
    pub fn outside(self, identity: &Identity) -> (u32, u32) {
        match self {
            Self::Many => (OUTSIDE_BASE + identity.uid, OUTSIDE_BASE + identity.gid),
            Self::Single { uid, gid } => (uid, gid),
        }
    }
}

/// A range of one number.
pub fn one(inside: u32, outside: u32) -> Range {
    Range { inside, outside, count: 1 }
}

/// Resolves `user` for the host image, whose users are made up: root, agent, nobody, the caller.
pub fn for_host(user: &User) -> Result<Identity, BootError> {
    let (caller, group) = identity::effective();
    match user {
        User::Unprivileged => Ok(known(1000, 1000, "agent")),
        User::Caller if caller < OUTSIDE_COUNT && group < OUTSIDE_COUNT => {
            Ok(known(caller, group, if caller == 0 { "root" } else { "user" }))
        }
        User::Caller => Err(out_of_range(caller.max(group))),
        User::Named(name) => match name.as_str() {
            "agent" => Ok(known(1000, 1000, "agent")),
            "root" => Ok(known(0, 0, "root")),
            "nobody" => Ok(known(65534, 65534, "nobody")),
            _ => Err(unknown(name, "the host image has the users agent, root and nobody")),
        },
        User::Ids { uid: 0, gid } => Ok(known(0, *gid, "root")),
        User::Ids { uid: 1000, gid } => Ok(known(1000, *gid, "agent")),
        User::Ids { uid, gid } => Ok(known(*uid, *gid, "user")),
    }
}

fn known(uid: u32, gid: u32, name: &str) -> Identity {
    let home = if uid == 0 { "/root".into() } else { format!("/home/{name}") };
    Identity { uid, gid, name: name.into(), home }
}

/// Resolves `user` for the image whose root directory is `root`, by its own `/etc/passwd`.
pub fn for_rootfs(user: &User, root: BorrowedFd<'_>) -> Result<Identity, BootError> {
    let passwd = read_passwd(root);
    let by_number = |uid: u32, gid: u32| {
        let entry = entries(&passwd).find(|entry| entry.uid == uid);
        entry.map_or_else(
            || Identity { uid, gid, name: String::new(), home: "/".into() },
            |entry| Identity { gid, ..entry },
        )
    };
    match user {
        User::Unprivileged => Ok(match entries(&passwd).find(|entry| entry.uid == 1000) {
            Some(entry) => entry,
            None => known(1000, 1000, "agent"),
        }),
        User::Caller => {
            let (uid, gid) = identity::effective();
            if uid.max(gid) < OUTSIDE_COUNT {
                Ok(by_number(uid, gid))
            } else {
                Err(out_of_range(uid.max(gid)))
            }
        }
        User::Ids { uid, gid } => Ok(by_number(*uid, *gid)),
        User::Named(name) => entries(&passwd)
            .find(|entry| entry.name == *name)
            .ok_or_else(|| unknown(name, "use a name of the image's /etc/passwd, or UID[:GID]")),
    }
}

/// The image's `/etc/passwd`, or nothing: an image needs none. A link in the image leads nowhere
/// outside it.
fn read_passwd(root: BorrowedFd<'_>) -> String {
    /// More than any machine's list of users, less than what would hurt to hold.
    const MOST: u64 = 1 << 20;
    let path = CString::from(c"etc/passwd");
    let mut text = Vec::new();
    if let Ok(fd) = descriptor::open_read_at(root.as_fd(), &path, Links::Confine) {
        // A file that can't be read has no users.
        let _ = File::from(fd).take(MOST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn entries(passwd: &str) -> impl Iterator<Item = Identity> + '_ {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
        (uid < OUTSIDE_COUNT && gid < OUTSIDE_COUNT).then_some(Identity { uid, gid, name, home })
    })
}

fn unknown(name: &str, fix: &str) -> BootError {
    BootError::Refused { why: format!("the image has no user {name:?}"), fix: fix.into() }
}

fn out_of_range(number: u32) -> BootError {
    BootError::Refused {
        why: format!("the caller's number {number} is above 65535, the last one in a sandbox"),
        fix: "name another user with --user UID[:GID]".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines_that_make_no_sense_are_passed_over() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nx:y:z:1::/\nbig:x:70000:1::/:\n\
                    web:x:33:33::relative:/bin/sh\n";
        let all: Vec<Identity> = entries(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].name.as_str(), all[0].home.as_str()), ("root", "/root"));
        assert_eq!((all[1].name.as_str(), all[1].home.as_str()), ("web", "/"));
    }

    #[test]
    fn nobody_in_a_sandbox_of_roots_is_anybody_outside() {
        let (uid, gid) = Mapping::Many.outside(&known(0, 0, "root"));
        assert!(uid >= 524_288 && gid >= 524_288);
        const { assert!(OUTSIDE_BASE + OUTSIDE_COUNT <= 1_879_048_192) };
    }
}
