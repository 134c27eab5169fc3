//! Mounts that the engine makes: for an ordinary user of root's, who may add none from outside.
//!
//! They show the host's numbers as they are, so that commands have to run as the caller. The engine
//! finds what it mounts by its path, as root, and follows links that others may have put there since
//! we looked. So what is meant is held here, and compared with what the agent sees in the container,
//! before anything else is done there.
//!
//! Nobody can make them `nosuid` and `nodev`, as ours are. No setuid bit counts, for the whole container
//! gains no new privileges; and no device can be opened but those that the container's own control
//! group names, nor made by whoever has no capability for it.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentkernel_core::{Access, BootError, Mount};
use agentkernel_sys::descriptor::{self, Links};

use crate::agent::AGENT;
use crate::greeting::{About, Seen};
use crate::place::shares;

/// What the engine itself mounts, for which it would make places in the caller's folders.
const ENGINES: [&str; 4] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", AGENT];

/// A spec's mounts, with what they are to show.
#[derive(Debug)]
pub struct Bound<'a> {
    pub mounts: &'a [Mount],
    held: Vec<(File, Metadata)>,
}

impl<'a> Bound<'a> {
    /// Finds what is to be mounted, without following a link and with the caller's rights, or says
    /// why `engine`, which is root's, is not asked for it.
    pub fn hold(mounts: &'a [Mount], engine: &str) -> Result<Self, BootError> {
        let held = mounts.iter().map(|mount| hold(mount, engine)).collect::<Result<_, _>>()?;
        let bound = Self { mounts, held };
        mounts.iter().enumerate().try_for_each(|(number, _)| bound.check_place(number))?;
        Ok(bound)
    }

    /// Where they are to be inside.
    pub fn targets(&self) -> Vec<PathBuf> {
        self.mounts.iter().map(|mount| mount.target.clone()).collect()
    }

    /// Whether `path` is shown by one of them, or hidden.
    pub fn covers(&self, path: &Path) -> bool {
        self.mounts.iter().any(|mount| path.starts_with(&mount.target))
    }

    /// Refuses a place that the engine, as root, would have to make in a folder of the caller's.
    fn check_place(&self, number: usize) -> Result<(), BootError> {
        let mount = &self.mounts[number];
        let around = self.mounts.iter().zip(&self.held).filter_map(|(other, (file, _))| {
            let inner = mount.target.strip_prefix(&other.target).ok()?;
            (other.target != mount.target).then_some((other, file, inner))
        });
        let Some((other, file, inner)) =
            around.max_by_key(|(other, ..)| other.target.as_os_str().len())
        else {
            return Ok(());
        };
        let there = place(file, inner).and_then(|place| place.metadata());
        match there.is_ok_and(|there| there.is_dir() == self.held[number].1.is_dir()) {
            true => Ok(()),
            false => Err(BootError::Refused {
                why: format!(
                    "{} can't be mounted at {}: there is no place for it in {}, where the engine would \
                     make one as root",
                    mount.source.display(),
                    mount.target.display(),
                    other.source.display()
                ),
                fix: "make an empty directory or file there".into(),
            }),
        }
    }

    /// Refuses a container that has users of its own, as by userns-remap.
    pub fn check_users(&self, about: &About) -> Result<(), BootError> {
        match shares(about, "user") {
            Ok(true) => Ok(()),
            Ok(false) => Err(BootError::Refused {
                why: "nothing can be mounted: the engine gives containers users of their own, to whom \
                      your files would be another's"
                    .into(),
                fix: "leave out the mounts, run agentkernel as root, or use rootless Podman".into(),
            }),
            Err(source) => {
                Err(BootError::Failed { what: "can't look at the own namespaces".into(), source })
            }
        }
    }

    /// Compares them with what the agent sees in the container, whether they are right and closed.
    pub fn check(&self, seen: &[Option<Seen>]) -> Result<(), BootError> {
        let all = self.mounts.iter().zip(&self.held).enumerate();
        for (number, (mount, (_, held))) in all {
            let seen = seen.get(number).and_then(Option::as_ref);
            let same = |seen: &&Seen| (seen.device, seen.inode) == (held.dev(), held.ino());
            let Some(seen) = seen.filter(same) else { return Err(swapped(mount)) };
            if mount.access == Access::ReadOnly && !seen.read_only {
                return Err(open_below(mount));
            }
        }
        Ok(())
    }
}

fn hold(mount: &Mount, engine: &str) -> Result<(File, Metadata), BootError> {
    let source = mount.source.display();
    if mount.access == Access::CopyOnWrite {
        return Err(BootError::Refused {
            why: format!(
                "{source} can't be mounted cow: {engine} runs as root, and only root may add more than \
                 plain mounts to its containers"
            ),
            fix: format!(
                "mount it ro or rw, as with --project={source}:rw; or run agentkernel as root, or use \
                 rootless Podman"
            ),
        });
    }
    if needs(&mount.target) {
        return Err(BootError::Refused {
            why: format!(
                "nothing can be mounted at {}: {engine} has something of its own to mount there",
                mount.target.display()
            ),
            fix: "mount it elsewhere".into(),
        });
    }
    if [&mount.source, &mount.target].iter().any(|path| path.to_str().is_none()) {
        return Err(BootError::Refused {
            why: format!("{source} can't be mounted: {engine} takes paths of UTF-8 alone"),
            fix: "give it another name".into(),
        });
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => BootError::Refused {
            why: format!("{source} can't be mounted {}: {error}", word(mount.access)),
            fix: "mount what you may use yourself, which is all that commands can".into(),
        },
        _ => BootError::Failed { what: format!("can't mount {source}"), source: error },
    };
    let file = place_from(descriptor::current_directory(), &mount.source).map_err(failed)?;
    descriptor::may_use(file.as_fd(), mount.access == Access::ReadWrite).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    Ok((file, metadata))
}

/// Whether the engine needs what is at `target`, or a place in it.
fn needs(target: &Path) -> bool {
    let ours = Path::new(AGENT).parent().is_some_and(|folder| target.starts_with(folder));
    ours || ENGINES.iter().map(Path::new).any(|own| own != target && own.starts_with(target))
}

fn word(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
        Access::CopyOnWrite => "cow",
    }
}

fn place(folder: &File, inner: &Path) -> io::Result<File> {
    place_from(folder.as_fd(), inner)
}

fn place_from(from: std::os::fd::BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    descriptor::resolve(from, &path, Links::Refuse).map(File::from)
}

fn swapped(mount: &Mount) -> BootError {
    BootError::Refused {
        why: format!(
            "what the engine has mounted at {} is not {}: somebody has put something else there \
             meanwhile, or the engine sees other folders than you",
            mount.target.display(),
            mount.source.display()
        ),
        fix:
            "see who may write in the folders above it, and whether the engine runs in a container"
                .into(),
    }
}

fn open_below(mount: &Mount) -> BootError {
    BootError::Refused {
        why: format!(
            "{} can't be mounted ro: something else is mounted in it, which the engine would leave open \
             to be written to",
            mount.source.display()
        ),
        fix: "mount what is needed of it alone, or run agentkernel as root".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bound-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("source/inner")).unwrap();
            symlink("source", path.join("link")).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn mount(&self, source: &str, target: &str, access: Access) -> Mount {
            Mount { source: self.0.join(source), target: target.into(), access }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn why(mounts: &[Mount]) -> String {
        Bound::hold(mounts, "Docker").unwrap_err().to_string()
    }

    #[test]
    fn what_the_engine_must_not_mount_is_refused() {
        use Access::{CopyOnWrite, ReadOnly, ReadWrite};
        let folder = Folder::new("refused");
        let mount = |source, target, access| folder.mount(source, target, access);
        assert!(why(&[mount("source", "/x", CopyOnWrite)]).contains("cow"));
        assert!(why(&[mount("link", "/x", ReadOnly)]).contains("can't mount"));
        assert!(why(&[mount("link/inner", "/x", ReadOnly)]).contains("can't mount"));
        for own in ["/etc", "/.agentkernel", "/.agentkernel/agent", "/.agentkernel/x"] {
            assert!(why(&[mount("source", own, ReadOnly)]).contains("of its own"), "{own}");
        }
        let outer = mount("source", "/x", ReadWrite);
        let inner = |target| [outer.clone(), mount("source", target, ReadOnly)];
        assert!(why(&inner("/x/no-such")).contains("no place for it"));
        assert!(Bound::hold(&inner("/x/inner"), "Docker").is_ok());
        assert!(Bound::hold(&inner("/x-beside"), "Docker").is_ok());
    }

    #[test]
    fn what_is_seen_inside_must_be_what_is_held() {
        let folder = Folder::new("seen");
        let mounts = [folder.mount("source", "/x", Access::ReadOnly)];
        let bound = Bound::hold(&mounts, "Docker").unwrap();
        let held = fs::metadata(folder.0.join("source")).unwrap();
        let seen = Seen { device: held.dev(), inode: held.ino(), read_only: true };
        assert!(bound.check(&[Some(seen.clone())]).is_ok());
        let open = Seen { read_only: false, ..seen.clone() };
        let other = Seen { inode: seen.inode + 1, ..seen };
        for wrong in [&[Some(open)][..], &[Some(other)], &[None], &[]] {
            assert!(bound.check(wrong).is_err(), "{wrong:?}");
        }
    }
}
