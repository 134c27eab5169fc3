//! What was done, and what machines need besides.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_firecracker_api::Check;
use agentkernel_sys::descriptor::{self, Interest};
use serde_json::{Value, json};

use crate::error::FETCH;

/// A file that was put into the kernel's folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// What there is of a kernel now.
#[derive(Debug, PartialEq, Eq)]
pub enum Kernel {
    Made {
        path: PathBuf,
        version: String,
        /// The file or folder that was named, or found.
        from: PathBuf,
        /// Whether it was compared with digests that are not of this program.
        is_verified: bool,
        notes: Vec<String>,
        files: Vec<Written>,
    },
    /// It was there.
    Kept {
        path: PathBuf,
        version: Option<String>,
        /// None if it was put there by hand.
        files: Option<Vec<Written>>,
    },
    Missing {
        /// Why each that there is was not taken.
        looked: Vec<String>,
    },
}

/// All of it.
pub struct Report {
    kernel: Kernel,
    checks: Vec<Check>,
}

/// The oldest Firecracker that will do.
const OLDEST: (u32, u32) = (1, 16);

/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

impl Report {
    pub(crate) fn new(kernel: Kernel) -> Self {
        let mut checks = agentkernel_firecracker_api::checks();
        for check in &mut checks {
            match (check.name, &check.found) {
                ("firecracker", Ok(path)) => check.found = firecracker(Path::new(path)),
                ("kernel", Err((why, _))) if matches!(kernel, Kernel::Missing { .. }) => {
                    check.found = Err((why.clone(), FETCH.into()));
                }
                _ => {}
            }
        }
        Self { kernel, checks }
    }

    /// Whether machines can be had.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.found.is_ok())
    }

    /// A line for each thing, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Which can't fail.
        let _ = describe(&mut text, &self.kernel);
        for Check { name, found } in &self.checks {
            let _ = match found {
                Ok(found) => writeln!(text, "{name}: {found}"),
                Err((why, fix)) => writeln!(text, "{name}: missing: {why}\n  fix: {fix}"),
            };
        }
        let lacking = self.checks.iter().filter(|check| check.found.is_err());
        let lacking: Vec<_> = lacking.map(|check| check.name).collect();
        text += &match lacking.is_empty() {
            true => "all is there; try agentkernel run -B firecracker --image debian:13-slim -- \
                     uname -r\n"
                .into(),
            false => format!("still missing: {}\n", lacking.join(", ")),
        };
        text
    }

    /// The same for programs, in one line.
    pub fn to_json(&self) -> String {
        let parts = self.checks.iter().map(|Check { name, found }| match found {
            Ok(found) => json!({"name": name, "ready": true, "found": found}),
            Err((why, fix)) => json!({"name": name, "ready": false, "why": why, "fix": fix}),
        });
        let parts: Vec<Value> = parts.collect();
        let kernel = match &self.kernel {
            Kernel::Made { path, version, from, is_verified, notes, files } => json!({
                "state": "made", "path": path.to_string_lossy(), "version": version,
                "from": from.to_string_lossy(), "verified": is_verified, "notes": notes,
                "files": files,
            }),
            Kernel::Kept { path, version, files } => json!({
                "state": "kept", "path": path.to_string_lossy(), "version": version,
                "files": files,
            }),
            Kernel::Missing { looked } => json!({"state": "missing", "notes": looked}),
        };
        let ready = self.is_ready();
        json!({"version": 1, "ready": ready, "kernel": kernel, "parts": parts}).to_string()
    }
}

fn describe(text: &mut String, kernel: &Kernel) -> std::fmt::Result {
    match kernel {
        Kernel::Made { version, from, is_verified, notes, files, path } => {
            let verified = if *is_verified { ", verified by its digests" } else { "" };
            writeln!(text, "taken: {}{verified}", from.display())?;
            writeln!(text, "made: Linux {version} in {}", path.display())?;
            for Written { name, bytes, sha256 } in files {
                writeln!(text, "  {name}: {bytes} bytes, sha256 {sha256}")?;
            }
            notes.iter().try_for_each(|note| writeln!(text, "  note: {note}"))
        }
        Kernel::Kept { path, version, files } => {
            let version = version.as_deref().unwrap_or("of no known version");
            let how = match files {
                Some(_) => "as it was put there",
                None => "put there by hand",
            };
            let path = path.display();
            writeln!(text, "kept: Linux {version} in {path}, {how}; --force replaces it")
        }
        Kernel::Missing { looked } => {
            looked.iter().try_for_each(|why| writeln!(text, "not taken: {why}"))
        }
    }
}

/// Which Firecracker that is.
fn firecracker(path: &Path) -> Result<String, (String, String)> {
    let fix = || format!("install Firecracker {}.{} or later", OLDEST.0, OLDEST.1);
    let shown = path.display();
    let said =
        say_version(path).map_err(|why| (format!("{shown} says no version: {why}"), fix()))?;
    let version = said.lines().next().and_then(|line| line.strip_prefix("Firecracker v"));
    let version = version.ok_or_else(|| (format!("{shown} is no Firecracker"), fix()))?.trim();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST {
        true => Ok(format!("{version}, {shown}")),
        false => Err((format!("{shown} is {version}, which is too old"), fix())),
    }
}

/// The first that it says when it is asked for its version.
fn say_version(path: &Path) -> io::Result<String> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut piece = [0; 256];
    let said = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe.into()).and_then(|output| {
        use std::os::fd::AsFd;
        let mut interest = [Interest::readable(output.as_fd())];
        descriptor::poll(&mut interest, Some(PATIENCE))?;
        match interest[0].is_ready() {
            true => descriptor::read(output.as_fd(), &mut piece),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    });
    // It may wait for something.
    let _ = child.kill();
    child.wait()?;
    Ok(String::from_utf8_lossy(&piece[..said?]).into_owned())
}
