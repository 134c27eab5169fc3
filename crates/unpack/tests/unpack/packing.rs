//! How layers are packed.

use agentkernel_images::Digest;

use crate::common::{Archive, Layers, everyone, gzip, refused_bytes, zstd};

fn archive() -> Vec<u8> {
    Archive::new().directory("./", 0o755).file("a", "hello").bytes()
}

#[test]
fn a_layer_is_plain_or_packed_and_it_is_seen_which() {
    everyone("packing::a_layer_is_plain_or_packed_and_it_is_seen_which", || {
        let archive = archive();
        for packed in [archive.clone(), gzip(&archive), zstd(&archive)] {
            let mut layers = Layers::new();
            assert_eq!(layers.add(&packed, &Digest::of(&archive)).unwrap(), 5);
            assert_eq!(layers.text("a"), "hello");
        }
    });
}

#[test]
fn what_is_packed_in_several_pieces_is_one() {
    let archive = archive();
    let (first, second) = archive.split_at(700);
    // With a frame in between that is to be passed over.
    let skipped = [&0x184D_2A53_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
    let both = [
        [gzip(first), gzip(second)].concat(),
        [zstd(first), skipped.clone(), zstd(second)].concat(),
        [skipped, zstd(&archive)].concat(),
    ];
    for packed in both {
        let mut layers = Layers::new();
        layers.add(&packed, &Digest::of(&archive)).unwrap();
        assert_eq!(layers.text("a"), "hello");
    }
}

#[test]
fn what_follows_the_archive_counts_for_its_digest() {
    let longer = [archive(), vec![7; 300_000]].concat();
    let mut layers = Layers::new();
    layers.add(&gzip(&longer), &Digest::of(&longer)).unwrap();
    let error = Layers::new().add(&longer, &Digest::of(&archive())).unwrap_err().to_string();
    assert!(error.contains("and the image says sha256:"), "{error}");
}

#[test]
fn what_is_cut_off_or_damaged_is_refused() {
    let archive = Archive::new().file("a", &"text ".repeat(1000)).file("b", "b").bytes();
    for packed in [gzip(&archive), zstd(&archive)] {
        let error = refused_bytes(&packed[..packed.len() - 3]);
        assert!(error.contains("can't be read"), "{error}");
        let mut damaged = packed;
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        refused_bytes(&damaged);
    }
    let error = refused_bytes(&archive[..1000]);
    assert!(error.contains("can't be read"), "{error}");
    let mut damaged = archive;
    damaged[3] ^= 1;
    assert!(refused_bytes(&damaged).contains("checksum"));
}

#[test]
fn what_nobody_packs_layers_with_is_named() {
    let error = refused_bytes(b"\xfd7zXZ\0 and more");
    assert!(error.contains("packed with xz"), "{error}");
    assert!(refused_bytes(b"BZh91AY").contains("packed with bzip2"));
}
