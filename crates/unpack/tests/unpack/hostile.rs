//! Archives that nobody makes in good faith.

use std::fs;

use agentkernel_images::Digest;
use agentkernel_unpack::{Bounds, UnpackError};
use tar::EntryType;

use crate::common::{Archive, Layers, gzip, refused, refused_bytes, unpack, zstd};

#[test]
fn a_path_that_leads_out_is_refused() {
    for path in ["../a", "/../a", "a/../../b", "..", "./.."] {
        let why = refused(Archive::new().file(path, ""));
        assert!(why.contains("leads out"), "{path}: {why}");
    }
}

#[test]
fn an_absolute_path_is_below_the_root() {
    let layers = unpack([Archive::new().file("/etc/a", "a").file("//b//c/", "")]);
    assert_eq!(layers.text("etc/a"), "a");
    assert!(layers.at("b/c").is_dir());
}

#[test]
fn what_has_no_name_is_refused() {
    for path in ["", "/", ".", "a/.."] {
        let why = refused(Archive::new().member(Archive::header(EntryType::Fifo, 0), path, b""));
        assert!(why.contains("has no name"), "{path}: {why}");
    }
    let why = refused(Archive::new().pax(&[("path", b"a\0b")]).file("a", ""));
    assert!(why.contains("NUL"), "{why}");
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    let path = |path: &str| refused(Archive::new().pax(&[("path", path.as_bytes())]).file("a", ""));
    assert!(path(&"n".repeat(256)).contains("255 bytes"));
    assert!(path(&format!("{}x", "directory/".repeat(500))).contains("4095 bytes"));
    assert!(path(&format!("{}x", "d/".repeat(300))).contains("255 directories"));
    let why = refused(Archive::new().pax(&[("linkpath", &[b'l'; 5000])]).symlink("a", "b"));
    assert!(why.contains("4095 bytes"), "{why}");
    // Where links lead is as deep.
    let deep = format!("{}x", "d/".repeat(200));
    let mut archive = Archive::new().pax(&[("path", deep.as_bytes())]).directory("a", 0o755);
    archive = archive.pax(&[("linkpath", deep.as_bytes())]).symlink("a", "b");
    let below = format!("a/{deep}");
    let why = refused(archive.pax(&[("path", below.as_bytes())]).file("a", ""));
    assert!(why.contains("255 directories"), "{why}");
}

#[test]
fn what_lies_below_a_file_is_refused() {
    let why = refused(Archive::new().file("a", "").file("a/b", ""));
    assert!(why.contains("below what is no directory"), "{why}");
    let why = refused(Archive::new().file("a", "").symlink("l", "a").file("l/b", ""));
    assert!(why.contains("below what is no directory"), "{why}");
}

#[test]
fn headers_that_are_endless_or_say_nothing_are_refused() {
    let long = vec![b'x'; 2 << 20];
    let why = refused(Archive::new().pax(&[("comment", &long)]).file("a", ""));
    assert!(why.contains("too long"), "{why}");
    let header = Archive::header(EntryType::XHeader, 0);
    let malformed: [&[u8]; 4] = [b"12 path=x\n", b"9 path=x", b"x path=x\n", b"9 path x\n"];
    for record in malformed {
        let why = refused(Archive::new().member(header.clone(), "x", record).file("a", ""));
        assert!(why.contains("malformed"), "{why}");
    }
    let why = refused(Archive::new().member(header, "x", b"10 path=x\n"));
    assert!(why.contains("where a member should follow"), "{why}");
    let why = refused(Archive::new().member(Archive::header(EntryType::new(b'M'), 0), "a", b""));
    assert!(why.contains("of a kind that nobody knows"), "{why}");
    let why = refused(Archive::new().pax(&[("size", b"99999999999999999999")]).file("a", ""));
    assert!(why.contains("no number"), "{why}");
}

#[test]
fn what_unpacks_to_too_much_is_refused_before_it_does() {
    let zeros = Archive::new().file("a", &"\0".repeat(8 << 20)).bytes();
    for packed in [gzip(&zeros), zstd(&zeros)] {
        let mut layers = Layers::new();
        layers.bounds = Bounds { bytes: 1 << 20, ..Bounds::default() };
        let error = layers.add(&packed, &Digest::of(&zeros)).unwrap_err();
        assert!(matches!(error, UnpackError::TooManyBytes), "{error}");
        let written = fs::metadata(layers.at("a")).map_or(0, |found| found.len());
        assert!(written <= 1 << 20, "{written}");
    }
    // So is what only has holes, and what comes after the archive's end.
    let sizes: [(&str, &[u8]); 3] =
        [("GNU.sparse.size", b"4000000"), ("GNU.sparse.numblocks", b"0"), ("comment", b"x")];
    let holes = Archive::new().pax(&sizes).file("a", "").bytes();
    let after = [Archive::new().bytes(), vec![0; 4 << 20]].concat();
    for archive in [holes, after] {
        let mut layers = Layers::new();
        layers.bounds = Bounds { bytes: 1 << 20, ..Bounds::default() };
        let error = layers.add(&archive, &Digest::of(&archive)).unwrap_err();
        assert!(matches!(error, UnpackError::TooManyBytes), "{error}");
    }
}

#[test]
fn bounds_are_those_of_all_layers_together() {
    let mut layers = Layers::new();
    layers.bounds = Bounds { bytes: 3 << 20, entries: 2 };
    let add = |layers: &mut Layers, archive: Archive| {
        let bytes = archive.bytes();
        layers.add(&bytes, &Digest::of(&bytes))
    };
    add(&mut layers, Archive::new().file("a", &"x".repeat(2 << 20))).unwrap();
    let error = add(&mut layers, Archive::new().file("a", &"x".repeat(2 << 20))).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyBytes), "{error}");
    layers.bounds = Bounds { entries: 1, ..Bounds::default() };
    let error = add(&mut layers, Archive::new().file("a", "").file("b", "")).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyEntries), "{error}");
}

#[test]
fn a_size_that_no_file_has_ends_as_what_is_cut_off() {
    let mut header = Archive::header(EntryType::Regular, 0o644);
    header.set_size(1 << 40);
    let archive = Archive::new().member(header, "a", b"");
    assert!(refused_bytes(&archive.bytes()).contains("can't be read"));
}
