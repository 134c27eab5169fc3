//! What is in the store afterwards.

use std::fs;
use std::sync::Barrier;
use std::thread;

use agentkernel_images::{Digest, Image};
use serde_json::json;

use crate::everyone::everyone;
use crate::memory::{Memory, Store, archive};

fn layers() -> Vec<Vec<u8>> {
    vec![
        archive(&[("usr/passwd", "root:x:0:0::/root:/bin/sh\n"), ("a", "lower")]),
        archive(&[("etc/passwd", "->../usr/passwd"), ("etc/group", "g:x:1:\n"), ("b", "b")]),
        archive(&[("a", "upper"), ("etc/.wh.group", "")]),
    ]
}

#[test]
fn an_image_is_there_with_all_that_it_says() {
    everyone("store::an_image_is_there_with_all_that_it_says", bring_one);
}

fn bring_one() {
    let store = Store::new();
    let mut source = Memory::default();
    let config = json!({"Env": ["A=b"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w",
        "User": "u:g"});
    source.image(&layers(), json!({"created": "2024-01-01T00:00:00Z", "config": config}));
    let record = store.bring(&source, &["debian:13", "other"]).unwrap();
    assert_eq!(record.platform, "linux/amd64");
    assert_eq!(record.config.environment, ["A=b"]);
    assert_eq!(
        (&*record.config.entrypoint, &*record.config.command),
        (&["/e".into()][..], &["c".into()][..])
    );
    assert_eq!(record.config.directory.as_deref(), Some("/w".as_ref()));
    assert_eq!(record.config.user.as_deref(), Some("u:g"));
    assert_eq!(record.config.passwd, "root:x:0:0::/root:/bin/sh\n");
    assert_eq!(record.config.group, "");
    assert_eq!(record.created.as_deref(), Some("2024-01-01T00:00:00Z"));
    let image = store.images.open("debian:13").unwrap().unwrap();
    assert_eq!(image.record(), &record);
    let text = |i: usize, path: &str| fs::read_to_string(image.layers()[i].join(path)).unwrap();
    assert_eq!((text(0, "a"), text(2, "a")), ("lower".into(), "upper".into()));
    assert!(store.images.open("other").unwrap().is_some());
    assert_eq!(record.layers.iter().map(|layer| layer.bytes).collect::<Vec<_>>(), [31, 8, 5]);
    assert_eq!(store.images.blob(&record.manifest).unwrap(), source.top);
    assert!(store.images.blob(&record.configuration).is_ok());
    assert!(store.folder("downloads").is_empty() && store.drafts().is_empty());
}

#[test]
fn one_that_is_there_costs_only_its_manifest() {
    let store = Store::new();
    let source = Memory::of(&layers());
    let first = store.bring(&source, &["a"]).unwrap();
    let asked = source.asked();
    let second = store.bring(&source, &["b"]).unwrap();
    assert_eq!((first, asked), (second, source.asked()));
    assert!(store.images.open("b").unwrap().is_some());
}

#[test]
fn layers_that_are_there_are_not_fetched_again() {
    let store = Store::new();
    store.bring(&Memory::of(&layers()[..2]), &["a"]).unwrap();
    let source = Memory::of(&layers());
    let record = store.bring(&source, &["b"]).unwrap();
    assert_eq!(source.asked(), 2, "its configuration and a layer");
    assert_eq!(record.layers.iter().map(|layer| layer.bytes).collect::<Vec<_>>(), [31, 8, 5]);
    // The same archive on other layers is another layer.
    let again = vec![layers()[0].clone(), layers()[0].clone()];
    let record = store.bring(&Memory::of(&again), &["c"]).unwrap();
    assert_ne!(record.layers[0].chain, record.layers[1].chain);
    assert!(store.folder("downloads").is_empty());
}

#[test]
fn an_image_that_fails_leaves_what_is_whole_and_no_more() {
    let store = Store::new();
    let mut source = Memory::of(&layers());
    let last = Digest::of(&layers()[2]);
    let kept = source.blobs.remove(&last).unwrap();
    let error = store.bring(&source, &["a"]).unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
    assert!(store.images.open("a").unwrap().is_none());
    assert!(store.drafts().is_empty() && store.folder("images").is_empty());
    source.blobs.insert(last, kept);
    let before = source.asked();
    store.bring(&source, &["a"]).unwrap();
    assert!(source.asked() - before < 4, "what was whole was fetched again");
}

#[test]
fn a_layer_that_the_source_has_not_is_missed() {
    let store = Store::new();
    let source = Memory { has_no_layers: true, ..Memory::of(&layers()) };
    let error = store.bring(&source, &["a"]).unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    assert!(store.folder("images").is_empty());
}

#[test]
fn several_at_once_bring_in_one() {
    let store = Store::new();
    let source = Memory::of(&layers());
    let all = Barrier::new(8);
    let records: Vec<_> = thread::scope(|scope| {
        let bring = || {
            all.wait();
            store.bring(&source, &["a"]).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(bring)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(records.iter().all(|record| record.layers == records[0].layers));
    assert_eq!(store.folder("layers").len(), 3);
    assert!(store.drafts().is_empty());
    let asked = source.asked.lock().unwrap();
    for layer in layers() {
        let digest = Digest::of(&layer);
        assert_eq!(asked.iter().filter(|one| **one == digest).count(), 1, "{digest}");
    }
    assert!(Image::open(&store.images, &records[0].manifest).unwrap().is_some());
}
