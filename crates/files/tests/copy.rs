//! Layers copied and removed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "it is all tests")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use agentkernel_files::{CopyError, copy_tree, remove_tree};
use common::{
    Scratch, SmallDisk, as_ordinary_user, changed, check_deep, check_sparse, deep, fifo, is_root,
    mode, names, read, set_changed, set_mode, skip, sparse, whiteout, write,
};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 100];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
    value.truncate(length);
    value
}

#[test]
fn a_copy_has_all_that_an_overlay_wrote() {
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    write(from.join("program"), "content");
    set_attribute(&from.join("program"), "user.overlay.origin", b"\0\xff");
    set_mode(from.join("program"), 0o4751);
    set_changed(from.join("program"), 1_000_000_000, 123_456_789);
    write(from.join("empty"), "");
    set_mode(from.join("empty"), 0o400);
    fs::create_dir(from.join("opaque")).unwrap();
    set_attribute(&from.join("opaque"), "user.overlay.opaque", b"y");
    write(from.join("opaque/file"), "x");
    set_mode(from.join("opaque"), 0o1775);
    set_changed(from.join("opaque"), -5, 7);
    whiteout(from.join("gone"));
    fifo(from.join("fifo"));
    symlink("../../etc/passwd", from.join("link")).unwrap();
    set_changed(from.join("link"), 3, 4);
    let odd = OsStr::from_bytes(b"new\nline \xff");
    write(from.join(odd), "odd");
    set_mode(&from, 0o710);
    set_changed(&from, 100, 200);
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    set_changed(&from, 100, 200);

    let copied = copy_tree(&from, &to).unwrap();

    assert_eq!((copied.files, copied.bytes), (7, 7 + 1 + 3));
    assert_eq!(read(to.join("program")), "content");
    assert_eq!(attribute(&to.join("program"), "user.overlay.origin"), b"\0\xff");
    assert_eq!(mode(to.join("program")), 0o4751);
    assert_eq!(changed(to.join("program")), (1_000_000_000, 123_456_789));
    assert_eq!(mode(to.join("empty")), 0o400);
    assert_eq!(attribute(&to.join("opaque"), "user.overlay.opaque"), b"y");
    assert_eq!((mode(to.join("opaque")), changed(to.join("opaque"))), (0o1775, (-5, 7)));
    let gone = fs::symlink_metadata(to.join("gone")).unwrap();
    assert_eq!((gone.mode(), gone.rdev()), (0o020_000, 0));
    assert_eq!(fs::symlink_metadata(to.join("fifo")).unwrap().mode(), 0o010_640);
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("../../etc/passwd"));
    assert_eq!(changed(to.join("link")), (3, 4));
    assert_eq!(read(to.join(odd)), "odd");
    assert_eq!((mode(&to), changed(&to)), (0o710, (100, 200)));
    assert!(!to.join("socket").exists());
}

#[test]
fn hard_links_stay_links_and_nothing_else_is_made() {
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    fs::create_dir(from.join("sub")).unwrap();
    write(from.join("one"), "content");
    fs::hard_link(from.join("one"), from.join("sub/two")).unwrap();
    // A name that the copying would like to use itself.
    fs::hard_link(from.join("one"), from.join(".links-0")).unwrap();
    whiteout(from.join("gone"));
    fs::hard_link(from.join("gone"), from.join("sub/gone")).unwrap();
    // One of its names is not in the tree.
    write(scratch.path("elsewhere"), "other");
    fs::hard_link(scratch.path("elsewhere"), from.join("three")).unwrap();

    let copied = copy_tree(&from, &to).unwrap();

    assert_eq!((copied.files, copied.bytes), (6, 12));
    assert_eq!(names(&to), [".links-0", "gone", "one", "sub", "three"]);
    let inode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().ino();
    assert_eq!((inode("one"), inode("gone")), (inode("sub/two"), inode("sub/gone")));
    assert_eq!(inode("one"), inode(".links-0"));
    let links = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().nlink();
    assert_eq!((links("one"), links("gone"), links("three")), (3, 2, 1));
}

#[test]
fn a_file_with_as_many_names_as_can_be_is_copied() {
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    whiteout(from.join("gone"));
    // It is 65000 on ext4, and an overlay makes full use of it.
    let names = (0..65_000)
        .take_while(|n| fs::hard_link(from.join("gone"), from.join(n.to_string())).is_ok())
        .count();
    assert_eq!(copy_tree(&from, &to).unwrap().files, names as u64 + 1);
    assert_eq!(fs::symlink_metadata(to.join("gone")).unwrap().mode(), 0o020_000);
}

#[test]
fn holes_stay_holes() {
    let scratch = Scratch::new();
    let from = scratch.folder("from");
    sparse(from.join("sparse"));
    fs::File::create(from.join("hole")).unwrap().set_len(1 << 30).unwrap();
    copy_tree(&from, &scratch.path("to")).unwrap();
    check_sparse(scratch.path("to/sparse"));
    let hole = fs::metadata(scratch.path("to/hole")).unwrap();
    assert_eq!((hole.len(), hole.blocks()), (1 << 30, 0));
}

#[test]
fn contents_are_shared_where_the_file_system_can() {
    let scratch = Scratch::new();
    let from = scratch.folder("from");
    write(from.join("empty"), "");
    write(from.join("file"), &"x".repeat(10_000));
    let copied = copy_tree(&from, &scratch.path("to")).unwrap();
    let cp = Command::new("cp")
        .arg("--reflink=always")
        .args([from.join("file"), scratch.path("clone")])
        .output();
    let can = cp.is_ok_and(|output| output.status.success());
    assert_eq!(copied.reflinked, can);
    assert_eq!(read(scratch.path("to/file")), read(from.join("file")));
}

#[test]
fn a_tree_deeper_than_a_path_is_copied_and_removed() {
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    deep(&from, 3000);
    copy_tree(&from, &to).unwrap();
    check_deep(&to, 3000);
    remove_tree(&to).unwrap();
    assert!(!to.exists());
}

#[test]
fn a_wide_directory_is_copied_and_removed() {
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    for number in 0..5000 {
        write(from.join(format!("a-file-with-a-rather-long-name-{number}")), "");
    }
    assert_eq!(copy_tree(&from, &to).unwrap().files, 5000);
    remove_tree(&to).unwrap();
    assert!(!to.exists());
}

#[test]
fn what_is_there_is_not_touched() {
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.folder("to"));
    write(to.join("file"), "old");
    assert!(matches!(copy_tree(&from, &to), Err(CopyError::Exists { .. })));
    assert_eq!(read(to.join("file")), "old");
    symlink("nowhere", scratch.path("link")).unwrap();
    assert!(matches!(copy_tree(&from, &scratch.path("link")), Err(CopyError::Exists { .. })));
}

#[test]
fn a_failed_copy_leaves_nothing() {
    let scratch = Scratch::new();
    assert!(matches!(
        copy_tree(&scratch.path("absent"), &scratch.path("to")),
        Err(CopyError::Failed { .. })
    ));
    assert!(!scratch.path("to").exists());
    write(scratch.path("file"), "");
    symlink("from", scratch.path("link")).unwrap();
    let from = scratch.folder("from");
    for source in ["file", "link"] {
        assert!(copy_tree(&scratch.path(source), &scratch.path("to")).is_err());
        assert!(!scratch.path("to").exists());
    }
    assert!(matches!(copy_tree(&from, &from.join("sub")), Err(CopyError::IntoItself { .. })));
    assert_eq!(names(&from), [""; 0]);
}

#[test]
fn devices_and_mounts_are_refused() {
    if !is_root() {
        return skip("only root makes devices and mounts");
    }
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    let device = from.join("null");
    mknodat(CWD, &device, FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
    let error = copy_tree(&from, &to).unwrap_err();
    assert!(matches!(&error, CopyError::Device { path } if *path == device), "{error}");
    fs::remove_file(&device).unwrap();

    // One of the same file system, which its number doesn't tell.
    let (inner, other) = (from.join("inner"), scratch.folder("other"));
    write(other.join("file"), "precious");
    fs::create_dir(&inner).unwrap();
    let mount = |arguments: &[&OsStr]| {
        Command::new(arguments[0]).args(&arguments[1..]).status().unwrap().success()
    };
    if !mount(&["mount".as_ref(), "--bind".as_ref(), other.as_ref(), inner.as_ref()]) {
        return skip("mounts can't be made here");
    }
    let copied = copy_tree(&from, &to);
    let removed = remove_tree(&from);
    assert!(mount(&["umount".as_ref(), inner.as_ref()]));
    assert!(matches!(copied, Err(CopyError::Mount { .. })), "{copied:?}");
    assert!(removed.is_err());
    assert_eq!(read(other.join("file")), "precious");
    assert!(!to.exists());
}

#[test]
fn owners_and_capabilities_are_kept() {
    if !is_root() {
        return skip("only root gives files away");
    }
    let scratch = Scratch::new();
    let (from, to) = (scratch.folder("from"), scratch.path("to"));
    write(from.join("file"), "x");
    symlink("x", from.join("link")).unwrap();
    for path in [from.join("file"), from.join("link"), from.clone()] {
        std::os::unix::fs::lchown(path, Some(0x6ac0_03e8), Some(0x6ac0_03e9)).unwrap();
    }
    set_mode(from.join("file"), 0o6755);
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_attribute(&from.join("file"), "security.capability", &capability);
    copy_tree(&from, &to).unwrap();
    for path in [to.join("file"), to.join("link"), to.clone()] {
        let data = fs::symlink_metadata(path).unwrap();
        assert_eq!((data.uid(), data.gid()), (0x6ac0_03e8, 0x6ac0_03e9));
    }
    assert_eq!(mode(to.join("file")), 0o6755);
    assert_eq!(attribute(&to.join("file"), "security.capability"), capability);
}

#[test]
fn a_full_disk_leaves_nothing() {
    if !is_root() {
        return skip("only root mounts a small disk");
    }
    let scratch = Scratch::new();
    let (from, small) = (scratch.folder("from"), scratch.folder("small"));
    let Some(_disk) = SmallDisk::at(&small) else { return skip("a tmpfs can't be mounted here") };
    fs::create_dir(from.join("sub")).unwrap();
    write(from.join("sub/big"), &"x".repeat(2 << 20));
    let error = copy_tree(&from, &small.join("to")).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(names(&small), [""; 0]);
}

#[test]
fn what_its_owner_shut_is_copied_and_removed() {
    let scratch = Scratch::new();
    let Some(folder) = as_ordinary_user("what_its_owner_shut_is_copied_and_removed", &scratch)
    else {
        return;
    };
    let (from, to) = (folder.join("from"), folder.join("to"));
    fs::create_dir_all(from.join("work/inner")).unwrap();
    write(from.join("work/inner/file"), "x");
    let shut = [("work/inner/file", 0o200), ("work/inner", 0o400), ("work", 0o000), ("", 0o100)];
    for (path, to_be) in shut {
        set_mode(from.join(path), to_be);
    }

    copy_tree(&from, &to).unwrap();

    for top in [&from, &to] {
        for (path, was) in shut.iter().rev() {
            assert_eq!(mode(top.join(path)), *was, "{path}");
            set_mode(top.join(path), 0o700);
        }
        assert_eq!(read(top.join("work/inner/file")), "x");
    }

    // A failure gives everything back too.
    remove_tree(&to).unwrap();
    fs::create_dir(from.join("work/inner/other")).unwrap();
    for (path, to_be) in shut {
        set_mode(from.join(path), to_be);
    }
    assert!(matches!(copy_tree(&from, &from.join("work")), Err(CopyError::Exists { .. })));
    let refused = from.join("work/inner/other/to");
    for path in ["", "work", "work/inner"] {
        set_mode(from.join(path), 0o300);
    }
    assert!(matches!(copy_tree(&from, &refused), Err(CopyError::IntoItself { .. })));
    for path in ["", "work", "work/inner"] {
        assert_eq!(mode(from.join(path)), 0o300);
    }
    set_mode(from.join("work"), 0o000);
    set_mode(&from, 0o500);
    remove_tree(&from).unwrap();
    assert!(!from.exists());
}

#[test]
fn removing_follows_no_link_and_takes_everything() {
    let scratch = Scratch::new();
    let (tree, other) = (scratch.folder("tree"), scratch.folder("other"));
    write(other.join("file"), "precious");
    symlink(&other, tree.join("link")).unwrap();
    symlink(&other, scratch.path("link")).unwrap();
    fifo(tree.join("fifo"));
    whiteout(tree.join("gone"));
    write(tree.join(OsStr::from_bytes(b"new\nline \xff")), "");
    remove_tree(&tree).unwrap();
    remove_tree(&scratch.path("link")).unwrap();
    remove_tree(&scratch.path("absent")).unwrap();
    remove_tree(&scratch.path("absent/too")).unwrap();
    assert_eq!(names(&other), ["file"]);
    assert!(!tree.exists() && !scratch.path("link").is_symlink());
    write(scratch.path("file"), "");
    remove_tree(&scratch.path("file")).unwrap();
    assert!(!scratch.path("file").exists());
    assert!(remove_tree(Path::new("/")).is_err());
    assert!(remove_tree(&other.join("..")).is_err());
}
