//! Images from folders and archives.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use agentkernel_images::{Digest, Record};
use agentkernel_unpack::{
    ImportError, ImportSource, Platform, import, import_stream, read_entries,
};
use serde_json::json;

use crate::everyone::everyone;
use crate::memory::{MANIFEST, Memory, Store, archive};

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn bring(store: &Store, what: &str) -> Result<Record, ImportError> {
    let what: ImportSource = what.parse().unwrap();
    import(&store.images, &what, &["imported"], &platform())
}

/// Writes a layout of these images, with what their index says of each.
pub fn layout(folder: &Path, images: &[(&[Vec<u8>], serde_json::Value)]) {
    let mut memory = Memory::default();
    let mut manifests = Vec::new();
    for (archives, annotations) in images {
        let mut image = memory.image(archives, json!({}));
        image["annotations"] = annotations.clone();
        manifests.push(image);
    }
    write_layout(folder, &memory, &manifests);
}

/// Imports the image of a source out of a layout.
pub fn imported(store: &Store, source: &Memory) -> Result<Record, ImportError> {
    let folder = store.folder_beside("layout");
    let mut all = Memory { blobs: source.blobs.clone(), ..Memory::default() };
    let manifest = all.add(MANIFEST, &source.top);
    write_layout(&folder, &all, &[manifest]);
    bring(store, &format!("oci:{}", folder.display()))
}

fn write_layout(folder: &Path, memory: &Memory, manifests: &[serde_json::Value]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for (digest, bytes) in &memory.blobs {
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
    }
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

fn tar(folder: &Path, options: &[&str]) -> Vec<u8> {
    let tar = Command::new("tar").args(options).arg("-c").arg("-C").arg(folder).arg(".").output();
    tar.unwrap().stdout
}

fn one() -> Vec<Vec<u8>> {
    vec![archive(&[("a", "lower")]), archive(&[("b", "upper")])]
}

fn other() -> Vec<Vec<u8>> {
    vec![archive(&[("c", "other")])]
}

fn text(store: &Store, record: &Record, path: &str) -> String {
    let image = store.images.open(&format!("x@{}", record.manifest)).unwrap().unwrap();
    let found = image.layers().iter().rev().map(|tree| tree.join(path)).find(|path| path.exists());
    fs::read_to_string(found.unwrap()).unwrap()
}

fn says(error: ImportError, expected: &str) {
    assert!(error.to_string().contains(expected), "{error}");
    assert!(!error.hint().is_empty());
}

#[test]
fn a_layout_is_imported_by_the_name_of_its_image() {
    let store = Store::new();
    let folder = store.folder_beside("layout");
    let named = |name: &str| json!({"org.opencontainers.image.ref.name": name});
    layout(&folder, &[(&one(), named("first")), (&other(), named("docker.io/library/second:1"))]);
    let what = |name: &str| format!("oci:{}{name}", folder.display());
    let record = bring(&store, &what(":first")).unwrap();
    assert_eq!(text(&store, &record, "a") + &text(&store, &record, "b"), "lowerupper");
    let record = bring(&store, &what(":second:1")).unwrap();
    assert_eq!(text(&store, &record, "c"), "other");
    says(bring(&store, &what("")).unwrap_err(), "images first, docker.io/library/second:1");
    says(bring(&store, &what(":third")).unwrap_err(), "no image third, but the images first");
    says(bring(&store, "oci:/nowhere").unwrap_err(), "no index.json");
    // It has its own name if it gets no other.
    let what = what(":second:1").parse().unwrap();
    import(&store.images, &what, &[], &platform()).unwrap();
    assert!(store.images.open("second:1").unwrap().is_some());
}

#[test]
fn a_part_of_a_layout_that_is_another_one_is_refused() {
    let store = Store::new();
    let folder = store.folder_beside("layout");
    layout(&folder, &[(&one(), json!({}))]);
    let what = format!("oci:{}", folder.display());
    let blob = |bytes: &[u8]| folder.join("blobs/sha256").join(Digest::of(bytes).hex());
    let layer = blob(&one()[1]);
    let mut bytes = fs::read(&layer).unwrap();
    bytes[0] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    says(bring(&store, &what).unwrap_err(), "by its content");
    fs::write(&layer, "short").unwrap();
    says(bring(&store, &what).unwrap_err(), "has 5 bytes, and not");
    fs::remove_file(&layer).unwrap();
    says(bring(&store, &what).unwrap_err(), "can't read a part of");
    assert!(store.images.open("imported").unwrap().is_none());
}

#[test]
fn an_archive_is_imported_from_a_file_or_a_stream_packed_or_not() {
    let folders = Store::new();
    let (oci, docker, root) =
        (folders.folder_beside("oci"), folders.folder_beside("docker"), folders.folder_beside("r"));
    layout(&oci, &[(&one(), json!({}))]);
    docker_archive(&docker, "one:1", &one());
    fs::write(root.join("a"), "lower").unwrap();
    fs::write(root.join("b"), "upper").unwrap();
    for folder in [oci, docker, root] {
        for (options, name) in
            [(&[][..], "x.tar"), (&["-z"], "x.tar.gz"), (&["--zstd"], "x.tar.zst")]
        {
            let packed = tar(&folder, options);
            let file = folder.with_file_name(name);
            fs::write(&file, &packed).unwrap();
            let store = Store::new();
            let from_file = bring(&store, file.to_str().unwrap()).unwrap();
            let from_stream =
                import_stream(&store.images, &packed[..], &["s"], &platform()).unwrap();
            assert_eq!(from_file, from_stream, "{folder:?} {name}");
            let read = |path: &str| text(&store, &from_file, path);
            assert_eq!(read("a") + &read("b"), "lowerupper", "{folder:?} {name}");
            assert!(store.folder("work").iter().all(|path| path.extension().is_some()));
        }
    }
}

/// Fills a folder as `docker save` did, where the same layer is a link.
fn docker_archive(folder: &Path, tag: &str, archives: &[Vec<u8>]) {
    let diffs: Vec<_> = archives.iter().map(|bytes| Digest::of(bytes).to_string()).collect();
    let configuration = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": diffs}});
    fs::write(folder.join("config.json"), configuration.to_string()).unwrap();
    let mut layers = Vec::new();
    for (i, bytes) in archives.iter().enumerate() {
        fs::write(folder.join(format!("{i}.tar")), bytes).unwrap();
        fs::create_dir(folder.join(i.to_string())).unwrap();
        symlink(format!("../{i}.tar"), folder.join(format!("{i}/layer.tar"))).unwrap();
        layers.push(format!("{i}/layer.tar"));
    }
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": layers}]);
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn an_archive_of_dockers_has_names_and_layers_that_are_made_sure_of() {
    let store = Store::new();
    let folder = store.folder_beside("docker");
    docker_archive(&folder, "one:1", &one());
    let file = folder.with_file_name("docker.tar");
    let packed = tar(&folder, &[]);
    fs::write(&file, &packed).unwrap();
    let what = |name: &str| format!("docker-archive:{}{name}", file.display());
    import(&store.images, &what("").parse().unwrap(), &[], &platform()).unwrap();
    assert!(store.images.open("docker.io/library/one:1").unwrap().is_some());
    bring(&store, &what(":docker.io/library/one:1")).unwrap();
    says(bring(&store, &what(":two")).unwrap_err(), "no image two, but the images one:1");
    fs::write(folder.join("1.tar"), archive(&[("b", "wrong")])).unwrap();
    let store = Store::new();
    fs::write(&file, tar(&folder, &[])).unwrap();
    says(bring(&store, &what("")).unwrap_err(), "and the image says");
    fs::write(&file, &packed[..packed.len() - 11_000]).unwrap();
    says(bring(&store, &what("")).unwrap_err(), "");
    assert!(store.folder("images").is_empty());
}

#[test]
fn what_is_no_archive_is_refused() {
    let store = Store::new();
    let file = store.folder_beside("x").join("file");
    fs::write(&file, "some text that is no archive ".repeat(100)).unwrap();
    says(bring(&store, file.to_str().unwrap()).unwrap_err(), "is no archive");
    says(bring(&store, "/nowhere/x.tar").unwrap_err(), "can't read");
    says(bring(&store, "rootfs:/nowhere").unwrap_err(), "can't read");
    fs::write(&file, b"\x1f\x8bno gzip").unwrap();
    says(bring(&store, file.to_str().unwrap()).unwrap_err(), "can't be imported");
    fs::write(&file, b"\xfd7zXZ\0").unwrap();
    says(bring(&store, file.to_str().unwrap()).unwrap_err(), "packed with xz");
}

#[test]
fn a_folder_becomes_an_image_of_one_layer_always_the_same() {
    everyone("import::a_folder_becomes_an_image_of_one_layer_always_the_same", import_folder);
}

fn import_folder() {
    let store = Store::new();
    let folder = store.folder_beside("root");
    fs::create_dir(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
    let long = "n".repeat(200);
    fs::write(folder.join(&long), "long").unwrap();
    fs::hard_link(folder.join(&long), folder.join("other")).unwrap();
    symlink("etc/passwd", folder.join("link")).unwrap();
    fs::set_permissions(folder.join("etc"), fs::Permissions::from_mode(0o2750)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    rustix::fs::setxattr(folder.join("other"), "user.x", b"a\nb", rustix::fs::XattrFlags::empty())
        .unwrap();
    let what = format!("rootfs:{}", folder.display());
    let record = bring(&store, &what).unwrap();
    assert_eq!(bring(&store, &what).unwrap(), record);
    assert_eq!(record.config.passwd, "root:x:0:0::/:\n");
    let tree = store.images.layer(&record.layers[0].chain);
    assert!(!tree.join("socket").exists());
    // Of an ordinary user's own files root is the owner.
    let entries = read_entries(&store.images.entries(&record.layers[0].chain)).unwrap();
    assert!(entries.map(Result::unwrap).all(|entry| (entry.uid, entry.gid) == (0, 0)));
    let same = Command::new("diff").arg("-r").arg(&folder).arg(&tree).output().unwrap();
    let differs = String::from_utf8(same.stdout).unwrap();
    assert!(differs.lines().all(|line| line.contains("socket")), "{differs}");
    let listed = |tree: &Path| -> String {
        let find = ["-not", "-name", "socket", "-printf", "%P %y %m %T@ %n %l\n"];
        let found = Command::new("find").arg(tree).args(find).output().unwrap();
        let mut lines: Vec<_> = std::str::from_utf8(&found.stdout).unwrap().lines().collect();
        lines.sort();
        lines.join("\n")
    };
    assert_eq!(listed(&tree), listed(&folder));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(tree.join("other"), "user.x", &mut value), Ok(3));
}

#[test]
fn what_is_to_be_imported_is_understood() {
    let store = Store::new();
    let colon = store.folder_beside("a:b");
    let colon = colon.to_str().unwrap();
    let layout = |folder: &str, name: Option<&str>| ImportSource::Layout {
        folder: PathBuf::from(folder),
        name: name.map(Into::into),
    };
    let parse = |text: &str| text.parse::<ImportSource>().unwrap();
    assert_eq!(parse("oci:dir"), layout("dir", None));
    assert_eq!(parse("oci:dir:x/y:1"), layout("dir", Some("x/y:1")));
    assert_eq!(parse("-"), ImportSource::Stdin);
    assert_eq!(parse("rootfs:/x"), ImportSource::Rootfs("/x".into()));
    assert_eq!(parse("x.tar"), ImportSource::Archive { path: "x.tar".into(), name: None });
    assert_eq!(parse(&format!("oci:{colon}")), layout(colon, None));
}

#[test]
fn nothing_is_no_archive() {
    let store = Store::new();
    let imported = import_stream(&store.images, std::io::empty(), &["x:1"], &platform());
    let error = imported.unwrap_err().to_string();
    assert!(error.contains("it is empty"), "{error}");
}
