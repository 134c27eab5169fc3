//! Files with holes, in all the forms that GNU tar writes, and files of zeros.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use agentkernel_images::Digest;

use crate::common::{Archive, Layers, everyone, refused, unpack};

const MIB: u64 = 1 << 20;

#[test]
fn holes_are_kept_in_all_forms_of_gnu_tar() {
    let scratch = agentkernel_testkit::Scratch::public_in(&std::env::temp_dir()).unwrap();
    let sparse = scratch.path().join("sparse");
    let file = fs::File::create(&sparse).unwrap();
    // More stretches than fit in a header.
    for i in 0..40 {
        file.write_all_at(format!("part {i}").as_bytes(), i * MIB).unwrap();
    }
    file.set_len(50 * MIB).unwrap();
    let content = fs::read(&sparse).unwrap();
    let forms: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for form in forms {
        let mut tar = Command::new("tar");
        tar.args(form).args(["--sparse", "-c", "-C"]).arg(scratch.path()).arg("sparse");
        let archive = tar.output().unwrap().stdout;
        assert!(archive.len() > 10_000 && (archive.len() as u64) < MIB, "{form:?}");
        let mut layers = Layers::new();
        assert_eq!(layers.add(&archive, &Digest::of(&archive)).unwrap(), 50 * MIB);
        assert!(fs::read(layers.at("sparse")).unwrap() == content, "{form:?}");
        let blocks = fs::metadata(layers.at("sparse")).unwrap().blocks();
        assert!(blocks * 512 < MIB, "{form:?}: {blocks} blocks");
    }
}

#[test]
fn blocks_of_zeros_take_no_room_and_bytes_are_exact() {
    everyone("holes::blocks_of_zeros_take_no_room_and_bytes_are_exact", || {
        let mut text = vec![0; 4 << 20];
        for at in [0, 5000, 8191, 8192, 300_000, (4 << 20) - 9000] {
            text[at] = b'x';
        }
        let text = String::from_utf8(text).unwrap();
        let layers = unpack([Archive::new().file("a", &text).file("b", &text[1..])]);
        assert!(layers.text("a") == text && layers.text("b") == text[1..]);
        let blocks = fs::metadata(layers.at("a")).unwrap().blocks();
        assert!(blocks * 512 < MIB, "{blocks} blocks");
    });
}

#[test]
fn holes_that_do_not_fit_are_refused() {
    let map = |map: &str, size: &str| {
        let records = [("GNU.sparse.map", map), ("GNU.sparse.size", size)];
        let records = records.map(|(name, value)| (name, value.as_bytes()));
        refused(Archive::new().pax(&records).file("a", "text"))
    };
    for (extents, size) in [
        ("0,4", "3"),
        ("0,3", "9"),
        ("4,2,3,2", "9"),
        ("18446744073709551615,4", "9"),
        ("0,9", "9"),
    ] {
        let why = map(extents, size);
        assert!(why.contains("what a file's holes leave"), "{extents}: {why}");
    }
    for extents in ["0", "0,x", "-1,4", "0,,4"] {
        let why = map(extents, "9");
        assert!(why.contains("no number"), "{extents}: {why}");
    }
}
