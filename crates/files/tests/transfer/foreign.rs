//! A sandbox whose file systems have no number for root.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::scene::{AS_IT_IS, FILE, HARD_LINK, Scene, archive, owner_of};
use crate::common::{directory, is_root, names, read, set_mode, skip, write};
use agentkernel_files::{Inside, copy_in, copy_out, tar_in, tar_out};

/// A sandbox of its own user namespace with an overlay, whose users have the host's numbers from `FIRST` on.
struct Foreign {
    process: std::process::Child,
    root: OwnedFd,
}

impl Foreign {
    const FIRST: u32 = 0x6ac0_0000;

    fn start(folder: &Path) -> Option<Self> {
        use std::io::{BufRead, BufReader};
        use std::os::unix::fs::chown;
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(folder.join(name)).unwrap();
            chown(folder.join(name), Some(Self::FIRST), Some(Self::FIRST)).unwrap();
        }
        let mount = "mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work overlay merged";
        let inside = format!("{mount} && echo mounted && read end");
        let script = format!(
            "echo ready; read go; exec setpriv --reuid 0 --regid 0 --clear-groups sh -c '{inside}'"
        );
        let mut process = std::process::Command::new("unshare")
            .args(["--user", "--mount", "--keep-caps", "sh", "-c", &script])
            .current_dir(folder)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        said.next()?.ok()?;
        let files = Path::new("/proc").join(process.id().to_string());
        for map in ["uid_map", "gid_map"] {
            fs::write(files.join(map), format!("0 {} 65536", Self::FIRST)).unwrap();
        }
        process.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let mounted = said.next().is_some();
        let merged = folder.strip_prefix("/").unwrap().join("merged");
        let this = Self { process, root: directory(files.join("root").join(merged)) };
        mounted.then_some(this)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

#[test]
fn a_sandbox_takes_files_though_it_has_no_number_for_root() {
    if !is_root() {
        return skip("others have no number that a sandbox hasn't");
    }
    let scene = Scene::new();
    set_mode(scene.host.parent().unwrap(), 0o755);
    let Some(foreign) = Foreign::start(&scene.host) else {
        return skip("no overlay in a user namespace here");
    };
    let owner = (Foreign::FIRST + 1000, Foreign::FIRST + 1001);
    let inside = Inside::Near { root: foreign.root.as_fd(), owner };
    let tree = scene.root.join("dir");
    fs::create_dir(tree.join("sub")).unwrap();
    write(tree.join("sub/file"), "content");
    symlink("file", tree.join("sub/link")).unwrap();

    for _ in 0..2 {
        let done = copy_in(&tree, &inside, "/".as_ref(), AS_IT_IS).unwrap();
        assert_eq!(done.files, 2);
    }
    let mut packed = Vec::new();
    let _ = tar_out(&inside, "/dir".as_ref(), AS_IT_IS, &mut packed).unwrap();
    let _ = tar_in(&inside, "/dir".as_ref(), &packed[..]).unwrap();
    let archive_of_links = archive(&[("hard/one", FILE, "x"), ("hard/two", HARD_LINK, "hard/one")]);
    let _ = tar_in(&inside, "/dir".as_ref(), &archive_of_links[..]).unwrap();
    let _ = copy_out(&inside, "/dir".as_ref(), &scene.host.join("out"), AS_IT_IS).unwrap();

    assert_eq!(read(scene.host.join("out/dir/sub/file")), "content");
    let upper = scene.host.join("upper/dir");
    assert_eq!(names(upper.join("sub")), ["file", "link"]);
    for path in ["", "sub", "sub/file", "sub/link", "dir/sub/file", "hard/one", "hard/two"] {
        assert_eq!(owner_of(upper.join(path)), owner, "{path}");
    }
}
