//! From a tree that is laid out to a root image.

use std::fs::File;

use crate::contents::Contents;
use crate::erofs::{self, BLOCK, FileKind, Inode, SLOT};
use crate::layout::{Layout, Shape, each_block};
use crate::stream::Stream;
use crate::tree::{Directory, Files, LeafKind, Node, Place};
use crate::{Path, RootImageError, attributes};

/// Writes the image of a tree into an empty file.
pub(crate) fn write(
    root: &Directory,
    files: &Files,
    contents: &mut Contents,
    layout: &Layout,
    identity: [u8; 16],
    to: &File,
) -> Result<(), RootImageError> {
    let block = BLOCK as u64;
    // What is not written is a hole.
    to.set_len(layout.blocks() * block).map_err(RootImageError::Write)?;
    let mut writing = Writing {
        inodes: Stream::new(to, 0),
        directories: Stream::new(to, layout.directories() * block),
        data: Stream::new(to, layout.files() * block),
        layout,
        files,
        contents,
        path: Path::default(),
        bytes: Vec::new(),
    };
    // The layout made sure that they can be counted so.
    let blocks = layout.blocks() as u32;
    let superblock = erofs::superblock(root.place.inode, layout.inodes, blocks, identity);
    writing.inodes.write(&superblock)?;
    writing.directory(root, root.place.inode)?;
    let Writing { inodes, directories, data, .. } = writing;
    [inodes, directories, data].into_iter().try_for_each(|mut stream| stream.flush())
}

struct Writing<'a> {
    inodes: Stream<'a>,
    directories: Stream<'a>,
    data: Stream<'a>,
    layout: &'a Layout,
    files: &'a Files,
    contents: &'a mut Contents,
    path: Path,
    /// What is being put together.
    bytes: Vec<u8>,
}

impl Writing<'_> {
    fn directory(&mut self, directory: &Directory, parent: u32) -> Result<(), RootImageError> {
        let shape = Shape::of_directory(directory, self.files);
        let mut data = Vec::new();
        each_block(directory, parent, self.files, |block| {
            data.resize(data.len().next_multiple_of(BLOCK), 0);
            block.write(&mut data);
        });
        let (blocks, tail) = data.split_at(data.len() - shape.tail);
        self.directories.write(blocks)?;
        self.directories.fill_block()?;
        let Place { inode: number, block } = directory.place;
        self.inode(Inode {
            kind: FileKind::Directory,
            meta: &directory.meta,
            attributes: self.files.attributes(&directory.meta),
            size: shape.size,
            has_tail: shape.tail > 0,
            data: if shape.blocks > 0 { self.layout.directories() as u32 + block } else { 0 },
            number,
            names: directory.names(),
        })?;
        self.inodes.write(tail)?;
        for (name, node) in &directory.children {
            let above = self.path.enter(name);
            match node {
                Node::Directory(inner) => self.directory(inner, number)?,
                Node::Leaf(number) => self.leaf(*number)?,
                // None is left in what was merged.
                Node::Whiteout => {}
            }
            self.path.leave(above);
        }
        Ok(())
    }

    fn leaf(&mut self, number: u32) -> Result<(), RootImageError> {
        let leaf = self.files.leaf(number);
        let Place { inode: number, block } = leaf.place;
        // What lies behind was written by another of its names.
        if (u64::from(number) * SLOT as u64) < self.inodes.position() {
            return Ok(());
        }
        let attributes = self.files.attributes(&leaf.meta);
        let shape = Shape::of_leaf(leaf, attributes::length(attributes));
        let data = match leaf.kind {
            LeafKind::Character(device) | LeafKind::Block(device) => device,
            _ if shape.blocks > 0 => self.layout.files() as u32 + block,
            _ => 0,
        };
        self.inode(Inode {
            kind: leaf.kind.into(),
            meta: &leaf.meta,
            attributes,
            size: shape.size,
            has_tail: shape.tail > 0,
            data,
            number,
            names: leaf.names,
        })?;
        match leaf.kind {
            LeafKind::Symlink => {
                let target = self.contents.target_of(leaf.layer, self.path.bytes(), shape.size)?;
                self.data(shape, &target)
            }
            LeafKind::File if shape.tail > 0 => {
                let data = self.contents.short(leaf.layer, self.path.bytes(), shape.size)?;
                self.data(shape, &data)
            }
            LeafKind::File if shape.size > 0 => {
                let (layer, path) = (leaf.layer, self.path.bytes());
                self.contents.copy(layer, path, shape.size, &mut self.data)?;
                self.data.fill_block()
            }
            _ => Ok(()),
        }
    }

    /// Goes on to where an inode lies, and writes it.
    fn inode(&mut self, inode: Inode<'_>) -> Result<(), RootImageError> {
        self.inodes.fill_to(u64::from(inode.number) * SLOT as u64)?;
        self.bytes.clear();
        inode.write(&mut self.bytes);
        self.inodes.write(&self.bytes)
    }

    /// Writes data that is at hand.
    fn data(&mut self, shape: Shape, data: &[u8]) -> Result<(), RootImageError> {
        let (blocks, tail) = data.split_at(data.len() - shape.tail);
        self.inodes.write(tail)?;
        self.data.write(blocks)?;
        self.data.fill_block()
    }
}
