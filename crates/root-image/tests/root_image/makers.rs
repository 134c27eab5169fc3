//! Whoever makes it, and however many do, it is the same.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use agentkernel_images::{Digest, Images};
use agentkernel_root_image::{FORM, find, make};
use agentkernel_testkit::Scratch;
use tar::EntryType;

use crate::archive::{Archive, Member, bytes};
use crate::everyone::{Program, USER, with};
use crate::mounted;
use crate::store::{Store, keep};

/// Layers with what an ordinary user's store can't hold, and with what its owner may not read.
fn layers() -> Vec<Vec<u8>> {
    let lower = Archive::new()
        .member("shadow", Member::new(EntryType::Regular, 0).owner(0, 42))
        .member("closed/", Member::new(EntryType::Directory, 0).owner(5, 6))
        .file("closed/inner", "inner")
        .symlink("closed/link", "target")
        .long("closed/long", 500_000)
        .member("closed/deeper/", Member::new(EntryType::Directory, 0o111))
        .file("closed/deeper/file", "x")
        .device(EntryType::Char, "null", 1, 3)
        .member("suid", Member::new(EntryType::Regular, 0o4111).owner(0, 0))
        .member("labelled", {
            Member::new(EntryType::Regular, 0o644)
                .attribute(b"security.capability", &crate::layers::CAPABILITY)
                .attribute(b"trusted.x", b"y")
        })
        .bytes();
    // Its directory is only implied.
    let upper = Archive::new().file("closed/other", "other").whiteout("", "suid").bytes();
    vec![lower, upper]
}

fn digest(path: &Path) -> Digest {
    Digest::of(&fs::read(path).unwrap())
}

#[test]
fn an_ordinary_user_makes_the_same_bytes_as_root() {
    if let Some(folder) = with() {
        let images = Images::at(folder.into());
        let image = keep(&images, &layers());
        assert!(!images.layer(&image.record().layers[0].chain).join("null").exists());
        return drop(make(&images, &image).unwrap());
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can be root and an ordinary user");
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "true"]).uid(USER).gid(USER);
    if !unshare.status().is_ok_and(|it| it.success()) {
        return println!("skipped: an ordinary user can't have a user namespace here");
    }
    let store = Store::new();
    let ours = store.root_image(&layers());
    let program = Program::new();
    let theirs = Scratch::new(Some((USER, USER))).unwrap();
    let name = "makers::an_ordinary_user_makes_the_same_bytes_as_root";
    let said = program.test_as_user(name, &theirs.path().join("images")).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("1 passed"), "{said}");
    let roots = crate::store::files(&theirs.path().join("images/roots"));
    let [root] = roots.as_slice() else { panic!("{roots:?}") };
    assert_eq!(root.metadata().unwrap().uid(), USER);
    assert_eq!(root.file_name(), ours.path().file_name());
    assert_eq!(digest(root), digest(ours.path()));
    if mounted::can() {
        let image = store.keep(&layers());
        let mounted = crate::layers::compare(&store, &image);
        let found = mounted.0.join("closed").metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (5, 6, 0));
        assert_eq!(fs::read(mounted.0.join("closed/long")).unwrap(), bytes(500_000, 500_000));
    }
}

#[test]
fn the_same_layers_are_the_same_bytes_and_others_are_not() {
    let (one, other) = (Store::new(), Store::new());
    let archives = [Archive::new().file("a", "x").bytes(), Archive::new().long("b", 9000).bytes()];
    let first = one.root_image(&archives);
    assert_eq!(digest(first.path()), digest(other.root_image(&archives).path()));
    assert_ne!(digest(first.path()), digest(one.root_image(&archives[..1]).path()));
    assert_eq!(first.bytes() % 4096, 0);
    assert_eq!(first.file().metadata().unwrap().len(), first.bytes());
    let mode = first.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444, "whoever is shown it can read it, and nobody writes to it");
}

/// What has the memory of a machine that ran on a root image has its bytes. So whoever makes others of
/// the same layers gives them another [`FORM`], and this another digest.
#[test]
fn a_form_is_a_promise_of_bytes() {
    let lower = Archive::new()
        .long("directory/long", 10_000)
        .long("directory/short", 900)
        .symlink("link", "directory/long")
        .hard_link("other", "directory/short")
        .device(EntryType::Char, "null", 1, 3)
        .member("fifo", Member::new(EntryType::Fifo, 0o600).owner(1, 2).mtime("5.5"))
        .member("labelled", Member::new(EntryType::Regular, 0).attribute(b"security.x", b"y"))
        .bytes();
    let upper = Archive::new().file("directory/new", "new").whiteout("", "link").bytes();
    let store = Store::new();
    let made = store.root_image(&[lower, upper]);
    let mut bytes = fs::read(made.path()).unwrap();
    // The identity is that of the archives.
    bytes[1024 + 48..][..16].fill(0);
    assert_eq!(FORM, "1.erofs");
    assert_eq!(
        Digest::of(&bytes).as_str(),
        "sha256:30834c96986d6a2da2c00ea8aeb97bf988c378f8bf6a25a409e7ddfdb3b5547f"
    );
}

/// Layers whose root image takes a while to make.
fn slow() -> Vec<Vec<u8>> {
    let archive = (0..3000).fold(Archive::new(), |archive, number| {
        archive.long(&format!("{}/{number}", number % 50), 3000 + number)
    });
    vec![archive.bytes()]
}

#[test]
fn of_many_who_want_it_at_once_one_makes_it() {
    const NAME: &str = "makers::of_many_who_want_it_at_once_one_makes_it";
    if let Some(folder) = with() {
        let images = Images::at(folder.into());
        let image = images.open("kept").unwrap().unwrap();
        let made = make(&images, &image).unwrap();
        return println!("inode {}", made.file().metadata().unwrap().ino());
    }
    let store = Store::new();
    let image = store.keep(&slow());
    let program = Program::new();
    let start = || {
        let mut command = program.test(NAME, store.images.root());
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let others: Vec<Child> = (0..6).map(|_| start()).collect();
    // And several threads of one process.
    let inodes = thread::scope(|scope| {
        let inode = || make(&store.images, &image).unwrap().file().metadata().unwrap().ino();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(inode)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
    for other in others {
        let said = String::from_utf8(other.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.contains(&format!("inode {}\n", inodes[0])), "{said}");
    }
    assert_eq!((store.roots().len(), store.drafts().len()), (1, 0));
}

#[test]
fn whoever_is_killed_leaves_nothing_that_counts() {
    const NAME: &str = "makers::whoever_is_killed_leaves_nothing_that_counts";
    if let Some(folder) = with() {
        let images = Images::at(folder.into());
        return drop(make(&images, &images.open("kept").unwrap().unwrap()).unwrap());
    }
    let store = Store::new();
    let image = store.keep(&slow());
    let program = Program::new();
    let mut were_killed = 0;
    for round in 0..12 {
        let mut maker = program.test(NAME, store.images.root());
        let mut maker = maker.stdout(Stdio::null()).spawn().unwrap();
        // Later and later, in the midst of it.
        if round > 0 {
            wait_for_draft(&store, round * 700_000).unwrap();
        }
        maker.kill().unwrap();
        if maker.wait().unwrap().signal() == Some(9) && store.roots().is_empty() {
            were_killed += 1;
            assert!(find(&store.images, &image).unwrap().is_none());
            assert!(store.drafts().len() <= 1, "{:?}", store.drafts());
        }
        store.roots().iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    assert!(were_killed > 2, "{were_killed}");
    let made = make(&store.images, &image).unwrap();
    assert!(store.drafts().is_empty());
    let other = Store::new();
    assert_eq!(digest(made.path()), digest(other.root_image(&slow()).path()));
}

/// Waits until a root image in the making is so long, or is made.
fn wait_for_draft(store: &Store, length: u64) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let drafts = store.drafts();
        let length_of =
            |path: &std::path::PathBuf| path.metadata().map_or(0, |it| it.blocks() * 512);
        if drafts.iter().any(|path| length_of(path) >= length) || !store.roots().is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::yield_now();
    }
}

#[test]
fn what_files_hold_is_never_in_memory() {
    const NAME: &str = "makers::what_files_hold_is_never_in_memory";
    if let Some(folder) = with() {
        let images = Images::at(folder.into());
        drop(make(&images, &images.open("kept").unwrap().unwrap()).unwrap());
        let status = fs::read_to_string("/proc/self/status").unwrap();
        return println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
    }
    let store = Store::new();
    let archive = (0..8)
        .fold(Archive::new(), |archive, number| archive.long(&number.to_string(), 12_000_000));
    let _held = store.keep(&[archive.bytes()]);
    let program = Program::new();
    let said = program.test(NAME, store.images.root()).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let peak = said.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 24 << 10, "{peak} KiB for a root image of 96 MB");
}
