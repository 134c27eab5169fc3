//! Folders of the host's, shown inside by the tool, which shares them with the container's machine.
//!
//! Whose files are in a shared folder depends on who looks: by Apple's virtiofs each user inside owns
//! them, and on the host all is done as the user whose container it is. So whoever a command runs as
//! can do what the caller can, and what it makes there is the caller's.
//!
//! The tool opens a folder by its path. So it is looked at before and after, without following a
//! link; that it was another one in between can't be ruled out.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agentkernel_containers::MountPoint;
use agentkernel_core::{Access, BootError, Mount};
use agentkernel_sys::descriptor::{self, Links};

use crate::config::FOLDER;

/// Where the agent keeps or changes something, besides the home.
const OURS: [&str; 6] = [FOLDER, "/dev/shm", "/etc", "/proc", "/run", "/tmp"];

/// Refuses mounts that can't be. `home` is that of whom commands run as, as far as it is known.
pub fn check(mounts: &[Mount], home: &str) -> Result<(), BootError> {
    for mount in mounts {
        word(mount)?;
        refuse_hiding(mount, home)?;
        let other = mounts
            .iter()
            .find(|other| other.source == mount.source && other.access != mount.access);
        if other.is_some() {
            return Err(refused(
                mount,
                "it is asked for as ro and as rw, and the tool shares a folder as one of them only",
                "ask for one, or for folders in it",
            ));
        }
    }
    Ok(())
}

/// The tool's words for a mount. It takes them apart at commas and equals signs, without a way to
/// say that one is part of a path.
pub fn word(mount: &Mount) -> Result<String, BootError> {
    let read_only = match mount.access {
        Access::ReadOnly => ",readonly",
        Access::ReadWrite => "",
        Access::CopyOnWrite => {
            return Err(refused(
                mount,
                "changes to a folder that is shared with a virtual machine can't be kept apart: an \
                 overlay would show its files as root's",
                "mount it ro, or rw for changes that stay",
            ));
        }
    };
    match (said(&mount.source), said(&mount.target)) {
        (Some(source), Some(target)) => {
            Ok(format!("type=virtiofs,source={source},target={target}{read_only}"))
        }
        _ => Err(refused(
            mount,
            "the container command can't say a path with a comma, an equals sign, or what is no text",
            "rename it, or mount it elsewhere",
        )),
    }
}

/// A path that the tool can be told.
pub fn said(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| !path.contains(|c: char| matches!(c, ',' | '=') || c.is_control()))
}

/// The agent would change the modes and owners of the host's own files there.
fn refuse_hiding(mount: &Mount, home: &str) -> Result<(), BootError> {
    let mut ours = OURS.into_iter().chain([home]).map(Path::new);
    match ours.find(|own| own.starts_with(&mount.target)) {
        None if !mount.target.starts_with(FOLDER) => Ok(()),
        _ => Err(refused(
            mount,
            &format!("{} is where the sandbox keeps its own", mount.target.display()),
            "mount it at another path, or at one below",
        )),
    }
}

/// The folders of mounts, as they were found.
#[derive(Debug)]
pub struct Found(Vec<(u64, u64)>);

impl Found {
    /// Finds them on the host, and refuses what can't be mounted from there.
    pub fn look(mounts: &[Mount]) -> Result<Self, BootError> {
        let found = mounts.iter().map(|mount| {
            let place = place_of(&mount.source).map_err(|error| no_folder(mount, &error))?;
            may_be_used(mount).map_err(|error| no_folder(mount, &error))?;
            has_place(mount, mounts)?;
            Ok(place)
        });
        found.collect::<Result<_, _>>().map(Self)
    }

    /// Refuses to go on where they are others by now.
    pub fn are_still(&self, mounts: &[Mount]) -> Result<(), BootError> {
        let other = mounts
            .iter()
            .zip(&self.0)
            .find(|(mount, was)| place_of(&mount.source).ok().as_ref() != Some(was));
        match other {
            None => Ok(()),
            Some((mount, _)) => Err(refused(
                mount,
                "it became another folder while it was mounted",
                "see who has renamed it, or a folder above it",
            )),
        }
    }
}

/// What the folder at `path` is, which no link leads to.
fn place_of(path: &Path) -> io::Result<(u64, u64)> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let place = descriptor::resolve(descriptor::current_directory(), &text, Links::Refuse)?;
    let found = File::from(place).metadata()?;
    match found.is_dir() {
        true => Ok((found.dev(), found.ino())),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

fn may_be_used(mount: &Mount) -> io::Result<()> {
    fs::read_dir(&mount.source)?;
    fs::metadata(mount.source.join("."))?;
    match mount.access {
        Access::ReadWrite => descriptor::may_write(&mount.source),
        Access::ReadOnly | Access::CopyOnWrite => Ok(()),
    }
}

/// Refuses a mount in another folder of the host's that has no place for it: the tool would make one.
fn has_place(mount: &Mount, all: &[Mount]) -> Result<(), BootError> {
    let around = all
        .iter()
        .filter(|other| other.target != mount.target && mount.target.starts_with(&other.target));
    // The innermost is the one that is seen.
    let Some(around) = around.max_by_key(|other| other.target.as_os_str().len()) else {
        return Ok(());
    };
    let rest = mount.target.strip_prefix(&around.target).unwrap_or(&mount.target);
    let place = around.source.join(rest);
    place_of(&place).map(drop).map_err(|_| {
        refused(
            mount,
            &format!("it would be made in {}, where there is no such folder", place.display()),
            "make that folder, or mount it elsewhere",
        )
    })
}

fn no_folder(mount: &Mount, error: &io::Error) -> BootError {
    match error.kind() {
        io::ErrorKind::NotADirectory => refused(
            mount,
            "it is a file: the machine would be shown the whole folder around it",
            "mount a folder that has nothing else in it",
        ),
        _ => refused(
            mount,
            &format!("{error}"),
            "see who may read it, and for rw write to it, and that no part of its path is a link",
        ),
    }
}

/// Refuses a place in which the mounts are not as they should be, by what its agent has seen.
pub fn verify(mounts: &[Mount], seen: &[MountPoint]) -> Result<(), BootError> {
    for mount in mounts {
        // The last one hides what was there before.
        let found = seen.iter().rev().find(|one| Path::new(&one.path) == mount.target);
        let why = match found {
            None => "nothing is mounted there, or the image has a link on the way",
            Some(one) if one.read_only != (mount.access == Access::ReadOnly) => {
                "it can be written where it should not be, or the other way round"
            }
            Some(_) => continue,
        };
        return Err(refused(
            mount,
            &format!("inside, at {}: {why}", mount.target.display()),
            "mount it at a path that leads over no link",
        ));
    }
    Ok(())
}

fn refused(mount: &Mount, why: &str, fix: &str) -> BootError {
    BootError::Refused {
        why: format!(
            "{} can't be mounted in one of Apple's containers: {why}",
            mount.source.display()
        ),
        fix: fix.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mount(source: impl AsRef<Path>, target: &str, access: Access) -> Mount {
        Mount { source: source.as_ref().into(), target: target.into(), access }
    }

    fn told(done: Result<impl Sized, BootError>) -> String {
        match done {
            Ok(_) => String::new(),
            Err(BootError::Refused { why, .. }) => why,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// A folder of this test's.
    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("apple-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("real/inner")).unwrap();
        path.canonicalize().unwrap()
    }

    #[test]
    fn a_mount_is_said_in_the_tools_words() {
        let said = |access| word(&mount("/the source:1", "/data", access)).unwrap();
        let plain = "type=virtiofs,source=/the source:1,target=/data";
        assert_eq!(said(Access::ReadWrite), plain);
        assert_eq!(said(Access::ReadOnly), format!("{plain},readonly"));
        for (source, target) in [("/a,b", "/c"), ("/a", "/b=c"), ("/a\nb", "/c"), ("/a", "/b,ro")] {
            let why = told(word(&mount(source, target, Access::ReadOnly)));
            assert!(why.contains("can't say a path"), "{why}");
        }
        assert!(told(word(&mount("/a", "/b", Access::CopyOnWrite))).contains("overlay"));
    }

    #[test]
    fn what_is_the_sandboxs_own_is_not_hidden() {
        let check = |target| told(check(&[mount("/a", target, Access::ReadOnly)], "/home/agent"));
        for target in
            ["/.agentkernel", "/.agentkernel/x", "/etc", "/tmp", "/run", "/home", "/home/agent"]
        {
            assert!(check(target).contains("keeps its own"), "{target}");
        }
        for target in ["/data", "/tmp/a", "/home/agent/a", "/etc/service", "/runner"] {
            assert_eq!(check(target), "", "{target}");
        }
    }

    #[test]
    fn a_folder_is_shared_in_one_way_only() {
        let both = [mount("/a", "/b", Access::ReadOnly), mount("/a", "/c", Access::ReadWrite)];
        assert!(told(check(&both, "/root")).contains("as one of them only"));
        let same = [mount("/a", "/b", Access::ReadOnly), mount("/a", "/c", Access::ReadOnly)];
        assert!(check(&same, "/root").is_ok());
    }

    #[test]
    fn only_folders_that_no_link_leads_to_are_found() {
        let top = folder("found");
        symlink(top.join("real"), top.join("link")).unwrap();
        fs::write(top.join("file"), "").unwrap();
        let look =
            |name: &str| told(Found::look(&[mount(top.join(name), "/data", Access::ReadWrite)]));
        assert_eq!(look("real"), "");
        assert!(look("link").contains("link"), "{}", look("link"));
        assert!(look("link/inner").contains("link"));
        assert!(look("file").contains("it is a file"));
        assert!(look("none").contains("No such file"));
        // One that was swapped is noticed.
        let mounts = [mount(top.join("real"), "/data", Access::ReadOnly)];
        let found = Found::look(&mounts).unwrap();
        assert!(found.are_still(&mounts).is_ok());
        fs::rename(top.join("real"), top.join("other")).unwrap();
        fs::create_dir(top.join("real")).unwrap();
        assert!(told(found.are_still(&mounts)).contains("another folder"));
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn no_folder_is_made_in_the_hosts_own() {
        let top = folder("place");
        let within = |target: &str| {
            let outer = mount(top.join("real"), "/data", Access::ReadWrite);
            told(Found::look(&[outer, mount(&top, target, Access::ReadOnly)]))
        };
        assert_eq!(within("/data/inner"), "");
        assert!(within("/data/none").contains("no such folder"), "{}", within("/data/none"));
        assert_eq!(within("/database"), "");
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn mounts_that_are_not_seen_inside_are_refused() {
        let seen = |path: &str, read_only| MountPoint { path: path.into(), read_only };
        let all = [seen("/", false), seen("/data", false), seen("/data", true)];
        let check = |target, access| told(verify(&[mount("/a", target, access)], &all));
        assert_eq!(check("/data", Access::ReadOnly), "");
        assert!(check("/data", Access::ReadWrite).contains("other way round"));
        assert!(check("/none", Access::ReadOnly).contains("nothing is mounted there"));
    }
}
