//! From what is given to what is in the place.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use sha2::{Digest, Sha256};

use crate::scene::{self, Scratch, VERSION};
use crate::{Kernel, Request, SetupError, put};

fn request(kernel: &Path) -> Request {
    Request { kernel: Some(kernel.to_owned()), force: false }
}

fn place(scratch: &Scratch) -> PathBuf {
    scratch.0.join("data/kernel")
}

/// A root with nothing in it, so that what this machine has makes no difference.
fn put_named(scratch: &Scratch, kernel: &Path) -> Result<Kernel, SetupError> {
    put(&request(kernel), &place(scratch), &scratch.0.join("nowhere"))
}

fn refused(scratch: &Scratch, kernel: &Path) -> String {
    let error = put_named(scratch, kernel).unwrap_err().to_string();
    // The lock stays.
    let left: Vec<_> = fs::read_dir(scratch.0.join("data"))
        .map(|all| all.map(|entry| entry.unwrap().file_name()).collect())
        .unwrap_or_default();
    assert!(left.iter().all(|name| name == "setup.lock"), "{left:?} after {error}");
    error
}

/// Looks whether all is there that scene's kernel becomes.
fn assert_whole(scratch: &Scratch, kernel: &Kernel, verified: bool) {
    let Kernel::Made { version, is_verified, files, notes, .. } = kernel else {
        panic!("{kernel:?}")
    };
    assert_eq!((version.as_str(), *is_verified), (VERSION, verified));
    assert!(notes.is_empty(), "{notes:?}");
    let place = place(scratch);
    let read = |name: &str| fs::read(place.join(name)).unwrap();
    assert_eq!(read("vmlinux"), scene::vmlinux(VERSION, 62));
    assert_eq!(String::from_utf8(read("modules/order")).unwrap(), scene::ORDER);
    // For whoever wants a network.
    assert_eq!(read("modules/order-network"), b"tun.ko\n");
    for module in scene::ORDER.lines().chain(["tun.ko"]) {
        assert!(read(&format!("modules/{module}")).starts_with(b"\x7fELF"), "{module}");
    }
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names.len(), 14);
    for file in files {
        assert_eq!(
            file.sha256,
            agentkernel_core::hex(&Sha256::digest(read(&file.name))),
            "{}",
            file.name
        );
    }
    let above = place.parent().unwrap();
    let mut left: Vec<_> =
        fs::read_dir(above).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["kernel", "setup.lock"]);
}

#[test]
fn a_package_becomes_a_kernel_for_machines() {
    let scratch = Scratch::new();
    let files = scene::files(VERSION);
    let package = scene::package(&files, Some(&scene::sums(&files)));
    let path = scratch.file("linux-image.deb", &package);
    let made = put_named(&scratch, &path).unwrap();
    assert_whole(&scratch, &made, true);
    let kept = put_named(&scratch, &path).unwrap();
    assert!(matches!(&kept, Kernel::Kept { version, files: Some(files), .. }
        if version.as_deref() == Some(VERSION) && files.len() == 14));
}

#[test]
fn a_package_whose_modules_are_below_usr_will_do_and_so_will_one_without_digests() {
    let scratch = Scratch::new();
    let mut files = scene::files(VERSION);
    for (name, _) in &mut files {
        if name.starts_with("lib") {
            name.insert_str(0, "usr/");
        }
    }
    let path = scratch.file("linux-image.deb", &scene::package(&files, None));
    assert_whole(&scratch, &put_named(&scratch, &path).unwrap(), false);
}

#[test]
fn damaged_packages_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let files = scene::files(VERSION);
    let sums = scene::sums(&files);
    let whole = scene::package(&files, Some(&sums));
    let short = |count: usize| whole[..whole.len() - count].to_vec();
    let other = sums.replace(&sums[..4], "zzzz");
    let listed = sums.clone() + "00000000000000000000000000000000  boot/vmlinuz-2\n";
    let mut outward = files.clone();
    outward.push(("lib/modules/../../../x.ko".into(), b"x".to_vec()));
    let mut twice = files.clone();
    twice.push(files[0].clone());
    let mut flipped = whole.clone();
    let middle = flipped.len() - 400;
    flipped[middle] ^= 1;
    for (what, package, why) in [
        ("short", short(1000), "ends in the middle"),
        ("shorter", whole[..100].to_vec(), "ends in the middle"),
        ("flipped", flipped, "is damaged"),
        ("another digest", scene::package(&files, Some(&other)), "is not what its list"),
        ("a file too few", scene::package(&files, Some(&listed)), "has no boot/vmlinuz-2"),
        ("a file too many", scene::package(&files, Some("")), "is not in its list"),
        ("no list", scene::package(&files, Some("x")), "its list of digests is none"),
        ("outward", scene::package(&outward, None), "leads out of it"),
        ("twice", scene::package(&twice, None), "twice"),
        ("only names one", scene::package(&[], Some("")), "no vmlinuz in it"),
        ("no package", scene::ar(&[("debian-binary", b"2.0\n")]), "has no control.tar"),
    ] {
        let said = refused(&scratch, &scratch.file("linux-image.deb", &package));
        assert!(said.contains(why), "{what}: {said}");
    }
    assert!(!scratch.0.join("x.ko").exists());
}

#[test]
fn folders_and_files_of_kernels_will_do() {
    let scratch = Scratch::new();
    scene::install(&scratch.0.join("root"), VERSION);
    for path in [
        "root".to_owned(),
        format!("root/lib/modules/{VERSION}"),
        format!("root/boot/vmlinuz-{VERSION}"),
    ] {
        assert_whole(&scratch, &put_named(&scratch, &scratch.0.join(path)).unwrap(), false);
        fs::remove_dir_all(place(&scratch)).unwrap();
    }
    // As Fedora has it.
    let boot = scratch.0.join(format!("root/boot/vmlinuz-{VERSION}"));
    let modules = scratch.0.join(format!("root/lib/modules/{VERSION}"));
    fs::rename(boot, modules.join("vmlinuz")).unwrap();
    for path in [modules.clone(), modules.join("vmlinuz")] {
        assert_whole(&scratch, &put_named(&scratch, &path).unwrap(), false);
        fs::remove_dir_all(place(&scratch)).unwrap();
    }
}

#[test]
fn a_kernel_that_has_all_in_itself_takes_no_modules() {
    let scratch = Scratch::new();
    let version = "6.12.1-agentkernel";
    let vmlinux = scratch.file("vmlinux-1", &scene::vmlinux(version, 62));
    let made = put_named(&scratch, &vmlinux).unwrap();
    assert!(matches!(made, Kernel::Made { notes, .. } if notes[0].contains("nothing of that")));
    assert!(!place(&scratch).join("modules").exists());
    fs::remove_dir_all(place(&scratch)).unwrap();
    let own = "VIRTIO_MMIO VIRTIO_BLK VIRTIO_VSOCKETS EROFS_FS OVERLAY_FS EXT4_FS TUN";
    let own: String = own.split(' ').map(|name| format!("CONFIG_{name}=y\n")).collect();
    let config = scene::config() + &own;
    scratch.file("vmlinux-1.config", config.as_bytes());
    let made = put_named(&scratch, &vmlinux).unwrap();
    assert!(matches!(made, Kernel::Made { notes, .. } if notes.is_empty()));
    fs::remove_dir_all(place(&scratch)).unwrap();
    // It does without a network, and whoever is to have one is told.
    scratch.file("vmlinux-1.config", config.replace("CONFIG_TUN=y", "").as_bytes());
    let made = put_named(&scratch, &vmlinux).unwrap();
    assert!(matches!(made, Kernel::Made { notes, .. } if notes[0].contains("CONFIG_TUN")));
    fs::remove_dir_all(place(&scratch)).unwrap();
    let config = config.replace("CONFIG_MEMCG=y", "# no").replace("EROFS_FS=y", "EROFS_FS=m");
    scratch.file("vmlinux-1.config", config.replace("CONFIG_ACPI=y", "").as_bytes());
    let said = refused(&scratch, &vmlinux);
    for what in ["erofs (CONFIG_EROFS_FS)", "CONFIG_MEMCG (limits of memory)", "CONFIG_ACPI or "] {
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn what_modules_lack_is_named() {
    let scratch = Scratch::new();
    let root = scratch.0.join("root");
    scene::install(&root, VERSION);
    let modules = root.join(format!("lib/modules/{VERSION}"));
    let kernel = modules.join("kernel");
    fs::remove_file(kernel.join("lib/libcrc32c.ko")).unwrap();
    fs::remove_file(kernel.join("fs/overlayfs/overlay.ko")).unwrap();
    fs::remove_file(kernel.join("drivers/char/hw_random/virtio-rng.ko.gz")).unwrap();
    let said = refused(&scratch, &modules);
    let lacking = "libcrc32c (which erofs needs), overlay (CONFIG_OVERLAY_FS)";
    assert!(said.ends_with(lacking), "{said}");
    scene::install(&root, VERSION);
    let overlay = kernel.join("fs/overlayfs/overlay.ko");
    for (bytes, why) in [
        (scene::module("5.4.0", &[]), "it is not of the kernel 6.12.1-cloud"),
        (b"\x7fELF".to_vec(), "is damaged"),
        (scene::module(VERSION, &[])[..200].to_vec(), "is damaged"),
    ] {
        fs::write(&overlay, bytes).unwrap();
        let said = refused(&scratch, &modules);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_kernels_file_is_unpacked_by_its_header_or_refused() {
    let scratch = Scratch::new();
    let vmlinux = scene::vmlinux(VERSION, 62);
    let packed = scene::gzip(&vmlinux);
    let whole = scene::vmlinuz(VERSION, &packed, vmlinux.len());
    for packed in [scene::gzip(&vmlinux), scene::xz(&vmlinux), vmlinux.clone()] {
        let file = scene::vmlinuz(VERSION, &packed, vmlinux.len());
        put_named(&scratch, &scratch.file("vmlinuz", &file)).unwrap();
        assert_eq!(fs::read(place(&scratch).join("vmlinux")).unwrap(), vmlinux);
        fs::remove_dir_all(place(&scratch)).unwrap();
    }
    let arm = scene::gzip(&scene::vmlinux(VERSION, 183));
    let mut arm_image = vec![0; 4096];
    arm_image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    for (what, bytes, why) in [
        ("empty", Vec::new(), "neither a vmlinux nor a vmlinuz"),
        ("short", whole[..300].to_vec(), "neither a vmlinux nor a vmlinuz"),
        ("cut off", whole[..1100].to_vec(), "ends before what is packed"),
        (
            "another size",
            scene::vmlinuz(VERSION, &scene::xz(&vmlinux), 5),
            "another size than it says",
        ),
        ("lzo", scene::vmlinuz(VERSION, b"\x89LZO....", 5), "packed with lzo"),
        ("lz4", scene::vmlinuz(VERSION, b"\x02\x21\x4c\x18.", 5), "is damaged"),
        ("not packed", scene::vmlinuz(VERSION, b"words", 5), "no vmlinux"),
        ("arm", scene::vmlinuz(VERSION, &arm, vmlinux.len()), "another processor"),
        ("arm, unpacked", scene::vmlinux(VERSION, 183), "another processor"),
        ("arm's own", arm_image, "ARM"),
        ("no version", scene::vmlinux("", 62), "no version"),
        ("a version that leads elsewhere", scene::vmlinux("6/../..", 62), "no version"),
    ] {
        let said = refused(&scratch, &scratch.file("vmlinuz", &bytes));
        assert!(said.contains(why), "{what}: {said}");
    }
    assert!(refused(&scratch, &scratch.0.join("none")).contains("can't be read"));
}

#[test]
fn a_digest_beside_a_file_is_compared() {
    let scratch = Scratch::new();
    let vmlinux = scene::vmlinux(VERSION, 62);
    let path = scratch.file("vmlinux", &vmlinux);
    let sum = agentkernel_core::hex(&Sha256::digest(&vmlinux));
    scratch.file("SHA256SUMS", format!("{}  other\n{sum} *vmlinux\n", "0".repeat(64)).as_bytes());
    let made = put_named(&scratch, &path).unwrap();
    assert!(matches!(made, Kernel::Made { is_verified: true, .. }));
    fs::remove_dir_all(place(&scratch)).unwrap();
    scratch.file("vmlinux.sha256", "0".repeat(64).as_bytes());
    assert!(refused(&scratch, &path).contains("is not what"));
}

#[test]
fn without_a_name_the_newest_installed_that_has_all_is_taken_and_then_a_package() {
    let scratch = Scratch::new();
    let root = scratch.0.join("root");
    let none = put(&Request::default(), &place(&scratch), &root).unwrap();
    assert_eq!(none, Kernel::Missing { looked: Vec::new() });
    let files = scene::files(VERSION);
    let package = scene::package(&files, Some(&scene::sums(&files)));
    let archives = "root/var/cache/apt/archives";
    scratch.file(&format!("{archives}/linux-image-6.12.2-cloud.deb"), b"broken");
    scratch.file(&format!("{archives}/linux-image-6.12.1-cloud.deb"), &package);
    scratch.file(&format!("{archives}/linux-image-6.18.1.deb"), b"broken");
    scene::install(&root, "6.13.0");
    fs::remove_file(root.join("lib/modules/6.13.0/kernel/fs/erofs/erofs.ko")).unwrap();
    let made = put(&Request::default(), &place(&scratch), &root).unwrap();
    assert_whole(&scratch, &made, true);
    for version in ["6.9.0", "6.10.0"] {
        scene::install(&root, version);
    }
    let anew = Request { kernel: None, force: true };
    let made = put(&anew, &place(&scratch), &root).unwrap();
    assert!(matches!(made, Kernel::Made { version, .. } if version == "6.10.0"));
}

#[test]
fn what_is_there_is_kept_unless_it_is_to_be_replaced() {
    let scratch = Scratch::new();
    let old = scratch.file("old", &scene::vmlinux("5.4.0", 62));
    let new = scratch.file("new", &scene::vmlinux("6.12.0", 62));
    put_named(&scratch, &old).unwrap();
    let kept = put_named(&scratch, &new).unwrap();
    assert!(matches!(kept, Kernel::Kept { version: Some(version), .. } if version == "5.4.0"));
    let forced = Request { force: true, ..request(&new) };
    let nowhere = scratch.0.join("nowhere");
    put(&forced, &place(&scratch), &nowhere).unwrap();
    let vmlinux = place(&scratch).join("vmlinux");
    assert_eq!(fs::read(&vmlinux).unwrap(), scene::vmlinux("6.12.0", 62));
    // One that is no longer what was put there is told.
    fs::write(&vmlinux, scene::vmlinux("6.12.1", 62)).unwrap();
    let said = put_named(&scratch, &new).unwrap_err().to_string();
    assert!(said.contains("is not what was put there"), "{said}");
    put(&forced, &place(&scratch), &nowhere).unwrap();
    assert_eq!(fs::read(&vmlinux).unwrap(), scene::vmlinux("6.12.0", 62));
    fs::remove_file(&vmlinux).unwrap();
    assert!(matches!(put_named(&scratch, &new), Err(SetupError::InTheWay(_))));
    put(&forced, &place(&scratch), &nowhere).unwrap();
    assert_eq!(fs::read(&vmlinux).unwrap(), scene::vmlinux("6.12.0", 62));
    // By hand.
    fs::remove_dir_all(place(&scratch)).unwrap();
    fs::copy(&old, place(&scratch)).unwrap();
    assert!(matches!(put_named(&scratch, &new), Ok(Kernel::Kept { files: None, .. })));
    put(&forced, &place(&scratch), &nowhere).unwrap();
    assert_eq!(fs::read(&vmlinux).unwrap(), scene::vmlinux("6.12.0", 62));
}

#[test]
fn many_at_once_make_one_and_a_killed_one_leaves_nothing() {
    let scratch = Scratch::new();
    let files = scene::files(VERSION);
    let path = scratch.file("a.deb", &scene::package(&files, Some(&scene::sums(&files))));
    // As of one who was killed.
    scratch.file("data/kernel.part/vmlinux", b"half");
    scratch.file("data/kernel.tree/boot/x", b"half");
    let made: Vec<Kernel> = thread::scope(|scope| {
        let all = [(); 8].map(|()| scope.spawn(|| put_named(&scratch, &path).unwrap()));
        all.map(|one| one.join().unwrap()).into()
    });
    let (made, kept): (Vec<_>, Vec<_>) =
        made.into_iter().partition(|kernel| matches!(kernel, Kernel::Made { .. }));
    assert_eq!((made.len(), kept.len()), (1, 7));
    assert_whole(&scratch, &made[0], true);
}

#[test]
fn where_nothing_can_be_written_is_said() {
    let scratch = Scratch::new();
    let path = scratch.file("vmlinux", &scene::vmlinux(VERSION, 62));
    scratch.file("data", b"a file");
    let error = put_named(&scratch, &path).unwrap_err();
    assert!(matches!(error, SetupError::Write { .. }), "{error}");
}
