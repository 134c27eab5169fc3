//! What an image's layers hold together, as overlayfs would show it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentkernel_unpack::Entry;

use crate::RootImageError;
use crate::attributes::{Attribute, kept};
use crate::erofs::FileKind;

/// How much memory all that is known of an image's files may take, in bytes, about.
const MOST_BYTES: usize = 1 << 30;

/// What one takes of that besides its name and its attributes, in bytes, about.
const EACH: usize = 160;

/// All files of all layers that are no directories, and all attributes. Trees refer to them by number.
#[derive(Debug)]
pub(crate) struct Files {
    leaves: Vec<Leaf>,
    attributes: Vec<Box<[Attribute]>>,
    bytes: usize,
}

/// What everything has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meta {
    /// Without the kind.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Since 1970.
    pub seconds: i64,
    pub nanoseconds: u32,
    /// Their number.
    pub attributes: u32,
}

/// What is no directory: one file of perhaps several names.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub meta: Meta,
    pub kind: LeafKind,
    /// Of a file or, once it is laid out, of a link.
    pub size: u64,
    /// In which layer's tree it is, at whichever of its paths.
    pub layer: u16,
    /// How many names it has, once it is laid out.
    pub names: u32,
    /// Where it is in the root image, once it is laid out.
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafKind {
    File,
    Symlink,
    Fifo,
    /// With what the kernel knows it by.
    Character(u32),
    Block(u32),
}

impl From<LeafKind> for FileKind {
    fn from(kind: LeafKind) -> Self {
        match kind {
            LeafKind::File => Self::File,
            LeafKind::Symlink => Self::Symlink,
            LeafKind::Fifo => Self::Fifo,
            LeafKind::Character(_) => Self::Character,
            LeafKind::Block(_) => Self::Block,
        }
    }
}

/// Where something is in a root image.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// The number of its inode, by which its address is known. 0 is nobody's.
    pub inode: u32,
    /// The first of its blocks, in the area that it is in.
    pub block: u32,
}

pub(crate) type Name = Box<[u8]>;

#[derive(Debug)]
pub(crate) enum Node {
    Directory(Box<Directory>),
    /// The number of a leaf.
    Leaf(u32),
    /// What is below is hidden. Only a layer that is not merged yet has these.
    Whiteout,
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub meta: Meta,
    /// If there is one below, then what this one has is that one's.
    pub implied: bool,
    /// What is in the one below is hidden.
    pub opaque: bool,
    /// In the order of their names' bytes.
    pub children: BTreeMap<Name, Node>,
    pub place: Place,
}

impl Directory {
    /// What shows of a layer's directory where none is below.
    pub fn alone(self) -> Self {
        let mut alone = Self { meta: self.meta, ..Self::default() };
        alone.cover(self);
        alone
    }

    /// What shows where a layer's directory lies over this one.
    pub fn cover(&mut self, upper: Directory) {
        if !upper.implied {
            self.meta = upper.meta;
        }
        if upper.opaque {
            self.children.clear();
        }
        for (name, node) in upper.children {
            match (node, self.children.get_mut(&name)) {
                (Node::Whiteout, _) => {
                    self.children.remove(&name);
                }
                (Node::Directory(upper), Some(Node::Directory(lower))) => lower.cover(*upper),
                (Node::Directory(upper), _) => {
                    self.children.insert(name, Node::Directory(Box::new(upper.alone())));
                }
                (leaf, _) => {
                    self.children.insert(name, leaf);
                }
            }
        }
    }

    /// The directory at a path beneath this one.
    pub fn at(&mut self, path: &[u8]) -> Option<&mut Directory> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(self, |here, part| match here.children.get_mut(part) {
            Some(Node::Directory(next)) => Some(&mut **next),
            _ => None,
        })
    }

    /// How many names it has: its own, its `.`, and `..` in each directory in it.
    pub fn names(&self) -> u32 {
        let inner = self.children.values().filter(|node| matches!(node, Node::Directory(_)));
        2 + inner.count() as u32
    }
}

impl Files {
    pub fn new() -> Self {
        // The first are those of what has none.
        Self { leaves: Vec::new(), attributes: vec![Box::new([])], bytes: 0 }
    }

    pub fn leaf(&self, number: u32) -> &Leaf {
        &self.leaves[number as usize]
    }

    pub fn leaf_mut(&mut self, number: u32) -> &mut Leaf {
        &mut self.leaves[number as usize]
    }

    pub fn attributes(&self, meta: &Meta) -> &[Attribute] {
        &self.attributes[meta.attributes as usize]
    }

    /// Keeps a leaf, and says its number.
    pub fn add(&mut self, leaf: Leaf) -> Result<u32, RootImageError> {
        let number = u32::try_from(self.leaves.len()).map_err(|_| RootImageError::TooManyFiles)?;
        self.leaves.push(leaf);
        Ok(number)
    }

    /// What a line of a layer's list says that everything has.
    pub fn meta(&mut self, entry: &Entry) -> Result<Meta, RootImageError> {
        let attributes = self.number_of(entry).map_err(|why| {
            let path = PathBuf::from("/").join(crate::path_of(&entry.path.0));
            RootImageError::Member { path, why }
        })?;
        let (seconds, nanoseconds) = entry.mtime;
        let Entry { mode, uid, gid, .. } = *entry;
        self.count(EACH + entry.path.0.len())?;
        Ok(Meta { mode: mode & 0o7777, uid, gid, seconds, nanoseconds, attributes })
    }

    fn number_of(&mut self, entry: &Entry) -> Result<u32, &'static str> {
        let kept = kept(entry.kind, &entry.attributes)?;
        if kept.is_empty() {
            return Ok(0);
        }
        self.bytes += kept.iter().map(Attribute::memory).sum::<usize>();
        self.attributes.push(kept);
        // There is memory for fewer than that.
        u32::try_from(self.attributes.len() - 1).map_err(|_| "has too many beside it")
    }

    fn count(&mut self, bytes: usize) -> Result<(), RootImageError> {
        self.bytes += bytes;
        match self.bytes > MOST_BYTES {
            true => Err(RootImageError::TooManyFiles),
            false => Ok(()),
        }
    }
}
