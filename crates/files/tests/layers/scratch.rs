//! A layer in a temporary folder, and ways to fill it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use agentkernel_files::{
    Applied, Baseline, ChangeKind, FilesError, Layer, Lower, Report, apply, changes,
};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

/// A project of the host and an overlay over it, which shows at `/work`.
pub struct Scratch {
    top: PathBuf,
    pub layer: Layer,
    pub baseline: Baseline,
}

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temp = std::env::temp_dir().canonicalize().unwrap();
        let top = temp.join(format!("agentkernel-layers-{}-{number}", std::process::id()));
        for folder in ["lower", "upper", "work", "merged", "outside"] {
            fs::create_dir_all(top.join(folder)).unwrap();
        }
        let layer = Layer {
            target: "/work".into(),
            lower: Some(Lower::Host(top.join("lower"))),
            upper: top.join("upper"),
            skip: Vec::new(),
        };
        let baseline = Baseline::now(&top).unwrap();
        Scratch { top, layer, baseline }
    }

    pub fn lower(&self, name: impl AsRef<Path>) -> PathBuf {
        self.top.join("lower").join(name)
    }

    pub fn upper(&self, name: impl AsRef<Path>) -> PathBuf {
        self.top.join("upper").join(name)
    }

    /// A folder of the host that the sandbox has nothing to do with.
    pub fn outside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.top.join("outside").join(name)
    }

    /// From here on the sandbox lives; what the host has is what it sees.
    pub fn begin(&mut self) {
        self.tick();
        self.baseline = Baseline::now(&self.top).unwrap();
        self.tick();
    }

    /// Waits until the clock of file systems has moved on.
    pub fn tick(&self) {
        let now = || Baseline::now(&self.top).unwrap().since;
        let before = now();
        while now() == before {
            std::thread::yield_now();
        }
    }

    /// Runs a script in a real overlay over the project. False, and why on stderr, where this
    /// machine lets nobody mount one.
    pub fn run(&self, script: &str) -> bool {
        let allowed = Command::new("unshare").args(["-Urm", "true"]).output();
        if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no overlay can be mounted here: {allowed:?}");
            return false;
        }
        let mount = "mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work \
                     overlay merged && cd merged";
        let status = Command::new("unshare")
            .args(["-Urm", "sh", "-ec", &format!("{mount}\n{script}")])
            .current_dir(&self.top)
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
        true
    }

    /// The changes as `diff` would print them, less the target.
    pub fn changes(&self) -> Vec<String> {
        self.try_changes().unwrap()
    }

    pub fn try_changes(&self) -> Result<Vec<String>, FilesError> {
        let letter = |kind| match kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        let changes = changes(std::slice::from_ref(&self.layer))?;
        Ok(changes
            .iter()
            .map(|change| {
                let path = change.path.strip_prefix("/work").unwrap();
                format!("{} {}", letter(change.kind), path.display())
            })
            .collect())
    }

    pub fn apply(&mut self) -> Outcome {
        self.try_apply(&[], false).unwrap().into()
    }

    pub fn force(&mut self) -> Outcome {
        self.try_apply(&[], true).unwrap().into()
    }

    pub fn try_apply(&mut self, only: &[&str], force: bool) -> Result<Report, FilesError> {
        // As it is kept between two calls.
        let kept = serde_json::to_string(&self.baseline.applied).unwrap();
        self.baseline.applied = serde_json::from_str::<Applied>(&kept).unwrap();
        let only: Vec<PathBuf> = only.iter().map(PathBuf::from).collect();
        let report = apply(&self.layer, &only, &mut self.baseline, force);
        self.assert_no_leftovers();
        report
    }

    fn assert_no_leftovers(&self) {
        let found =
            Command::new("find").arg(self.lower("")).args(["-name", ".agentkernel-*"]).output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Deeper than the standard library dares to go, and with folders that can't be entered.
        let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(&self.top).output();
        let _ = Command::new("rm").arg("-rf").arg(&self.top).status();
    }
}

/// What `apply` did, easy to compare.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub applied: Vec<String>,
    /// `PATH: REASON`.
    pub refused: Vec<String>,
}

impl From<Report> for Outcome {
    fn from(report: Report) -> Self {
        let name = |path: &Path| path.strip_prefix("/work").unwrap().display().to_string();
        Outcome {
            applied: report.applied.iter().map(|change| name(&change.path)).collect(),
            refused: report
                .refused
                .iter()
                .map(|refused| format!("{}: {}", name(&refused.path), refused.reason))
                .collect(),
        }
    }
}

pub fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

pub fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Says like an overlay that a name is deleted. False, and why on stderr, for who may not.
pub fn whiteout(path: impl AsRef<Path>) -> bool {
    match mknodat(CWD, path.as_ref(), FileType::CharacterDevice, Mode::empty(), 0) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("skipped: no whiteout can be made here: {error}");
            false
        }
    }
}

/// Notes something at a file like an overlay. False, and why on stderr, where it can't be noted.
pub fn mark(path: impl AsRef<Path>, name: &str, value: &[u8]) -> bool {
    match setxattr(path.as_ref(), name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("skipped: no attributes can be set here: {error}");
            false
        }
    }
}

/// Whether a program is there; else says that the test is skipped.
pub fn has(program: impl AsRef<OsStr>) -> bool {
    let there = Command::new(program.as_ref()).arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: there is no {:?}", program.as_ref());
    }
    there
}
