//! What a layer hides of those below.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use agentkernel_unpack::Kind;
use tar::EntryType;

use crate::common::{Archive, Layers, attribute, everyone, refused, unpack};

fn lower() -> Archive {
    Archive::new().directory("dir", 0o750).file("dir/a", "a").file("dir/b", "b").file("file", "f")
}

fn is_whiteout(layers: &Layers, path: &str) -> bool {
    let found = layers.at(path).symlink_metadata();
    found.is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

fn is_opaque(layers: &Layers, path: &str) -> bool {
    attribute(&layers.at(path), "user.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn a_whiteout_hides_what_is_below() {
    everyone("whiteouts::a_whiteout_hides_what_is_below", || {
        let layers = unpack([lower(), Archive::new().file(".wh.file", "").file("dir/.wh.a", "")]);
        assert!(is_whiteout(&layers, "file") && is_whiteout(&layers, "dir/a"));
        assert!(!layers.at(".wh.file").exists() && !is_opaque(&layers, "dir"));
        assert_eq!(layers.entry("dir/a").kind, Kind::Whiteout);
    });
}

#[test]
fn a_whiteout_of_what_is_not_below_is_not_made() {
    everyone("whiteouts::a_whiteout_of_what_is_not_below_is_not_made", || {
        let upper = || Archive::new().file("new/.wh.a", "").file(".wh.other", "");
        let layers = unpack([lower(), upper()]);
        assert!(!is_whiteout(&layers, "new/a") && !is_whiteout(&layers, "other"));
        assert!(!is_whiteout(&unpack([upper()]), "other"));
        // It was hidden before.
        let layers = unpack([lower(), upper().file(".wh.file", ""), upper().file(".wh.file", "")]);
        assert!(!is_whiteout(&layers, "file"));
    });
}

#[test]
fn a_whiteout_does_not_mean_what_the_same_layer_has() {
    everyone("whiteouts::a_whiteout_does_not_mean_what_the_same_layer_has", || {
        let before = Archive::new().file(".wh.file", "").file("file", "new");
        assert_eq!(unpack([lower(), before]).text("file"), "new");
        let after = Archive::new().file("file", "new").file(".wh.file", "");
        assert_eq!(unpack([lower(), after]).text("file"), "new");
    });
}

#[test]
fn a_directory_in_the_place_of_a_whiteout_hides_what_was_in_it() {
    everyone("whiteouts::a_directory_in_the_place_of_a_whiteout_hides_what_was_in_it", || {
        let whiteout = || Archive::new().file(".wh.dir", "");
        for upper in [
            whiteout().directory("dir", 0o700).file("dir/c", "c"),
            whiteout().file("dir/c", "c"),
            Archive::new().directory("dir", 0o700).file("dir/c", "c").file(".wh.dir", ""),
        ] {
            let layers = unpack([lower(), upper]);
            assert!(is_opaque(&layers, "dir"));
            assert_eq!(layers.text("dir/c"), "c");
        }
        // It has nothing of the one that is hidden.
        let layers = unpack([lower(), whiteout().file("dir/c", "c")]);
        let found = layers.at("dir").symlink_metadata().unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, 0));
    });
}

#[test]
fn an_opaque_directory_hides_all_that_is_below_in_it() {
    everyone("whiteouts::an_opaque_directory_hides_all_that_is_below_in_it", || {
        for upper in [
            Archive::new().file("dir/.wh..wh..opq", "").file("dir/c", "c").file("dir/.wh.a", ""),
            Archive::new().file("dir/.wh.a", "").file("dir/c", "c").file("dir/.wh..wh..opq", ""),
        ] {
            let layers = unpack([lower(), upper]);
            assert!(is_opaque(&layers, "dir"));
            assert_eq!(layers.text("dir/c"), "c");
            // Nothing shows through, so nothing needs to be hidden, and would be seen.
            assert!(!is_whiteout(&layers, "dir/a"));
        }
    });
}

#[test]
fn what_an_old_file_system_left_is_ignored() {
    let layers = unpack([Archive::new().file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "")]);
    assert_eq!(layers.roots[0].read_dir().unwrap().count(), 0);
}

#[test]
fn a_whiteout_of_no_name_or_of_a_parent_is_refused() {
    for path in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"] {
        let why = refused(Archive::new().file(path, ""));
        assert!(why.contains("whiteout"), "{path}: {why}");
    }
}

#[test]
fn a_directory_is_as_it_is_below_if_the_layer_says_nothing_of_it() {
    everyone("whiteouts::a_directory_is_as_it_is_below_if_the_layer_says_nothing_of_it", || {
        let mode = |layers: &Layers, path: &str| {
            let found = layers.at(path).symlink_metadata().unwrap();
            (found.mode() & 0o7777, found.mtime())
        };
        let upper = || Archive::new().file("dir/c", "c").file("new/c", "c");
        let layers = unpack([lower(), Archive::new().file("other", ""), upper()]);
        assert_eq!(mode(&layers, "dir"), (0o750, 1000));
        assert_eq!(mode(&layers, "new"), (0o755, 0));
        assert!(layers.entry("dir").implied && !layers.entry("dir/c").implied);
        // The topmost counts, and nothing that is hidden.
        let topmost = unpack([lower(), Archive::new().directory("dir", 0o711), upper()]);
        assert_eq!(mode(&topmost, "dir"), (0o711, 1000));
        for hiding in [Archive::new().file(".wh.dir", ""), Archive::new().file("dir", "")] {
            assert_eq!(mode(&unpack([lower(), hiding, upper()]), "dir"), (0o755, 0));
        }
        let below = Archive::new().directory("a/b", 0o711);
        let opaque = Archive::new().file("a/.wh..wh..opq", "");
        let layers = unpack([below, opaque, Archive::new().file("a/b/c", "")]);
        assert_eq!(mode(&layers, "a/b"), (0o755, 0));
    });
}

#[test]
fn a_device_is_listed_and_hides_what_is_in_its_place() {
    everyone("whiteouts::a_device_is_listed_and_hides_what_is_in_its_place", || {
        let null = |archive: Archive| archive.device(EntryType::Char, "file", 1, 3);
        let layers = unpack([null(Archive::new().file("file", "x"))]);
        assert!(layers.at("file").symlink_metadata().is_err());
        let entry = layers.entry("file");
        assert_eq!((entry.kind, entry.device, entry.mode), (Kind::Character, Some((1, 3)), 0o666));
        assert!(is_whiteout(&unpack([lower(), null(Archive::new())]), "file"));
        let layers = unpack([Archive::new().device(EntryType::Block, "b", 8, 0)]);
        assert_eq!(layers.entry("b").kind, Kind::Block);
        // One whose number is that of a whiteout is no way to make one.
        let layers = unpack([Archive::new().device(EntryType::Char, "zero", 0, 0)]);
        assert!(!is_whiteout(&layers, "zero"));
    });
}

#[test]
fn overlayfs_shows_what_the_layers_mean() {
    everyone("whiteouts::overlayfs_shows_what_the_layers_mean", || {
        let lower = lower().file("gone/a", "a").file("new/below", "").file("keep/a", "");
        let upper = Archive::new()
            .file(".wh.file", "")
            .file("dir/.wh..wh..opq", "")
            .file("dir/.wh.a", "")
            .file("dir/c", "c")
            .file("gone/.wh.a", "")
            .file(".wh.new", "")
            .file("new/own", "")
            .file("keep/b", "");
        let layers = unpack([lower, upper, Archive::new().file("empty/.wh.x", "")]);
        let merged = layers.scratch.path().join("merged");
        std::fs::create_dir(&merged).unwrap();
        let stacked: Vec<_> = layers.roots.iter().rev().map(|at| at.to_str().unwrap()).collect();
        let script = "mount -t overlay overlay -o \"userxattr,lowerdir=$0\" \"$1\" || exit 9
                      cd \"$1\" && find . | sort && ls -lR >/dev/null";
        let shown = std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, &stacked.join(":")])
            .arg(&merged)
            .output()
            .unwrap();
        if !shown.status.success() && shown.stdout.is_empty() {
            let why = String::from_utf8_lossy(&shown.stderr);
            eprintln!("skipped: no overlayfs in a user namespace: {why}");
            return;
        }
        // Nothing is shown that isn't there.
        assert!(shown.stderr.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
        let expected = ". ./dir ./dir/c ./empty ./gone ./keep ./keep/a ./keep/b ./new ./new/own";
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    });
}
