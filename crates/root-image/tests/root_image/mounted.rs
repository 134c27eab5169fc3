//! What the kernel and erofs' own tools make of a root image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use agentkernel_root_image::{FILE_SYSTEM, RootImage};
use agentkernel_sys::mount;
use agentkernel_sys::process::{self, Namespaces};

/// Why root images can't be mounted here; none if they can.
pub fn cannot() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount");
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = || known.lines().any(|line| line.ends_with(FILE_SYSTEM));
    let loads = || Command::new("modprobe").arg(FILE_SYSTEM).status().is_ok_and(|it| it.success());
    if !is_known() && !loads() {
        return Some("this kernel has no erofs");
    }
    let free = Command::new("losetup").arg("--find").output();
    if !free.is_ok_and(|free| free.status.success()) {
        return Some("there are no loop devices");
    }
    None
}

/// Whether a test can mount; says why if not. What it mounts from then on only it sees, and it goes with
/// it, whatever it is ended by.
pub fn can() -> bool {
    match cannot() {
        None => {
            process::unshare(Namespaces::MOUNT).unwrap();
            mount::make_private().unwrap();
            true
        }
        Some(why) => {
            println!("skipped: {why}");
            false
        }
    }
}

/// Something that is mounted for as long as this lives.
pub struct Mounted(pub PathBuf);

impl Mounted {
    /// A root image, after the tools have found no fault with it.
    pub fn image(image: &RootImage, at: PathBuf) -> Self {
        check(image.path());
        Self::mount(&["-t", FILE_SYSTEM, "-o", "loop,ro"], image.path(), at)
    }

    /// Layers, the lowest first, as overlayfs shows them.
    pub fn layers(layers: &[PathBuf], at: PathBuf) -> Self {
        // A single one is none.
        let nothing = at.with_extension("nothing");
        fs::create_dir(&nothing).unwrap();
        let lower: Vec<_> = layers.iter().rev().chain([&nothing]).collect();
        let lower: Vec<_> = lower.iter().map(|tree| tree.to_str().unwrap()).collect();
        let options = format!("userxattr,lowerdir={}", lower.join(":"));
        Self::mount(&["-t", "overlay", "-o", &options], Path::new("overlay"), at)
    }

    fn mount(options: &[&str], what: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let mount = Command::new("mount").args(options).arg(what).arg(&at).output().unwrap();
        assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|it| it.success()) || std::thread::panicking());
    }
}

/// Has erofs' own tools look at all of a root image, where they are there.
pub fn check(image: &Path) {
    // That extracts to nothing, but reads the data of all files. Of one of gigabytes 1.5 crashes, be it
    // in an image of its own mkfs.
    let is_small = image.metadata().unwrap().len() < 1 << 30;
    let fsck = if is_small { &["--extract"][..] } else { &[] };
    for (tool, options) in [("fsck.erofs", fsck), ("dump.erofs", &["-s"]), ("dump.erofs", &["-S"])]
    {
        match Command::new(tool).args(options).arg(image).output() {
            Err(_) => println!("skipped: there is no {tool} to look at root images"),
            Ok(said) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (out, errors) = (text(&said.stdout), text(&said.stderr));
                assert!(said.status.success(), "{tool}: {out}{errors}");
                assert!(!out.contains("<E>") && !errors.contains("<E>"), "{tool}: {out}{errors}");
            }
        }
    }
}
