//! The store in a temporary folder, used as those who bring images in and those who run them do.
#![cfg(test)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use agentkernel_images::{Chain, Config, Digest, Download, Images, ImagesError, Layer, Record};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("agentkernel-images-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn images(&self) -> Images {
        Images::at(self.0.clone())
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.0.join(folder)).unwrap().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Keeps an image with layers of these contents, under these names.
fn keep(images: &Images, layers: &[&str], names: &[&str]) -> Record {
    let filling = images.fill().unwrap();
    let mut below = None;
    let layers = layers.iter().map(|content| {
        let diff = Digest::of(content.as_bytes());
        let chain = Chain::on(below.as_ref(), &diff);
        if let Some(draft) = filling.draft(&chain).unwrap() {
            fs::write(draft.root().join("file"), content).unwrap();
            fs::write(draft.entries(), "").unwrap();
            draft.keep().unwrap();
        }
        below = Some(chain.clone());
        Layer { chain, diff, bytes: content.len() as u64 }
    });
    let layers: Vec<Layer> = layers.collect();
    let configuration = filling.keep_blob(format!("{layers:?}").as_bytes()).unwrap();
    let manifest = filling.keep_blob(configuration.as_str().as_bytes()).unwrap();
    let (platform, config) = ("linux/amd64".into(), Config::default());
    let record = Record {
        manifest,
        configuration,
        platform,
        created: None,
        module: None,
        kept: 1,
        config,
        layers,
    };
    filling.keep(&record, names).unwrap();
    record
}

#[test]
fn an_image_is_found_by_all_that_it_is_called() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let record = keep(&images, &["a", "b"], &["debian:13", "localhost:5000/x"]);
    let manifest = record.manifest.clone();
    let pinned = format!("debian@{manifest}");
    let other = format!("elsewhere/under/another/name@{manifest}");
    for name in [
        "debian:13",
        "docker.io/library/debian:13",
        "localhost:5000/x",
        "localhost:5000/x:latest",
        &pinned,
        &other,
    ] {
        let image = images.open(name).unwrap().unwrap();
        assert_eq!(image.record(), &record, "{name}");
        let texts = image.layers().iter().map(|root| fs::read_to_string(root.join("file")));
        assert_eq!(texts.collect::<Result<Vec<_>, _>>().unwrap(), ["a", "b"]);
    }
    for absent in ["debian", "debian:1", "x", "localhost:5000/y"] {
        assert!(images.open(absent).unwrap().is_none(), "{absent}");
    }
    for start in [&manifest.hex()[..4], manifest.as_str(), record.configuration.hex()] {
        assert_eq!(images.look_up(start).unwrap(), manifest);
    }
    assert!(matches!(images.look_up(&manifest.hex()[..3]), Err(ImagesError::NotFound(_))));
    for wrong in ["", "../x", "a b", "A", "x@sha256:00", "x\0"] {
        assert!(matches!(images.open(wrong), Err(ImagesError::Name(..))), "{wrong:?}");
    }
}

#[test]
fn where_there_is_no_store_there_is_no_image_and_none_is_made() {
    let scratch = Scratch::new();
    let images = scratch.images();
    assert!(images.open("debian").unwrap().is_none());
    assert_eq!(images.list().unwrap(), []);
    assert_eq!(images.clear(|_, _| true).unwrap().unwrap().images, []);
    assert!(!scratch.0.exists());
}

#[test]
fn the_store_is_nobody_elses() {
    let scratch = Scratch::new();
    keep(&scratch.images(), &["a"], &["a"]);
    for folder in ["layers", "images", "names", "blobs", "downloads", "work"] {
        let mode = fs::metadata(scratch.0.join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn a_name_stands_for_one_image_and_an_image_for_all_its_names() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let first = keep(&images, &["a"], &["x:1"]);
    let second = keep(&images, &["b"], &["x:1"]);
    assert_eq!(images.resolve("x:1").unwrap(), Some(second.manifest.clone()));
    assert_eq!(images.names_of(&first.manifest).unwrap(), [""; 0]);
    images.tag(&first.manifest, "y").unwrap();
    images.tag(&first.manifest, "z").unwrap();
    let names = ["docker.io/library/y:latest", "docker.io/library/z:latest"];
    assert_eq!(images.names_of(&first.manifest).unwrap(), names);
    images.untag("y").unwrap();
    assert!(matches!(images.untag("y"), Err(ImagesError::NotFound(_))));
    assert!(images.tag(&Digest::of(b"none"), "y").is_err());
    assert!(images.tag(&first.manifest, &format!("y@{}", first.manifest)).is_err());
}

#[test]
fn layers_are_kept_and_counted_once_and_go_with_their_last_image() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let one = keep(&images, &["base", "one"], &["one"]);
    let two = keep(&images, &["base", "three"], &["two"]);
    assert_eq!(scratch.count("layers"), 3);
    let listed = images.list().unwrap();
    let own =
        |record: &Record| listed.iter().find(|image| image.record == *record).unwrap().own_bytes;
    assert_eq!((own(&one), one.bytes()), (3, 7));
    assert_eq!((own(&two), two.bytes()), (5, 9));
    let removed = images.clear(|record, _| *record == one).unwrap().unwrap();
    assert_eq!((removed.images, removed.bytes), (vec![one.manifest], 3));
    assert_eq!(scratch.count("layers"), 2);
    assert!(images.open("two").unwrap().is_some());
    assert!(images.open("one").unwrap().is_none());
    images.clear(|_, _| true).unwrap();
    for folder in ["layers", "images", "names", "blobs", "work", "downloads"] {
        assert_eq!(scratch.count(folder), 0, "{folder}");
    }
}

#[test]
fn an_image_that_is_held_stays_and_so_do_its_names() {
    let scratch = Scratch::new();
    let images = scratch.images();
    keep(&images, &["a"], &["a"]);
    let held = images.open("a").unwrap().unwrap();
    assert_eq!(images.clear(|_, _| true).unwrap().unwrap().images, []);
    assert!(held.layers()[0].join("file").exists());
    assert!(images.open("a").unwrap().is_some());
    drop(held);
    assert_eq!(images.clear(|_, _| true).unwrap().unwrap().images.len(), 1);
}

#[test]
fn nothing_is_cleared_away_while_something_is_brought_in() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let filling = images.fill().unwrap();
    let draft = filling.draft(&Chain::on(None, &Digest::of(b"a"))).unwrap().unwrap();
    assert!(images.clear(|_, _| true).unwrap().is_none());
    assert!(draft.root().exists());
    drop((draft, filling));
    assert!(images.clear(|_, _| true).unwrap().is_some());
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing_even_if_it_is_closed_to_us() {
    let scratch = Scratch::new();
    let filling = scratch.images().fill().unwrap();
    let chain = Chain::on(None, &Digest::of(b"a"));
    let draft = filling.draft(&chain).unwrap().unwrap();
    let closed = draft.root().join("closed");
    fs::create_dir_all(closed.join("deeper")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    drop(draft);
    assert!(!filling.has(&chain));
    // The lock of its turn stays.
    assert_eq!(scratch.count("work"), 1);
}

#[test]
fn of_several_who_make_a_layer_one_makes_it() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let chain = Chain::on(None, &Digest::of(b"a"));
    let (sender, made) = channel();
    thread::scope(|scope| {
        for _ in 0..20 {
            let (sender, images, chain) = (sender.clone(), images.clone(), chain.clone());
            scope.spawn(move || {
                let filling = images.fill().unwrap();
                if let Some(draft) = filling.draft(&chain).unwrap() {
                    draft.keep().unwrap();
                    sender.send(()).unwrap();
                }
                assert!(filling.has(&chain));
            });
        }
    });
    drop(sender);
    assert_eq!(made.iter().count(), 1);
}

#[test]
fn of_several_who_fetch_a_packed_layer_one_fetches_it() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let digest = Digest::of(b"packed");
    let (sender, fetched) = channel();
    thread::scope(|scope| {
        for _ in 0..20 {
            let (sender, images, digest) = (sender.clone(), images.clone(), digest.clone());
            scope.spawn(move || {
                let filling = images.fill().unwrap();
                match filling.download(&digest, || false).unwrap().unwrap() {
                    Download::Whole(file) => assert_eq!(file.metadata().unwrap().len(), 6),
                    Download::Partial(mut partial) => {
                        partial.file.write_all(b"packed").unwrap();
                        partial.complete().unwrap();
                        sender.send(()).unwrap();
                    }
                }
            });
        }
    });
    drop(sender);
    assert_eq!(fetched.iter().count(), 1);
    let filling = images.fill().unwrap();
    filling.forget_download(&digest);
    assert!(filling.download(&digest, || true).unwrap().is_none());
}

#[test]
fn what_was_fetched_of_a_packed_layer_is_there_for_the_next() {
    let scratch = Scratch::new();
    let filling = scratch.images().fill().unwrap();
    let digest = Digest::of(b"packed");
    let Some(Download::Partial(mut first)) = filling.download(&digest, || false).unwrap() else {
        panic!("it can't be there")
    };
    first.file.write_all(b"pac").unwrap();
    drop(first);
    let Some(Download::Partial(second)) = filling.download(&digest, || false).unwrap() else {
        panic!("it is not whole")
    };
    assert_eq!(second.file.metadata().unwrap().len(), 3);
}

#[test]
fn what_is_damaged_is_told_and_taken_for_nothing() {
    let scratch = Scratch::new();
    let images = scratch.images();
    let record = keep(&images, &["a"], &["a"]);
    let other = keep(&images, &["b"], &["b"]);
    let file = |record: &Record| scratch.0.join("images").join(record.manifest.hex());
    fs::copy(file(&other), file(&record)).unwrap();
    assert!(matches!(images.open("a"), Err(ImagesError::Damaged { .. })));
    fs::write(file(&record), "{").unwrap();
    assert!(matches!(images.open("a"), Err(ImagesError::Damaged { .. })));
    fs::write(scratch.0.join("blobs").join(other.manifest.hex()), "x").unwrap();
    assert!(matches!(images.blob(&other.manifest), Err(ImagesError::Damaged { .. })));
    let name = Digest::of(b"docker.io/library/b:latest");
    fs::write(scratch.0.join("names").join(name.hex()), "docker.io/library/b:late").unwrap();
    assert!(matches!(images.open("b"), Err(ImagesError::Damaged { .. })));
}
