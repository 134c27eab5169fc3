//! Root file systems: the host's own programs, and a directory that holds one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentkernel_core::Capability;

use crate::host::{tree, unique_sleep};
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Route, Scratch, Subject, Verdict, ensure};

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
        "private-directories",
        "/tmp, /run, /dev/shm and the home are empty, writable and thrown away",
        &[],
        private_directories,
    ),
    Behaviour::new("devices", "the usual devices work and no others are there", &[], devices),
    Behaviour::new(
        "moderate-root-is-thrown-away",
        "in the moderate profile the root can be written, and the next run does not see it",
        &[],
        moderate_root_is_thrown_away,
    ),
    Behaviour::new(
        "restrictive-root-is-read-only",
        "in the restrictive profile only the private directories can be written",
        &[Capability::RootReadOnly],
        restrictive_root_is_read_only,
    ),
    Behaviour::new(
        "permissive-user-is-the-caller",
        "in the permissive profile a command runs with the caller's own number",
        &[],
        permissive_user_is_the_caller,
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
    Behaviour::new(
        "image-by-tag",
        "an image of a registry is pulled by its tag, and standard error alone tells so",
        &[Capability::ImageReference],
        image_by_tag,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-by-digest",
        "an image of a registry is pulled by its digest, and by no other",
        &[Capability::ImageReference],
        image_by_digest,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-when-to-pull",
        "an image is pulled always, never or if it is missing, as asked",
        &[Capability::ImageReference],
        image_when_to_pull,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-pulled-for-a-life",
        "create and pool set make sure of the image as asked, before they make anything",
        &[Capability::ImageReference, Capability::Live],
        image_pulled_for_a_life,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-absent",
        "an image that no registry has is an error that names it, and nothing runs",
        &[Capability::ImageReference],
        image_absent,
    ),
    Behaviour::new(
        "image-of-nonsense",
        "what is no image's name is refused before an engine is asked",
        &[Capability::ImageReference],
        image_of_nonsense,
    ),
    Behaviour::new(
        "image-without-a-shell",
        "in an image with nothing in it a command is not found, and leaves no sandbox",
        &[Capability::ImageReference],
        image_without_a_shell,
    ),
    Behaviour::new(
        "image-built",
        "an image is built from a folder with what .dockerignore leaves in, and run",
        &[Capability::ImageReference],
        image_built,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-built-anew",
        "a folder that has changed is built again, and the next run has the change",
        &[Capability::ImageReference],
        image_built_anew,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-build-fails",
        "a build that fails names the step and shows its last lines, and nothing runs",
        &[Capability::ImageReference],
        image_build_fails,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-build-trusted",
        "a project's file builds nothing unless it is trusted",
        &[Capability::ImageReference],
        image_build_trusted,
    )
    .only(Route::Cold, OF_ITS_OWN),
];

/// Why what is before a sandbox is tried once.
const OF_ITS_OWN: &str = "how an image is had does not depend on who starts it";

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

/// By their names inside: the home is the user's.
const PRIVATE: [&str; 4] = ["/tmp", "/run", "/dev/shm", "$HOME"];

fn private_directories(subject: &Subject) -> Verdict {
    for profile in ["restrictive", "moderate", "permissive"] {
        for place in PRIVATE {
            let script = format!(
                "echo {place}; ls -A {place}; echo new > {place}/mark-of-a-test && \
                 cat {place}/mark-of-a-test"
            );
            let flags = ["--profile", profile];
            for _ in 0..2 {
                let got = subject.shell(&flags, &script)?;
                let text = got.exits(0)?.complains("")?.text();
                let (place, rest) = text.split_once('\n').unwrap_or_default();
                ensure!(rest == "new\n", "{place} is not empty at first, or not writable: {got}");
                let mark = Path::new(place).join("mark-of-a-test");
                ensure!(!mark.exists(), "{} is there on the host", mark.display());
            }
        }
    }
    Ok(())
}

fn devices(subject: &Subject) -> Verdict {
    let script = "set -e; echo gone > /dev/null; head -c 3 /dev/zero | od -An -tx1; \
                  head -c 9 /dev/urandom | wc -c; head -c 9 /dev/random | wc -c; \
                  (echo full > /dev/full) 2>/dev/null || echo no space; \
                  echo piped | cat /dev/stdin; echo out > /dev/fd/1 | cat";
    let got = subject.shell(&NO_FLAGS, script)?;
    got.exits(0)?.prints(" 00 00 00\n9\n9\nno space\npiped\nout\n")?;
    let list = subject.shell(&NO_FLAGS, "find /dev -type b; find /dev -type c | sort")?;
    list.exits(0)?;
    let text = list.text();
    let usual = ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"];
    let other = text.lines().find(|device| {
        let name = device.trim_start_matches("/dev/").trim_start_matches("pts/");
        !usual.contains(&name)
    });
    ensure!(other.is_none(), "an unusual device is there: {other:?}");
    Ok(())
}

fn moderate_root_is_thrown_away(subject: &Subject) -> Verdict {
    let flags: &[&str] = if subject.has(Capability::User) { &["-u", "0"] } else { &[] };
    let script = "ls -d /mark /etc/mark /var/mark 2>/dev/null; \
                  touch /mark /etc/mark /var/mark && mkdir -p /srv/mark && echo written";
    for _ in 0..2 {
        subject.shell(flags, script)?.exits(0)?.prints("written\n")?.complains("")?;
    }
    for mark in ["/mark", "/etc/mark", "/var/mark", "/srv/mark"] {
        ensure!(!Path::new(mark).exists(), "{mark} is there on the host");
    }
    Ok(())
}

fn restrictive_root_is_read_only(subject: &Subject) -> Verdict {
    let mut flags = vec!["--profile", "restrictive"];
    if subject.has(Capability::User) {
        flags.extend(["-u", "0"]);
    }
    for place in ["", "/etc", "/var", "/home", "/usr", "/proc", "/dev"] {
        let got = subject.shell(&flags, &format!(": > {place}/mark-of-a-test"))?;
        ensure!(!got.status.success(), "the read-only root was written: {got}");
    }
    for place in PRIVATE {
        subject.shell(&flags, &format!(": > {place}/mark"))?.exits(0)?.complains("")?;
    }
    Ok(())
}

fn permissive_user_is_the_caller(subject: &Subject) -> Verdict {
    let got = subject.run(&["--profile", "permissive"], &["id", "-u"])?;
    got.exits(0)?.prints(format!("{}\n", subject.caller.uid()))?;
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

/// The image `agentkernel-test` of the registry that `scripts/lanes/containers.sh` brings up.
fn of_the_registry() -> Result<String, NotPassed> {
    match std::env::var("TESTKIT_REGISTRY") {
        Ok(registry) => Ok(format!("{registry}/agentkernel-test")),
        Err(_) => Err(NotPassed::Skipped(
            "no registry is named by TESTKIT_REGISTRY, see scripts/lanes/containers.sh".into(),
        )),
    }
}

/// The image that builds begin with.
fn base() -> Result<String, NotPassed> {
    std::env::var("TESTKIT_IMAGE")
        .map_err(|_| NotPassed::Skipped("no image is named by TESTKIT_IMAGE".into()))
}

/// `agentkernel run` with these flags, and without what other tests have in the folder.
fn run_image(subject: &Subject, flags: &[&str], argv: &[&str]) -> Result<Captured, NotPassed> {
    let scratch = subject.scratch()?;
    Captured::of(subject.run_command(&scratch, flags, argv))
}

fn image_by_tag(subject: &Subject) -> Verdict {
    let image = format!("{}:1", of_the_registry()?);
    let got = run_image(subject, &["--pull", "always", "--image", &image], &["echo", "here"])?;
    got.exits(0)?.prints("here\n")?.mentions(&format!("agentkernel: pulling {image}\n"))?;
    let told = got.errors();
    let last = told.lines().last().unwrap_or_default();
    let ended = last.ends_with(" is up to date") || last.ends_with(" s");
    ensure!(ended && last.contains(&image), "no end of the pull is told: {got}");
    ensure!(!told.contains('\r') && !told.contains('\x1b'), "a file is drawn in: {got}");
    let flags = ["--pull", "always", "--json", "--image", &image];
    let got = run_image(subject, &flags, &["echo", "here"])?;
    let lines = got.exits(0)?.prints("here\n")?.errors();
    ensure!(lines.lines().count() == 1 && lines.starts_with('{'), "more than JSON is told: {got}");
    Ok(())
}

/// The digest of a tag, as the registry tells without TLS.
fn digest_of(image: &str) -> Result<String, NotPassed> {
    let (registry, name) = image.split_once('/').unwrap_or_default();
    let mut curl = Command::new("curl");
    curl.args(["-sfI", "-H", "Accept: application/vnd.docker.distribution.manifest.v2+json"]);
    curl.args(["-H", "Accept: application/vnd.oci.image.manifest.v1+json"]);
    curl.arg(format!("http://{registry}/v2/{name}/manifests/1")).stdout(Stdio::piped());
    let got = Captured::of(curl).map_err(|_| NotPassed::Skipped("there is no curl".into()))?;
    let text = got.exits(0)?.text().to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix("docker-content-digest:"));
    match line {
        Some(digest) => Ok(digest.trim().into()),
        None => Err(NotPassed::Failed(format!("the registry names no digest: {got}"))),
    }
}

fn image_by_digest(subject: &Subject) -> Verdict {
    let image = of_the_registry()?;
    let pinned = format!("{image}@{}", digest_of(&image)?);
    let flags = ["--pull", "always", "--image", &pinned];
    run_image(subject, &flags, &["echo", "here"])?.exits(0)?.prints("here\n")?;
    let other = format!("{image}@sha256:{}", "0".repeat(64));
    let got = run_image(subject, &["--image", &other], &["echo", "here"])?;
    got.exits(125)?.prints("")?.mentions(&other)?;
    Ok(())
}

fn image_when_to_pull(subject: &Subject) -> Verdict {
    let image = format!("{}:1", of_the_registry()?);
    let run = |pull: &str, image: &str| {
        run_image(subject, &["--pull", pull, "--image", image], &["echo", "here"])
    };
    run("always", &image)?.exits(0)?;
    for pull in ["missing", "never"] {
        run(pull, &image)?.exits(0)?.prints("here\n")?.complains("")?;
    }
    let absent = format!("{}:absent", of_the_registry()?);
    let got = run("never", &absent)?;
    got.exits(125)?
        .prints("")?
        .mentions("is not here")?
        .mentions(&absent)?
        .mentions("hint: pull")?;
    ensure!(!got.errors().contains("pulling"), "it was pulled all the same: {got}");
    run("always", &absent)?.exits(125)?.prints("")?.mentions(&absent)?;
    run("sometimes", &image)?.exits(125)?.prints("")?.mentions("always")?;
    Ok(())
}

fn image_pulled_for_a_life(subject: &Subject) -> Verdict {
    let image = of_the_registry()?;
    let scratch = subject.scratch()?;
    let agentkernel = |words: &[&str]| {
        let mut command = subject.agentkernel(&scratch);
        command.args(words);
        Captured::of(command)
    };
    let backend = subject.backend.as_str();
    let (there, absent) = (format!("{image}:1"), format!("{image}:absent"));
    for verb in [&["create", "NAME"][..], &["pool", "set", "NAME", "0"]] {
        for pull in ["always", "never"] {
            let flags = ["-B", backend, "--pull", pull, "--image", &absent];
            let got = agentkernel(&[verb, &flags].concat())?;
            got.exits(125)?.prints("")?.mentions(&absent)?;
            let flags = ["-B", backend, "--pull", pull, "--image", &there];
            agentkernel(&[verb, &flags].concat())?.exits(0)?.prints("NAME\n")?;
            let undo =
                if verb[0] == "create" { &["rm", "NAME"][..] } else { &["pool", "rm", "NAME"] };
            agentkernel(undo)?.exits(0)?;
        }
    }
    Ok(())
}

fn image_absent(subject: &Subject) -> Verdict {
    // No registry listens there.
    let image = "localhost:1/agentkernel/absent:1";
    let got = subject.run(&["--image", image], &["echo", "here"])?;
    got.exits(125)?.prints("")?.mentions(image)?.mentions("hint: ")?;
    Ok(())
}

fn image_of_nonsense(subject: &Subject) -> Verdict {
    for image in ["", " ", "a b", "-x", "../x", "./x", "a:b:c", "A", "a@sha256:0", "https://a.io/x"]
    {
        let flag = format!("--image={image}");
        let got = subject.run(&[flag.as_str()], &["echo", "here"])?;
        got.exits(125)?.prints("")?.mentions("image")?;
    }
    Ok(())
}

fn image_without_a_shell(subject: &Subject) -> Verdict {
    of_the_registry()?;
    let flags = ["--pull", "never", "--image", "localhost/agentkernel-empty"];
    for argv in [&["sh", "-c", "exit 3"][..], &["/bin/sh"], &["echo", "here"]] {
        subject.run(&flags, argv)?.exits(127)?.prints("")?.mentions(argv[0])?;
    }
    Ok(())
}

/// A folder in the scratch with this Dockerfile behind its `FROM`.
fn build_folder(scratch: &Scratch, dockerfile: &str) -> Result<PathBuf, NotPassed> {
    let folder = scratch.folder("work/build")?;
    let text = format!("FROM {}\n{dockerfile}", base()?);
    scratch.file("work/build/Dockerfile", text)?;
    Ok(folder)
}

/// Removes what was built in the folder of a scratch, which nobody will build again.
struct Built<'a> {
    subject: &'a Subject,
    folder: PathBuf,
    name: Option<String>,
}

impl<'a> Built<'a> {
    fn in_folder(subject: &'a Subject, scratch: &Scratch) -> Self {
        Self { subject, folder: scratch.path().join("work/build"), name: None }
    }

    /// Learns the name of what was built from `--verbose`.
    fn by(&mut self, got: &Captured) {
        let errors = got.errors();
        let name =
            errors.split_whitespace().find(|word| word.starts_with("localhost/agentkernel-build-"));
        self.name = name.map(|name| name.trim_end_matches(',').to_owned()).or(self.name.take());
    }
}

impl Drop for Built<'_> {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        // What lost its name to the next one that was built there goes too, but not where builds
        // beside this one are confused by that, as Podman's are.
        let label = format!("label=agentkernel.built-from={}", self.folder.display());
        let (remote, prune) = match self.subject.backend.as_str() {
            "podman" => (&["--remote"][..], None),
            _ => (&[][..], Some(["image", "prune", "-f", "--filter", &label])),
        };
        let remove = ["rmi", "-f", name];
        for words in [Some(&remove[..]), prune.as_ref().map(|words| &words[..])].iter().flatten() {
            let mut engine = Command::new(&self.subject.backend);
            engine.args(remote).args(*words).envs(self.subject.engine());
            let _ = engine.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

fn image_built(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    // A step that was built before would say nothing.
    let mark = unique_sleep();
    let made = format!("RUN cat /copied/kept > /made && echo said by $((6 * 7)) # {mark}");
    let folder = build_folder(&scratch, &format!("COPY . /copied\n{made}\nENV BUILT=yes\n"))?;
    for file in ["kept", "left", "sub/left.log", "sub/kept.log", "sub/kept"] {
        let path = folder.join(file);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir(parent)?;
            scratch.give(parent)?;
        }
        scratch.file(&path, file)?;
    }
    std::os::unix::fs::symlink("kept", folder.join("link"))?;
    scratch.file(folder.join(".dockerignore"), "# not these\nleft\n**/*.log\n!sub/kept.log\n")?;
    let mut built = Built::in_folder(subject, &scratch);
    let script = "cd /copied && find . -type f | sort; readlink link; cat /made; echo; echo $BUILT";
    let flags = ["--verbose", "--build=build"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["sh", "-c", script]))?;
    built.by(&got);
    let all = "./.dockerignore\n./Dockerfile\n./kept\n./sub/kept\n./sub/kept.log\n";
    got.exits(0)?.prints(format!("{all}kept\nkept\nyes\n"))?;
    got.mentions("agentkernel: step 2/")?.mentions("said by 42")?;
    // In few words where nobody asked for more, and in none for programs.
    let got = Captured::of(subject.run_command(&scratch, &["--build=build"], &["true"]))?;
    got.exits(0)?.mentions("agentkernel: step 1/")?;
    ensure!(!got.errors().contains("said by 42"), "all of its output is shown: {got}");
    let flags = ["--json", "--build=build"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["true"]))?;
    ensure!(got.exits(0)?.errors().lines().count() == 1, "more than JSON is told: {got}");
    Ok(())
}

fn image_built_anew(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = build_folder(&scratch, "COPY file /file\n")?;
    let mut built = Built::in_folder(subject, &scratch);
    for content in ["first", "second"] {
        scratch.file(folder.join("file"), content)?;
        let flags = ["--verbose", "--build=build"];
        let got = Captured::of(subject.run_command(&scratch, &flags, &["cat", "/file"]))?;
        built.by(&got);
        got.exits(0)?.prints(content)?;
    }
    let name = built.name.clone().unwrap_or_default();
    let flags = ["--pull", "never", "--image", &name];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["cat", "/file"]))?;
    got.exits(0)?.prints("second")?.complains("")?;
    Ok(())
}

fn image_build_fails(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    build_folder(&scratch, "RUN echo the reason is $((6 * 7)) && exit 3\nRUN echo never\n")?;
    let flags = ["--build=build"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("step 2/")?.mentions("the reason is 42")?;
    ensure!(!got.errors().contains("never"), "a step after it was begun: {got}");
    let never = ["--build=build", "--pull", "never"];
    let got = Captured::of(subject.run_command(&scratch, &never, &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("--pull never")?;
    scratch.file("work/build/Dockerfile", "THIS is no instruction\n")?;
    let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("can't be built")?;
    let got = Captured::of(subject.run_command(&scratch, &["--build=gone"], &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("gone")?;
    Ok(())
}

fn image_build_trusted(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    build_folder(&scratch, "RUN echo built > /built\n")?;
    scratch.file("work/agentkernel.toml", "build = \"build\"\n")?;
    let run = |flags: &[&str]| {
        let mut command = subject.run_command(&scratch, flags, &["cat", "/built"]);
        // It would stand above the project's file.
        command.env_remove("AGENTKERNEL_IMAGE");
        Captured::of(command)
    };
    run(&[])?.exits(125)?.prints("")?.mentions("build")?.mentions("--trust")?;
    let mut built = Built::in_folder(subject, &scratch);
    let got = run(&["--verbose", "--trust"])?;
    built.by(&got);
    got.exits(0)?.prints("built\n")?;
    Ok(())
}
