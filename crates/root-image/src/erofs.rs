//! What is on the disk, by the kernel's `fs/erofs/erofs_fs.h`.
//!
//! Of all that the format can do only this is written: blocks of 4096 bytes, inodes of 64 bytes, which
//! alone hold times and wide numbers, attributes behind each inode, and data either in blocks in
//! order or, what is short, behind the inode. All of it is understood since Linux 5.4, and the kernel
//! maps such blocks as they are where the device is memory (DAX).

use crate::attributes::{self, Attribute};
use crate::tree::Meta;

pub(crate) const BLOCK: usize = 4096;

/// What a name is known by is where its inode lies, in this unit.
pub(crate) const SLOT: usize = 32;

pub(crate) const INODE: usize = 64;

/// Where the superblock is, and where it ends.
const SUPERBLOCK: usize = 1024;
pub(crate) const FIRST_INODE: usize = SUPERBLOCK + 128;

const MAGIC: u32 = 0xE0F5_E1E2;

/// Times are those of changes of the content.
const HAS_MTIMES: u32 = 2;

/// The kinds of files, as modes have them and as directories do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    File,
    Directory,
    Character,
    Block,
    Fifo,
    Symlink,
}

impl FileKind {
    fn mode(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::Character => 0o020_000,
            Self::Directory => 0o040_000,
            Self::Block => 0o060_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
        }
    }

    fn in_directory(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Character => 3,
            Self::Block => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }
}

/// The first bytes of an image, up to where its first inode may lie, which is its root: so its number
/// is a small one.
pub(crate) fn superblock(root: u32, inodes: u64, blocks: u32, identity: [u8; 16]) -> Vec<u8> {
    let mut bytes = vec![0; FIRST_INODE];
    let mut put = |at: usize, value: &[u8]| {
        bytes[SUPERBLOCK + at..SUPERBLOCK + at + value.len()].copy_from_slice(value);
    };
    put(0, &MAGIC.to_le_bytes());
    put(8, &HAS_MTIMES.to_le_bytes());
    put(12, &[BLOCK.trailing_zeros() as u8]);
    put(14, &(root as u16).to_le_bytes());
    put(16, &inodes.to_le_bytes());
    put(36, &blocks.to_le_bytes());
    put(48, &identity);
    bytes
}

/// What an inode says.
pub(crate) struct Inode<'a> {
    pub kind: FileKind,
    pub meta: &'a Meta,
    pub attributes: &'a [Attribute],
    pub size: u64,
    /// Whether the end of its data follows it.
    pub has_tail: bool,
    /// The first block of its data, or the number of a device.
    pub data: u32,
    pub number: u32,
    pub names: u32,
}

impl Inode<'_> {
    /// Appends it and its attributes.
    pub fn write(&self, to: &mut Vec<u8>) {
        const EXTENDED: u16 = 1;
        const TAIL_FOLLOWS: u16 = 2 << 1;
        let format = EXTENDED | if self.has_tail { TAIL_FOLLOWS } else { 0 };
        to.extend(format.to_le_bytes());
        to.extend(attributes::count(self.attributes).to_le_bytes());
        to.extend(((self.kind.mode() | self.meta.mode) as u16).to_le_bytes());
        to.extend([0; 2]);
        to.extend(self.size.to_le_bytes());
        to.extend(self.data.to_le_bytes());
        to.extend(self.number.to_le_bytes());
        to.extend(self.meta.uid.to_le_bytes());
        to.extend(self.meta.gid.to_le_bytes());
        to.extend(self.meta.seconds.to_le_bytes());
        to.extend(self.meta.nanoseconds.to_le_bytes());
        to.extend(self.names.to_le_bytes());
        to.extend([0; 16]);
        attributes::write(self.attributes, to);
    }
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    pub name: &'a [u8],
    pub inode: u32,
    pub kind: FileKind,
}

/// What one takes besides its name.
const LISTED: usize = 12;

/// A directory's data in the making: as many names as fit are together in a block, those first that
/// say where the names are.
#[derive(Debug, Default)]
pub(crate) struct Block<'a> {
    listed: Vec<Listed<'a>>,
    bytes: usize,
}

impl<'a> Block<'a> {
    /// Adds a name; false if there is no room for it.
    pub fn add(&mut self, listed: Listed<'a>) -> bool {
        let bytes = self.bytes + LISTED + listed.name.len();
        let fits = bytes <= BLOCK;
        if fits {
            self.listed.push(listed);
            self.bytes = bytes;
        }
        fits
    }

    /// How much of the block is used.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends what is used of it.
    pub fn write(&self, to: &mut Vec<u8>) {
        let mut at = self.listed.len() * LISTED;
        for Listed { name, inode, kind } in &self.listed {
            to.extend(u64::from(*inode).to_le_bytes());
            to.extend((at as u16).to_le_bytes());
            to.extend([kind.in_directory(), 0]);
            at += name.len();
        }
        self.listed.iter().for_each(|listed| to.extend(listed.name));
    }
}
