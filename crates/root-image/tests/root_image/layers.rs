//! What layers hold together is what overlayfs shows of them, with what their trees can't hold.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use agentkernel_images::Image;
use agentkernel_root_image::{RootImageError, find, make};
use tar::EntryType;

use crate::archive::{Archive, Member};
use crate::mounted::{self, Mounted};
use crate::seen::{But, attributes, counts_are_right, same, seen};
use crate::store::Store;

/// `cap_net_raw=ep`.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An access list that lets the user 7 read.
const ACCESS: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\
    \x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

/// Mounts the root image of these layers beside what overlayfs shows of them, and compares.
pub fn compare(store: &Store, image: &Image) -> Mounted {
    let root_image = make(&store.images, image).unwrap();
    let number = store.roots().len();
    let at = |name: &str| store.scratch.path().join(format!("{name}-{number}"));
    let layers = Mounted::layers(image.layers(), at("layers"));
    let mounted = Mounted::image(&root_image, at("image"));
    let but = But::WhatTreesHold;
    same(&seen(&mounted.0, but), &seen(&layers.0, but));
    counts_are_right(&mounted.0);
    mounted
}

fn compared(archives: &[Vec<u8>]) -> Option<(Store, Mounted)> {
    let store = Store::new();
    let image = store.keep(archives);
    mounted::check(make(&store.images, &image).unwrap().path());
    mounted::can().then(|| {
        let mounted = compare(&store, &image);
        (store, mounted)
    })
}

#[test]
fn everything_has_what_the_archive_says() {
    let file = |mode| Member::new(EntryType::Regular, mode);
    let archive = Archive::new()
        .member("./", Member::new(EntryType::Directory, 0o751).owner(1, 2).mtime("77.5"))
        .member("suid", file(0o6755).owner(4_000_000_000, 70_000).mtime("1700000000.123456789"))
        .member("old", file(0o000).mtime("-1.25"))
        .member("late", file(0o600).mtime("15000000000"))
        .member("sticky/", Member::new(EntryType::Directory, 0o1777))
        .member("fifo", {
            Member::new(EntryType::Fifo, 0o640).owner(3, 4).attribute(b"user.x", b"of no fifo")
        })
        .member("capable", file(0o755).attribute(b"security.capability", &CAPABILITY))
        .member(
            "attributes",
            file(0o644)
                .attribute(b"user.x", b"a\nb\0c")
                .attribute(b"user.empty", b"")
                .attribute(b"trusted.t", b"t")
                .attribute(b"security.selinux", b"system_u:object_r:bin_t:s0")
                .attribute(b"system.posix_acl_access", ACCESS)
                .attribute(b"user.overlay.opaque", b"y")
                .attribute(b"trusted.overlay.redirect", b"/etc")
                .attribute(b"com.apple.quarantine", b"q"),
        )
        .member(
            "sticky/labelled/",
            Member::new(EntryType::Directory, 0o755).attribute(b"security.selinux", b"d"),
        )
        .symlink("link", "/somewhere/else")
        .member(
            "labelled",
            Member {
                target: b"there".into(),
                ..Member::new(EntryType::Symlink, 0o644)
                    .attribute(b"security.selinux", b"l")
                    .attribute(b"user.x", b"of no link")
                    .attribute(b"system.posix_acl_access", ACCESS)
            },
        )
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 4095, 1_048_575)
        .bytes();
    let Some((_store, mounted)) = compared(&[archive]) else { return };
    let at = |path: &str| mounted.0.join(path);
    let found = |path: &str| at(path).symlink_metadata().unwrap();
    let owner = |path: &str| (found(path).uid(), found(path).gid());
    let time = |path: &str| (found(path).mtime(), found(path).mtime_nsec());
    assert_eq!((found("").mode(), owner(""), time("")), (0o40751, (1, 2), (77, 500_000_000)));
    assert_eq!((found("suid").mode(), owner("suid")), (0o106755, (4_000_000_000, 70_000)));
    assert_eq!(time("suid"), (1_700_000_000, 123_456_789));
    assert_eq!((found("old").mode(), time("old")), (0o100000, (-2, 750_000_000)));
    assert_eq!(time("late"), (15_000_000_000, 0));
    assert_eq!(found("sticky").mode(), 0o41777);
    assert_eq!((found("fifo").mode(), owner("fifo")), (0o10640, (3, 4)));
    assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("/somewhere/else"));
    assert_eq!(found("labelled").mode(), 0o120777);
    assert!(found("null").file_type().is_char_device() && found("null").rdev() == 0x103);
    let disk = found("disk").rdev();
    assert!(found("disk").file_type().is_block_device());
    assert_eq!((rustix::fs::major(disk), rustix::fs::minor(disk)), (4095, 1_048_575));

    assert_eq!(attributes(&at("capable"))["security.capability"], CAPABILITY);
    let found = attributes(&at("attributes"));
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let expected = ["security.selinux", "system.posix_acl_access", "trusted.t", "user.empty"];
    assert_eq!(names, [&expected[..], &["user.x"]].concat());
    assert_eq!((&*found["user.x"], &*found["user.empty"]), (&b"a\nb\0c"[..], &b""[..]));
    assert_eq!(found["system.posix_acl_access"], ACCESS);
    assert_eq!(attributes(&at("sticky/labelled"))["security.selinux"], b"d");
    let of_link = attributes(&at("labelled"));
    assert_eq!((of_link.len(), &*of_link["security.selinux"]), (1, &b"l"[..]));
    assert_eq!(attributes(&at("fifo")).len(), 0);
}

#[test]
fn what_is_hidden_is_not_there_and_what_is_merged_is() {
    let lower = Archive::new()
        .directory("gone/", 0o700)
        .file("gone/inner", "x")
        .file("removed", "x")
        .directory("opaque/", 0o750)
        .file("opaque/lower", "x")
        .directory("anew/", 0o700)
        .file("anew/lower", "x")
        .directory("merged/deep/", 0o711)
        .file("merged/deep/lower", "lower")
        .file("merged/both", "lower")
        .directory("becomes-file/", 0o755)
        .file("becomes-file/inner", "x")
        .file("becomes-directory", "x")
        .symlink("becomes-directory-2", "/merged")
        .bytes();
    let upper = Archive::new()
        .whiteout("", "gone")
        .whiteout("", "removed")
        .whiteout("", "never-there")
        .opaque("opaque/")
        .file("opaque/upper", "x")
        .whiteout("", "anew")
        .file("anew/upper", "x")
        .file("merged/deep/upper", "upper")
        .file("merged/both", "upper")
        .file("becomes-file", "x")
        .file("becomes-directory/inner", "x")
        .file("becomes-directory-2/inner", "x")
        .device(EntryType::Char, "device", 5, 1)
        .bytes();
    let top = Archive::new().whiteout("merged/deep/", "lower").file("gone", "again").bytes();
    let Some((_store, mounted)) = compared(&[lower, upper, top]) else { return };
    let at = |path: &str| mounted.0.join(path);
    for gone in ["removed", "never-there", "opaque/lower", "anew/lower", "merged/deep/lower"] {
        assert!(!at(gone).exists(), "{gone}");
    }
    let text = |path: &str| fs::read_to_string(at(path)).unwrap();
    assert_eq!(text("merged/both") + &text("merged/deep/upper") + &text("gone"), "upperupperagain");
    let mode = |path: &str| at(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("merged/deep"), 0o711, "what only passes through changes nothing");
    assert_eq!(mode("opaque"), 0o750);
    assert_eq!(mode("anew"), 0o755, "what was hidden is no example");
}

#[test]
fn files_that_a_layer_takes_apart_are_counted_anew() {
    let lower = Archive::new()
        .file("a", "linked")
        .hard_link("b", "a")
        .hard_link("directory/c", "a")
        .symlink("link", "a")
        .hard_link("link-2", "link")
        .file("apart", "1")
        .hard_link("apart-2", "apart")
        .file("apart", "2")
        .bytes();
    let upper = Archive::new().file("a", "other").whiteout("directory/", "c").bytes();
    let Some((_store, mounted)) = compared(std::slice::from_ref(&lower)) else { return };
    let links = |path: &str| mounted.0.join(path).symlink_metadata().unwrap().nlink();
    assert_eq!(["a", "b", "directory/c", "link", "link-2"].map(links), [3, 3, 3, 2, 2]);
    assert_eq!(["apart", "apart-2"].map(links), [1, 1]);
    drop(mounted);
    let Some((_store, mounted)) = compared(&[lower, upper]) else { return };
    let links = |path: &str| mounted.0.join(path).symlink_metadata().unwrap().nlink();
    // As overlayfs has it b would still have three.
    assert_eq!(["a", "b", "link"].map(links), [1, 1, 2]);
}

#[test]
fn names_are_found_whatever_their_bytes_are() {
    let mut archive = Archive::new();
    let member = Member::new(EntryType::Regular, 0o644);
    let long = vec![b'n'; 255];
    let names: BTreeSet<Vec<u8>> = (1..=255)
        .filter(|byte| *byte != b'/' && *byte != b'.')
        .flat_map(|byte| [vec![byte], vec![byte, byte], vec![b'.', byte]])
        .chain([b"...".to_vec(), long, b".. ".to_vec(), b"..a".to_vec(), b". ".to_vec()])
        .collect();
    for name in &names {
        archive.add(&[b"names/", name.as_slice()].concat(), &member, name);
    }
    let Some((_store, mounted)) = compared(&[archive.bytes()]) else { return };
    for name in &names {
        use std::os::unix::ffi::OsStrExt;
        let path = mounted.0.join("names").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(&fs::read(&path).unwrap(), name);
    }
    assert_eq!(fs::read_dir(mounted.0.join("names")).unwrap().count(), names.len());
}

#[test]
fn what_no_root_image_can_hold_is_refused() {
    let says = |archive: Archive, expected: &str| {
        let store = Store::new();
        let image = store.keep(&[archive.bytes()]);
        let error = make(&store.images, &image).unwrap_err();
        assert!(matches!(error, RootImageError::Member { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.hint().is_empty());
        assert!(find(&store.images, &image).unwrap().is_none());
        assert!(store.drafts().is_empty() && store.roots().is_empty());
    };
    let file = || Member::new(EntryType::Regular, 0o644);
    let device = Archive::new().device(EntryType::Char, "wide", 4096, 0);
    says(device, "/wide in the image is a device");
    let long = Archive::new().member("x", file().attribute(b"trusted.x", &[1; 65536]));
    says(long, "/x in the image has an attribute");
    let many = (0..5).fold(file(), |file, number| {
        file.attribute(format!("trusted.{number}").as_bytes(), &[1; 60_000])
    });
    says(Archive::new().member("x", many), "/x in the image has more attributes");
}

#[test]
fn an_image_of_nothing_has_an_empty_root() {
    let Some((_store, mounted)) = compared(&[Archive::new().bytes()]) else { return };
    assert_eq!(fs::read_dir(&mounted.0).unwrap().count(), 0);
    let store = Store::new();
    let image = store.keep(&[]);
    assert!(matches!(make(&store.images, &image), Err(RootImageError::Empty)));
}
