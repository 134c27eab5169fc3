//! Extended attributes, as erofs has them.

use std::collections::BTreeMap;

use agentkernel_unpack::{Bytes, Kind};

/// What names begin with that a Linux guest can have, what stands for each on the disk, and what can
/// have it. Those of access lists are whole names.
const PREFIXES: [(&[u8], u8, Has); 5] = [
    (b"user.", 1, |kind| matches!(kind, Kind::File | Kind::Directory)),
    (b"system.posix_acl_access", 2, |kind| kind != Kind::Symlink),
    (b"system.posix_acl_default", 3, |kind| kind == Kind::Directory),
    (b"trusted.", 4, |_| true),
    (b"security.", 6, |_| true),
];

type Has = fn(Kind) -> bool;

/// What overlayfs takes for its own. The guest lays one over the image.
const OVERLAY: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// What stands before a file's attributes, and before each of them.
const HEAD: usize = 12;
const ENTRY: usize = 4;
const ALIGNMENT: usize = 4;

/// How much all of one file's can be, in bytes, by the width of the field that says so.
const MOST: usize = HEAD + (u16::MAX as usize - 1) * ALIGNMENT;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    prefix: u8,
    /// What follows the prefix.
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Attribute {
    fn new(kind: Kind, name: &[u8], value: &[u8]) -> Option<Self> {
        if OVERLAY.iter().any(|own| name.starts_with(own)) {
            return None;
        }
        PREFIXES.iter().filter(|(.., has)| has(kind)).find_map(|(prefix, number, _)| {
            let rest = name.strip_prefix(*prefix)?;
            let is_whole_name = !prefix.ends_with(b".");
            let attribute = || Self { prefix: *number, name: rest.into(), value: value.into() };
            (rest.is_empty() == is_whole_name).then(attribute)
        })
    }

    fn length(&self) -> usize {
        (ENTRY + self.name.len() + self.value.len()).next_multiple_of(ALIGNMENT)
    }

    /// What it takes of memory, in bytes, about.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.length()
    }
}

/// Those that something of this kind can have in a guest, in an order of their own. What comes later
/// has a name in the end.
pub(crate) fn kept(kind: Kind, all: &[(Bytes, Bytes)]) -> Result<Box<[Attribute]>, &'static str> {
    let mut by_name = BTreeMap::new();
    let attribute = |(name, value): &(Bytes, Bytes)| Attribute::new(kind, &name.0, &value.0);
    for attribute in all.iter().filter_map(attribute) {
        if attribute.name.len() > u8::MAX.into() || attribute.value.len() > u16::MAX.into() {
            return Err("has an attribute that is longer than a root image can hold");
        }
        by_name.insert((attribute.prefix, attribute.name.clone()), attribute);
    }
    let kept: Box<[Attribute]> = by_name.into_values().collect();
    match length(&kept) > MOST {
        true => Err("has more attributes than a root image can hold"),
        false => Ok(kept),
    }
}

/// How much those of a file take on the disk.
pub(crate) fn length(all: &[Attribute]) -> usize {
    match all {
        [] => 0,
        all => HEAD + all.iter().map(Attribute::length).sum::<usize>(),
    }
}

/// What a file's inode says of their length.
pub(crate) fn count(all: &[Attribute]) -> u16 {
    match length(all) {
        0 => 0,
        length => ((length - HEAD) / ALIGNMENT + 1) as u16,
    }
}

/// Appends them as they are on the disk.
pub(crate) fn write(all: &[Attribute], to: &mut Vec<u8>) {
    if all.is_empty() {
        return;
    }
    to.extend([0; HEAD]);
    for Attribute { prefix, name, value } in all {
        to.extend([name.len() as u8, *prefix]);
        to.extend((value.len() as u16).to_le_bytes());
        to.extend(&**name);
        to.extend(&**value);
        let end = to.len().next_multiple_of(ALIGNMENT);
        to.resize(end, 0);
    }
}
