use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::Command;

use agentkernel_files::{FileKind, Ids, LeftOut, Owners, export};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar::{Archive, EntryType};

use crate::scratch::{Scratch, has, mark, set_mode, whiteout, write};

fn owners() -> Owners {
    let all = Ids { outside: 0, inside: 0, count: u32::MAX };
    Owners { users: all, groups: all }
}

fn exported(scratch: &Scratch, owners: Owners) -> (Vec<u8>, Vec<LeftOut>) {
    let mut out = Vec::new();
    let left_out = export(std::slice::from_ref(&scratch.layer), owners, &mut out).unwrap();
    (out, left_out)
}

#[test]
fn an_image_layer_holds_what_was_done_in_a_real_overlay() {
    let mut scratch = Scratch::new();
    for name in ["changed", "gone", "d/a", "d/b"] {
        write(scratch.lower(name), name);
    }
    scratch.begin();
    let script = "echo > changed; rm gone; rm -r d; mkdir d; echo > d/a; ln changed hard
        ln -s d link; mkfifo fifo; chmod 4711 d/a";
    if !scratch.run(script) {
        return;
    }
    let (out, left_out) = exported(&scratch, owners());
    assert_eq!(left_out, []);
    let mut archive = Archive::new(&out[..]);
    let entries: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let kind = entry.header().entry_type();
            (entry.path().unwrap().display().to_string(), kind, entry.header().mode().unwrap())
        })
        .collect();
    let expected = [
        ("work/changed", EntryType::Regular, 0o644),
        ("work/d/", EntryType::Directory, 0o755),
        ("work/d/.wh..wh..opq", EntryType::Regular, 0o600),
        ("work/d/a", EntryType::Regular, 0o4711),
        ("work/fifo", EntryType::Fifo, 0o644),
        ("work/.wh.gone", EntryType::Regular, 0o600),
        ("work/hard", EntryType::Link, 0o644),
        ("work/link", EntryType::Symlink, 0o777),
    ];
    assert_eq!(entries, expected.map(|(path, kind, mode)| (path.to_owned(), kind, mode)));
}

#[test]
fn tar_unpacks_what_was_packed() {
    if !has("tar") {
        return;
    }
    let scratch = Scratch::new();
    let long = format!("{0}/{0}/{0}", "long".repeat(40));
    let odd = OsStr::from_bytes(b"odd\n\xff");
    for name in [OsStr::new(&long), odd, OsStr::new("time")] {
        write(scratch.upper(name), "text");
    }
    symlink(&long, scratch.upper("link")).unwrap();
    let sparse = File::create(scratch.upper("sparse")).unwrap();
    sparse.write_all_at(b"middle", 1 << 20).unwrap();
    sparse.set_len(100 << 20).unwrap();
    File::create(scratch.upper("hole")).unwrap().set_len(1 << 40).unwrap();
    let before = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    File::options().write(true).open(scratch.upper("time")).unwrap().set_modified(before).unwrap();
    let (out, left_out) = exported(&scratch, owners());
    assert_eq!(left_out, []);
    assert!(out.len() < 1 << 20, "{}", out.len());
    fs::write(scratch.outside("tar"), &out).unwrap();
    let status =
        Command::new("tar").arg("-xf").args(["tar"]).current_dir(scratch.outside("")).status();
    assert!(status.unwrap().success());
    let unpacked = |name: &OsStr| scratch.outside("work").join(name);
    assert_eq!(fs::read(unpacked(OsStr::new(&long))).unwrap(), b"text");
    assert_eq!(fs::read(unpacked(odd)).unwrap(), b"text");
    assert_eq!(fs::read_link(unpacked(OsStr::new("link"))).unwrap().to_str(), Some(&*long));
    assert_eq!(
        fs::read(unpacked(OsStr::new("sparse"))).unwrap(),
        fs::read(scratch.upper("sparse")).unwrap()
    );
    assert_eq!(fs::metadata(unpacked(OsStr::new("hole"))).unwrap().len(), 1 << 40);
    let time = fs::metadata(unpacked(OsStr::new("time"))).unwrap();
    assert_eq!((time.mtime(), time.mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn attributes_are_kept_but_the_overlays_own() {
    let scratch = Scratch::new();
    write(scratch.upper("file"), "");
    for (name, value) in [("user.overlay.origin", b"x"), ("user.mine", b"y")] {
        if !mark(scratch.upper("file"), name, value) {
            return;
        }
    }
    let (out, _) = exported(&scratch, owners());
    let mut archive = Archive::new(&out[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records: Vec<_> = entry
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| record.unwrap().key().unwrap().to_owned())
        .filter(|key| key != "mtime")
        .collect();
    assert_eq!(records, ["SCHILY.xattr.user.mine"]);
}

#[test]
fn owners_are_called_as_in_the_sandbox() {
    let scratch = Scratch::new();
    write(scratch.upper("file"), "");
    let facts = fs::metadata(scratch.upper("file")).unwrap();
    let users = Ids { outside: facts.uid(), inside: 1000, count: 1 };
    let groups = Ids { outside: facts.gid() + 1, inside: 0, count: 1 };
    let (out, _) = exported(&scratch, Owners { users, groups });
    let mut archive = Archive::new(&out[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().uid().unwrap(), 1000);
    assert_eq!(entry.header().gid().unwrap(), 65534);
}

#[test]
fn what_a_layer_cannot_hold_is_left_out_and_told() {
    let scratch = Scratch::new();
    drop(std::os::unix::net::UnixListener::bind(scratch.upper("socket")).unwrap());
    // It would delete somebody else's file where it is unpacked.
    write(scratch.upper(".wh.passwd"), "");
    write(scratch.upper(".wh.d/inner"), "");
    mknodat(CWD, scratch.upper("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    set_mode(scratch.upper("fifo"), 0o600);
    let (out, left_out) = exported(&scratch, owners());
    let left: Vec<_> =
        left_out.iter().map(|left| (left.path.to_str().unwrap(), left.what)).collect();
    assert_eq!(
        left,
        [
            ("/work/.wh.d", FileKind::Directory),
            ("/work/.wh.passwd", FileKind::File),
            ("/work/socket", FileKind::Socket)
        ]
    );
    assert_eq!(Archive::new(&out[..]).entries().unwrap().count(), 1);
}

#[test]
fn a_whiteout_is_in_it_whatever_it_is_over() {
    let scratch = Scratch::new();
    if whiteout(scratch.upper("gone")) {
        let (out, _) = exported(&scratch, owners());
        let mut archive = Archive::new(&out[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("work/.wh.gone"));
    }
}
