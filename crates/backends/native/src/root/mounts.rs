//! What of the host a user asked to see: a directory as the root, the project, volumes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentkernel_core::{Access, BootError, Mount, Spec};

use agentkernel_sys::descriptor;

use super::host::HOSTS;
use super::{GUARDED, READ_ONLY, Step, Steps, c_string, resolver};
use crate::identity::Mapping;

/// Where a mounted part of a tree comes from.
#[derive(Debug)]
pub enum TreeSource {
    /// The agent opens it itself, of the host or of the scratch space, refusing links on the way:
    /// nobody can swap it for another while the sandbox is being made.
    Local { path: CString },
    /// The engine sends it, with its owners shown as the sandbox's: only root may do that.
    Sent(Sent),
}

/// A part of the host's tree that the engine opens for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub path: CString,
    pub owners: Owners,
}

/// Who in a sandbox owns the files of a mounted tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// An image: each number inside owns what that number owns in the image.
    Image,
    /// Someone's files: the sandbox's user owns what the tree's own owner owns, and new files
    /// belong to that owner outside.
    User,
}

impl Steps {
    /// A directory as the root, with what is written kept apart from it.
    pub(super) fn rootfs_image(
        &mut self,
        dir: &Path,
        mapping: Mapping,
        spec: &Spec,
    ) -> Result<(), BootError> {
        self.directory("image", 0o755)?;
        let source = tree_source(dir, mapping, Owners::Image)?;
        self.lower_tree(source, "image")?;
        self.overlay("image", "root")?;
        self.directory("etc", 0o755)?;
        let settings = [("hosts", Some(HOSTS.into())), ("resolv.conf", resolver(spec))];
        for (name, content) in settings {
            let Some(content) = content else { continue };
            let path = format!("etc/{name}");
            if dir.join(&path).symlink_metadata().is_err() {
                // An image of somebody else's without the file does without it.
                if descriptor::may_write(&dir.join("etc")).is_err() {
                    continue;
                }
                self.place(Path::new(&path), true)?;
            }
            self.file(&path, content)?;
            let (source, path) = (TreeSource::Local { path: c_string(&*path)? }, c_string(&*path)?);
            self.0.push(Step::Tree { source, restrictions: GUARDED, path, inside: true });
        }
        Ok(())
    }

    /// A project or a volume.
    pub(super) fn user_mount(
        &mut self,
        mount: &Mount,
        all: &[Mount],
        mapping: Mapping,
    ) -> Result<(), BootError> {
        let source = tree_source(&mount.source, mapping, Owners::User)?;
        let target = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        let directory = mount.source.is_dir();
        // A place in another mount is never made: that would be done to the host's own files.
        let nested = |other: &Mount| {
            other.target != mount.target
                && mount.target.starts_with(&other.target)
                && other.access != Access::CopyOnWrite
        };
        if !all.iter().any(nested) {
            self.place(target, !directory)?;
        }
        let path = c_string(target.as_os_str().as_bytes())?;
        let restrictions = match mount.access {
            Access::ReadOnly => READ_ONLY,
            Access::ReadWrite => GUARDED,
            Access::CopyOnWrite if directory => return self.copy_on_write(source, path),
            Access::CopyOnWrite => {
                return Err(BootError::Refused {
                    why: format!(
                        "{} is a file, and only directories can be mounted cow",
                        mount.source.display()
                    ),
                    fix: "mount it ro or rw, or mount its directory".into(),
                });
            }
        };
        self.0.push(Step::Tree { source, restrictions, path, inside: true });
        Ok(())
    }

    fn copy_on_write(&mut self, source: TreeSource, path: CString) -> Result<(), BootError> {
        let name = format!("lower{}", self.0.len());
        self.directory(&name, 0o755)?;
        self.lower_tree(source, &name)?;
        let merged = format!("merged-{name}");
        self.directory(&merged, 0o755)?;
        self.overlay(&name, &merged)?;
        let source = TreeSource::Local { path: c_string(merged)? };
        self.0.push(Step::Tree { source, restrictions: GUARDED, path, inside: true });
        Ok(())
    }

    /// A tree in the scratch space, for an overlay to stand on.
    fn lower_tree(&mut self, source: TreeSource, name: &str) -> Result<(), BootError> {
        let path = c_string(name)?;
        self.0.push(Step::Tree { source, restrictions: READ_ONLY, path, inside: false });
        Ok(())
    }

    /// Shows the directory `lower` at `merged`, both of the scratch space, with what is written
    /// there kept beside them. `userxattr`: in a user namespace the marks of deletion are
    /// attributes that a user may set.
    fn overlay(&mut self, lower: &str, merged: &str) -> Result<(), BootError> {
        let (upper, work) = (format!("upper-{lower}"), format!("work-{lower}"));
        self.directory(&upper, 0o755)?;
        self.directory(&work, 0o755)?;
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        self.mount(c"overlay", merged, GUARDED, &options)
    }
}

fn tree_source(path: &Path, mapping: Mapping, owners: Owners) -> Result<TreeSource, BootError> {
    let path = c_string(path.as_os_str().as_bytes())?;
    Ok(match mapping {
        Mapping::Many => TreeSource::Sent(Sent { path, owners }),
        Mapping::Single { .. } => TreeSource::Local { path },
    })
}
