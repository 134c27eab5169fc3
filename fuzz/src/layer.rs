//! What is tried with every archive of a layer: nothing is made but what the layer may have, and all
//! of that is listed. It stands beside the protocol's bodies, whose users have no unpacker.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentkernel_images::Digest;
use agentkernel_unpack::{Bounds, Kind, read_entries, unpack_layer};
use tar::Header;

/// What an archive is made of, in bytes.
const BLOCK: usize = 512;

/// Unpacks an archive below `scratch`, an empty folder, on itself. Says how much of it was unpacked.
pub fn layer(scratch: &Path, archive: &[u8]) -> usize {
    let archive = repaired(archive);
    let mut below: Vec<PathBuf> = Vec::new();
    let mut listed = 0;
    for _ in 0..2 {
        let folder = scratch.join(below.len().to_string());
        let (root, entries) = (folder.join("root"), folder.join("entries"));
        fs::create_dir_all(&root).expect("a folder");
        let mut bounds = Bounds { bytes: 1 << 20, entries: 100 };
        let diff = Digest::of(&archive);
        let unpacked = unpack_layer(&*archive, &diff, (&root, &entries), &below, &mut bounds);
        holds(scratch, &folder, below.len());
        if unpacked.is_ok() {
            listed += all_is_listed(&root, &entries);
        }
        below.push(root);
    }
    listed
}

/// The same with checksums that are right, which mistakes would hide behind.
fn repaired(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK) {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = header.entry_size().unwrap_or(0).min(1 << 20) as usize;
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    archive
}

/// Nothing is outside of the folders that were given.
fn holds(scratch: &Path, folder: &Path, before: usize) {
    let names = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    };
    assert_eq!(names(scratch).len(), before + 1, "something is beside the layers");
    let inside = names(folder);
    let is_known = |name: &std::ffi::OsString| name == "root" || name == "entries";
    assert!(inside.iter().all(is_known), "{inside:?}");
}

/// All that is in the tree is listed, and nothing of it is what it may not be.
fn all_is_listed(root: &Path, entries: &Path) -> usize {
    let entries: Vec<_> =
        read_entries(entries).expect("a list").map(|entry| entry.expect("a line")).collect();
    let listed: BTreeSet<&[u8]> = entries.iter().map(|entry| entry.path.0.as_slice()).collect();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = path.symlink_metadata().expect("what was just seen");
        let kind = found.file_type();
        let relative = path.strip_prefix(root).expect("what is beneath").as_os_str().as_bytes();
        assert!(listed.contains(relative), "{} is not listed", path.display());
        assert!(!kind.is_block_device() && !kind.is_socket(), "{} was made", path.display());
        assert!(!kind.is_char_device() || found.rdev() == 0, "{} was made", path.display());
        if kind.is_dir() {
            // It may be closed, also to whoever made it.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("own folder");
            let entries = fs::read_dir(&path).expect("a folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    entries.iter().filter(|entry| entry.kind != Kind::Directory).count()
}
