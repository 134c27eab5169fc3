//! What can't be copied.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use super::scene::{AS_IT_IS, Scene, caller, members, refused};
use crate::common::{
    Scratch, SmallDisk, as_ordinary_user, directory, fifo, is_root, names, read, set_mode, skip,
    write,
};
use agentkernel_files::{Inside, Refusal, TransferError, Transferred, copy_in, copy_out, tar_out};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

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
    let Some(folder) = as_ordinary_user("refused::what_may_not_be_read_is_refused", &scratch)
    else {
        return;
    };
    let root = folder.join("root");
    fs::create_dir_all(root.join("dir/shut")).unwrap();
    write(root.join("dir/file"), "x");
    write(root.join("dir/open"), "content");
    set_mode(root.join("dir/file"), 0o000);
    set_mode(root.join("dir/shut"), 0o000);
    let descriptor = directory(&root);
    let inside = Inside::Near { root: descriptor.as_fd(), owner: caller() };
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
