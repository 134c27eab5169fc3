//! Users, as a sandbox sees them.

use crate::{BootError, User};

/// How many numbers of users and groups a sandbox has, from 0 on.
pub const NUMBERS: u32 = 0x1_0000;

/// A user as a sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Empty where the image has no name for the number.
    pub name: String,
    pub home: String,
}

impl Identity {
    /// A user of this name with a home of its own.
    pub fn known(uid: u32, gid: u32, name: &str) -> Self {
        let home = if uid == 0 { "/root".into() } else { format!("/home/{name}") };
        Self { uid, gid, name: name.into(), home }
    }

    /// Resolves `user` for an image with the users of `passwd`, a text in the form of
    /// `/etc/passwd`. `caller` is who calls, by the host's numbers.
    pub fn in_image(user: &User, passwd: &str, caller: (u32, u32)) -> Result<Self, BootError> {
        let by_number = |uid: u32, gid: u32| {
            let entry = entries(passwd).find(|entry| entry.uid == uid);
            entry.map_or_else(
                || Self { uid, gid, name: String::new(), home: "/".into() },
                |entry| Self { gid, ..entry },
            )
        };
        match user {
            User::Unprivileged => Ok(entries(passwd)
                .find(|entry| entry.uid == 1000)
                .unwrap_or_else(|| Self::known(1000, 1000, "agent"))),
            User::Caller => {
                let (uid, gid) = caller;
                check_caller(uid, gid)?;
                Ok(by_number(uid, gid))
            }
            User::Ids { uid, gid } => Ok(by_number(*uid, *gid)),
            User::Named(name) => {
                let found = entries(passwd).find(|entry| entry.name == *name);
                found.ok_or_else(|| {
                    no_user(name, "use a name of the image's /etc/passwd, or UID[:GID]")
                })
            }
        }
    }
}

impl Identity {
    /// What is to be added to an image's lists of users and groups, in the forms of `/etc/passwd` and
    /// `/etc/group`, if they do not know this one, who has a name.
    pub fn lines_for(&self, passwd: &str, group: &str) -> (Option<String>, Option<String>) {
        let Self { uid, gid, name, home } = self;
        let known = |list: &str, number: &u32| {
            let mut entries = list.lines().filter_map(|line| line.split(':').nth(2));
            entries.any(|entry| entry.parse() == Ok(*number))
        };
        let line = |list: &str, number: &u32, line: String| {
            let gap = if list.is_empty() || list.ends_with('\n') { "" } else { "\n" };
            (!name.is_empty() && !known(list, number)).then(|| format!("{gap}{line}\n"))
        };
        (
            line(passwd, uid, format!("{name}:x:{uid}:{gid}::{home}:/bin/sh")),
            line(group, gid, format!("{name}:x:{gid}:")),
        )
    }
}

/// Refuses a caller whose numbers a sandbox does not have.
pub fn check_caller(uid: u32, gid: u32) -> Result<(), BootError> {
    match uid.max(gid) {
        0..NUMBERS => Ok(()),
        number => Err(BootError::Refused {
            why: format!("the caller's number {number} is above 65535, the last one in a sandbox"),
            fix: "name another user with --user UID[:GID]".into(),
        }),
    }
}

/// Why a name is of no use.
pub fn no_user(name: &str, fix: &str) -> BootError {
    BootError::Refused { why: format!("the image has no user {name:?}"), fix: fix.into() }
}

/// The users of a text in the form of `/etc/passwd`.
fn entries(passwd: &str) -> impl Iterator<Item = Identity> + '_ {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
        (uid < NUMBERS && gid < NUMBERS).then_some(Identity { uid, gid, name, home })
    })
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
}
