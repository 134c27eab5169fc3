//! Links, and the ways out that they may be.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::scene::{AS_IT_IS, FOLLOW, Scene};
use crate::common::{changed, names, read, set_changed, write};
use agentkernel_files::TransferError;
use rustix::fs::CWD;

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
        for round in 0..100 {
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
