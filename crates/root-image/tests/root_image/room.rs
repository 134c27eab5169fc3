//! Root images in the store: what they take, who clears them away, and where there is no room.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use agentkernel_images::Images;
use agentkernel_root_image::{RootImageError, find, make};

use crate::archive::Archive;
use crate::mounted;
use crate::store::{Store, keep};

#[test]
fn it_goes_with_its_image_and_not_before() {
    let store = Store::new();
    let (lower, upper) = (Archive::new().long("a", 5000).bytes(), Archive::new().bytes());
    let one = store.keep(std::slice::from_ref(&lower));
    let two = store.keep(&[lower, upper]);
    let root = make(&store.images, &one).unwrap().path().to_owned();
    make(&store.images, &two).unwrap();
    let manifest = one.record().manifest.clone();
    // It is held.
    store.images.clear(|record, _| record.manifest == manifest).unwrap().unwrap();
    assert!(root.exists());
    drop(one);
    // Nobody has it clear away what is being made.
    let filling = store.images.fill().unwrap();
    assert!(store.images.clear(|_, _| true).unwrap().is_none());
    drop(filling);
    let taken = root.metadata().unwrap().blocks() * 512;
    let removed = store.images.clear(|record, _| record.manifest == manifest).unwrap().unwrap();
    // The layer is the other one's too.
    assert_eq!((removed.images.len(), removed.bytes), (1, taken));
    assert!(!root.exists() && store.roots().len() == 1);
    let other = find(&store.images, &two).unwrap().unwrap();
    let taken = other.file().metadata().unwrap().blocks() * 512;
    drop(two);
    let removed = store.images.clear(|_, _| true).unwrap().unwrap();
    // With the layers' own.
    assert!(removed.bytes >= 5000 + taken, "{removed:?}");
    assert!(store.roots().is_empty());
}

#[test]
fn an_image_holds_what_was_made_of_it() {
    let store = Store::new();
    let image = store.keep(&[Archive::new().long("a", 100_000).bytes()]);
    let sizes = || {
        let listed = store.images.list().unwrap();
        (listed[0].bytes, listed[0].own_bytes)
    };
    assert_eq!(sizes(), (100_000, 100_000));
    let root = make(&store.images, &image).unwrap();
    let taken = root.file().metadata().unwrap().blocks() * 512;
    assert!(taken >= 100_000);
    assert_eq!(sizes(), (100_000 + taken, 100_000 + taken));
}

#[test]
fn what_a_killed_maker_left_is_cleared_away_and_what_is_damaged_is_told() {
    let store = Store::new();
    let image = store.keep(&[Archive::new().file("a", "text").file("b", "").bytes()]);
    let left = store.images.root().join("work/left.erofs");
    fs::write(&left, "part").unwrap();
    store.images.clear(|_, _| false).unwrap().unwrap();
    assert!(!left.exists());
    let chain = &image.record().layers[0].chain;
    fs::write(store.images.layer(chain).join("a"), "longer text").unwrap();
    let error = make(&store.images, &image).unwrap_err();
    assert!(matches!(error, RootImageError::Damaged { .. }), "{error}");
    fs::remove_file(store.images.layer(chain).join("a")).unwrap();
    let error = make(&store.images, &image).unwrap_err();
    assert!(matches!(error, RootImageError::Read { .. }), "{error}");
    assert!(error.hint().contains("image rm"), "{}", error.hint());
    for line in ["{", r#"{"path":"no/where","kind":"file"}"#, r#"{"path":"x","kind":"link"}"#] {
        fs::write(store.images.entries(chain), line).unwrap();
        assert!(make(&store.images, &image).is_err(), "{line}");
    }
    assert!(store.roots().is_empty() && store.drafts().is_empty());
}

#[test]
fn where_there_is_no_room_nothing_is_left_and_it_is_said() {
    // A file system that is small.
    if !mounted::can() {
        return;
    }
    let store = Store::new();
    let small = store.scratch.folder("small").unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=12m,mode=755", "tmpfs"]).arg(&small);
    assert!(mount.status().unwrap().success());
    let images = Images::at(small.join("images"));
    let image = keep(&images, &[Archive::new().long("a", 5_000_000).bytes()]);
    let filler = small.join("filler");
    fs::write(&filler, vec![1; 4_000_000]).unwrap();
    let error = make(&images, &image).unwrap_err();
    assert!(error.to_string().contains("can't be written"), "{error}");
    assert!(error.hint().contains("image prune"), "{}", error.hint());
    assert!(find(&images, &image).unwrap().is_none());
    let left = crate::store::files(&images.root().join("work"));
    assert!(left.iter().all(|path| path.metadata().unwrap().len() == 0), "{left:?}");
    fs::remove_file(filler).unwrap();
    make(&images, &image).unwrap();
    drop(image);
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
}
