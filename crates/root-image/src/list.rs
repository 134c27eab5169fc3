//! From a layer's list to its tree.

use std::path::Path;

use agentkernel_unpack::{Entry, Kind, read_entries};

use crate::tree::{Directory, Files, Leaf, LeafKind, Node, Place};
use crate::{RootImageError, path_of};

/// How the kernel splits the number of a device, in bits.
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;

/// The tree of the layer of this number, by its list.
pub(crate) fn read(
    list: &Path,
    layer: u16,
    files: &mut Files,
) -> Result<Directory, RootImageError> {
    let unreadable = |source| RootImageError::Read { path: list.into(), source };
    let mut root = Directory { implied: true, ..Directory::default() };
    for entry in read_entries(list).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = path_of(&entry.path.0);
        apply(&mut root, entry, layer, files).map_err(|error| match error {
            Wrong::Line(why) => RootImageError::damaged(list, format!("{} {why}", path.display())),
            Wrong::Member(why) => RootImageError::Member { path: Path::new("/").join(path), why },
            Wrong::Whole(error) => error,
        })?;
    }
    Ok(root)
}

enum Wrong {
    /// A list that is whole has no such line.
    Line(&'static str),
    Member(&'static str),
    Whole(RootImageError),
}

impl From<RootImageError> for Wrong {
    fn from(error: RootImageError) -> Self {
        Self::Whole(error)
    }
}

/// Does with the tree what the line says.
fn apply(root: &mut Directory, entry: Entry, layer: u16, files: &mut Files) -> Result<(), Wrong> {
    let path = entry.path.0.as_slice();
    if path.is_empty() {
        return match entry.kind {
            Kind::Directory => describe(root, &entry, files),
            Kind::Opaque => {
                root.opaque = true;
                Ok(())
            }
            _ => Err(Wrong::Line("is no directory")),
        };
    }
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = at.map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]));
    if matches!(name, b"" | b"." | b"..") || name.len() > 255 || name.contains(&0) {
        return Err(Wrong::Line("has no name"));
    }
    // Before the parent is borrowed.
    let linked = match entry.target.as_ref() {
        Some(target) => Some(find_leaf(root, &target.0)?),
        None => None,
    };
    let parent = root.at(parent).ok_or(Wrong::Line("lies in no directory"))?;
    let there = parent.children.get_mut(name);
    let node = match (entry.kind, there) {
        (Kind::Directory, Some(Node::Directory(there))) => return describe(there, &entry, files),
        (Kind::Directory, there) => {
            // What was hidden is not there to be like it.
            let was_hidden = there.is_some_and(|there| hides(there, files));
            let mut directory = Directory { implied: true, ..Directory::default() };
            describe(&mut directory, &entry, files)?;
            directory.implied &= !was_hidden;
            Node::Directory(Box::new(directory))
        }
        (Kind::Opaque | Kind::Whiteout, Some(Node::Directory(there))) => {
            there.opaque = true;
            return Ok(());
        }
        (Kind::Opaque, _) => return Err(Wrong::Line("is no directory")),
        (Kind::Whiteout, Some(_)) => return Ok(()),
        (Kind::Whiteout, None) => Node::Whiteout,
        (Kind::Link, _) => Node::Leaf(linked.ok_or(Wrong::Line("is a link to nothing"))?),
        _ => Node::Leaf(leaf(&entry, layer, files)?),
    };
    parent.children.insert(name.into(), node);
    Ok(())
}

fn describe(directory: &mut Directory, entry: &Entry, files: &mut Files) -> Result<(), Wrong> {
    directory.meta = files.meta(entry)?;
    directory.implied &= entry.implied;
    Ok(())
}

/// Whether what is below in its place is not to be seen if a directory takes it.
fn hides(node: &Node, files: &Files) -> bool {
    match node {
        Node::Whiteout => true,
        Node::Leaf(number) => {
            matches!(files.leaf(*number).kind, LeafKind::Character(_) | LeafKind::Block(_))
        }
        Node::Directory(_) => false,
    }
}

fn find_leaf(root: &mut Directory, path: &[u8]) -> Result<u32, Wrong> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = at.map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]));
    match root.at(parent).and_then(|parent| parent.children.get(name)) {
        Some(Node::Leaf(number)) => Ok(*number),
        _ => Err(Wrong::Line("is a link to nothing")),
    }
}

/// Keeps what is no directory, and says its number.
fn leaf(entry: &Entry, layer: u16, files: &mut Files) -> Result<u32, Wrong> {
    let kind = match entry.kind {
        Kind::File => LeafKind::File,
        Kind::Symlink => LeafKind::Symlink,
        Kind::Fifo => LeafKind::Fifo,
        Kind::Character => LeafKind::Character(device(entry)?),
        Kind::Block => LeafKind::Block(device(entry)?),
        _ => return Err(Wrong::Line("is of no kind")),
    };
    let (size, mut meta) = (entry.size, files.meta(entry)?);
    if kind == LeafKind::Symlink {
        // Linux has no others.
        meta.mode = 0o777;
    }
    Ok(files.add(Leaf { meta, kind, size, layer, names: 0, place: Place::default() })?)
}

/// The number of a device as it is kept on disks.
fn device(entry: &Entry) -> Result<u32, Wrong> {
    let (major, minor) = entry.device.ok_or(Wrong::Line("is a device without a number"))?;
    if major >> MAJOR_BITS != 0 || minor >> MINOR_BITS != 0 {
        return Err(Wrong::Member("is a device of a number that Linux does not have"));
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}
