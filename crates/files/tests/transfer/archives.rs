//! Tar archives.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::scene::{
    AS_IT_IS, DIRECTORY, FILE, HARD_LINK, LINK, Scene, archive, members, owner_of, refused,
};
use crate::common::{changed, deep_named, mode, names, read, set_changed, set_mode, write};
use agentkernel_files::{Refusal, TransferError, Transferred, tar_in, tar_out};

#[test]
fn a_tree_goes_through_an_archive_unchanged() {
    let scene = Scene::new();
    let tree = scene.root.join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    write(tree.join("sub/file"), "content");
    set_mode(tree.join("sub/file"), 0o4640);
    set_changed(tree.join("sub/file"), 1_000_000_000, 0);
    let target = format!("/{}//x/./{}", "y".repeat(120), "z".repeat(120));
    symlink(&target, tree.join("long-link")).unwrap();
    symlink("./a/../b//c", tree.join("link")).unwrap();
    set_mode(tree.join("sub"), 0o555);
    set_changed(tree.join("sub"), 99, 0);

    let (archive, done) = scene.pack("/tree");
    assert_eq!((done.files, done.directories), (3, 3));
    assert_eq!(
        members(&archive),
        ["tree/", "tree/link", "tree/long-link", "tree/sub/", "tree/sub/empty/", "tree/sub/file"]
    );
    let (contents, _) = scene.pack("/tree/.");
    assert_eq!(members(&contents), ["link", "long-link", "sub/", "sub/empty/", "sub/file"]);

    let done = scene.unpack("/dir", &archive).unwrap();
    assert_eq!((done.files, done.directories), (3, 3));
    let copy = scene.root.join("dir/tree");
    assert_eq!(read(copy.join("sub/file")), "content");
    assert_eq!(mode(copy.join("sub/file")), 0o640);
    assert_eq!(changed(copy.join("sub/file")), (1_000_000_000, 0));
    assert_eq!((mode(copy.join("sub")), changed(copy.join("sub"))), (0o555, (99, 0)));
    assert_eq!(fs::read_link(copy.join("long-link")).unwrap(), Path::new(&target));
    assert_eq!(fs::read_link(copy.join("link")).unwrap().as_os_str(), "./a/../b//c");
    assert_eq!(owner_of(copy.join("sub/file")), scene.owner);
    for path in [tree.join("sub"), copy.join("sub")] {
        set_mode(path, 0o755);
    }
}

#[test]
fn an_archive_writes_nothing_but_below_its_target() {
    let scene = Scene::new();
    write(scene.root.join("own"), "own");
    let outside = scene.root.parent().unwrap().to_owned();
    let out = outside.to_str().unwrap();
    let bad = [
        archive(&[("../evil", FILE, "x")]),
        archive(&[("a/../../evil", FILE, "x")]),
        archive(&[("..", DIRECTORY, "")]),
        archive(&[("link", LINK, out), ("link/evil", FILE, "x")]),
        archive(&[("link2", LINK, "../.."), ("link2/evil", DIRECTORY, "x")]),
        archive(&[("link3", LINK, ".."), ("link3/own", FILE, "x")]),
        archive(&[("hard", HARD_LINK, "../own")]),
        archive(&[("hard", HARD_LINK, "/own")]),
        archive(&[("link4", LINK, ".."), ("hard", HARD_LINK, "link4/own")]),
        archive(&[("", FILE, "x")]),
        archive(&[("./", FILE, "x"), ("/", FILE, "")]),
        archive(&[("file", FILE, "x"), ("file/sub", FILE, "x")]),
    ];
    for (number, bad) in bad.iter().enumerate() {
        let result = scene.unpack("/dir", bad);
        let fine = number == 10;
        assert!(
            fine || matches!(result, Err(TransferError::Member { .. })),
            "{number}: {result:?}"
        );
    }
    assert_eq!(names(&outside), ["host", "root", "secret"]);
    assert_eq!(names(&scene.root), ["dir", "own"]);
    assert_eq!(read(scene.root.join("own")), "own");
    assert!(!scene.root.join("dir/hard").exists());
}

#[test]
fn an_archive_is_unpacked_with_what_it_lacks() {
    let scene = Scene::new();
    let done = scene
        .unpack(
            "/dir",
            &archive(&[
                ("/absolute/./file", FILE, "content"),
                ("absolute/same", HARD_LINK, "absolute/file"),
                ("absolute/same", HARD_LINK, "absolute/file"),
                ("link", LINK, "/etc/passwd"),
                ("link", FILE, "a file now"),
                ("device", tar::EntryType::Char, ""),
                ("disk", tar::EntryType::Block, ""),
                ("fifo", tar::EntryType::Fifo, ""),
            ]),
        )
        .unwrap();
    let expected =
        [("device", Refusal::Device), ("disk", Refusal::Device), ("fifo", Refusal::Fifo)];
    assert_eq!(refused(&done), expected);
    let dir = scene.root.join("dir");
    assert_eq!(names(&dir), ["absolute", "link"]);
    assert_eq!(names(dir.join("absolute")), ["file", "same"]);
    assert_eq!((mode(dir.join("absolute")), mode(dir.join("absolute/file"))), (0o755, 0o755));
    assert_eq!(changed(dir.join("absolute/file")), (1234, 0));
    let inode = |name: &str| fs::metadata(dir.join(name)).unwrap().ino();
    assert_eq!(inode("absolute/file"), inode("absolute/same"));
    assert_eq!(read(dir.join("link")), "a file now");
    assert!(matches!(scene.unpack("/absent", &[]), Err(TransferError::Missing { .. })));
}

#[test]
fn a_broken_archive_leaves_no_part_of_a_file() {
    let scene = Scene::new();
    let whole = archive(&[("file", FILE, &"x".repeat(5000))]);
    let mut huge = whole.clone();
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&whole[..512]);
    header.set_size(1 << 60);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    // A name as long as a disk, of which nothing may be kept.
    let mut endless = tar::Header::new_gnu();
    endless.set_entry_type(tar::EntryType::GNULongName);
    endless.set_size(1 << 40);
    endless.set_cksum();
    for bad in [&whole[..3000], &whole[..700], &huge, &[7; 2000]] {
        assert!(matches!(scene.unpack("/dir", bad), Err(TransferError::Archive { .. })));
        assert_eq!(names(scene.root.join("dir")), [""; 0]);
    }
    let endless = std::io::Read::chain(endless.as_bytes().as_slice(), std::io::repeat(b'x'));
    let result = tar_in(&scene.inside(), "/dir".as_ref(), endless);
    assert!(matches!(result, Err(TransferError::Archive { .. })), "{result:?}");
    assert_eq!(scene.unpack("/dir", &[]).unwrap(), Transferred::default());
}

#[test]
fn an_archive_that_broke_off_does_not_look_whole() {
    struct Full(Vec<u8>);
    impl Write for &mut Full {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            if self.0.len() > 300_000 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scene = Scene::new();
    for number in 0..20 {
        write(scene.root.join(format!("dir/{number}")), &"x".repeat(50_000));
    }
    let mut full = Full(Vec::new());
    let result = tar_out(&scene.inside(), "/dir".as_ref(), AS_IT_IS, &mut full);
    assert!(matches!(result, Err(TransferError::Output { .. })));
    assert!(!full.0.ends_with(&[0; 1024]));
}

#[test]
fn an_archive_has_no_names_without_end() {
    let scene = Scene::new();
    deep_named(&scene.root.join("dir"), &"x".repeat(255), 200);
    let (archive, done) = scene.pack("/dir");
    assert_eq!((done.refusals, done.refused[0].why), (1, Refusal::TooLong));
    assert_eq!(done.directories, 1 + (32 << 10) / 256);
    assert_eq!(scene.unpack("/", &archive).unwrap().files, 0);
}
