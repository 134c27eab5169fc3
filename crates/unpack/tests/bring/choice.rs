//! Which image is taken, and which documents are refused.

use agentkernel_images::Digest;
use agentkernel_unpack::BringError;
use serde_json::{Value, json};

use crate::memory::{CONFIGURATION, INDEX, LAYER, MANIFEST, Memory, Store, archive};

fn layer() -> Vec<Vec<u8>> {
    vec![archive(&[("a", "a")])]
}

pub fn refused(source: &Memory) -> BringError {
    let store = Store::new();
    let error = store.bring(source, &["name"]).expect_err("it was brought in");
    assert!(store.folder("layers").is_empty() && store.folder("images").is_empty(), "{error}");
    error
}

pub fn index(manifests: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes()
}

pub fn with_platform(mut descriptor: Value, platform: &str) -> Value {
    let mut parts = platform.split('/');
    descriptor["platform"] = json!({"os": parts.next(), "architecture": parts.next()});
    if let Some(variant) = parts.next() {
        descriptor["platform"]["variant"] = variant.into();
    }
    descriptor
}

#[test]
fn of_an_index_the_platforms_own_image_is_taken() {
    let mut source = Memory::default();
    let other = source.image(&layer(), json!({"architecture": "arm64"}));
    let newer = source.image(&layer(), json!({"variant": "v3"}));
    let own = source.image(&layer(), json!({"config": {"User": "own"}}));
    let unknown = source.add(MANIFEST, b"{}");
    source.top = index(&[
        with_platform(unknown, "unknown/unknown"),
        with_platform(newer, "linux/amd64/v3"),
        with_platform(other, "linux/arm64/v8"),
        with_platform(own.clone(), "linux/amd64"),
    ]);
    let record = Store::new().bring(&source, &[]).unwrap();
    assert_eq!(record.config.user.as_deref(), Some("own"));
    assert_eq!(record.manifest.as_str(), own["digest"]);
    // Also if that is in one more index.
    let inner = source.add(INDEX, &source.top.clone());
    source.top = index(&[inner]);
    Store::new().bring(&source, &[]).unwrap();
    for _ in 0..2 {
        let inner = source.add(INDEX, &source.top.clone());
        source.top = index(&[inner]);
    }
    assert!(refused(&source).to_string().contains("index in an index"));
}

#[test]
fn an_image_for_other_platforms_is_refused_with_their_names() {
    let mut source = Memory::default();
    let arm = source.image(&layer(), json!({"architecture": "arm", "variant": "v7"}));
    let error = refused(&source).to_string();
    assert!(error.contains("no image for linux/amd64: there is linux/arm/v7"), "{error}");
    let windows = source.image(&layer(), json!({"os": "windows"}));
    source.top = index(&[
        with_platform(arm, "linux/arm/v7"),
        with_platform(windows, "windows/amd64"),
        with_platform(json!({"digest": Digest::of(b"").as_str(), "size": 0}), "unknown/unknown"),
    ]);
    let error = refused(&source).to_string();
    assert!(error.contains("there is linux/arm/v7, windows/amd64"), "{error}");
    assert!(!error.contains("unknown"), "{error}");
}

#[test]
fn documents_that_are_old_wrong_or_two_things_are_refused() {
    let says = |top: Value, kind: Option<&str>, expected: &str| {
        let source = Memory {
            top: top.to_string().into_bytes(),
            kind: kind.map(Into::into),
            ..Memory::default()
        };
        let error = refused(&source).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let manifest: Value = serde_json::from_slice(&Memory::of(&layer()).top).unwrap();
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    says(json!({"schemaVersion": 1, "fsLayers": []}), None, "schema 1");
    says(json!({}), None, "neither a manifest nor an index");
    says(json!("x"), None, "can't be understood");
    says(both, None, "neither a manifest nor an index");
    says(manifest.clone(), Some(INDEX), "an index and a manifest");
    says(json!({"schemaVersion": 2, "manifests": []}), Some(MANIFEST), "neither");
    let mut large = manifest.clone();
    large["annotations"] = json!({"x": "x".repeat(5 << 20)});
    says(large, None, "longer than 4 MiB");
    let mut large = manifest;
    large["config"]["size"] = json!(5 << 20);
    says(large, None, "longer than 4 MiB");
}

#[test]
fn layers_of_other_kinds_are_refused_before_they_are_fetched() {
    for (kind, why) in [
        ("application/vnd.oci.image.layer.v1.tar+encrypted", "encrypted"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "elsewhere"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "elsewhere"),
        ("application/octet-stream", "no archive"),
    ] {
        let mut source = Memory::default();
        source.image(&layer(), json!({}));
        let mut manifest: Value = serde_json::from_slice(&source.top).unwrap();
        manifest["layers"][0]["mediaType"] = kind.into();
        source.top = manifest.to_string().into_bytes();
        let error = refused(&source).to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(source.asked(), 1, "only the configuration");
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_refused() {
    let mut source = Memory::default();
    source.image(&layer(), json!({"rootfs": {"type": "layers", "diff_ids": []}}));
    assert!(refused(&source).to_string().contains("1 layers, and its configuration 0"));
    let many = vec![archive(&[]); 128];
    assert!(refused(&Memory::of(&many)).to_string().contains("127 are possible"));
    // Not what it is said to be.
    let mut source = Memory::of(&layer());
    let manifest: Value = serde_json::from_slice(&source.top).unwrap();
    let digest: Digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    source.blobs.insert(digest, b"{}".to_vec());
    assert!(refused(&source).to_string().contains("the configuration is sha256:"));
}

#[test]
fn a_layer_that_is_another_one_is_refused() {
    let mut source = Memory::default();
    let other = archive(&[("b", "b")]);
    let layer = source.add(LAYER, &other);
    let said = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"diff_ids": [Digest::of(b"x").as_str()]}});
    let configuration = source.add(CONFIGURATION, said.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": configuration, "layers": [layer]});
    source.top = manifest.to_string().into_bytes();
    assert!(refused(&source).to_string().contains("and the image says"));
}
