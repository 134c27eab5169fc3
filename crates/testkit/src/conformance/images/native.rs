//! Images that no engine has: the host's own programs, and a directory that holds a root.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentkernel_core::Capability;

use crate::host::tree;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Scratch, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "host-image-root",
        "the root of the host image holds the expected entries and nothing else",
        &[Capability::ImageHost],
        host_image_root,
    ),
    Behaviour::new(
        "host-image-programs",
        "the host's programs run and can't be changed",
        &[Capability::ImageHost],
        host_image_programs,
    ),
    Behaviour::new(
        "host-image-etc",
        "/etc holds what programs need and none of the host's secrets",
        &[Capability::ImageHost],
        host_image_etc,
    ),
    Behaviour::new(
        "rootfs",
        "a directory as the image is the root, and nothing of the host is seen",
        &[Capability::ImageRootfs],
        rootfs,
    ),
    Behaviour::new(
        "rootfs-stays-as-it-is",
        "what is written to a rootfs is thrown away",
        &[Capability::ImageRootfs],
        rootfs_stays_as_it_is,
    ),
    Behaviour::new(
        "rootfs-users",
        "a user's name means what the image's own /etc/passwd says",
        &[Capability::ImageRootfs, Capability::User],
        rootfs_users,
    ),
    Behaviour::new(
        "rootfs-without-a-shell",
        "a rootfs with one program and no other file or folder runs it",
        &[Capability::ImageRootfs],
        rootfs_without_a_shell,
    ),
];

/// What the root of the host image may hold, in the order of `ls`; `*` marks what must be there.
const ROOT: [&str; 17] = [
    "bin*", "dev*", "etc*", "gnu", "home*", "lib*", "lib32", "lib64", "libx32", "nix", "proc*",
    "run*", "sbin*", "sys", "tmp*", "usr*", "var*",
];

fn host_image_root(subject: &Subject) -> Verdict {
    let got = subject.run(&NO_FLAGS, &["ls", "-A", "/"])?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    let found: BTreeSet<&str> = text.lines().collect();
    let allowed: BTreeSet<&str> = ROOT.iter().map(|entry| entry.trim_end_matches('*')).collect();
    let needed = ROOT.iter().filter_map(|entry| entry.strip_suffix('*')).collect();
    let (extra, missing): (Vec<_>, Vec<_>) =
        (found.difference(&allowed).collect(), BTreeSet::difference(&needed, &found).collect());
    ensure!(extra.is_empty() && missing.is_empty(), "extra {extra:?}, missing {missing:?}: {got}");
    let empty = "for i in boot home/* mnt opt root srv var/tmp; do ls -A /$i; done 2>/dev/null; \
                 ls /home";
    subject.shell(&NO_FLAGS, empty)?.exits(0)?.prints("agent\n")?;
    Ok(())
}

fn host_image_programs(subject: &Subject) -> Verdict {
    let got = subject.shell(&NO_FLAGS, "ls /usr/bin | wc -l; sha256sum /usr/bin/env")?;
    let mut outside = Command::new("sh");
    outside.args(["-c", "ls /usr/bin | wc -l; sha256sum /usr/bin/env"]).stdout(Stdio::piped());
    got.exits(0)?.prints(Captured::of(outside)?.stdout)?;
    for change in ["touch /usr/bin/env", ": > /usr/new", "rm /usr/bin/env", "chmod 777 /usr"] {
        let user: &[&str] = if subject.has(Capability::User) { &["-u", "0"] } else { &[] };
        let got = subject.shell(user, change)?;
        ensure!(!got.status.success(), "the host's programs were changed: {got}");
    }
    Ok(())
}

fn host_image_etc(subject: &Subject) -> Verdict {
    let script = "grep ^agent:x:1000: /etc/passwd | wc -l; grep ^agent: /etc/group | wc -l; \
                  grep -c localhost /etc/hosts; for i in shadow gshadow sudoers ssh machine-id; do \
                  test -e /etc/$i && echo $i; done; ls -A /etc/ssl/private 2>/dev/null; true";
    let got = subject.shell(&NO_FLAGS, script)?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    let rest = text.strip_prefix("1\n1\n").unwrap_or_default();
    let rest = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    ensure!(rest == "\n", "what /etc needs or must not have: {got}");
    Ok(())
}

/// Makes a root file system of the named host programs and the libraries they load, at the same
/// paths as on the host, all owned by the caller.
fn build_rootfs(scratch: &Scratch, programs: &[&str]) -> Result<PathBuf, NotPassed> {
    let root = scratch.folder("rootfs")?;
    for program in programs {
        let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program));
        let Some(program) = found.iter().find(|path| path.exists()) else {
            return Err(NotPassed::Skipped(format!("the host has no {program}")));
        };
        put_into(&root, &Path::new("/bin").join(program.file_name().unwrap_or_default()), program)?;
        let mut ldd = Command::new("ldd");
        ldd.arg(program).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A static program has no libraries, and ldd says so by its status.
        for word in Captured::of(ldd)?.text().split_whitespace() {
            if word.starts_with('/') {
                put_into(&root, Path::new(word), Path::new(word))?;
            }
        }
    }
    for path in tree(&root).keys() {
        scratch.give(path)?;
    }
    Ok(root)
}

/// Copies a file with the folders above it, readable by all.
fn put_into(root: &Path, target: &Path, source: &Path) -> Verdict {
    let target = root.join(target.strip_prefix("/").unwrap_or(target));
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(source, target)?;
    Ok(())
}

/// Runs `argv` in the rootfs.
fn run_in(
    subject: &Subject,
    scratch: &Scratch,
    root: &Path,
    flags: &[&str],
    argv: &[&str],
) -> Result<Captured, NotPassed> {
    let mut image = OsString::from("rootfs:");
    image.push(root);
    let mut all: Vec<OsString> = vec!["--image".into(), image];
    all.extend(flags.iter().map(Into::into));
    Captured::of(subject.run_command(scratch, &all, argv))
}

fn rootfs(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let root = build_rootfs(&scratch, &["sh", "cat", "ls", "id"])?;
    scratch.file("rootfs/mark", "of the image\n")?;
    let script = "cat /mark; id -u; echo $HOME; ls /usr/bin /root /boot 2>/dev/null; \
                  ls /etc; cat /etc/hostname /etc/debian_version /etc/os-release 2>/dev/null; true";
    let got = run_in(subject, &scratch, &root, &[], &["sh", "-c", script])?;
    got.exits(0)?;
    let text = got.text();
    let rest = text.strip_prefix("of the image\n1000\n");
    ensure!(rest.is_some(), "expected the image's file and user 1000: {got}");
    for of_the_host in ["env\n", "os-release", "debian", "fedora", "shadow"] {
        ensure!(!text.contains(of_the_host), "{of_the_host:?} is seen: {got}");
    }
    let proc = run_in(subject, &scratch, &root, &[], &["cat", "/proc/self/comm"])?;
    proc.exits(0)?.prints("cat\n")?.complains("")?;
    let tmp = ["sh", "-c", "echo new > /tmp/file; cat /tmp/file /dev/null"];
    run_in(subject, &scratch, &root, &[], &tmp)?.exits(0)?.prints("new\n")?.complains("")?;
    run_in(subject, &scratch, &root, &[], &["no-such-program"])?.exits(127)?;
    Ok(())
}

fn rootfs_stays_as_it_is(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let root = build_rootfs(&scratch, &["sh", "cat", "rm"])?;
    scratch.file("rootfs/mark", "of the image\n")?;
    let before = tree(&root);
    let user: &[&str] = if subject.has(Capability::User) { &["-u", "0"] } else { &[] };
    let script = "cat /mark; echo changed > /mark; echo new > /new; rm /bin/rm; cat /mark /new";
    for _ in 0..2 {
        let got = run_in(subject, &scratch, &root, user, &["sh", "-c", script])?;
        got.exits(0)?.prints("of the image\nchanged\nnew\n")?.complains("")?;
    }
    ensure!(before == tree(&root), "the image on the host was changed");
    let flags = [user, &["--profile", "restrictive"]].concat();
    let got = run_in(subject, &scratch, &root, &flags, &["sh", "-c", "echo changed > /mark"])?;
    ensure!(!got.status.success(), "a read-only image was changed: {got}");
    Ok(())
}

fn rootfs_users(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let root = build_rootfs(&scratch, &["sh", "id"])?;
    scratch.folder("rootfs/etc")?;
    scratch.file("rootfs/etc/passwd", "worker:x:555:666::/srv:/bin/sh\n")?;
    let show = ["sh", "-c", "echo $(id -u) $(id -g)"];
    let got = run_in(subject, &scratch, &root, &["-u", "worker"], &show)?;
    got.exits(0)?.prints("555 666\n")?.complains("")?;
    let got = run_in(subject, &scratch, &root, &["-u", "agent"], &show)?;
    got.exits(125)?.prints("")?.mentions("agent")?;
    Ok(())
}

fn rootfs_without_a_shell(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let root = build_rootfs(&scratch, &["cat"])?;
    scratch.file("rootfs/mark", "of the image\n")?;
    let before = tree(&root);
    let got = run_in(subject, &scratch, &root, &[], &["/bin/cat", "/mark"])?;
    got.exits(0)?.prints("of the image\n")?.complains("")?;
    run_in(subject, &scratch, &root, &[], &["sh", "-c", "exit 0"])?.exits(127)?;
    ensure!(before == tree(&root), "the image on the host was changed");
    Ok(())
}
