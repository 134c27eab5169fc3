//! Images that were made to lead whoever sets a sandbox up astray, or to be more than they should.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentkernel_core::Capability::{ImageReference, ImageRootfs, MountReadOnly, MountReadWrite};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::attempt::{Attempt, control_finds, note};
use super::image::Image;
use super::probe::{self, Finding, judge};
use super::processes::nobody_is_left;
use super::scene::{canary, open_file, open_folder, open_to_all, volume};
use crate::host::tree;
use crate::{Behaviour, Captured, NotPassed, Route, Scratch, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "boot-an-image-of-links",
        "links in an image lead to nothing of the host while its sandbox is made",
        &[MountReadOnly, MountReadWrite],
        boot_an_image_of_links,
    ),
    Behaviour::new(
        "boot-an-image-that-never-answers",
        "a file in an image that can't be read to its end does not hold a run up",
        &[MountReadOnly],
        boot_an_image_that_never_answers,
    ),
    Behaviour::new(
        "boot-an-image-of-endless-lists",
        "lists of users that are longer than anybody's, or no text, do no harm",
        &[MountReadOnly],
        boot_an_image_of_endless_lists,
    ),
    Behaviour::new(
        "run-an-images-privileged-programs",
        "programs of an image with setuid bits or capabilities give nobody more than they have",
        &[MountReadOnly],
        run_an_images_privileged_programs,
    ),
    Behaviour::new(
        "open-an-images-devices",
        "device nodes of an image open no device of the host's",
        &[MountReadOnly],
        open_an_images_devices,
    ),
    Behaviour::new(
        "start-what-an-image-asks-for",
        "an image starts nothing that was not asked for, and changes nothing about the agent",
        &[MountReadOnly, ImageReference],
        start_what_an_image_asks_for,
    ),
];

/// What a sandbox's root has or gets, and where mounts of these tests are.
const PLACES: [&str; 12] = [
    "proc",
    "dev",
    "etc",
    "tmp",
    "run",
    "home",
    "probe",
    "linked",
    "project",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/passwd",
];

/// Of an engine, for which an image takes as long as a sandbox to be made, how many of them come in
/// one: those at the beginning keep most engines from starting anything.
const TOGETHER: [usize; 4] = [1, 1, 1, 9];

/// Ways in which a link may try to lead out of the root that it is in.
const WAYS: [&str; 4] =
    ["", "../../../../../../../../../../../../../..", "/proc/self/root", "/proc/1/root/.."];

/// The places that are links in one image, and the way that the first of them leads.
fn plans(subject: &Subject) -> Vec<(&'static [&'static str], usize)> {
    if subject.has(ImageRootfs) {
        let apart = PLACES.chunks(1);
        return apart.flat_map(|place| (0..WAYS.len()).map(move |way| (place, way))).collect();
    }
    let mut rest = &PLACES[..];
    let groups = TOGETHER.map(|count| rest.split_off(..count).unwrap_or_default());
    let [.., last] = groups;
    groups.into_iter().chain([last]).enumerate().map(|(way, group)| (group, way)).collect()
}

fn empty_image(scratch: &Scratch, name: &str) -> Result<PathBuf, NotPassed> {
    let image = open_folder(scratch, name)?;
    open_folder(scratch, &format!("{name}/etc"))?;
    Ok(image)
}

/// Runs the probe in the image; passes if it ran and could do nothing, or if nothing ran at all.
fn boot(
    subject: &Subject,
    scratch: &Scratch,
    image: &Image<'_>,
    flags: &[String],
) -> Result<Captured, NotPassed> {
    let paths = [
        "/tmp/planted",
        "/run/planted",
        "/dev/planted",
        "/etc/hosts",
        "/etc/passwd",
        "/etc/planted",
        "/home/planted",
        "/home/agent/planted",
        "/linked/planted",
        "/project/planted",
        "/project/data/planted",
        "/planted",
    ];
    let attempt = Attempt::new("overwrite-files").words(&paths).flags(&image.flags());
    let got = attempt.flags(flags).inside(subject, scratch)?;
    let refused = got.status.code().is_some_and(|code| (125..=127).contains(&code));
    if !(refused && Finding::of(&got.text()) == Finding::Missing) {
        judge(&got)?;
    }
    Ok(got)
}

fn boot_an_image_of_links(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let source = open_folder(&scratch, "source")?;
    let mounts = ["/project/data", "/linked"].map(|target| volume(&source, target, "rw")).concat();
    // Not below what is a link in the image, or that would lead to itself.
    let apart = Scratch::public_in(Path::new("/var/tmp"))?;
    let victims = open_folder(&apart, "victims")?;
    open_file(&apart, "victims/file", "precious\n")?;
    let before = tree(&victims);
    for (number, (places, first)) in plans(subject).into_iter().enumerate() {
        let root = empty_image(&scratch, &format!("image-{number}"))?;
        // Where the links lead inside there is something.
        let inside = root.join(victims.strip_prefix("/").unwrap_or(&victims));
        fs::create_dir_all(&inside)?;
        fs::write(inside.join("file"), "of the image\n")?;
        for (way, place) in WAYS.iter().cycle().skip(first).zip(places) {
            let mut target = PathBuf::from(format!("{way}{}", victims.display()));
            if place.starts_with("etc/") {
                target.push("file");
            }
            if *place == "etc" {
                fs::remove_dir(root.join("etc"))?;
            }
            symlink(&target, root.join(place))?;
        }
        let image = Image::of(subject, &scratch, &root, &[])?;
        let got = boot(subject, &scratch, &image, &mounts)?;
        let after = tree(&victims);
        ensure!(after == before, "{places:?}: now there are {after:?}: {got}");
    }
    boot_plainly(subject)
}

/// An image without traps boots: where every image is refused, nothing is shown.
fn boot_plainly(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let image = Image::of(subject, &scratch, &empty_image(&scratch, "image")?, &[])?;
    judge(&boot(subject, &scratch, &image, &[])?)
}

fn boot_an_image_that_never_answers(subject: &Subject) -> Verdict {
    const PLACES: [[&str; 2]; 2] = [["etc/hosts", "etc/resolv.conf"], ["etc/passwd", "etc/group"]];
    // Engines read lists of users themselves, and Docker waits for a fifo as long as it runs: a known
    // limit, which others who use the same engine would meet, too.
    let own = if subject.has(ImageRootfs) { &PLACES[..] } else { &PLACES[..1] };
    for places in own {
        let scratch = subject.scratch()?;
        let root = empty_image(&scratch, "image")?;
        for place in places {
            mknodat(CWD, root.join(place), FileType::Fifo, Mode::from(0o666), 0)?;
        }
        let image = Image::of(subject, &scratch, &root, &[])?;
        boot(subject, &scratch, &image, &[]).map_err(|why| why.within(&places.join(" ")))?;
    }
    boot_plainly(subject)
}

fn boot_an_image_of_endless_lists(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let root = empty_image(&scratch, "image-of-devices")?;
    symlink("/dev/zero", root.join("etc/passwd"))?;
    symlink("/dev/urandom", root.join("etc/group"))?;
    let image = Image::of(subject, &scratch, &root, &[])?;
    boot(subject, &scratch, &image, &[])?;
    let root = empty_image(&scratch, "image-of-a-long-list")?;
    for list in ["etc/passwd", "etc/group"] {
        // Each of the bytes takes six where it is written as JSON.
        fs::write(root.join(list), vec![1; 8 << 20])?;
        open_to_all(&root.join(list))?;
    }
    let image = Image::of(subject, &scratch, &root, &[])?;
    boot(subject, &scratch, &image, &[]).map(drop)
}

/// A tree with a copy of the probe that nothing special is about, for the engine's own tool.
fn tree_with_a_program(scratch: &Scratch) -> Result<PathBuf, NotPassed> {
    let root = empty_image(scratch, "image")?;
    probe::copy_to(&root.join("program"))?;
    Ok(root)
}

/// What an attempt finds in the image by the engine's own tool, where there is one.
fn control(image: &Image<'_>, name: &'static str, flags: &[&str], words: &[&str]) -> Verdict {
    if !image.is_an_engines() {
        note(name, "no engine of this backend's has a tool of its own");
        return Ok(());
    }
    let argv = [&["/program", name], words].concat();
    let mut command = image.plainly(flags, &argv);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    control_finds(name, &Captured::of(command)?)
}

fn run_an_images_privileged_programs(subject: &Subject) -> Verdict {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make such programs");
    }
    const COPIES: [(&str, u32); 3] = [("setuid", 0o4755), ("setgid", 0o2755), ("capable", 0o755)];
    let name = "run-privileged-copies";
    let scratch = subject.scratch()?;
    let root = tree_with_a_program(&scratch)?;
    for (copy, mode) in COPIES {
        let path = root.join(copy);
        probe::copy_to(&path)?;
        chown(&path, Some(0), Some(0))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    let give = [Path::new("give-capabilities"), &root.join("capable")];
    judge(&Captured::of(probe::outside(crate::Caller::Me, &scratch, &give)?)?)?;
    let image = Image::of(subject, &scratch, &root, &[])?;
    for (copy, _) in COPIES {
        let path = format!("/{copy}");
        let attempt = Attempt::new(name).words(&[&path]).flags(&image.flags());
        judge(&attempt.inside(subject, &scratch)?)?;
        control(&image, name, &["-u", "1000:1000"], &[&path])?;
    }
    Ok(())
}

/// Some of which at least one is there on most machines, by their numbers.
const DEVICES: [(&str, FileType, u32, u32); 6] = [
    ("mem", FileType::CharacterDevice, 1, 1),
    ("kmsg", FileType::CharacterDevice, 1, 11),
    ("kvm", FileType::CharacterDevice, 10, 232),
    ("fuse", FileType::CharacterDevice, 10, 229),
    ("loop-control", FileType::CharacterDevice, 10, 237),
    ("disk", FileType::BlockDevice, 7, 0),
];

fn open_an_images_devices(subject: &Subject) -> Verdict {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make device nodes");
    }
    let name = "open-host-devices";
    let scratch = subject.scratch()?;
    let root = tree_with_a_program(&scratch)?;
    open_folder(&scratch, "image/planted")?;
    for (device, kind, major, minor) in DEVICES {
        let path = root.join("planted").join(device);
        mknodat(CWD, &path, kind, Mode::from(0o666), makedev(major, minor))?;
        open_to_all(&path)?;
    }
    let image = Image::of(subject, &scratch, &root, &[])?;
    let attempt = Attempt::new(name).words(&["/planted"]).flags(&image.flags());
    attempt.control_words(&[root.join("planted")]).holds(subject)
}

fn start_what_an_image_asks_for(subject: &Subject) -> Verdict {
    if !subject.has_engine() {
        skip!("only an engine makes an image of instructions here; see tests/images.rs");
    }
    let scratch = subject.scratch()?;
    let secret = scratch.file("secret", "a secret\n")?;
    let word = canary();
    let root = tree_with_a_program(&scratch)?;
    let program = format!("[\"/program\", \"leave-daemons\", \"{word}\", \"leave\"]");
    let changes = [
        &*format!("ENTRYPOINT {program}"),
        &format!("CMD [\"{word}\"]"),
        "ENV LD_PRELOAD=/program",
        "ENV TMPDIR=/nowhere",
        "ENV HOME=/proc/1/root",
        "USER 4242:4242",
        "WORKDIR /proc/self/fd/7",
        "VOLUME /.agentkernel",
        "LABEL agentkernel=forged",
    ];
    let image = Image::of(subject, &scratch, &root, &changes)?;
    let words = secret.to_string_lossy();
    let attempt = Attempt::new("climb-out").words(&[words.trim_start_matches('/')]);
    // In a sandbox that lives it is never started.
    let none: &[&str] = if subject.route == Route::Live { &[] } else { &["--entrypoint="] };
    let attempt = attempt.flags(&image.flags()).flags(none);
    let got = attempt.inside(subject, &scratch)?;
    let refused = got.status.code() == Some(125) && Finding::of(&got.text()) == Finding::Missing;
    if !refused {
        judge(&got)?;
    }
    nobody_is_left(&word)?;
    // Without the directory, by which nothing may start.
    let attempt = attempt.flags(&["-w", "/", "-u", "1000"]);
    judge(&attempt.inside(subject, &scratch)?)?;
    nobody_is_left(&word)?;
    starts_its_entrypoint(&image)
}

/// The engine's own tool does what the image asks for.
fn starts_its_entrypoint(image: &Image<'_>) -> Verdict {
    let mut command: Command = image.plainly(&["-w", "/", "-u", "0"], &[]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let got = Captured::of(command)?;
    ensure!(got.text().contains("held: "), "the control started nothing: {got}");
    Ok(())
}
