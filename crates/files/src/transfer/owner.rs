//! Whom new files belong to.

use std::process::abort;

use rustix::fs::{Gid, Stat, Uid};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitySets, capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid,
};

/// The user and the group that new files are to belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    user: Uid,
    group: Gid,
    /// Whether files have to be made as somebody else, and as whom the thread goes on then.
    instead_of: Option<(Uid, Gid)>,
}

impl Owner {
    /// `None` is the caller.
    pub fn new(numbers: Option<(u32, u32)>) -> Self {
        let me = (geteuid(), getegid());
        let (user, group) =
            numbers.map_or(me, |(user, group)| (Uid::from_raw(user), Gid::from_raw(group)));
        // Nobody but root can be somebody else; what others make is theirs, and the check of the owner tells.
        let instead_of = (me.0.is_root() && me != (user, group)).then_some(me);
        Self { user, group, instead_of }
    }

    pub fn user(&self) -> Uid {
        self.user
    }

    pub fn group(&self) -> Gid {
        self.group
    }

    pub fn owns(&self, stat: &Stat) -> bool {
        (stat.st_uid, stat.st_gid) == (self.user.as_raw(), self.group.as_raw())
    }

    /// Makes something as the owner, with all capabilities that the thread has.
    pub fn make<T>(&self, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let Some(me) = self.instead_of else { return make() };
        let _disguise = Disguise::put_on(self, me)?;
        make()
    }
}

/// While it lives the calling thread's effective numbers are those of somebody else.
struct Disguise {
    me: (Uid, Gid),
    capabilities: CapabilitySets,
}

impl Disguise {
    fn put_on(owner: &Owner, me: (Uid, Gid)) -> Result<Self, Errno> {
        let disguise = Self { me, capabilities: capabilities(None)? };
        set_thread_res_gid(None, owner.group, None)?;
        set_thread_res_uid(None, owner.user, None)?;
        // To be no longer root takes the effective capabilities away, but not the right to have them back.
        set_capabilities(None, disguise.capabilities)?;
        Ok(disguise)
    }
}

impl Drop for Disguise {
    fn drop(&mut self) {
        let (user, group) = self.me;
        let done = set_thread_res_uid(None, user, None)
            .and_then(|()| set_thread_res_gid(None, group, None))
            .and_then(|()| set_capabilities(None, self.capabilities));
        if done.is_err() {
            // The saved numbers allow it, so it can't fail; to go on as the sandbox's user would be wrong.
            abort();
        }
    }
}
