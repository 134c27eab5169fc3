//! What is at stake on the host: secrets, victims and innocent processes.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Caller, NotPassed, Running, Scratch, Verdict, ensure};

/// A word that is nowhere else on the machine.
pub(super) fn canary() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("canary-{}-{count}-sings", std::process::id())
}

/// The word in two parts, for those who must not find it in their own arguments.
pub(super) fn halves(word: &str) -> [&str; 2] {
    let (first, second) = word.split_at(word.len() / 2);
    [first, second]
}

/// Makes a folder in which every user can do anything, and so every sandbox.
pub(super) fn open_folder(scratch: &Scratch, name: &str) -> Result<PathBuf, NotPassed> {
    let folder = scratch.folder(name)?;
    open_to_all(&folder)?;
    Ok(folder)
}

/// Makes a file that every user can change.
pub(super) fn open_file(
    scratch: &Scratch,
    name: impl AsRef<Path>,
    content: &str,
) -> Result<PathBuf, NotPassed> {
    let file = scratch.file(name, content)?;
    fs::set_permissions(&file, Permissions::from_mode(0o666))?;
    Ok(file)
}

pub(super) fn open_to_all(folder: &Path) -> Verdict {
    Ok(fs::set_permissions(folder, Permissions::from_mode(0o777))?)
}

/// `SOURCE:TARGET:ACCESS`, as a flag.
pub(super) fn volume(source: &Path, target: &str, access: &str) -> [String; 2] {
    let source = source.display();
    ["-v".into(), format!("{source}:{target}:{access}")]
}

/// A file in a folder of the host's own, removed when dropped.
#[derive(Debug)]
pub(super) struct Planted(pub(super) PathBuf);

impl Planted {
    /// `None` where the folder can't be written.
    pub(super) fn in_folder(folder: &Path) -> Option<Self> {
        let path = folder.join(format!(".agentkernel-{}", canary()));
        fs::write(&path, "a secret\n").ok()?;
        Some(Self(path))
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_file(&self.0) {
            eprintln!("could not remove {}: {why}", self.0.display());
        }
    }
}

/// A process of the caller's that has nothing to do with any sandbox. It has a word in its
/// arguments and environment, and says so if it is signalled.
#[derive(Debug)]
pub(super) struct Bystander {
    running: Running,
    stdin: ChildStdin,
}

impl Bystander {
    pub(super) fn start(caller: Caller, word: &str) -> Result<Self, NotPassed> {
        let script = "trap 'echo signalled' URG; echo there; read line; echo unharmed";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, word])
            .env("BYSTANDER", word)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        caller.become_in(&mut command);
        let mut running = Running::start(command)?;
        running.until("there\n")?;
        let stdin = running.take_stdin();
        let stdin = stdin.ok_or_else(|| NotPassed::Failed("a bystander has no input".into()))?;
        Ok(Self { running, stdin })
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its priority, 0 unless somebody changed it.
    fn niceness(&self) -> Result<String, NotPassed> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name in parentheses may hold spaces; the 17th field after it is the niceness.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        Ok(rest.split_whitespace().nth(16).unwrap_or_default().into())
    }

    /// Passes if nobody signalled it or slowed it down.
    pub(super) fn ends_unharmed(mut self) -> Verdict {
        let niceness = self.niceness()?;
        self.stdin.write_all(b"done\n")?;
        drop(self.stdin);
        let got = self.running.finish()?;
        got.exits(0)?.prints("there\nunharmed\n")?;
        ensure!(niceness == "0", "a bystander was slowed down to {niceness}");
        Ok(())
    }
}
