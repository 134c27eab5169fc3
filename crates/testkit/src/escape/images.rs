//! Root file systems that were made to lead whoever sets a sandbox up astray.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agentkernel_core::Capability::{ImageRootfs, MountReadOnly};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::attempt::Attempt;
use super::probe::{Finding, judge};
use super::scene::{open_file, open_folder};
use crate::host::tree;
use crate::{Behaviour, Captured, NotPassed, Scratch, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "boot-an-image-of-links",
        "links in an image lead to nothing of the host while its sandbox is made",
        &[MountReadOnly, ImageRootfs],
        boot_an_image_of_links,
    ),
    Behaviour::new(
        "boot-an-image-that-never-answers",
        "a file in an image that can't be read to its end does not hold a run up",
        &[MountReadOnly, ImageRootfs],
        boot_an_image_that_never_answers,
    ),
];

/// What a sandbox's root has or gets.
const PLACES: [&str; 10] = [
    "proc",
    "dev",
    "tmp",
    "run",
    "home",
    "probe",
    "etc",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/passwd",
];

fn empty_image(scratch: &Scratch, name: &str) -> Result<PathBuf, NotPassed> {
    let image = open_folder(scratch, name)?;
    open_folder(scratch, &format!("{name}/etc"))?;
    Ok(image)
}

/// Runs the probe in the image; passes if it ran and could do nothing, or if nothing ran at all.
fn boot(subject: &Subject, scratch: &Scratch, image: &Path) -> Result<Captured, NotPassed> {
    let paths = [
        "/tmp/planted",
        "/run/planted",
        "/dev/planted",
        "/etc/hosts",
        "/etc/passwd",
        "/etc/planted",
        "/home/planted",
        "/home/agent/planted",
        "/planted",
    ];
    let flags = ["--image".to_string(), format!("rootfs:{}", image.display())];
    let attempt = Attempt::new("overwrite-files").words(&paths).flags(&flags);
    let got = attempt.inside(subject, scratch)?;
    let refused = got.status.code().is_some_and(|code| (125..=127).contains(&code));
    if !(refused && Finding::of(&got.text()) == Finding::Missing) {
        judge(&got)?;
    }
    Ok(got)
}

fn boot_an_image_of_links(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    open_folder(&scratch, "victims")?;
    open_file(&scratch, "victims/file", "precious\n")?;
    let victims = scratch.path().join("victims");
    let before = tree(&victims);
    for (number, place) in PLACES.iter().enumerate() {
        let ups = "../".repeat(20);
        let by_parents = format!("{ups}{}", victims.display());
        for (way, target) in [victims.as_path(), Path::new(&by_parents)].iter().enumerate() {
            let image = empty_image(&scratch, &format!("image-{number}-{way}"))?;
            let is_file = place.starts_with("etc/");
            let target = if is_file { target.join("file") } else { target.to_path_buf() };
            if *place == "etc" {
                fs::remove_dir(image.join("etc"))?;
            }
            symlink(&target, image.join(place))?;
            let got = boot(subject, &scratch, &image)?;
            let after = tree(&victims);
            ensure!(after == before, "{place}: now there are {after:?}: {got}");
        }
    }
    boot_plainly(subject)
}

/// An image without traps boots: where every image is refused, nothing is shown.
fn boot_plainly(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let image = empty_image(&scratch, "image")?;
    judge(&boot(subject, &scratch, &image)?)
}

fn boot_an_image_that_never_answers(subject: &Subject) -> Verdict {
    for place in ["etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf"] {
        let scratch = subject.scratch()?;
        let image = empty_image(&scratch, "image")?;
        let mode = Mode::from(0o666);
        mknodat(CWD, image.join(place), FileType::Fifo, mode, 0)?;
        boot(subject, &scratch, &image).map_err(|why| why.within(place))?;
    }
    boot_plainly(subject)
}
