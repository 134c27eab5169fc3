//! The rules for what is there.

use std::fs;

use super::scene::{AS_IT_IS, Scene};
use crate::common::{mode, names, read, set_mode, write};
use agentkernel_files::{TransferError, copy_out};

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
