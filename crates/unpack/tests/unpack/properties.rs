//! Modes, owners, times and attributes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use agentkernel_unpack::{Bytes, Kind};
use tar::EntryType;

use crate::common::{Archive, attribute, everyone, is_root, refused, unpack};

#[test]
fn modes_are_exact_and_closed_directories_are_filled() {
    everyone("properties::modes_are_exact_and_closed_directories_are_filled", || {
        let file = |mode| Archive::header(EntryType::Regular, mode);
        let archive = Archive::new()
            .directory("./", 0o751)
            .directory("shut", 0)
            .directory("shut/inner", 0o555)
            .member(file(0o4755), "shut/inner/suid", b"x")
            .member(file(0o2711), "sgid", b"x")
            .member(file(0), "none", b"x")
            .directory("sticky", 0o1777)
            .member(Archive::header(EntryType::Fifo, 0o622), "fifo", b"");
        let layers = unpack([archive]);
        let mode = |path: &str| layers.at(path).symlink_metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode(""), 0o751);
        assert_eq!((mode("sgid"), mode("none"), mode("sticky")), (0o2711, 0, 0o1777));
        assert_eq!((mode("fifo"), mode("shut")), (0o622, 0));
        assert_eq!(layers.entry("shut/inner/suid").mode, 0o4755);
        if is_root() {
            assert_eq!((mode("shut/inner"), mode("shut/inner/suid")), (0o555, 0o4755));
        }
    });
}

#[test]
fn owners_are_kept_where_they_can_be_and_always_listed() {
    everyone("properties::owners_are_kept_where_they_can_be_and_always_listed", || {
        let owned = |kind, uid, gid| {
            let mut header = Archive::header(kind, 0o644);
            header.set_uid(uid);
            header.set_gid(gid);
            header
        };
        let archive = Archive::new()
            .member(owned(EntryType::Regular, 1000, 42), "a", b"a")
            .pax(&[("uid", b"4294967294"), ("gid", b"70000")])
            .member(owned(EntryType::Directory, 0, 0), "far", b"")
            .member(owned(EntryType::Fifo, 7, 8), "fifo", b"");
        let layers = unpack([archive]);
        for (path, uid, gid) in [("a", 1000, 42), ("far", 4_294_967_294, 70_000), ("fifo", 7, 8)] {
            let entry = layers.entry(path);
            assert_eq!((entry.uid, entry.gid), (uid, gid), "{path}");
            let found = layers.at(path).symlink_metadata().unwrap();
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let expected = if is_root() { (uid, gid) } else { own };
            assert_eq!((found.uid(), found.gid()), expected, "{path}");
        }
    });
}

#[test]
fn owners_that_are_no_numbers_of_users_are_refused() {
    for id in ["4294967295", "4294967296", "18446744073709551616", "-1", "x"] {
        let why = refused(Archive::new().pax(&[("uid", id.as_bytes())]).file("a", ""));
        assert!(why.contains("belongs to a number"), "{id}: {why}");
    }
    let mut header = Archive::header(EntryType::Regular, 0o644);
    header.set_gid(1 << 40);
    assert!(refused(Archive::new().member(header, "a", b"")).contains("belongs to a number"));
}

#[test]
fn root_of_a_user_namespace_is_told_that_it_has_no_such_user() {
    const INSIDE: &str = "UNPACK_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let mut header = Archive::header(EntryType::Regular, 0o644);
        header.set_uid(1000);
        let why = refused(Archive::new().member(header, "a", b""));
        assert!(why.contains("a can't be unpacked: its owner has no number"), "{why}");
        return;
    }
    let name = "properties::root_of_a_user_namespace_is_told_that_it_has_no_such_user";
    let mut unshare = Command::new("unshare");
    unshare.arg("--map-root-user").arg(std::env::current_exe().unwrap());
    let output = unshare.args(["--exact", name]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if said.is_empty() {
        eprintln!("skipped: no user namespace: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    everyone("properties::times_are_kept_to_the_nanosecond", || {
        let at = |text: &'static str| [("mtime", text.as_bytes())];
        let archive = Archive::new()
            .pax(&at("1234.000000567"))
            .directory("d", 0o755)
            .pax(&at("1700000000.123456789"))
            .file("d/a", "a")
            .pax(&at("-1.25"))
            .symlink("d/l", "a")
            .file("d/plain", "");
        let layers = unpack([archive]);
        let time = |path: &str| {
            let found = layers.at(path).symlink_metadata().unwrap();
            (found.mtime(), found.mtime_nsec())
        };
        assert_eq!(time("d"), (1234, 567));
        assert_eq!(time("d/a"), (1_700_000_000, 123_456_789));
        assert_eq!(time("d/l"), (-2, 750_000_000));
        assert_eq!(time("d/plain"), (1000, 0));
        assert_eq!(time(""), (0, 0));
        assert_eq!(layers.entry("d/l").mtime, (-2, 750_000_000));
    });
}

/// `cap_net_raw=ep`, in the form without a user namespace's root.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn attributes_of_users_are_set_and_never_those_that_overlayfs_obeys() {
    everyone(
        "properties::attributes_of_users_are_set_and_never_those_that_overlayfs_obeys",
        || {
            let records: &[(&str, &[u8])] = &[
                ("SCHILY.xattr.user.any", b"with\na line break, = and \xff"),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.security.selinux", b"label"),
                ("SCHILY.xattr.security.capability", &CAPABILITY),
            ];
            let archive = Archive::new()
                .pax(records)
                .directory("d", 0o555)
                .pax(records)
                .member(Archive::header(EntryType::Regular, 0o444), "f", b"")
                .pax(records)
                .symlink("l", "f");
            let layers = unpack([archive]);
            for path in ["d", "f", "l"] {
                let value = |name: &str| attribute(&layers.at(path), name);
                let set = (path != "l").then(|| b"with\na line break, = and \xff".to_vec());
                assert_eq!(value("user.any"), set, "{path}");
                for never in
                    ["user.overlay.opaque", "user.overlay.redirect", "trusted.overlay.opaque"]
                {
                    assert_eq!(value(never), None, "{path}: {never}");
                }
                assert_ne!(value("security.selinux").as_deref(), Some(&b"label"[..]));
                let listed = layers.entry(path).attributes;
                assert_eq!(listed.len(), records.len(), "{path}: {listed:?}");
                let capability =
                    (Bytes(b"security.capability".to_vec()), Bytes(CAPABILITY.to_vec()));
                assert!(listed.contains(&capability));
            }
            let set = attribute(&layers.at("f"), "security.capability");
            assert_eq!(set, is_root().then(|| CAPABILITY.to_vec()));
        },
    );
}

#[test]
fn names_that_are_long_or_no_text_are_kept() {
    everyone("properties::names_that_are_long_or_no_text_are_kept", || {
        let long = format!("{}/{}", "d".repeat(255), "f".repeat(255));
        let odd: &[u8] = b"caf\xe9 %41\n\"";
        let archive = Archive::new()
            .pax(&[("path", long.as_bytes()), ("comment", b"a\nb")])
            .file("short", "long")
            .pax(&[("path", odd)])
            .file("short", "odd")
            .file("A", "upper")
            .file("a", "lower");
        let layers = unpack([archive]);
        assert_eq!(layers.text(&long), "long");
        let found = layers.entries().into_iter().find(|entry| entry.path.0 == odd);
        assert_eq!(found.unwrap().kind, Kind::File);
        assert_eq!((layers.text("A"), layers.text("a")), ("upper".into(), "lower".into()));
        let list = fs::read_to_string(layers.roots[0].with_file_name("entries")).unwrap();
        assert!(list.contains(r#"{"path":"caf%e9 %2541%0a\"","kind":"file""#), "{list}");
    });
}
