//! Files carried between the host and a sandbox.
#![cfg(target_os = "linux")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use agentkernel_files::{
    Inside, Refusal, TransferError, TransferOptions, Transferred, copy_in, copy_out, tar_in,
    tar_out,
};
use common::{
    Scratch, SmallDisk, as_ordinary_user, changed, check_deep, check_sparse, deep, directory, fifo,
    is_root, mode, names, read, set_changed, set_mode, skip, sparse, write,
};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

const FOLLOW: TransferOptions = TransferOptions { follow: true };
const AS_IT_IS: TransferOptions = TransferOptions { follow: false };

/// A folder that stands for a sandbox's root, and one of the host's.
struct Scene {
    root: PathBuf,
    host: PathBuf,
    descriptor: OwnedFd,
    owner: (u32, u32),
    _scratch: Scratch,
}

impl Scene {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (root, host) = (scratch.folder("root"), scratch.folder("host"));
        fs::create_dir(root.join("dir")).unwrap();
        // What a way out of the sandbox would lead to.
        write(scratch.path("secret"), "secret");
        let owner = if is_root() { (23456, 34567) } else { caller() };
        Self { descriptor: directory(&root), root, host, owner, _scratch: scratch }
    }

    fn inside(&self) -> Inside<'_> {
        Inside { root: self.descriptor.as_fd(), owner: self.owner }
    }

    fn put(&self, source: &str, target: &str) -> Result<Transferred, TransferError> {
        self.put_with(source, target, AS_IT_IS)
    }

    fn put_with(
        &self,
        source: &str,
        target: &str,
        options: TransferOptions,
    ) -> Result<Transferred, TransferError> {
        copy_in(Path::new(&self.host_path(source)), &self.inside(), target.as_ref(), options)
    }

    fn get(&self, source: &str, target: &str) -> Result<Transferred, TransferError> {
        self.get_with(source, target, AS_IT_IS)
    }

    fn get_with(
        &self,
        source: &str,
        target: &str,
        options: TransferOptions,
    ) -> Result<Transferred, TransferError> {
        copy_out(&self.inside(), source.as_ref(), Path::new(&self.host_path(target)), options)
    }

    /// Not by `join`, since what the path ends in matters.
    fn host_path(&self, path: &str) -> String {
        format!("{}/{path}", self.host.display())
    }

    fn pack(&self, source: &str) -> (Vec<u8>, Transferred) {
        let mut archive = Vec::new();
        let done = tar_out(&self.inside(), source.as_ref(), AS_IT_IS, &mut archive).unwrap();
        (archive, done)
    }

    fn unpack(&self, target: &str, archive: &[u8]) -> Result<Transferred, TransferError> {
        tar_in(&self.inside(), target.as_ref(), archive)
    }
}

fn caller() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let data = fs::symlink_metadata(path).unwrap();
    (data.uid(), data.gid())
}

fn refused(done: &Transferred) -> Vec<(&str, Refusal)> {
    let mut refused: Vec<_> = done
        .refused
        .iter()
        .map(|refused| (refused.path.file_name().and_then(OsStr::to_str).unwrap(), refused.why))
        .collect();
    refused.sort_by_key(|refused| refused.0);
    refused
}

// The rules for what is there, in both directions.

#[test]
fn a_file_to_a_new_name() {
    let scene = Scene::new();
    write(scene.host.join("file"), "content");
    let done = scene.put("file", "/dir/new").unwrap();
    assert_eq!((done.files, done.bytes), (1, 7));
    assert_eq!(read(scene.root.join("dir/new")), "content");
    let _ = scene.get("/dir/new", "out").unwrap();
    assert_eq!(read(scene.host.join("out")), "content");
    // Relative to the root, where it is relative.
    let _ = scene.put("file", "dir/other").unwrap();
    assert_eq!(read(scene.root.join("dir/other")), "content");
}

#[test]
fn a_file_to_a_file() {
    let scene = Scene::new();
    write(scene.host.join("file"), "new");
    write(scene.root.join("dir/old"), "old and longer");
    let _ = scene.put("file", "/dir/old").unwrap();
    assert_eq!(read(scene.root.join("dir/old")), "new");
    assert_eq!(names(scene.root.join("dir")), ["old"]);
}

#[test]
fn a_file_to_a_directory() {
    let scene = Scene::new();
    write(scene.host.join("file"), "content");
    for target in ["/dir", "/dir/", "/dir/.", "/", "."] {
        let _ = scene.put("file", target).unwrap();
        let path = scene.root.join(target.trim_matches(['/', '.'])).join("file");
        assert_eq!(read(&path), "content");
        fs::remove_file(path).unwrap();
    }
    fs::create_dir(scene.root.join("dir/file")).unwrap();
    assert!(matches!(scene.put("file", "/dir"), Err(TransferError::IsDirectory { .. })));
    assert_eq!(names(scene.root.join("dir")), ["file"]);
}

#[test]
fn a_file_to_where_no_directory_is() {
    let scene = Scene::new();
    write(scene.host.join("file"), "content");
    write(scene.root.join("dir/file"), "old");
    let error = scene.put("file", "/dir/new/").unwrap_err();
    assert_eq!(error.to_string(), r#"there is no "/dir/new/" in the sandbox"#);
    let error = scene.put("file", "/dir/new/file").unwrap_err();
    assert_eq!(error.to_string(), r#"there is no "/dir/new" in the sandbox"#);
    let error = scene.put("file", "/dir/file/").unwrap_err();
    assert_eq!(error.to_string(), r#""/dir/file/" in the sandbox is no directory"#);
    assert!(matches!(scene.put("file", "/dir/file/new"), Err(TransferError::NoDirectory { .. })));
    assert!(matches!(
        scene.put("file", ""),
        Err(TransferError::Missing { .. } | TransferError::NoDirectory { .. })
    ));
    assert_eq!(names(scene.root.join("dir")), ["file"]);
    assert_eq!(read(scene.root.join("dir/file")), "old");
}

#[test]
fn what_is_not_there_is_not_copied() {
    let scene = Scene::new();
    write(scene.host.join("file"), "content");
    assert!(matches!(scene.put("absent", "/dir"), Err(TransferError::Missing { .. })));
    assert!(matches!(scene.put("file/", "/dir"), Err(TransferError::NoDirectory { .. })));
    assert!(matches!(scene.put("file/.", "/dir"), Err(TransferError::NoDirectory { .. })));
    let error = scene.get("/absent", "out").unwrap_err();
    assert_eq!(error.to_string(), r#"there is no "/absent" in the sandbox"#);
    assert_eq!(names(scene.root.join("dir")), [""; 0]);
}

#[test]
fn a_directory_to_a_new_name() {
    let scene = Scene::new();
    fs::create_dir_all(scene.host.join("tree/sub")).unwrap();
    write(scene.host.join("tree/sub/file"), "content");
    for (source, target) in
        [("tree", "/dir/a"), ("tree/", "/dir/b"), ("tree/.", "/dir/c"), ("tree", "/dir/d/")]
    {
        let done = scene.put(source, target).unwrap();
        assert_eq!((done.files, done.directories), (1, 2));
        assert_eq!(read(scene.root.join(&target[1..]).join("sub/file")), "content");
    }
    assert!(matches!(scene.put("tree", "/dir/x/y"), Err(TransferError::Missing { .. })));
}

#[test]
fn a_directory_to_a_directory() {
    let scene = Scene::new();
    fs::create_dir_all(scene.host.join("tree/sub")).unwrap();
    write(scene.host.join("tree/sub/file"), "content");
    let _ = scene.put("tree", "/dir").unwrap();
    assert_eq!(read(scene.root.join("dir/tree/sub/file")), "content");
    let _ = scene.put("tree/.", "/dir").unwrap();
    assert_eq!(names(scene.root.join("dir")), ["sub", "tree"]);
    // Again: what is there is filled.
    write(scene.root.join("dir/tree/sub/mine"), "mine");
    set_mode(scene.root.join("dir/tree/sub"), 0o711);
    write(scene.host.join("tree/sub/file"), "changed");
    assert_eq!(scene.put("tree", "/dir").unwrap().directories, 0);
    assert_eq!(read(scene.root.join("dir/tree/sub/file")), "changed");
    assert_eq!(read(scene.root.join("dir/tree/sub/mine")), "mine");
    assert_eq!(mode(scene.root.join("dir/tree/sub")), 0o711);
    let _ = scene.get("/", "out").unwrap();
    assert_eq!(names(scene.host.join("out")), ["dir"]);
}

#[test]
fn a_directory_to_a_file() {
    let scene = Scene::new();
    fs::create_dir_all(scene.host.join("tree/sub")).unwrap();
    write(scene.root.join("dir/file"), "old");
    write(scene.root.join("dir/sub"), "old");
    assert!(matches!(scene.put("tree", "/dir/file"), Err(TransferError::NoDirectory { .. })));
    let error = scene.put("tree/.", "/dir").unwrap_err();
    assert_eq!(error.to_string(), r#""/dir/sub" in the sandbox is no directory"#);
    assert_eq!(read(scene.root.join("dir/sub")), "old");
}

#[test]
fn a_tree_is_not_copied_into_itself() {
    let scene = Scene::new();
    fs::create_dir(scene.root.join("dir/sub")).unwrap();
    let into = format!("{}/dir/sub", scene.root.display());
    let result = copy_out(&scene.inside(), "/dir".as_ref(), into.as_ref(), AS_IT_IS);
    assert!(matches!(result, Err(TransferError::IntoItself { .. })), "{result:?}");
}

// Links.

#[test]
fn a_link_is_copied_as_one_unless_it_is_to_be_followed() {
    let scene = Scene::new();
    write(scene.root.join("file"), "content");
    symlink("/file", scene.root.join("dir/link")).unwrap();
    set_changed(scene.root.join("dir/link"), 5, 6);
    let _ = scene.get("/dir/link", "out").unwrap();
    assert_eq!(fs::read_link(scene.host.join("out")).unwrap(), Path::new("/file"));
    assert_eq!(changed(scene.host.join("out")), (5, 6));
    let _ = scene.get_with("/dir/link", ".", FOLLOW).unwrap();
    assert_eq!(read(scene.host.join("link")), "content");
    assert!(!scene.host.join("link").is_symlink());

    symlink("dir", scene.root.join("to-dir")).unwrap();
    for (source, options) in [("/to-dir/", AS_IT_IS), ("/to-dir", FOLLOW), ("/to-dir/.", AS_IT_IS)]
    {
        let _ = scene.get_with(source, "out2", options).unwrap();
        assert_eq!(names(scene.host.join("out2")), ["link"]);
        fs::remove_dir_all(scene.host.join("out2")).unwrap();
    }
    symlink("loop", scene.root.join("loop")).unwrap();
    assert!(matches!(scene.get_with("/loop", "out3", FOLLOW), Err(TransferError::Failed { .. })));
    assert!(matches!(scene.put("link", "/loop"), Err(TransferError::Failed { .. })));
}

#[test]
fn no_link_leads_out_of_the_sandbox() {
    let scene = Scene::new();
    let outside = scene.root.parent().unwrap().to_owned();
    let secret = outside.join("secret");
    symlink(&secret, scene.root.join("absolute")).unwrap();
    symlink("../secret", scene.root.join("relative")).unwrap();
    symlink("../../../../../../../../../..", scene.root.join("up")).unwrap();
    symlink(&outside, scene.root.join("dir/out")).unwrap();
    let inside_path = |path: &Path| format!("/up{}", path.display());
    for source in [
        "/absolute",
        "/relative",
        "/../secret",
        "/dir/out/secret",
        "dir/../../secret",
        &inside_path(&secret),
    ] {
        let result = scene.get_with(source, "stolen", FOLLOW);
        assert!(matches!(result, Err(TransferError::Missing { .. })), "{source}: {result:?}");
    }
    // What it links to is the sandbox's own, if that is there.
    write(scene.root.join("secret"), "its own");
    let _ = scene.get_with("/relative", "own", FOLLOW).unwrap();
    assert_eq!(read(scene.host.join("own")), "its own");

    // And inwards.
    write(scene.host.join("file"), "changed");
    let _ = scene.put("file", "/relative").unwrap();
    assert_eq!(
        (read(&secret), read(scene.root.join("secret"))),
        ("secret".into(), "changed".into())
    );
    assert!(scene.put("file", "/absolute").is_err());
    assert!(scene.put("file", "/dir/out/new").is_err());
    assert!(scene.unpack("/dir/out", &[0; 1024]).is_err());
    let _ = scene.put("file", "/up/new").unwrap();
    assert_eq!(read(scene.root.join("new")), "changed");
    assert_eq!(read(&secret), "secret");
    assert_eq!(names(&outside), ["host", "root", "secret"]);
}

#[test]
fn links_in_a_tree_are_copied_and_never_written_through() {
    let scene = Scene::new();
    fs::create_dir_all(scene.root.join("tree/a")).unwrap();
    write(scene.root.join("tree/a/file"), "content");
    symlink("/etc/passwd", scene.root.join("tree/absolute")).unwrap();
    symlink("../../..", scene.root.join("tree/up")).unwrap();
    let _ = scene.get("/tree", ".").unwrap();
    assert_eq!(fs::read_link(scene.host.join("tree/absolute")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_link(scene.host.join("tree/up")).unwrap(), Path::new("../../.."));

    // The host has links where the tree has a directory and a file.
    let other = scene.host.join("other");
    fs::create_dir_all(&other).unwrap();
    write(other.join("file"), "precious");
    fs::remove_dir_all(scene.host.join("tree")).unwrap();
    fs::create_dir_all(scene.host.join("tree")).unwrap();
    symlink(&other, scene.host.join("tree/a")).unwrap();
    assert!(matches!(scene.get("/tree", "."), Err(TransferError::NoDirectory { .. })));
    fs::remove_file(scene.host.join("tree/a")).unwrap();
    fs::create_dir(scene.host.join("tree/a")).unwrap();
    symlink(other.join("file"), scene.host.join("tree/a/file")).unwrap();
    let _ = scene.get("/tree", ".").unwrap();
    assert_eq!(read(scene.host.join("tree/a/file")), "content");
    assert_eq!(read(other.join("file")), "precious");
    assert_eq!(names(&other), ["file"]);
}

#[test]
fn a_target_that_is_a_link_means_what_it_leads_to() {
    let scene = Scene::new();
    write(scene.host.join("file"), "content");
    symlink("dir/new", scene.root.join("dangling")).unwrap();
    symlink("/dir", scene.root.join("to-dir")).unwrap();
    let _ = scene.put("file", "/dangling").unwrap();
    assert_eq!(read(scene.root.join("dir/new")), "content");
    assert!(scene.root.join("dangling").is_symlink());
    let _ = scene.put("file", "/to-dir").unwrap();
    assert_eq!(read(scene.root.join("dir/file")), "content");
}

#[test]
fn parents_swapped_for_links_lead_nowhere_else() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let scene = Scene::new();
    let outside = scene.root.parent().unwrap().join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    write(outside.join("deep/secret"), "secret");
    fs::create_dir_all(scene.root.join("a/deep")).unwrap();
    write(scene.root.join("a/deep/own"), "own");
    symlink(&outside, scene.root.join("b")).unwrap();
    write(scene.host.join("file"), "x");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (scene.root.join("a"), scene.root.join("b"));
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &a, CWD, &b, rustix::fs::RenameFlags::EXCHANGE)
                    .unwrap();
            }
        });
        for round in 0..300 {
            let _ = scene.get("/a/deep", &format!("out-{round}"));
            let _ = scene.get("/", &format!("all-{round}"));
            let _ = scene.put("file", &format!("/a/deep/new-{round}"));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(names(outside.join("deep")), ["secret"]);
    for folder in fs::read_dir(&scene.host).unwrap() {
        let folder = folder.unwrap().path();
        assert!(!folder.join("secret").exists());
        // One that was copied as a link leads there, on the host.
        for name in ["a", "b"].map(|name| folder.join(name)) {
            assert!(name.is_symlink() || !name.join("deep/secret").exists());
        }
    }
}

// What is kept.

#[test]
fn permissions_and_times_are_kept_without_set_user_id() {
    let scene = Scene::new();
    fs::create_dir(scene.host.join("tree")).unwrap();
    write(scene.host.join("tree/program"), "content");
    symlink("program", scene.host.join("tree/link")).unwrap();
    set_mode(scene.host.join("tree/program"), 0o6751);
    set_changed(scene.host.join("tree/program"), 1_000_000_000, 123_456_789);
    set_mode(scene.host.join("tree"), 0o3555);
    set_changed(scene.host.join("tree"), 7, 8);
    let _ = scene.put("tree", "/dir").unwrap();
    let inner = scene.root.join("dir/tree");
    assert_eq!((mode(inner.join("program")), mode(&inner)), (0o751, 0o1555));
    assert_eq!(changed(inner.join("program")), (1_000_000_000, 123_456_789));
    assert_eq!(changed(&inner), (7, 8));
    for path in [inner.clone(), inner.join("program"), inner.join("link")] {
        assert_eq!(owner(path), scene.owner);
    }
    assert_eq!(
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        caller()
    );

    set_mode(inner.join("program"), 0o4711);
    let _ = scene.get("/dir/tree", "out").unwrap();
    assert_eq!(mode(scene.host.join("out/program")), 0o711);
    assert_eq!(changed(scene.host.join("out")), (7, 8));
    assert_eq!(owner(scene.host.join("out/program")), caller());
    set_mode(&inner, 0o755);
    for path in ["tree", "out"] {
        set_mode(scene.host.join(path), 0o755);
    }
}

#[test]
fn holes_stay_holes() {
    let scene = Scene::new();
    sparse(scene.host.join("sparse"));
    let done = scene.put("sparse", "/dir").unwrap();
    assert_eq!(done.bytes, 1 << 30);
    check_sparse(scene.root.join("dir/sparse"));
    let _ = scene.get("/dir/sparse", "out").unwrap();
    check_sparse(scene.host.join("out"));

    let (archive, done) = scene.pack("/dir/sparse");
    assert_eq!(done.bytes, 1 << 30);
    assert!(archive.len() < 1 << 20, "{} bytes", archive.len());
    fs::remove_file(scene.root.join("dir/sparse")).unwrap();
    let done = scene.unpack("/dir", &archive).unwrap();
    assert_eq!((done.files, done.bytes), (1, 1 << 30));
    check_sparse(scene.root.join("dir/sparse"));
}

#[test]
fn odd_names_are_kept() {
    let scene = Scene::new();
    let long = "x".repeat(255);
    for name in [b"new\nline".as_slice(), b"\xff\xfe", b"-rf", b" ", b"a\\b", long.as_bytes()] {
        let name = OsStr::from_bytes(name);
        write(scene.host.join(name), "content");
        let _ =
            copy_in(&scene.host.join(name), &scene.inside(), "/dir".as_ref(), AS_IT_IS).unwrap();
        assert_eq!(read(scene.root.join("dir").join(name)), "content");
    }
    let (archive, _) = scene.pack("/dir");
    fs::create_dir(scene.root.join("second")).unwrap();
    assert_eq!(scene.unpack("/second", &archive).unwrap().files, 6);
    assert_eq!(names(scene.root.join("second/dir")), names(scene.root.join("dir")));
    assert!(
        copy_out(&scene.inside(), OsStr::from_bytes(b"a\0b").as_ref(), &scene.host, AS_IT_IS)
            .is_err()
    );
}

#[test]
fn deep_trees_are_copied() {
    let scene = Scene::new();
    deep(&scene.root.join("dir"), 3000);
    let _ = scene.get("/dir", "out").unwrap();
    check_deep(&scene.host.join("out"), 3000);
    let _ = scene.put("out", "/back").unwrap();
    check_deep(&scene.root.join("back"), 3000);
    // Its names are 36 kB long.
    let (archive, done) = scene.pack("/dir");
    assert_eq!((done.refusals, done.refused[0].why), (1, Refusal::TooLong));
    assert_eq!(done.directories, 1 + (32 << 10) / 12);
    fs::create_dir(scene.root.join("third")).unwrap();
    assert_eq!(scene.unpack("/third", &archive).unwrap().directories, done.directories);
}

// What is refused.

#[test]
fn what_is_no_file_is_refused_by_name_and_the_rest_copied() {
    let scene = Scene::new();
    fifo(scene.root.join("dir/fifo"));
    let _socket = UnixListener::bind(scene.root.join("dir/socket")).unwrap();
    write(scene.root.join("dir/file"), "content");
    let mut expected = vec![("fifo", Refusal::Fifo), ("socket", Refusal::Socket)];
    if is_root() {
        let device = scene.root.join("dir/a-device");
        mknodat(CWD, &device, FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
        expected.insert(0, ("a-device", Refusal::Device));
    } else {
        skip("only root makes devices");
    }
    let done = scene.get("/dir", "out").unwrap();
    assert_eq!(refused(&done), expected);
    assert!(done.refused.iter().all(|refused| refused.path.starts_with("/dir")));
    assert_eq!((done.files, done.refusals), (1, expected.len() as u64));
    assert_eq!(names(scene.host.join("out")), ["file"]);

    let (archive, done) = scene.pack("/dir");
    assert_eq!(refused(&done), expected);
    assert_eq!(members(&archive), ["dir/", "dir/file"]);

    let done = scene.get("/dir/fifo", "out/fifo").unwrap();
    assert_eq!((done.files, refused(&done)), (0, vec![("fifo", Refusal::Fifo)]));
    fifo(scene.host.join("fifo"));
    let done = scene.put("fifo", "/dir/new").unwrap();
    assert_eq!((done.files, done.refusals), (0, 1));
    assert!(!scene.root.join("dir/new").exists());
}

#[test]
fn files_of_the_kernels_are_refused() {
    let scene = Scene::new();
    for (source, name) in [("/proc/self/status", "status"), ("/proc/self/fd", "fd")] {
        let done = copy_in(source.as_ref(), &scene.inside(), "/dir".as_ref(), AS_IT_IS).unwrap();
        assert_eq!((done.files, refused(&done)), (0, vec![(name, Refusal::Kernel)]));
    }
}

#[test]
fn what_may_not_be_read_is_refused() {
    let scratch = Scratch::new();
    let Some(folder) = as_ordinary_user("what_may_not_be_read_is_refused", &scratch) else {
        return;
    };
    let root = folder.join("root");
    fs::create_dir_all(root.join("dir/shut")).unwrap();
    write(root.join("dir/file"), "x");
    write(root.join("dir/open"), "content");
    set_mode(root.join("dir/file"), 0o000);
    set_mode(root.join("dir/shut"), 0o000);
    let descriptor = directory(&root);
    let inside = Inside { root: descriptor.as_fd(), owner: caller() };
    let done = copy_out(&inside, "/dir".as_ref(), &folder.join("out"), AS_IT_IS).unwrap();
    assert_eq!(refused(&done), [("file", Refusal::Unreadable), ("shut", Refusal::Unreadable)]);
    assert_eq!(read(folder.join("out/open")), "content");
    set_mode(root.join("dir/shut"), 0o700);
}

#[test]
fn refusals_without_end_are_counted() {
    let scene = Scene::new();
    (0..150).for_each(|number| fifo(scene.root.join(format!("dir/{number}"))));
    let done = scene.get("/dir", "out").unwrap();
    assert_eq!((done.refused.len(), done.refusals), (100, 150));
}

#[test]
fn a_growing_file_ends() {
    /// Makes the file longer whenever something of it arrives, up to an end that is far beyond what it was.
    struct Grow {
        file: File,
        arrived: u64,
    }
    impl Write for &mut Grow {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            self.arrived += buffer.len() as u64;
            if self.arrived < 16 << 20 {
                self.file.write_all(buffer)?;
            }
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scene = Scene::new();
    let path = scene.root.join("dir/log");
    write(&path, &"x".repeat(1 << 20));
    let mut grow = Grow { file: File::options().append(true).open(&path).unwrap(), arrived: 0 };
    let done = tar_out(&scene.inside(), "/dir/log".as_ref(), AS_IT_IS, &mut grow).unwrap();
    assert_eq!((done.bytes, grow.arrived), (1 << 20, (1 << 20) + 3 * 512));
    assert!(fs::metadata(&path).unwrap().len() > 1 << 20);

    std::thread::scope(|scope| {
        let mut file = grow.file;
        scope.spawn(move || (0..4000).for_each(|_| file.write_all(&[b'x'; 4096]).unwrap()));
        for _ in 0..20 {
            let copied = scene.get("/dir/log", "out").unwrap();
            assert_eq!(fs::metadata(scene.host.join("out")).unwrap().len(), copied.bytes);
        }
    });
}

#[test]
fn a_full_disk_leaves_no_part_of_a_file() {
    if !is_root() {
        return skip("only root mounts a small disk");
    }
    let scene = Scene::new();
    let (small, host_small) = (scene.root.join("dir"), scene.host.join("small"));
    fs::create_dir(&host_small).unwrap();
    let (Some(_one), Some(_two)) = (SmallDisk::at(&small), SmallDisk::at(&host_small)) else {
        return skip("a tmpfs can't be mounted here");
    };
    write(small.join("file"), "old");
    write(scene.host.join("file"), &"x".repeat(2 << 20));
    write(scene.root.join("big"), &"x".repeat(2 << 20));
    let full = |result: Result<Transferred, TransferError>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
    };
    full(scene.put("file", "/dir"));
    full(scene.get("/big", "small"));
    let (archive, _) = scene.pack("/big");
    full(scene.unpack("/dir", &archive));
    assert_eq!(names(&small), ["file"]);
    assert_eq!(read(small.join("file")), "old");
    assert_eq!(names(&host_small), [""; 0]);
}

// Archives.

fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let mut names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned())
        .collect();
    names.sort();
    names
}

/// An archive of members that the `tar` crate wouldn't write.
fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_mtime(1234);
        let file = kind.is_file();
        if !file {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_size(if file { content.len() as u64 } else { 0 });
        header.set_cksum();
        builder.append(&header, if file { content.as_bytes() } else { &[] }).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;
const HARD_LINK: tar::EntryType = tar::EntryType::Link;

#[test]
fn a_tree_goes_through_an_archive_unchanged() {
    let scene = Scene::new();
    let tree = scene.root.join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    write(tree.join("sub/file"), "content");
    set_mode(tree.join("sub/file"), 0o4640);
    set_changed(tree.join("sub/file"), 1_000_000_000, 0);
    let target = format!("/{}//x/./{}", "y".repeat(120), "z".repeat(120));
    symlink(&target, tree.join("long-link")).unwrap();
    symlink("./a/../b//c", tree.join("link")).unwrap();
    set_mode(tree.join("sub"), 0o555);
    set_changed(tree.join("sub"), 99, 0);

    let (archive, done) = scene.pack("/tree");
    assert_eq!((done.files, done.directories), (3, 3));
    assert_eq!(
        members(&archive),
        ["tree/", "tree/link", "tree/long-link", "tree/sub/", "tree/sub/empty/", "tree/sub/file"]
    );
    let (contents, _) = scene.pack("/tree/.");
    assert_eq!(members(&contents), ["link", "long-link", "sub/", "sub/empty/", "sub/file"]);

    let done = scene.unpack("/dir", &archive).unwrap();
    assert_eq!((done.files, done.directories), (3, 3));
    let copy = scene.root.join("dir/tree");
    assert_eq!(read(copy.join("sub/file")), "content");
    assert_eq!(mode(copy.join("sub/file")), 0o640);
    assert_eq!(changed(copy.join("sub/file")), (1_000_000_000, 0));
    assert_eq!((mode(copy.join("sub")), changed(copy.join("sub"))), (0o555, (99, 0)));
    assert_eq!(fs::read_link(copy.join("long-link")).unwrap(), Path::new(&target));
    assert_eq!(fs::read_link(copy.join("link")).unwrap().as_os_str(), "./a/../b//c");
    assert_eq!(owner(copy.join("sub/file")), scene.owner);
    for path in [tree.join("sub"), copy.join("sub")] {
        set_mode(path, 0o755);
    }
}

#[test]
fn an_archive_writes_nothing_but_below_its_target() {
    let scene = Scene::new();
    write(scene.root.join("own"), "own");
    let outside = scene.root.parent().unwrap().to_owned();
    let out = outside.to_str().unwrap();
    let bad = [
        archive(&[("../evil", FILE, "x")]),
        archive(&[("a/../../evil", FILE, "x")]),
        archive(&[("..", DIRECTORY, "")]),
        archive(&[("link", LINK, out), ("link/evil", FILE, "x")]),
        archive(&[("link2", LINK, "../.."), ("link2/evil", DIRECTORY, "x")]),
        archive(&[("link3", LINK, ".."), ("link3/own", FILE, "x")]),
        archive(&[("hard", HARD_LINK, "../own")]),
        archive(&[("hard", HARD_LINK, "/own")]),
        archive(&[("link4", LINK, ".."), ("hard", HARD_LINK, "link4/own")]),
        archive(&[("", FILE, "x")]),
        archive(&[("./", FILE, "x"), ("/", FILE, "")]),
        archive(&[("file", FILE, "x"), ("file/sub", FILE, "x")]),
    ];
    for (number, bad) in bad.iter().enumerate() {
        let result = scene.unpack("/dir", bad);
        let fine = number == 10;
        assert!(
            fine || matches!(result, Err(TransferError::Member { .. })),
            "{number}: {result:?}"
        );
    }
    assert_eq!(names(&outside), ["host", "root", "secret"]);
    assert_eq!(names(&scene.root), ["dir", "own"]);
    assert_eq!(read(scene.root.join("own")), "own");
    assert!(!scene.root.join("dir/hard").exists());
}

#[test]
fn an_archive_is_unpacked_with_what_it_lacks() {
    let scene = Scene::new();
    let done = scene
        .unpack(
            "/dir",
            &archive(&[
                ("/absolute/./file", FILE, "content"),
                ("absolute/same", HARD_LINK, "absolute/file"),
                ("absolute/same", HARD_LINK, "absolute/file"),
                ("link", LINK, "/etc/passwd"),
                ("link", FILE, "a file now"),
                ("device", tar::EntryType::Char, ""),
                ("disk", tar::EntryType::Block, ""),
                ("fifo", tar::EntryType::Fifo, ""),
            ]),
        )
        .unwrap();
    let expected =
        [("device", Refusal::Device), ("disk", Refusal::Device), ("fifo", Refusal::Fifo)];
    assert_eq!(refused(&done), expected);
    let dir = scene.root.join("dir");
    assert_eq!(names(&dir), ["absolute", "link"]);
    assert_eq!(names(dir.join("absolute")), ["file", "same"]);
    assert_eq!((mode(dir.join("absolute")), mode(dir.join("absolute/file"))), (0o755, 0o755));
    assert_eq!(changed(dir.join("absolute/file")), (1234, 0));
    let inode = |name: &str| fs::metadata(dir.join(name)).unwrap().ino();
    assert_eq!(inode("absolute/file"), inode("absolute/same"));
    assert_eq!(read(dir.join("link")), "a file now");
    assert!(matches!(scene.unpack("/absent", &[]), Err(TransferError::Missing { .. })));
}

#[test]
fn a_broken_archive_leaves_no_part_of_a_file() {
    let scene = Scene::new();
    let whole = archive(&[("file", FILE, &"x".repeat(5000))]);
    let mut huge = whole.clone();
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&whole[..512]);
    header.set_size(1 << 60);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    // A name as long as a disk, of which nothing may be kept.
    let mut endless = tar::Header::new_gnu();
    endless.set_entry_type(tar::EntryType::GNULongName);
    endless.set_size(1 << 40);
    endless.set_cksum();
    for bad in [&whole[..3000], &whole[..700], &huge, &[7; 2000]] {
        assert!(matches!(scene.unpack("/dir", bad), Err(TransferError::Archive { .. })));
        assert_eq!(names(scene.root.join("dir")), [""; 0]);
    }
    let endless = std::io::Read::chain(endless.as_bytes().as_slice(), std::io::repeat(b'x'));
    let result = tar_in(&scene.inside(), "/dir".as_ref(), endless);
    assert!(matches!(result, Err(TransferError::Archive { .. })), "{result:?}");
    assert_eq!(scene.unpack("/dir", &[]).unwrap(), Transferred::default());
}

#[test]
fn an_archive_that_broke_off_does_not_look_whole() {
    struct Full(Vec<u8>);
    impl Write for &mut Full {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            if self.0.len() > 300_000 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scene = Scene::new();
    for number in 0..20 {
        write(scene.root.join(format!("dir/{number}")), &"x".repeat(50_000));
    }
    let mut full = Full(Vec::new());
    let result = tar_out(&scene.inside(), "/dir".as_ref(), AS_IT_IS, &mut full);
    assert!(matches!(result, Err(TransferError::Output { .. })));
    assert!(!full.0.ends_with(&[0; 1024]));
}
