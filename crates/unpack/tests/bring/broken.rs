//! What is left when it is interrupted, and when the disk is full.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentkernel_images::Images;
use agentkernel_unpack::{BringError, ImportError, ImportSource, Platform, import};
use serde_json::json;

use crate::memory::{Store, archive};

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// A layout with an image of two layers, and how to name it.
fn image(store: &Store) -> ImportSource {
    let folder = store.folder_beside("layout");
    let names: Vec<String> = (0..400).map(|i| format!("folder/{i}")).collect();
    let text = "some text\n".repeat(1000);
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*text)).collect();
    crate::import::layout(&folder, &[(&[archive(&[("a", "a")]), archive(&files)], json!({}))]);
    ImportSource::Layout { folder, name: None }
}

/// The store and the layout for the test that is run again, to be killed.
const AGAIN: &str = "BRING_TEST_AGAIN";

#[test]
fn whoever_is_killed_leaves_nothing_that_is_taken_for_whole() {
    if let Some(again) = std::env::var_os(AGAIN) {
        let what = ImportSource::Layout { folder: Path::new(&again).join("layout"), name: None };
        let images = Images::at(Path::new(&again).join("images"));
        import(&images, &what, &["killed"], &platform()).unwrap();
        return;
    }
    let store = Store::new();
    let what = image(&store);
    let folder = store.images.root().parent().unwrap().to_owned();
    let mut killed = 0;
    for files in [0, 1, 100, 300] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "broken::whoever_is_killed_leaves_nothing_that_is_taken_for_whole"])
            .env(AGAIN, &folder)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        // As soon as so much is in a draft.
        let is_there = || {
            let roots = store.drafts().into_iter().map(|draft| draft.join("root/folder"));
            roots.filter_map(|folder| fs::read_dir(folder).ok()).any(|all| all.count() >= files)
        };
        while !is_there() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let image = store.images.open("killed").unwrap();
        assert!(image.is_none() || said.contains("1 passed"));
        for layer in store.folder("layers") {
            let count = fs::read_dir(layer.join("root/folder")).map_or(400, Iterator::count);
            assert_eq!(count, 400, "a layer that is not whole");
        }
        // Nobody is in the way of the next one, or of who clears away.
        store.images.clear(|_, _| files == 100).unwrap().expect("nobody brings anything in");
        assert!(store.drafts().is_empty());
    }
    assert!(killed > 0, "all were too fast");
    import(&store.images, &what, &["killed"], &platform()).unwrap();
    let image = store.images.open("killed").unwrap().unwrap();
    assert_eq!(fs::read_dir(image.layers()[1].join("folder")).unwrap().count(), 400);
}

/// A mounted tmpfs of one mebibyte.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn a_disk_that_is_full_is_said_to_be_and_emptied_again() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let store = Store::new();
    let what = image(&store);
    let at = store.folder_beside("disk");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&at);
    assert!(mount.status().unwrap().success());
    let disk = SmallDisk(at);
    let images = Images::at(disk.0.join("images"));
    let error = import(&images, &what, &["full"], &platform()).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(error.hint().contains("image prune"), "{}", error.hint());
    assert!(matches!(error, ImportError::Bring(BringError::Layer { .. })));
    assert!(images.open("full").unwrap().is_none());
    let used = Command::new("du").arg("-sk").arg(&disk.0).output().unwrap();
    let used = String::from_utf8(used.stdout).unwrap();
    let kib: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 200, "{kib} KiB are left");
    // So it is for what is spooled.
    let folder = store.folder_beside("large");
    File::create(folder.join("file")).unwrap().set_len(8 << 20).unwrap();
    let error = import(&images, &ImportSource::Rootfs(folder), &[], &platform()).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(error.hint().contains("image prune"), "{}", error.hint());
}
