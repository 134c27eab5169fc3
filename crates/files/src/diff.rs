//! What a sandbox changed.

use std::io;
use std::path::Path;

use crate::contents::same_content;
use crate::directory::was_copied_up;
use crate::error::{FilesError, While};
use crate::facts::{Facts, FileKind};
use crate::layer::{Change, ChangeKind, Layer};
use crate::walk::{Next, Spot, Visitor};

/// How many bytes of paths a list may have. A sandbox can nest directories so deep that the paths
/// of a few megabytes of directories would fill any memory.
pub(crate) const LISTED_MAX: usize = 256 << 20;

/// Lists what was changed, sorted by path.
///
/// A directory is listed if it is new, deleted, or has another mode. A deleted directory stands for
/// all that was in it. A file that was only touched, and owners and times, are no change. The layers
/// may be in use; then the list is a snapshot of no single moment.
pub fn changes(layers: &[Layer]) -> Result<Vec<Change>, FilesError> {
    let mut changes = Vec::new();
    for layer in layers {
        each_change(layer, layers, &mut |change| changes.push(change))?;
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// Calls `then` with every change of one layer, in the order of the walk.
pub(crate) fn each_change(
    layer: &Layer,
    layers: &[Layer],
    then: &mut dyn FnMut(Change),
) -> Result<(), FilesError> {
    layer.walk(layers, &mut Lister { layer, listed: 0, then })
}

struct Lister<'a> {
    layer: &'a Layer,
    /// Bytes of paths so far.
    listed: usize,
    then: &'a mut dyn FnMut(Change),
}

impl Visitor for Lister<'_> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        if let Some((kind, what)) = judge(spot, self.layer)? {
            self.listed += spot.path.as_os_str().len();
            if self.listed > LISTED_MAX {
                return Err(FilesError::TooMuch(self.layer.target.clone()));
            }
            (self.then)(Change { path: spot.path.to_owned(), kind, what });
        }
        Ok(Next::Enter)
    }
}

/// How what was found differs from what lies under it, if it does.
pub(crate) fn judge(
    spot: &Spot<'_>,
    layer: &Layer,
) -> Result<Option<(ChangeKind, FileKind)>, FilesError> {
    let Some(here) = spot.here.filter(|here| !here.whiteout) else {
        return Ok(match (spot.there, &layer.lower) {
            (Some(there), _) => Some((ChangeKind::Deleted, there.kind)),
            (None, Some(_)) => None,
            // What was there is known to the sandbox alone.
            (None, None) => Some((ChangeKind::Deleted, FileKind::File)),
        });
    };
    let kind = match (spot.there, &layer.lower) {
        (Some(there), _) if differs(spot, &here, &there)? => ChangeKind::Changed,
        (Some(_), _) => return Ok(None),
        (None, None) if came_from_below(spot, &here)? => match here.kind {
            FileKind::Directory => return Ok(None),
            _ => ChangeKind::Changed,
        },
        (None, _) => ChangeKind::Added,
    };
    Ok(Some((kind, here.kind)))
}

fn differs(spot: &Spot<'_>, here: &Facts, there: &Facts) -> Result<bool, FilesError> {
    // A link's mode means nothing.
    if here.kind != there.kind || (here.mode != there.mode && here.kind != FileKind::Link) {
        return Ok(true);
    }
    let Some(lower) = spot.lower else { return Ok(true) };
    let same = match here.kind {
        FileKind::File if here.size != there.size => Ok(false),
        FileKind::File => spot.upper.file(spot.name).and_then(|(upper, _)| {
            let (lower, _) = lower.file(spot.name)?;
            same_content(&upper, &lower, here.size)
        }),
        FileKind::Link => {
            spot.upper.target(spot.name).and_then(|upper| Ok(upper == lower.target(spot.name)?))
        }
        FileKind::Directory | FileKind::Fifo | FileKind::Socket | FileKind::Device => Ok(true),
    };
    // What can't be compared, or is gone by now, is taken for changed; nothing is lost by that.
    or_unknown(same.map(|same| !same), true).doing("compare", spot.path)
}

/// Whether the overlay copied this up from under it.
pub(crate) fn came_from_below(spot: &Spot<'_>, here: &Facts) -> Result<bool, FilesError> {
    let copied = match here.kind {
        FileKind::File => spot.upper.file(spot.name).and_then(|(file, _)| was_copied_up(file)),
        FileKind::Directory => spot.upper.open(spot.name).and_then(was_copied_up),
        // These can't have the attribute.
        FileKind::Link | FileKind::Fifo | FileKind::Socket | FileKind::Device => Ok(false),
    };
    or_unknown(copied, false).doing("look at", spot.path)
}

/// The `answer` if a file is gone or may not be read.
fn or_unknown(result: io::Result<bool>, answer: bool) -> io::Result<bool> {
    match result {
        Err(error) if is_unknown(&error) => Ok(answer),
        other => other,
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

/// `path` as seen from the layer's target.
pub(crate) fn relative<'a>(path: &'a Path, layer: &Layer) -> &'a Path {
    path.strip_prefix(&layer.target).unwrap_or(path)
}
