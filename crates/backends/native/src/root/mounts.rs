//! What of the host a user asked to see: a directory as the root, the project, volumes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentkernel_core::{Access, BootError, Mount, Spec, c_string};

use super::host::{HOST_NAME, HOSTS};
use super::{GUARDED, Ground, LAYERS, READ_ONLY, Step, Steps, resolver};
use crate::identity::Mapping;
use crate::stored::Trees;

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
    /// What is kept of sandboxes, which has their own numbers already.
    Own,
    /// Someone's files: the sandbox's user owns what the tree's own owner owns, and new files
    /// belong to that owner outside.
    User,
}

impl Steps {
    /// Somebody's directories as the root, one over the other, with what is written kept apart from
    /// them. What is made up of the root lies over them, and under what is written: so it is no
    /// change of the sandbox's.
    pub(super) fn foreign_image(&mut self, on: &Ground<'_>, spec: &Spec) -> Result<(), BootError> {
        let trees = Trees(on.trees);
        let mut lower = self.lower_trees(&trees, on.mapping)?;
        // An image in which that is a link or a file does without.
        if let Some(mode) = trees.mode("etc") {
            self.settings(on, mode, spec)?;
            lower.insert_str(0, "made:");
        }
        self.overlay(&lower, "root", "root")
    }

    /// Makes a directory `made` with what is made up of an image's `/etc`, which has that mode.
    fn settings(&mut self, on: &Ground<'_>, mode: u32, spec: &Spec) -> Result<(), BootError> {
        let (passwd, group) = on.users.lists();
        let (user, own_group) = on.identity.lines_for(passwd, group);
        let files = [
            ("hosts", Some(HOSTS.into())),
            ("hostname", Some(format!("{HOST_NAME}\n").into())),
            ("resolv.conf", resolver(spec)),
            ("passwd", user.map(|line| format!("{passwd}{line}").into())),
            ("group", own_group.map(|line| format!("{group}{line}").into())),
        ];
        self.directory("made", 0o755)?;
        self.directory("made/etc", mode)?;
        for (name, content) in files {
            if let Some(content) = content {
                self.file(&format!("made/etc/{name}"), content)?;
                self.give_to_root(&format!("made/etc/{name}"), on.mapping)?;
            }
        }
        self.give_to_root("made/etc", on.mapping)?;
        self.give_to_root("made", on.mapping)
    }

    /// Gives what is made up to user 0, if the place has one.
    fn give_to_root(&mut self, path: &str, mapping: Mapping) -> Result<(), BootError> {
        if mapping == Mapping::Many {
            self.push(Step::GiveToRoot { path: c_string(path)? });
        }
        Ok(())
    }

    /// A project or a volume.
    pub(super) fn user_mount(
        &mut self,
        number: usize,
        mount: &Mount,
        all: &[Mount],
        mapping: Mapping,
    ) -> Result<(), BootError> {
        let source = tree_source(&mount.source, mapping, Owners::User)?;
        let target = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        let directory = mount.source.is_dir();
        if mount.access == Access::CopyOnWrite && !directory {
            return Err(no_copy_of_a_file(&mount.source));
        }
        // That would be done to the host's own files.
        let make_place = !mount.lies_in_another(all);
        self.mount_tree(number, source, target, mount.access, directory, make_place)
    }

    /// Shows `source` at `target`, relative to the root, and makes a place for it there if need be.
    pub(super) fn mount_tree(
        &mut self,
        number: usize,
        source: TreeSource,
        target: &Path,
        access: Access,
        directory: bool,
        make_place: bool,
    ) -> Result<(), BootError> {
        if make_place {
            self.place(target, !directory)?;
        }
        let path = c_string(target.as_os_str().as_bytes())?;
        let restrictions = match access {
            Access::ReadOnly => READ_ONLY,
            Access::ReadWrite => GUARDED,
            Access::CopyOnWrite => return self.copy_on_write(number, source, path),
        };
        self.push(Step::Tree { source, restrictions, path, inside: true });
        Ok(())
    }

    /// Shows `source` at `path`, and keeps what is written there apart from it.
    pub(super) fn copy_on_write(
        &mut self,
        number: usize,
        source: TreeSource,
        path: CString,
    ) -> Result<(), BootError> {
        let (lower, merged) = (format!("lower-{number}"), format!("merged-{number}"));
        self.directory(&lower, 0o755)?;
        self.lower_tree(source, &lower)?;
        self.directory(&merged, 0o755)?;
        self.overlay(&lower, &number.to_string(), &merged)?;
        let source = TreeSource::Local { path: c_string(merged)? };
        self.push(Step::Tree { source, restrictions: GUARDED, path, inside: true });
        Ok(())
    }

    /// Directories in the scratch space, for an overlay to stand on: their names as it wants them.
    pub(super) fn lower_trees(
        &mut self,
        trees: &Trees<'_>,
        mapping: Mapping,
    ) -> Result<String, BootError> {
        let mut names: Vec<String> = Vec::with_capacity(trees.0.len());
        for (number, tree) in trees.0.iter().enumerate() {
            let name = format!("image-{number}");
            self.directory(&name, 0o755)?;
            let source = tree_source(tree, mapping, Owners::Image)?;
            self.lower_tree(source, &name)?;
            names.push(name);
        }
        if names.is_empty() {
            self.directory("image", 0o755)?;
            names.push("image".into());
        }
        // The uppermost is named first.
        names.reverse();
        Ok(names.join(":"))
    }

    /// A tree in the scratch space, for an overlay to stand on.
    fn lower_tree(&mut self, source: TreeSource, name: &str) -> Result<(), BootError> {
        let path = c_string(name)?;
        self.push(Step::Tree { source, restrictions: READ_ONLY, path, inside: false });
        Ok(())
    }

    /// Shows the directory `lower` at `merged`, both of the scratch space, with what is written
    /// there kept under `name` (see [`upper`]). `userxattr`: in a user namespace the marks of
    /// deletion are attributes that a user may set.
    pub(super) fn overlay(
        &mut self,
        lower: &str,
        name: &str,
        merged: &str,
    ) -> Result<(), BootError> {
        let base = if self.layers { Path::new(LAYERS) } else { Path::new("") };
        let (upper, work) = (base.join(upper(name)), base.join(format!("work-{name}")));
        let (upper, work) = (upper.to_string_lossy(), work.to_string_lossy());
        self.directory(&upper, 0o755)?;
        self.directory(&work, 0o755)?;
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        self.mount(c"overlay", merged, GUARDED, &options)
    }
}

/// The directory that keeps the changes to `name`: `root`, or the number of a mount.
pub fn upper(name: &str) -> String {
    format!("upper-{name}")
}

pub(super) fn tree_source(
    path: &Path,
    mapping: Mapping,
    owners: Owners,
) -> Result<TreeSource, BootError> {
    let path = c_string(path.as_os_str().as_bytes())?;
    Ok(match mapping {
        Mapping::Many => TreeSource::Sent(Sent { path, owners }),
        Mapping::Single { .. } => TreeSource::Local { path },
    })
}

/// Why a file can't be mounted copy-on-write.
pub fn no_copy_of_a_file(source: &Path) -> BootError {
    BootError::Refused {
        why: format!("{} is a file, and only directories can be mounted cow", source.display()),
        fix: "mount it ro or rw, or mount its directory".into(),
    }
}
