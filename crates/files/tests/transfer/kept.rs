//! What is kept of a file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::scene::{AS_IT_IS, Scene, caller, owner_of};
use crate::common::{
    changed, check_deep, check_sparse, deep, mode, names, read, set_changed, set_mode, sparse,
    write,
};
use agentkernel_files::{copy_in, copy_out};

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
        assert_eq!(owner_of(path), scene.owner);
    }
    assert_eq!(
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        caller()
    );

    set_mode(inner.join("program"), 0o4711);
    let _ = scene.get("/dir/tree", "out").unwrap();
    assert_eq!(mode(scene.host.join("out/program")), 0o711);
    assert_eq!(changed(scene.host.join("out")), (7, 8));
    assert_eq!(owner_of(scene.host.join("out/program")), caller());
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
    deep(&scene.host, 500);
    let _ = scene.put(".", "/third").unwrap();
    let (archive, _) = scene.pack("/third/.");
    let _ = scene.unpack("/dir", &archive).unwrap();
    check_deep(&scene.root.join("dir"), 500);
}
