//! A copy that comes as an archive: a file, or a directory and all that is in it.

use std::ffi::{CStr, CString, OsStr};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{Entry, EntryType};

use super::{Failure, Meter, Metered, Unpacking, parts, read_end, settled, told};
use crate::transfer::error::{TransferError, Transferred};
use crate::transfer::marks;
use crate::transfer::place::{Side, Target, find_target};
use crate::transfer::write::{At, Writer};

/// What an archive must be of.
pub(in crate::transfer) enum Top<'a> {
    /// What is in a directory.
    Contents,
    /// The same, which is an overlay's layer.
    Layer,
    /// A file or a directory of this name, or of any.
    Named(Option<&'a CStr>),
}

/// Makes `target` of what the archive `input` is of, or something in it. The archive is as
/// [`tar_out`](crate::transfer::tar_out) writes it for copies; in another order, and with more in it than
/// was asked for, it is refused.
pub(in crate::transfer) fn unpack(
    top: &Top<'_>,
    side: &Side<'_>,
    target: &Path,
    writer: Writer,
    input: impl Read,
) -> Result<Transferred, TransferError> {
    let meter = Meter::default();
    let mut archive = tar::Archive::new(Metered::new(input, meter.clone()));
    let done = unpack_members(top, side, target, writer, (&mut archive, &meter))?;
    let failed = |source| TransferError::Archive { source };
    read_end(&mut archive.into_inner().into_inner()).map_err(failed)?;
    Ok(done)
}

fn unpack_members<R: Read>(
    top: &Top<'_>,
    side: &Side<'_>,
    target: &Path,
    mut writer: Writer,
    (archive, meter): (&mut tar::Archive<Metered<R>>, &Meter),
) -> Result<Transferred, TransferError> {
    let at = find_target(side, target)?;
    let failed = |source| TransferError::Archive { source };
    let mut entries = archive.entries().map_err(failed)?;
    meter.limit();
    // What is not there was refused, or is an error of whoever was to send it.
    let Some(first) = entries.next() else { return Ok(writer.done) };
    let mut first = first.map_err(failed)?;
    meter.unlimit();
    let kind = first.header().entry_type();
    let named = named(top, kind, &first.path_bytes());
    let named = named.map_err(|failure| TransferError::Member {
        member: OsStr::from_bytes(&first.path_bytes()).into(),
        why: match failure {
            Failure::Member(why) => why.into(),
            Failure::Archive(_) | Failure::Write(_) => "is not what was asked for".into(),
        },
    })?;
    if kind != EntryType::Directory {
        return unpack_file(&mut first, kind, &at, (side, target, &named), writer).and_then(
            |done| {
                meter.limit();
                match entries.next() {
                    None => Ok(done),
                    Some(_) => Err(TransferError::Archive {
                        source: std::io::Error::other("there is more in it than was asked for"),
                    }),
                }
            },
        );
    }
    let prefix: Vec<CString> = named.into_iter().collect();
    let wanted = settled(&mut first)
        .map_err(|_| TransferError::Archive { source: std::io::ErrorKind::InvalidData.into() })?;
    let is_layer = matches!(top, Top::Layer);
    let marks = if is_layer { told(&mut first, marks::KEY).ok().flatten() } else { None };
    let (into, new) = directory(at, prefix.first(), (side, target), &mut writer)?;
    let path = match prefix.first() {
        Some(name) if !new => target.join(OsStr::from_bytes(name.to_bytes())),
        _ => target.to_owned(),
    };
    if let Some(marks) = marks {
        marks::write(&into, &marks).map_err(|error| writer.failed(path.clone(), error))?;
    }
    let mut unpacking = Unpacking::new(&path, into, writer, Some(prefix));
    unpacking.layer = is_layer;
    if new {
        unpacking.directories.push(Vec::new(), wanted);
    }
    let unpacked = unpacking.members(&mut entries, meter);
    let settled = unpacking.settle();
    unpacked.and(settled)?;
    Ok(unpacking.writer.done)
}

/// The name of what is copied, none if it is what is in it.
fn named(top: &Top<'_>, kind: EntryType, path: &[u8]) -> Result<Option<CString>, Failure> {
    const OTHER: Failure = Failure::Member("is not what was asked for");
    let mut parts = parts(path)?;
    let name = parts.pop();
    match (top, kind, name) {
        (Top::Contents | Top::Layer, EntryType::Directory, None) => Ok(None),
        (
            Top::Named(expected),
            EntryType::Directory | EntryType::Regular | EntryType::GNUSparse | EntryType::Symlink,
            Some(name),
        ) if parts.is_empty() && expected.is_none_or(|expected| *expected == *name) => {
            Ok(Some(name))
        }
        _ => Err(OTHER),
    }
}

fn unpack_file(
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    at: &Target,
    (side, target, given): (&Side<'_>, &Path, &Option<CString>),
    writer: Writer,
) -> Result<Transferred, TransferError> {
    let (parent, name, path) = match (at, given) {
        (Target::Absent { directory: true, .. }, _) | (_, None) => {
            return Err(TransferError::Missing { at: side.located(target) });
        }
        (Target::Directory(into), Some(given)) => (into, given, target),
        (Target::File { parent, name } | Target::Absent { parent, name, .. }, _) => {
            (parent, name, target.parent().unwrap_or(target))
        }
    };
    let failed = |error| TransferError::Failed {
        action: "open".into(),
        at: side.located(target),
        source: error,
    };
    let parent = parent.try_clone().map_err(failed)?;
    let mut unpacking = Unpacking::new(path, parent, writer, Some(Vec::new()));
    let made = unpacking.make(entry, kind, name.to_bytes());
    made.map_err(|failure| unpacking.failed(OsStr::from_bytes(name.to_bytes()).into(), failure))?;
    Ok(unpacking.writer.done)
}

/// Opens the directory that all goes into, and makes it if it isn't there; says whether it did.
fn directory(
    at: Target,
    name: Option<&CString>,
    (side, target): (&Side<'_>, &Path),
    writer: &mut Writer,
) -> Result<(OwnedFd, bool), TransferError> {
    use std::os::fd::AsFd;
    let mut make =
        |to: At<'_>| writer.directory(to).map_err(|error| writer.failed(target.into(), error));
    match (at, name) {
        (Target::File { .. }, _) => Err(TransferError::NoDirectory { at: side.located(target) }),
        (Target::Directory(into), None) => Ok((into, false)),
        (Target::Directory(parent), Some(name)) => make((parent.as_fd(), name)),
        (Target::Absent { parent, name, .. }, _) => make((parent.as_fd(), &name)),
    }
}

/// What is left of a member's path below those of `top`.
pub(super) fn below(top: &[CString], mut parts: Vec<CString>) -> Result<Vec<CString>, Failure> {
    match parts.starts_with(top) {
        true => Ok(parts.split_off(top.len())),
        false => Err(Failure::Member("is not in what was asked for")),
    }
}
