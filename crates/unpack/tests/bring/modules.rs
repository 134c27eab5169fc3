//! Images that are modules for WebAssembly.

use std::fs;

use agentkernel_images::{Digest, Record};
use agentkernel_unpack::{BringError, read_entries};
use serde_json::{Value, json};

use crate::choice::{index, refused, with_platform};
use crate::import::imported;
use crate::memory::{CONFIGURATION, Memory, Store, archive};

const MODULE: &str = "\0asm\u{1}\0\0\0";
const COMPONENT: &str = "\0asm\r\0\u{1}\0";

/// An artifact with these layers, by kind and content.
fn artifact(configuration: (&str, Value), layers: &[(&str, &str)]) -> Memory {
    let mut source = Memory::default();
    let (kind, said) = configuration;
    let configuration = source.add(kind, said.to_string().as_bytes());
    let layers: Vec<_> =
        layers.iter().map(|(kind, bytes)| source.add(kind, bytes.as_bytes())).collect();
    let manifest = json!({"schemaVersion": 2, "config": configuration, "layers": layers});
    source.top = manifest.to_string().into_bytes();
    source
}

/// An image with these files, and what it says of commands.
fn packed(layers: &[&[(&str, &str)]], said: Value) -> Memory {
    let mut source = Memory::default();
    source.image(&layers.iter().map(|files| archive(files)).collect::<Vec<_>>(), said);
    source
}

fn program(words: &[&str]) -> Value {
    json!({"config": {"Entrypoint": words}})
}

/// What the image of a record runs.
fn module(store: &Store, record: &Record) -> String {
    let image = store.images.open(&format!("x@{}", record.manifest)).unwrap().unwrap();
    fs::read_to_string(image.module().expect("it is no module")).unwrap()
}

fn is_brought(source: &Memory, expected: &str) -> Record {
    let [first, second] = ["linux/amd64", "wasi/wasm"].map(|platform| {
        let store = Store::new();
        let record = store.bring_for(platform, source, &["name"]).unwrap();
        assert_eq!(module(&store, &record), expected);
        assert!(store.folder("downloads").is_empty() && store.drafts().is_empty());
        Record { kept: 0, ..record }
    });
    assert_eq!(first, second);
    first
}

#[test]
fn an_artifact_is_a_module_whatever_its_tools_call_it() {
    let (v0, v1) = ("application/vnd.wasm.config.v0+json", "application/vnd.wasm.config.v1+json");
    let wasi2 = json!({"architecture": "wasm", "os": "wasip2", "created": "2024-01-01T00:00:00Z",
        "layerDigests": [Digest::of(COMPONENT.as_bytes()).as_str()], "component": {"exports": []}});
    let found = is_brought(&artifact((v0, wasi2), &[("application/wasm", COMPONENT)]), COMPONENT);
    assert_eq!(found.platform, "wasip2/wasm");
    assert_eq!(found.created.as_deref(), Some("2024-01-01T00:00:00Z"));
    assert_eq!(found.bytes(), 8);
    // Of those of older tools the configuration may say anything, or nothing.
    for (kind, said, layer) in [
        (v1, json!({}), "application/vnd.wasm.content.layer.v1+wasm"),
        (v1, json!([1]), "application/wasm"),
        ("application/vnd.unknown.config.v1+json", json!("x"), "application/wasm"),
        (
            CONFIGURATION,
            json!({"architecture": "wasm", "os": "wasip1", "rootfs": {"diff_ids": []}}),
            "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        ),
    ] {
        let found = is_brought(&artifact((kind, said), &[(layer, MODULE)]), MODULE);
        assert!(found.platform.starts_with("wasi") && found.platform.ends_with("/wasm"));
    }
}

#[test]
fn an_artifact_is_kept_as_a_tree_with_its_list_once() {
    let store = Store::new();
    let layer = ("application/wasm", MODULE);
    let config = "application/vnd.wasm.config.v0+json";
    let first = store.bring(&artifact((config, json!({})), &[layer]), &["a"]).unwrap();
    let source = artifact((config, json!({"os": "wasip1", "architecture": "wasm"})), &[layer]);
    let second = store.bring(&source, &["b"]).unwrap();
    assert_ne!(first.manifest, second.manifest);
    assert_eq!(first.layers, second.layers);
    assert_eq!(source.asked(), 1, "only the configuration");
    let entries = read_entries(&store.images.entries(&first.layers[0].chain)).unwrap();
    let entries: Vec<_> = entries.map(Result::unwrap).collect();
    assert_eq!((entries.len(), entries[0].size), (1, 8));
}

#[test]
fn an_image_is_a_module_if_its_program_is_one() {
    let files: &[(&str, &str)] = &[("app.wasm", MODULE), ("data/x", "x")];
    let wasi = |said: Value| {
        let mut all = json!({"os": "wasi", "architecture": "wasm"});
        all.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        all
    };
    // By its platform, or by the name of its program alone.
    for said in [wasi(program(&["/app.wasm"])), program(&["/app.wasm"]), program(&["app.wasm"])] {
        is_brought(&packed(&[files], said), MODULE);
    }
    let found = is_brought(
        &packed(&[files], json!({"config": {"Cmd": ["app.wasm", "-x"], "Env": ["A=b"]}})),
        MODULE,
    );
    assert_eq!((found.config.entrypoint, found.config.command), {
        (vec!["app.wasm".to_owned()], vec!["-x".to_owned()])
    });
    // Relative to where it starts, in whichever layer, and by whatever links inside.
    let upper: &[(&str, &str)] = &[("srv/app", "->../../../app.wasm")];
    let said = json!({"config": {"Entrypoint": ["app"], "WorkingDir": "/srv"}});
    is_brought(&packed(&[files, upper], wasi(said)), MODULE);
    // By what is said in the manifest.
    let mut source = packed(&[&[("plugin.wasm", MODULE)]], json!({}));
    let mut manifest: Value = serde_json::from_slice(&source.top).unwrap();
    manifest["annotations"] = json!({"module.wasm.image/variant": "compat"});
    source.top = manifest.to_string().into_bytes();
    is_brought(&source, MODULE);
}

#[test]
fn of_an_index_the_module_is_taken_by_who_asks_for_one_or_if_there_is_nothing_else() {
    let mut source = Memory::default();
    let linux = source.image(&[archive(&[("a", "a")])], json!({}));
    let said = json!({"os": "wasip1", "architecture": "wasm",
        "config": {"Entrypoint": ["/app.wasm"]}});
    let wasm = source.image(&[archive(&[("app.wasm", MODULE)])], said);
    let (linux, wasm) = (with_platform(linux, "linux/amd64"), with_platform(wasm, "wasip1/wasm"));
    source.top = index(&[linux.clone(), wasm.clone()]);
    let is_module = |platform: &str, source: &Memory| {
        Store::new().bring_for(platform, source, &["name"]).unwrap().module.is_some()
    };
    assert!(is_module("wasi/wasm", &source) && !is_module("linux/amd64", &source));
    source.top = index(&[wasm]);
    assert!(is_module("linux/amd64", &source));
    source.top = index(&[linux]);
    let error = Store::new().bring_for("wasi/wasm", &source, &["name"]).unwrap_err();
    assert!(error.to_string().contains("image of Linux programs, not a module"), "{error}");
    assert!(error.hint().unwrap().contains("-B native"));
}

#[test]
fn an_image_of_programs_is_not_fetched_for_who_wants_a_module() {
    let store = Store::new();
    let source = packed(&[&[("bin/sh", "x")]], program(&["/bin/sh"]));
    let error = store.bring_for("wasi/wasm", &source, &["name"]).unwrap_err();
    assert!(error.to_string().contains("not a module: there is linux/amd64"), "{error}");
    assert_eq!(source.asked(), 1, "only the configuration");
    // One that says nothing of its program could be one, and is not.
    let source = packed(&[&[("a", "a")]], json!({}));
    let error = store.bring_for("wasi/wasm", &source, &["name"]).unwrap_err();
    assert!(error.to_string().contains("it has no file /plugin.wasm"), "{error}");
    assert!(store.folder("images").is_empty());
}

#[test]
fn what_is_said_to_be_a_module_and_is_none_is_refused_with_what_it_is() {
    let says = |source: &Memory, expected: &str| {
        let error = refused(source);
        assert!(matches!(error, BringError::Module(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().unwrap().contains("one layer application/wasm"));
    };
    let config = || ("application/vnd.wasm.config.v0+json", json!({}));
    let wasm = ("application/wasm", MODULE);
    says(&artifact(config(), &[]), "it has 0 layers");
    says(&artifact(config(), &[wasm, ("application/wasm", COMPONENT)]), "it has 2 layers");
    let tar = "application/vnd.oci.image.layer.v1.tar";
    says(&artifact(config(), &[(tar, MODULE)]), "of the kind \"application/vnd.oci.image.layer");
    let mut large = artifact(config(), &[wasm]);
    let mut manifest: Value = serde_json::from_slice(&large.top).unwrap();
    manifest["layers"][0]["size"] = json!(257 << 20);
    large.top = manifest.to_string().into_bytes();
    says(&large, "more than 256 MiB");
    assert_eq!(large.asked(), 1, "only the configuration");
}

#[test]
fn what_does_not_begin_as_a_module_or_is_elsewhere_is_refused() {
    let says = |source: &Memory, expected: &str| {
        let store = Store::new();
        let error = store.bring(source, &["name"]).unwrap_err();
        assert!(matches!(error, BringError::Module(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(store.folder("images").is_empty());
    };
    let config = || ("application/vnd.wasm.config.v0+json", json!({}));
    for content in ["", "\0as", "(module)", "\u{7f}ELF"] {
        says(&artifact(config(), &[("application/wasm", content)]), "does not begin as");
    }
    let app = || program(&["/app.wasm"]);
    says(&packed(&[&[("app.wasm", "#!/bin/sh")]], app()), "its /app.wasm does not begin as");
    says(&packed(&[&[("other.wasm", MODULE)]], app()), "it has no file /app.wasm");
    // Nothing outside of it is ever read.
    let beside = Store::new();
    let outside = beside.folder_beside("outside").join("app.wasm");
    fs::write(&outside, MODULE).unwrap();
    let link = format!("->{}", outside.display());
    says(&packed(&[&[("app.wasm", &link)]], app()), "it has no file /app.wasm");
    let gone: &[(&str, &str)] = &[(".wh.app.wasm", "")];
    says(&packed(&[&[("app.wasm", MODULE)], gone], app()), "it has no file /app.wasm");
}

#[test]
fn a_module_that_is_another_one_is_refused() {
    let config = ("application/vnd.wasm.config.v0+json", json!({}));
    let mut source = artifact(config, &[("application/wasm", MODULE)]);
    let digest = Digest::of(MODULE.as_bytes());
    source.blobs.insert(digest.clone(), COMPONENT.as_bytes().to_vec());
    let store = Store::new();
    let error = imported(&store, &source).unwrap_err().to_string();
    assert!(error.contains("by its content"), "{error}");
    source.blobs.insert(digest, MODULE.as_bytes().to_vec());
    let store = Store::new();
    let record = imported(&store, &source).unwrap();
    assert_eq!(module(&store, &record), MODULE);
}
