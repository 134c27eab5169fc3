//! What is larger, longer or more than usual.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use agentkernel_root_image::make;
use tar::EntryType;

use crate::archive::{Archive, Member, bytes};
use crate::layers::compare;
use crate::mounted::{self, Mounted};
use crate::seen::attributes;
use crate::store::Store;

#[test]
fn a_file_of_gigabytes_with_holes_keeps_them() {
    let store = Store::new();
    let (long, folder) = (5_u64 << 30, store.scratch.folder("files").unwrap());
    let file = File::create_new(folder.join("sparse")).unwrap();
    file.set_len(long + 5).unwrap();
    let pieces = [0, (1 << 30) + 123, (4 << 30) - 2048, long - 1];
    for at in pieces {
        file.write_all_at(&bytes(at, 4000)[..4000.min((long + 5 - at) as usize)], at).unwrap();
    }
    File::create(folder.join("hole")).unwrap().set_len(3 << 20).unwrap();
    let tar = Command::new("tar")
        .args(["--sparse", "--format=posix", "-c", "-C"])
        .arg(&folder)
        .args(["sparse", "hole"])
        .output();
    let image = store.keep(&[tar.unwrap().stdout]);
    let root_image = make(&store.images, &image).unwrap();
    let found = root_image.file().metadata().unwrap();
    assert!(found.len() > long && found.blocks() * 512 < 2 << 20, "{found:?}");
    if !mounted::can() {
        return;
    }
    let mounted = Mounted::image(&root_image, store.scratch.path().join("image"));
    let file = File::open(folder.join("sparse")).unwrap();
    let ours = File::open(mounted.0.join("sparse")).unwrap();
    assert_eq!(ours.metadata().unwrap().len(), long + 5);
    for at in pieces.into_iter().chain([1 << 20, long - 100_000]) {
        let (mut expected, mut got) = (vec![1; 9000], vec![2; 9000]);
        let from = at.saturating_sub(4096);
        let count = file.read_at(&mut expected, from).unwrap();
        assert_eq!(ours.read_at(&mut got, from).unwrap(), count);
        assert!(expected[..count] == got[..count], "at {at}");
    }
    let hole = fs::read(mounted.0.join("hole")).unwrap();
    assert!(hole.len() == 3 << 20 && hole.iter().all(|byte| *byte == 0));
}

#[test]
fn a_directory_of_a_hundred_thousand_names_has_them_all() {
    let store = Store::new();
    let mut archive = Archive::new();
    let member = Member::new(EntryType::Regular, 0o644);
    // Of many lengths, so that blocks end at all of their bytes.
    let name = |number: usize| format!("{number:x}-{}", "n".repeat(number % 40));
    for number in 0..100_000 {
        archive.add(format!("many/{}", name(number)).as_bytes(), &member, b"");
    }
    let root_image = store.root_image(&[archive.bytes()]);
    if !mounted::can() {
        return;
    }
    let mounted = Mounted::image(&root_image, store.scratch.path().join("image"));
    let many = mounted.0.join("many");
    let listed: BTreeSet<String> = fs::read_dir(&many)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed.len(), 100_000);
    for number in (0..100_000).step_by(77) {
        assert!(listed.contains(&name(number)) && many.join(name(number)).exists(), "{number}");
    }
    assert!(!many.join("nobody").exists());
}

#[test]
fn the_deepest_path_and_the_longest_names_are_found() {
    if !mounted::can() {
        return;
    }
    let store = Store::new();
    let deep = "d/".repeat(255);
    let long = format!("{}/", "n".repeat(255)).repeat(15);
    let archive = Archive::new()
        .file(&format!("{deep}file"), "deep")
        .file(&format!("{long}file"), "long")
        .symlink("to-the-longest", &"/".repeat(4095))
        .bytes();
    let mounted = compare(&store, &store.keep(&[archive]));
    assert_eq!(fs::read_to_string(mounted.0.join(deep).join("file")).unwrap(), "deep");
    assert_eq!(fs::read_link(mounted.0.join("to-the-longest")).unwrap().as_os_str().len(), 4095);
}

/// Behind each inode come attributes, and then what is short: around the ends of blocks that is where
/// mistakes would be.
#[test]
fn attributes_and_data_of_every_length_lie_behind_an_inode() {
    if !mounted::can() {
        return;
    }
    let store = Store::new();
    let mut archive = Archive::new();
    let mut expected = Vec::new();
    for (number, length) in (0..2100).step_by(37).chain(3950..4130).enumerate() {
        let value = bytes(length, length as usize);
        let data = bytes(length + 1, [1, 900, 2048][number % 3]);
        let member = Member::new(EntryType::Regular, 0o644).attribute(b"trusted.long", &value);
        let path = format!("file-{length}");
        archive.add(path.as_bytes(), &member, &data);
        let link = Member { target: vec![b'/'; 60], ..Member::new(EntryType::Symlink, 0o777) };
        let link = link.attribute(b"trusted.long", &value);
        archive.add(format!("link-{length}").as_bytes(), &link, b"");
        let directory = Member::new(EntryType::Directory, 0o755).attribute(b"trusted.long", &value);
        archive.add(format!("directory-{length}/").as_bytes(), &directory, b"");
        expected.push((length, value, data));
    }
    let largest = [(b"trusted.a", 65_535), (b"trusted.b", 65_000), (b"trusted.c", 65_000)];
    let large =
        largest.iter().fold(Member::new(EntryType::Regular, 0o644), |member, (name, length)| {
            member.attribute(*name, &bytes(*length as u64, *length))
        });
    archive.add(b"large", &large, b"data");
    let mounted = compare(&store, &store.keep(&[archive.bytes()]));
    for (length, value, data) in expected {
        for kind in ["file", "link", "directory"] {
            let path = mounted.0.join(format!("{kind}-{length}"));
            assert_eq!(attributes(&path)["trusted.long"], value, "{path:?}");
        }
        assert_eq!(fs::read(mounted.0.join(format!("file-{length}"))).unwrap(), data);
        let link = fs::read_link(mounted.0.join(format!("link-{length}"))).unwrap();
        assert_eq!(link.as_os_str().len(), 60);
    }
    let found = attributes(&mounted.0.join("large"));
    for (name, length) in largest {
        let name = std::str::from_utf8(name).unwrap();
        assert_eq!(found[name], bytes(length as u64, length));
    }
    assert_eq!(fs::read(mounted.0.join("large")).unwrap(), b"data");
}
