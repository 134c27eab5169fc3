//! Links of both kinds, and what replaces what.

use std::fs;
use std::os::unix::fs::MetadataExt;

use agentkernel_unpack::{Bytes, Kind};

use crate::common::{Archive, Layers, everyone, refused, unpack};

fn inode(layers: &Layers, path: &str) -> u64 {
    layers.at(path).symlink_metadata().unwrap().ino()
}

#[test]
fn a_hard_link_is_another_name_of_what_was_there_then() {
    everyone("links::a_hard_link_is_another_name_of_what_was_there_then", || {
        let archive = Archive::new().file("d/a", "old").hard_link("b", "/d/a").file("d/a", "new");
        let layers = unpack([archive]);
        assert_eq!((layers.text("b"), layers.text("d/a")), ("old".into(), "new".into()));
        let layers = unpack([Archive::new().file("a", "a").hard_link("b", "./a")]);
        assert_eq!(inode(&layers, "a"), inode(&layers, "b"));
        let entry = layers.entry("b");
        assert_eq!((entry.kind, entry.target), (Kind::Link, Some(Bytes(b"a".to_vec()))));
    });
}

#[test]
fn a_hard_link_to_a_link_is_one_more_name_of_the_link() {
    everyone("links::a_hard_link_to_a_link_is_one_more_name_of_the_link", || {
        let archive = Archive::new().symlink("a", "/etc/passwd").hard_link("b", "a");
        let layers = unpack([archive]);
        assert_eq!(fs::read_link(layers.at("b")).unwrap().to_str(), Some("/etc/passwd"));
        assert_eq!(inode(&layers, "a"), inode(&layers, "b"));
    });
}

#[test]
fn a_hard_link_to_what_the_layer_has_not_is_refused() {
    everyone("links::a_hard_link_to_what_the_layer_has_not_is_refused", || {
        let lower = || Archive::new().file("below", "").directory("d", 0o755);
        for (target, says) in [
            ("missing", "isn't in the layer"),
            ("../a", "leads out"),
            ("/../../etc/passwd", "leads out"),
            ("d", "to a directory"),
            (".", "to a directory"),
            ("b", "to itself"),
            ("missing/x", "isn't in the layer"),
        ] {
            let why = refused(lower().hard_link("b", target));
            assert!(why.contains(says), "{target}: {why}");
        }
        let mut layers = unpack([lower()]);
        for upper in [
            Archive::new().hard_link("b", "below"),
            Archive::new().file(".wh.below", "").hard_link("b", "below"),
        ] {
            let bytes = upper.bytes();
            let digest = agentkernel_images::Digest::of(&bytes);
            let error = layers.add(&bytes, &digest).unwrap_err().to_string();
            assert!(error.contains("isn't in the layer"), "{error}");
        }
    });
}

#[test]
fn a_link_may_say_anything_and_leads_nowhere_meanwhile() {
    everyone("links::a_link_may_say_anything_and_leads_nowhere_meanwhile", || {
        let outside = "/tmp/agentkernel-unpack-outside";
        let archive = Archive::new()
            .symlink("out", outside)
            .symlink("up", "../../../../tmp")
            .file("out/a", "inside")
            .file("up/b", "inside")
            .symlink("usr-lib", "usr/lib")
            .file("usr-lib/c", "c");
        let layers = unpack([archive]);
        assert!(fs::metadata(outside).is_err());
        assert_eq!(layers.text("tmp/agentkernel-unpack-outside/a"), "inside");
        assert_eq!(layers.text("tmp/b"), "inside");
        // It is listed where it really is.
        assert_eq!(layers.text("usr/lib/c"), "c");
        assert_eq!(layers.entry("usr/lib/c").size, 1);
    });
}

#[test]
fn links_that_lead_in_circles_are_refused() {
    let why = refused(Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", ""));
    assert!(why.contains("too many links"), "{why}");
    let why = refused(Archive::new().symlink("a", "a/a/a/a").file("a/x", ""));
    assert!(why.contains("too many links"), "{why}");
    let why = refused(Archive::new().symlink("a", ""));
    assert!(why.contains("a link to nothing"), "{why}");
}

#[test]
fn links_of_the_layers_below_are_not_followed() {
    everyone("links::links_of_the_layers_below_are_not_followed", || {
        let lower = Archive::new().directory("usr/lib", 0o755).symlink("lib", "usr/lib");
        let layers = unpack([lower, Archive::new().file("lib/a", "a")]);
        assert!(layers.at("lib").symlink_metadata().unwrap().is_dir());
        assert!(!layers.at("usr").exists());
    });
}

#[test]
fn what_comes_later_takes_the_place_of_what_is_there() {
    everyone("links::what_comes_later_takes_the_place_of_what_is_there", || {
        let archive = Archive::new()
            .directory("a", 0o500)
            .file("a/b/c", "")
            .file("a", "file now")
            .file("f", "")
            .directory("f", 0o711)
            .file("f/g", "g")
            .symlink("l", "f")
            .directory("l", 0o755)
            .file("l/own", "own")
            .file("x", "1")
            .file("x", "22")
            .symlink("s", "x")
            .file("s", "no link");
        let layers = unpack([archive]);
        assert_eq!(layers.text("a"), "file now");
        assert_eq!(layers.text("f/g"), "g");
        assert_eq!(layers.text("l/own"), "own");
        assert!(!layers.at("f/own").exists());
        assert_eq!(layers.text("x"), "22");
        assert_eq!(layers.text("s"), "no link");
    });
}

#[test]
fn a_directory_that_comes_twice_keeps_what_is_in_it() {
    everyone("links::a_directory_that_comes_twice_keeps_what_is_in_it", || {
        let archive = Archive::new().file("d/a", "a").directory("d", 0o700).directory("d/", 0o710);
        let layers = unpack([archive]);
        assert_eq!(layers.text("d/a"), "a");
        assert_eq!(layers.at("d").symlink_metadata().unwrap().mode() & 0o7777, 0o710);
    });
}
