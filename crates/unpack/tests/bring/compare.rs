//! What comes of an image is what umoci makes of it, file by file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use agentkernel_unpack::{ImportSource, Platform, import};
use serde_json::json;

use crate::memory::{Store, archive};

/// Layers as overlayfs shows them.
struct Mounted(PathBuf);

impl Mounted {
    fn new(layers: &[PathBuf], at: PathBuf) -> Self {
        let lower: Vec<_> = layers.iter().rev().map(|tree| tree.to_str().unwrap()).collect();
        let options = format!("userxattr,lowerdir={}", lower.join(":"));
        let mount = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&at)
            .status();
        assert!(mount.unwrap().success());
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

/// All that can be seen of a tree, by path.
fn seen(tree: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![tree.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = path.symlink_metadata().unwrap();
        let kind = found.file_type();
        let mut says = format!(
            "{:o} {}:{} {}.{:09} {:?}",
            found.mode(),
            found.uid(),
            found.gid(),
            found.mtime(),
            found.mtime_nsec(),
            attributes(&path)
        );
        if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if kind.is_file() {
            let content = agentkernel_images::Digest::of(&fs::read(&path).unwrap());
            says += &format!(" {} {} {content}", found.nlink(), found.len());
        } else if kind.is_symlink() {
            says += &format!(" {}", fs::read_link(&path).unwrap().display());
        }
        // Devices are not made here.
        if !kind.is_char_device() && !kind.is_block_device() {
            all.insert(path.strip_prefix(tree).unwrap().to_owned(), says);
        }
    }
    all
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
        })
        .filter(|(name, _)| !name.contains(".overlay."))
        .collect();
    all.sort();
    all
}

/// Two layers of this machine's own files, and one that takes away and replaces.
fn layers(folder: &Path) -> Vec<Vec<u8>> {
    let tar = |options: &[&str], from: &Path, what: &[&str]| {
        let tar = Command::new("tar")
            .args(["--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-c"])
            .args(options)
            .arg("-C")
            .arg(from)
            .args(what)
            .output();
        tar.unwrap().stdout
    };
    let changes = folder.join("changes");
    let script = "mkdir -p etc/apt etc/default usr/sbin usr/bin new && cd etc && \
                  touch .wh.passwd apt/.wh..wh..opq default/.wh.useradd && \
                  echo new >apt/own && ln -s /nowhere group && ln apt/own hard && \
                  mkfifo -m 640 ../new/fifo && cp /bin/true ../new/suid && chown 7:8 ../new/suid && \
                  chmod 6755 ../new/suid && chmod 1700 ../new";
    fs::create_dir(&changes).unwrap();
    let made = Command::new("sh").args(["-c", script]).current_dir(&changes).status();
    assert!(made.unwrap().success());
    let sparse = fs::File::create(changes.join("new/sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    for (name, value) in [("user.x", &b"a\nb"[..]), ("security.capability", &CAPABILITY)] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(changes.join("new/sparse"), name, value, flags).unwrap();
    }
    let root = Path::new("/");
    vec![
        tar(&["--exclude=etc/.git"], root, &["etc"]),
        tar(&[], root, &["usr/bin/su", "usr/bin/passwd", "usr/bin/perl", "usr/share/perl"]),
        tar(&["--sparse"], &changes, &["./etc", "new"]),
    ]
}

/// `cap_net_raw=ep`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn an_image_is_what_umoci_makes_of_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can have files that are others'");
        return;
    }
    if Command::new("umoci").arg("--version").output().is_err() {
        eprintln!("skipped: umoci is not there");
        return;
    }
    let store = Store::new();
    let layout = store.folder_beside("layout");
    let layers = layers(&store.folder_beside("scratch"));
    crate::import::layout(&layout, &[(&layers, json!({"org.opencontainers.image.ref.name": "x"}))]);
    let bundle = store.folder_beside("umoci").join("bundle");
    let image = format!("{}:x", layout.display());
    let umoci = Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).output();
    let umoci = umoci.unwrap();
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    let what = ImportSource::Layout { folder: layout, name: None };
    import(&store.images, &what, &["x"], &"linux/amd64".parse::<Platform>().unwrap()).unwrap();
    let held = store.images.open("x").unwrap().unwrap();
    let mounted = Mounted::new(held.layers(), store.folder_beside("merged"));
    let (ours, theirs) = (seen(&mounted.0), seen(&bundle.join("rootfs")));
    assert!(ours.len() > 500, "{} files", ours.len());
    assert!(
        !ours.contains_key(Path::new("etc/passwd")) && ours.contains_key(Path::new("etc/apt/own"))
    );
    let mut paths: Vec<_> = ours.keys().chain(theirs.keys()).collect();
    paths.sort();
    paths.dedup();
    // Of the directories that no layer names umoci takes the times when it made them.
    let unnamed = ["", "usr", "usr/bin", "usr/share"].map(Path::new);
    let differ: Vec<_> = paths
        .into_iter()
        .filter(|path| !unnamed.contains(&path.as_path()) && ours.get(*path) != theirs.get(*path))
        .map(|path| (path, ours.get(path), theirs.get(path)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn what_skopeo_writes_is_the_same_image_in_all_forms() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("skipped: skopeo is not there");
        return;
    }
    let store = Store::new();
    let layout = store.folder_beside("layout");
    let layers = [archive(&[("a", "lower")]), archive(&[("b", "upper"), (".wh.a", "")])];
    crate::import::layout(&layout, &[(&layers, json!({}))]);
    let out = store.folder_beside("out");
    let at = |name: &str| out.join(name).display().to_string();
    let gzip = ["--dest-compress-format", "gzip", "--dest-compress"];
    let zstd = ["--dest-compress-format", "zstd", "--dest-compress"];
    let forms: [(&[&str], String); 5] = [
        (&[], format!("docker-archive:{}:own:1", at("docker.tar"))),
        (&[], format!("oci-archive:{}:own:1", at("oci.tar"))),
        (&gzip, format!("oci:{}:own", at("gzip"))),
        (&zstd, format!("oci:{}:own", at("zstd"))),
        (&gzip, format!("oci-archive:{}", at("unnamed.tar"))),
    ];
    let mut chains = Vec::new();
    for (options, to) in &forms {
        let skopeo = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .args(*options)
            .arg(format!("oci:{}", layout.display()))
            .arg(to)
            .output()
            .unwrap();
        assert!(skopeo.status.success(), "{to}: {}", String::from_utf8_lossy(&skopeo.stderr));
        let other = Store::new();
        let what: ImportSource = to.parse().unwrap();
        let record = import(&other.images, &what, &["x"], &"linux/amd64".parse().unwrap()).unwrap();
        chains.push(record.layers.iter().map(|layer| layer.chain.clone()).collect::<Vec<_>>());
        let image = other.images.open("x").unwrap().unwrap();
        assert_eq!(fs::read_to_string(image.layers()[1].join("b")).unwrap(), "upper", "{to}");
    }
    assert!(chains.iter().all(|one| *one == chains[0]), "{chains:?}");
}
