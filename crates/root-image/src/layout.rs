//! Where in a root image everything lies.
//!
//! Behind the superblock come the inodes, each with its attributes and the end of its data if that is
//! short; then the blocks of directories, and then those of files. All of it is in the order of a walk
//! through the tree that takes names in order, so that the same tree is always the same image, and
//! what lies together in the tree lies together on the disk.

use std::iter;
use std::ops::Bound;

use crate::attributes;
use crate::contents::Contents;
use crate::erofs::{BLOCK, Block, FIRST_INODE, FileKind, INODE, Listed, SLOT};
use crate::tree::{Directory, Files, Leaf, LeafKind, Node, Place};
use crate::{Path, RootImageError};

/// How long a file may be to lie behind its inode, in bytes.
const SHORT: u64 = 2048;

/// How large the areas of an image are.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Where inodes end, in bytes.
    inodes_end: u64,
    directory_blocks: u64,
    file_blocks: u64,
    pub inodes: u64,
}

impl Layout {
    /// Gives everything in the tree its place, counts the names that files have, and makes sure of
    /// how long links are.
    pub fn new(
        root: &mut Directory,
        files: &mut Files,
        contents: &mut Contents,
    ) -> Result<Self, RootImageError> {
        let inodes_end = FIRST_INODE as u64;
        let layout = Self { inodes_end, ..Self::default() };
        let mut making = Making { layout, files, contents, path: Path::default() };
        making.directory(root)?;
        let layout = making.layout;
        match layout.blocks() > u32::MAX.into() {
            true => Err(RootImageError::TooLarge),
            false => Ok(layout),
        }
    }

    /// The first block of directories' data.
    pub fn directories(&self) -> u64 {
        self.inodes_end.div_ceil(BLOCK as u64)
    }

    /// The first block of files' data.
    pub fn files(&self) -> u64 {
        self.directories() + self.directory_blocks
    }

    /// All blocks of the image.
    pub fn blocks(&self) -> u64 {
        self.files() + self.file_blocks
    }
}

/// How the data of something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub size: u64,
    pub blocks: u64,
    /// How much of the data's end is behind the inode.
    pub tail: usize,
}

impl Shape {
    /// Of data that stays behind its inode as far as that leaves both in one block.
    fn with_tail(size: u64, attributes: usize) -> Self {
        let tail = (size % BLOCK as u64) as usize;
        let fits = INODE + attributes + tail <= BLOCK;
        Self { size, blocks: blocks(size, fits), tail: if fits { tail } else { 0 } }
    }

    fn without_tail(size: u64) -> Self {
        Self { size, blocks: blocks(size, false), tail: 0 }
    }

    /// Of what is no directory. A file that is longer than some is only in blocks, since only those
    /// can be shown to a guest as they are, and be shared with other guests.
    pub fn of_leaf(leaf: &Leaf, attributes: usize) -> Self {
        match leaf.kind {
            LeafKind::File if leaf.size > SHORT => Self::without_tail(leaf.size),
            LeafKind::File | LeafKind::Symlink => Self::with_tail(leaf.size, attributes),
            _ => Self::without_tail(0),
        }
    }

    pub fn of_directory(directory: &Directory, files: &Files) -> Self {
        // There is one at least, as there are two names at least.
        let (mut full, mut last) = (0, 0);
        each_block(directory, 0, files, |block| {
            full += u64::from(last > 0);
            last = block.bytes() as u64;
        });
        let attributes = attributes::length(files.attributes(&directory.meta));
        Self::with_tail(full * BLOCK as u64 + last, attributes)
    }
}

fn blocks(size: u64, has_tail: bool) -> u64 {
    match has_tail {
        true => size / BLOCK as u64,
        false => size.div_ceil(BLOCK as u64),
    }
}

struct Making<'a> {
    layout: Layout,
    files: &'a mut Files,
    contents: &'a mut Contents,
    path: Path,
}

impl Making<'_> {
    fn directory(&mut self, directory: &mut Directory) -> Result<(), RootImageError> {
        let shape = Shape::of_directory(directory, self.files);
        let attributes = attributes::length(self.files.attributes(&directory.meta));
        let inode = self.inode(attributes + shape.tail)?;
        let block = take(&mut self.layout.directory_blocks, shape.blocks)?;
        directory.place = Place { inode, block };
        for (name, node) in &mut directory.children {
            let above = self.path.enter(name);
            match node {
                Node::Directory(inner) => self.directory(inner)?,
                Node::Leaf(number) => self.leaf(*number)?,
                // None is left in what was merged.
                Node::Whiteout => {}
            }
            self.path.leave(above);
        }
        Ok(())
    }

    fn leaf(&mut self, number: u32) -> Result<(), RootImageError> {
        let leaf = self.files.leaf_mut(number);
        leaf.names += 1;
        if leaf.names > 1 {
            return Ok(());
        }
        if leaf.kind == LeafKind::Symlink {
            leaf.size = self.contents.target(leaf.layer, self.path.bytes())?.len() as u64;
        }
        let leaf = self.files.leaf(number);
        let attributes = attributes::length(self.files.attributes(&leaf.meta));
        let shape = Shape::of_leaf(leaf, attributes);
        let inode = self.inode(attributes + shape.tail)?;
        let block = take(&mut self.layout.file_blocks, shape.blocks)?;
        self.files.leaf_mut(number).place = Place { inode, block };
        Ok(())
    }

    /// Takes room for an inode and so much behind it. Unless that is more than a block it is in one.
    fn inode(&mut self, behind: usize) -> Result<u32, RootImageError> {
        let (block, length) = (BLOCK as u64, (INODE + behind) as u64);
        let mut at = self.layout.inodes_end.next_multiple_of(SLOT as u64);
        if at % block + length > block {
            at = at.next_multiple_of(block);
        }
        self.layout.inodes_end = at + length;
        self.layout.inodes += 1;
        u32::try_from(at / SLOT as u64).map_err(|_| RootImageError::TooLarge)
    }
}

/// Takes so many blocks, and says which is the first.
fn take(end: &mut u64, count: u64) -> Result<u32, RootImageError> {
    let first = u32::try_from(*end).map_err(|_| RootImageError::TooLarge)?;
    *end += count;
    Ok(first)
}

/// Has the blocks of a directory's data looked at, in order. `parent` is the inode of what it is in.
pub(crate) fn each_block<'a>(
    directory: &'a Directory,
    parent: u32,
    files: &'a Files,
    mut visit: impl FnMut(&Block<'a>),
) {
    let mut block = Block::default();
    for listed in listed(directory, parent, files) {
        if !block.add(listed) {
            visit(&block);
            block = Block::default();
            // A name is shorter than a block.
            block.add(listed);
        }
    }
    visit(&block);
}

/// All names in a directory, in order: `.` and `..` stand where their bytes have them.
fn listed<'a>(
    directory: &'a Directory,
    parent: u32,
    files: &'a Files,
) -> impl Iterator<Item = Listed<'a>> {
    const HERE: &[u8] = b".";
    const ABOVE: &[u8] = b"..";
    let between = move |from: Bound<&[u8]>, to: Bound<&[u8]>| {
        directory.children.range::<[u8], _>((from, to)).map(move |(name, node)| {
            let (inode, kind) = match node {
                Node::Directory(inner) => (inner.place.inode, FileKind::Directory),
                Node::Leaf(number) => {
                    let leaf = files.leaf(*number);
                    (leaf.place.inode, leaf.kind.into())
                }
                // None is left in what was merged.
                Node::Whiteout => (0, FileKind::Character),
            };
            Listed { name, inode, kind }
        })
    };
    let own = |name, inode| iter::once(Listed { name, inode, kind: FileKind::Directory });
    between(Bound::Unbounded, Bound::Excluded(HERE))
        .chain(own(HERE, directory.place.inode))
        .chain(between(Bound::Excluded(HERE), Bound::Excluded(ABOVE)))
        .chain(own(ABOVE, parent))
        .chain(between(Bound::Excluded(ABOVE), Bound::Unbounded))
}
