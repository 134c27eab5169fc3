//! Who commands are in an image, and what has to be started for them.

use std::ffi::OsString;

use crate::{BootError, Command, Identity, ImageFacts, Process, Spec, User, no_user};

/// The image's own user, unless that is root.
fn image_user(image: &ImageFacts) -> Option<&str> {
    let user = image.user.as_deref()?;
    let name = user.split(':').next().unwrap_or_default();
    (!matches!(name, "" | "0" | "root")).then_some(user)
}

/// `user` in the image. Unless somebody is asked for, commands run as the image's own user, but
/// never as root; or as the caller, where there is nobody else.
/// `caller` is who calls, by the host's numbers.
pub fn identity(
    user: &User,
    image: &ImageFacts,
    caller: (u32, u32),
) -> Result<Identity, BootError> {
    match (user, image_user(image)) {
        _ if image.only_caller => only_caller(user, image, caller),
        (User::Unprivileged, Some(own)) => by_text(own, image, caller),
        // It is added to an image that has no user 1000.
        (User::Named(name), None) if name == "agent" => {
            identity(&User::Unprivileged, image, caller)
        }
        _ => {
            let found = Identity::in_image(user, &image.passwd, caller)?;
            let is_stranger = found.name.is_empty() && *user == User::Caller;
            // With a name and a home of one's own, as where there is no image.
            Ok(match (is_stranger, found.uid) {
                (true, 0) => Identity::known(0, found.gid, "root"),
                (true, uid) => Identity::known(uid, found.gid, "user"),
                (false, _) => found,
            })
        }
    }
}

/// The caller, who is the only one where the caller's folders are shown by the host's numbers.
fn only_caller(user: &User, image: &ImageFacts, caller: (u32, u32)) -> Result<Identity, BootError> {
    const INSTEAD: &str = "leave out the mounts, run agentkernel as root, or use rootless Podman";
    let others = ImageFacts { only_caller: false, ..image.clone() };
    let own = identity(&User::Caller, &others, caller).map_err(|error| match error {
        BootError::Refused { why, .. } => BootError::Refused { why, fix: INSTEAD.into() },
        other => other,
    })?;
    let found = match user {
        User::Unprivileged | User::Caller => return Ok(own),
        other => identity(other, &others, caller)?,
    };
    match (found.uid, found.gid) == (own.uid, own.gid) {
        true => Ok(own),
        false => Err(BootError::Refused {
            why: format!(
                "commands can't run as {}:{} where a project or a volume is mounted by an engine of \
                 root's: there you are {}:{}, as outside, and nobody else",
                found.uid, found.gid, own.uid, own.gid
            ),
            fix: format!("leave out --user, or {INSTEAD}"),
        }),
    }
}

/// `USER[:GROUP]`, each a name or a number.
fn by_text(text: &str, image: &ImageFacts, caller: (u32, u32)) -> Result<Identity, BootError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = match user.parse() {
        Ok(uid) => User::Ids { uid, gid: uid },
        Err(_) => User::Named(user.into()),
    };
    let found = Identity::in_image(&user, &image.passwd, caller)?;
    let gid = match group {
        Some(group) => group.parse().ok().or_else(|| group_number(group, &image.group)),
        // What the image's own list says of a number, as Docker has it.
        None => Some(primary_group(found.uid, &image.passwd).unwrap_or(found.gid)),
    };
    let gid = gid.ok_or_else(|| no_user(text, "its image names a group that it does not have"))?;
    Ok(Identity { gid, ..found })
}

fn group_number(name: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn primary_group(uid: u32, passwd: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then(|| fields.next()?.parse().ok()).flatten()
    })
}

/// What has to be started for `command` in a place of that image.
pub fn process(
    spec: &Spec,
    command: &Command,
    image: &ImageFacts,
    caller: (u32, u32),
) -> Result<Process, BootError> {
    let argv = words(command, image);
    if argv.is_empty() {
        return Err(BootError::Refused {
            why: "no command was given, and the image has none of its own".into(),
            fix: "name one after the flags, as in agentkernel run --image debian -- echo hello"
                .into(),
        });
    }
    let command = &Command { argv, ..command.clone() };
    let own = identity(&spec.user, image, caller)?;
    let asked = command.user.as_ref().map(|user| identity(user, image, caller)).transpose()?;
    let stranger = asked.as_ref().is_some_and(|asked| *asked != own);
    let identity = asked.unwrap_or(own);
    let variables: Vec<(&str, &str)> =
        image.environment.iter().filter_map(|pair| pair.split_once('=')).collect();
    let work = image.directory.as_ref().and_then(|directory| directory.to_str());
    let start = match work {
        Some(directory) if directory != "/" && !directory.is_empty() => directory,
        // Only its own user's home was made.
        _ if stranger => "/",
        _ => &identity.home,
    };
    Process::new(spec, command, &identity, &variables, start)
}

/// The words of a command in this image.
pub(crate) fn words(command: &Command, image: &ImageFacts) -> Vec<OsString> {
    let words = command.argv.clone();
    if !command.by_image {
        return words;
    }
    let own = if words.is_empty() { &*image.command } else { &[] };
    image.entrypoint.iter().chain(own).map(OsString::from).chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(user: &str) -> ImageFacts {
        ImageFacts {
            user: Some(user.into()),
            passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n".into(),
            group: "root:x:0:\nstaff:x:50:\n".into(),
            ..ImageFacts::default()
        }
    }

    #[test]
    fn where_folders_of_the_callers_are_shown_there_is_nobody_else() {
        let image = ImageFacts { only_caller: true, ..image("web") };
        let (uid, gid) = (1234, 5678);
        for user in [User::Unprivileged, User::Caller, User::Ids { uid, gid }] {
            let found = identity(&user, &image, (uid, gid)).unwrap();
            assert_eq!((found.uid, found.gid), (uid, gid), "{user:?}");
        }
        for other in [User::Ids { uid: uid + 1, gid }, User::Named("web".into())] {
            let refused = identity(&other, &image, (uid, gid));
            assert!(matches!(refused, Err(BootError::Refused { .. })), "{other:?}");
        }
    }

    #[test]
    fn the_images_own_user_counts_unless_it_is_root() {
        let of = |user: &str| {
            identity(&User::Unprivileged, &image(user), (1, 1)).map(|found| (found.uid, found.gid))
        };
        for (user, expected) in [
            ("", (1000, 1000)),
            ("root", (1000, 1000)),
            ("0:0", (1000, 1000)),
            ("web", (33, 34)),
            ("33", (33, 34)),
            ("web:staff", (33, 50)),
            ("7:8", (7, 8)),
            ("7", (7, 7)),
        ] {
            assert_eq!(of(user).unwrap(), expected, "{user}");
        }
        assert!(of("nobody-there").is_err() && of("web:no-such").is_err());
    }

    #[test]
    fn words_and_entrypoint_go_together_as_container_engines_have_it() {
        let os = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let image = ImageFacts {
            entrypoint: vec!["/entry".into(), "-x".into()],
            command: vec!["serve".into()],
            ..ImageFacts::default()
        };
        let of = |argv: &[&str], image: &ImageFacts, by_image| {
            words(&Command { argv: os(argv), by_image, ..Command::default() }, image)
        };
        assert_eq!(of(&["a", "b"], &image, false), os(&["a", "b"]));
        assert_eq!(of(&["a"], &image, true), os(&["/entry", "-x", "a"]));
        assert_eq!(of(&[], &image, true), os(&["/entry", "-x", "serve"]));
        let silent = ImageFacts::default();
        assert_eq!(of(&["a"], &silent, true), os(&["a"]));
        assert!(of(&[], &silent, true).is_empty() && of(&[], &image, false).is_empty());
    }
}
