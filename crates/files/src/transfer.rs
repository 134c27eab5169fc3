//! Copies between the host and a live sandbox.
//!
//! The rules are those of `docker cp`. `SRC` is looked up as it is written: if its last part is a link the link is
//! what is copied, unless [`TransferOptions::follow`] is set or a `/` follows it. Then:
//!
//! | `SRC` | `DST` | what happens |
//! |---|---|---|
//! | a file | is not there | it becomes the file `DST`; an error if `DST` ends in `/` |
//! | a file | a file | it takes that one's place; an error if `DST` ends in `/` |
//! | a file | a directory | it becomes a file in it, of its own name |
//! | a directory | is not there | it becomes the directory `DST` |
//! | a directory | a file | an error |
//! | a directory | a directory | it becomes a directory in it, of its own name |
//! | `dir/.`, `.`, `/` | a directory | what is in it goes into `DST` |
//!
//! The directory that `DST` is to be made in must be there. A `DST` that is a link means what the link leads to, even
//! if that is not there. Directories that are there already are filled, keep what else is in them, and stay as they
//! are otherwise. Below `DST` no link is ever followed: a file takes a link's place, a directory doesn't.
//!
//! Kept are contents, holes, permissions without set-user-ID and set-group-ID, and times. Not kept are owners (a
//! sandbox's files belong to [`Inside::owner`], the host's to the caller), extended attributes and hard links.
//!
//! Every file appears whole or not at all. What was copied before an error stays. A file is copied up to the length
//! that it had when it was opened. What is mounted in a tree is copied too, but none of the kernel's own file systems.

mod error;
mod far;
mod item;
mod marks;
mod owner;
mod pass;
mod place;
mod report;
mod tar_in;
mod tar_out;
mod tree;
mod walk;
mod write;

use std::ffi::{CStr, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use error::{Located, Refusal, Refused, TransferError, Transferred, Where};
pub use far::{Agent, Errand, Streams, Way, fetch_layer, serve};
use place::{Side, Source, Target};
use tar_out::Kept;
use write::{At, Writer};

/// A live sandbox.
#[derive(Clone, Copy)]
pub enum Inside<'a> {
    /// Its files are within reach.
    Near {
        /// The sandbox's root directory; an `O_PATH` descriptor will do. No lookup leaves it.
        root: BorrowedFd<'a>,
        /// The host's numbers of the user and the group that new files in the sandbox belong to.
        ///
        /// If the caller is root they are made as that user: a sandbox's own file systems take no file of a user
        /// that the sandbox has no number for. For that time the calling *thread* has these as its effective
        /// numbers, and all its capabilities.
        owner: (u32, u32),
    },
    /// Only its agent reaches its files, and may be hostile.
    Far(&'a dyn Agent),
}

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransferOptions {
    /// If the source's last part is a link, copies what it leads to. Links below are always copied as links.
    pub follow: bool,
}

/// Copies the host's `source` to `target` in the sandbox.
///
/// Devices, sockets, fifos and what else can't be copied is left out and told in [`Transferred::refused`].
pub fn copy_in(
    source: &Path,
    inside: &Inside<'_>,
    target: &Path,
    options: TransferOptions,
) -> Result<Transferred, TransferError> {
    let (root, owner) = match *inside {
        Inside::Near { root, owner } => (root, owner),
        Inside::Far(agent) => return far::copy_in(source, agent, target, options),
    };
    let writer = Writer::new(Where::Sandbox, Some(owner));
    copy(&Side::Host, source, &Side::Sandbox(root), target, options, writer)
}

/// Copies the sandbox's `source` to `target` on the host.
///
/// What is refused is as in [`copy_in`]. A link is copied as it is, wherever it leads.
pub fn copy_out(
    inside: &Inside<'_>,
    source: &Path,
    target: &Path,
    options: TransferOptions,
) -> Result<Transferred, TransferError> {
    let writer = Writer::new(Where::Host, None);
    match *inside {
        Inside::Near { root, .. } => {
            copy(&Side::Sandbox(root), source, &Side::Host, target, options, writer)
        }
        Inside::Far(agent) => far::copy_out(agent, source, target, options, writer),
    }
}

/// Writes the sandbox's `source` to `out` as a tar archive in GNU's format.
///
/// A directory's members start with its name, those of `dir/.` don't. All belong to user and group 0, times are in
/// whole seconds, and holes stay holes. What is refused is as in [`copy_in`].
pub fn tar_out(
    inside: &Inside<'_>,
    source: &Path,
    options: TransferOptions,
    out: impl Write,
) -> Result<Transferred, TransferError> {
    let root = match *inside {
        Inside::Near { root, .. } => root,
        Inside::Far(agent) => return far::tar_out(agent, source, options, out),
    };
    let from = place::find_source(&Side::Sandbox(root), source, options.follow)?;
    tar_out::write(from, (source, Where::Sandbox), Kept::Archives, out)
}

/// Unpacks the tar archive `input` in the sandbox's directory `target`, which must be there.
///
/// Ustar, GNU and pax archives are understood. Absolute names are taken as relative; a name with `..` in it, a
/// member below a link, and a hard link to what is not below `target` is an error. What is refused is as in
/// [`copy_in`]. Runs of zeros become holes.
pub fn tar_in(
    inside: &Inside<'_>,
    target: &Path,
    input: impl Read,
) -> Result<Transferred, TransferError> {
    let (root, owner) = match *inside {
        Inside::Near { root, owner } => (root, owner),
        Inside::Far(agent) => return far::tar_in(agent, target, input),
    };
    let top = place::find_directory(&Side::Sandbox(root), target)?;
    tar_in::unpack(top, target, Writer::new(Where::Sandbox, Some(owner)), input)
}

/// Writes what is in the host's directory `source` to `out`, for [`receive_folder`]. What is refused is as in
/// [`copy_in`].
pub fn send_folder(source: &Path, out: impl Write) -> Result<Transferred, TransferError> {
    let inside = source.join(".");
    let from = place::find_source(&Side::Host, &inside, false)?;
    tar_out::write(from, (source, Where::Host), Kept::Copies, out)
}

/// Makes the directory `target` of what [`send_folder`] has written, and not a byte more is read. All of it belongs
/// to `owner`. Links at the target's end are followed.
pub fn receive_folder(
    input: impl Read,
    target: &Path,
    owner: (u32, u32),
) -> Result<Transferred, TransferError> {
    let writer = Writer::new(Where::Host, Some(owner));
    tar_in::unpack_copy(&tar_in::Top::Contents, &Side::Host, target, writer, input)
}

fn copy(
    from: &Side<'_>,
    source: &Path,
    to: &Side<'_>,
    target: &Path,
    options: TransferOptions,
    writer: Writer,
) -> Result<Transferred, TransferError> {
    let found = place::find_source(from, source, options.follow)?;
    let at = place::find_target(to, target)?;
    let source = (source, from.place());
    match (found, at) {
        (Source::Directory { .. }, Target::File { .. }) => {
            Err(TransferError::NoDirectory { at: to.located(target) })
        }
        (Source::Directory { directory, name: None }, Target::Directory(into)) => {
            tree::copy(directory, source, (into, false), target, writer)
        }
        (Source::Directory { directory, name: Some(name) }, Target::Directory(parent)) => {
            copy_directory(
                directory,
                source,
                (parent.as_fd(), &name),
                &below(target, &name),
                writer,
            )
        }
        (Source::Directory { directory, .. }, Target::Absent { parent, name, .. }) => {
            copy_directory(directory, source, (parent.as_fd(), &name), target, writer)
        }
        (Source::File { .. }, Target::Absent { directory: true, .. }) => {
            Err(TransferError::Missing { at: to.located(target) })
        }
        (Source::File { parent, name, given }, Target::Directory(into)) => {
            let path = below(target, &given);
            copy_file((parent.as_fd(), &name), source, (into.as_fd(), &given), &path, writer)
        }
        (
            Source::File { parent, name, .. },
            Target::File { parent: into, name: new }
            | Target::Absent { parent: into, name: new, .. },
        ) => copy_file((parent.as_fd(), &name), source, (into.as_fd(), &new), target, writer),
    }
}

/// Copies `from` to the directory `to`, which may be there.
fn copy_directory(
    from: OwnedFd,
    source: (&Path, Where),
    to: At<'_>,
    target: &Path,
    mut writer: Writer,
) -> Result<Transferred, TransferError> {
    let made = writer.directory(to).map_err(|error| writer.failed(target.into(), error))?;
    tree::copy(from, source, made, target, writer)
}

/// Copies what is no directory.
fn copy_file(
    from: At<'_>,
    source: (&Path, Where),
    to: At<'_>,
    target: &Path,
    mut writer: Writer,
) -> Result<Transferred, TransferError> {
    if let Some(item) = item::read_named(from, source, &mut writer.done)? {
        writer.item(item, to).map_err(|error| writer.failed(target.into(), error))?;
    }
    Ok(writer.done)
}

fn below(directory: &Path, name: &CStr) -> PathBuf {
    directory.join(OsStr::from_bytes(name.to_bytes()))
}
