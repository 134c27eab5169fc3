//! All that can be seen of a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agentkernel_images::Digest;

/// What is at each path. Of what has several names that is the same for all, and `links` says which
/// these are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub paths: BTreeMap<PathBuf, String>,
    pub links: BTreeSet<Vec<PathBuf>>,
}

/// What a tree that can't hold all of an image doesn't show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum But {
    Nothing,
    /// There are no devices, and attributes that only files and directories of the store have.
    WhatTreesHold,
}

pub fn seen(tree: &Path, but: But) -> Seen {
    let mut all = Seen::default();
    let mut names: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![tree.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = path.symlink_metadata().unwrap();
        let kind = found.file_type();
        let (is_device, is_dir) = (kind.is_char_device() || kind.is_block_device(), kind.is_dir());
        let relative = path.strip_prefix(tree).unwrap().to_owned();
        if but == But::WhatTreesHold && is_device {
            continue;
        }
        let mut says = format!(
            "{:o} {}:{} {}.{:09}",
            found.mode(),
            found.uid(),
            found.gid(),
            found.mtime(),
            found.mtime_nsec(),
        );
        for (name, value) in attributes(&path) {
            let in_trees = name.starts_with("user.") || name == "security.capability";
            if but == But::Nothing || (in_trees && (is_dir || kind.is_file())) {
                says += &format!(" {name}={}", Digest::of(&value).hex());
            }
        }
        if is_dir {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            names.entry(found.ino()).or_default().push(relative.clone());
            says += &format!(" {} {:x}", found.len(), found.rdev());
        }
        if kind.is_file() {
            says += &format!(" {}", Digest::of(&fs::read(&path).unwrap()));
        } else if kind.is_symlink() {
            says += &format!(" {:?}", fs::read_link(&path).unwrap());
        }
        all.paths.insert(relative, says);
    }
    all.links.extend(names.into_values().filter(|names| names.len() > 1).map(|mut names| {
        names.sort();
        names
    }));
    all
}

/// What is seen of both must be the same.
pub fn same(ours: &Seen, theirs: &Seen) {
    let paths: BTreeSet<_> = ours.paths.keys().chain(theirs.paths.keys()).collect();
    let differ = paths.into_iter().filter(|path| ours.paths.get(*path) != theirs.paths.get(*path));
    let differ: Vec<_> =
        differ.map(|path| (path, ours.paths.get(path), theirs.paths.get(path))).collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert_eq!(ours.links, theirs.links);
}

/// Files have as many links as names, and directories as many as others are in them.
pub fn counts_are_right(tree: &Path) {
    let mut names: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut waiting = vec![tree.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = path.symlink_metadata().unwrap();
        if found.is_dir() {
            let inner: Vec<_> = fs::read_dir(&path).unwrap().map(Result::unwrap).collect();
            let is_dir = |entry: &&fs::DirEntry| entry.file_type().unwrap().is_dir();
            assert_eq!(found.nlink(), 2 + inner.iter().filter(is_dir).count() as u64, "{path:?}");
            for entry in &inner {
                let kind = entry.path().symlink_metadata().unwrap().file_type();
                assert_eq!(entry.file_type().unwrap(), kind, "{path:?}");
            }
            waiting.extend(inner.into_iter().map(|entry| entry.path()));
        } else {
            names.entry(found.ino()).or_insert((0, found.nlink())).0 += 1;
        }
    }
    for (inode, (count, says)) in names {
        assert_eq!(count, says, "inode {inode}");
    }
}

pub fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    names.map(value).filter(|(name, _)| !name.contains(".overlay.")).collect()
}
