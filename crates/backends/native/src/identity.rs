//! Who a command is, inside and outside.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use agentkernel_core::{BootError, Identity, NUMBERS, User, check_caller, no_user};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity::{self, Range};

/// The host's numbers for the users of sandboxes that root starts: 65536 from here on, so that no
/// process in a sandbox is root, or anybody else, outside. They lie in the range that systemd
/// leaves to containers (524288 to 1879048191, systemd's UIDS-GIDS).
pub const OUTSIDE_BASE: u32 = 0x6ac0_0000;
pub const OUTSIDE_COUNT: u32 = NUMBERS;

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
    let known = Identity::known;
    match user {
        User::Unprivileged => Ok(known(1000, 1000, "agent")),
        User::Caller => {
            let (caller, group) = identity::effective();
            check_caller(caller, group)?;
            Ok(known(caller, group, if caller == 0 { "root" } else { "user" }))
        }
        User::Named(name) => match name.as_str() {
            "agent" => Ok(known(1000, 1000, "agent")),
            "root" => Ok(known(0, 0, "root")),
            "nobody" => Ok(known(65534, 65534, "nobody")),
            _ => Err(no_user(name, "the host image has the users agent, root and nobody")),
        },
        User::Ids { uid: 0, gid } => Ok(known(0, *gid, "root")),
        User::Ids { uid: 1000, gid } => Ok(known(1000, *gid, "agent")),
        User::Ids { uid, gid } => Ok(known(*uid, *gid, "user")),
    }
}

/// The list at this place in an image, or nothing: an image needs none. A link in the image leads
/// nowhere outside it.
pub fn read_list(root: BorrowedFd<'_>, path: &CStr) -> String {
    /// More than any machine's list of users, less than what would hurt to hold.
    const MOST: u64 = 1 << 20;
    let mut text = Vec::new();
    if let Ok(fd) = descriptor::open_read_at(root.as_fd(), path, Links::Confine) {
        // A file that can't be read has no users.
        let _ = File::from(fd).take(MOST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_in_a_sandbox_of_roots_is_anybody_outside() {
        let (uid, gid) = Mapping::Many.outside(&Identity::known(0, 0, "root"));
        assert!(uid >= 524_288 && gid >= 524_288);
        const { assert!(OUTSIDE_BASE + OUTSIDE_COUNT <= 1_879_048_192) };
    }
}
