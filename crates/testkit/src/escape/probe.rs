//! The program that makes the attempts, and the reading of what came of them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{Caller, Captured, NotPassed, Scratch, Verdict};

const SOURCES: &[(&str, &str)] = &[
    ("probe.h", include_str!("../../probes/probe.h")),
    ("probe.c", include_str!("../../probes/probe.c")),
    ("abi.c", include_str!("../../probes/abi.c")),
    ("descriptors.c", include_str!("../../probes/descriptors.c")),
    ("exhaustion.c", include_str!("../../probes/exhaustion.c")),
    ("files.c", include_str!("../../probes/files.c")),
    ("full_network.c", include_str!("../../probes/full_network.c")),
    ("identity.c", include_str!("../../probes/identity.c")),
    ("kernel.c", include_str!("../../probes/kernel.c")),
    ("launcher.c", include_str!("../../probes/launcher.c")),
    ("mounts.c", include_str!("../../probes/mounts.c")),
    ("namespaces.c", include_str!("../../probes/namespaces.c")),
    ("network.c", include_str!("../../probes/network.c")),
    ("processes.c", include_str!("../../probes/processes.c")),
    ("roles.c", include_str!("../../probes/roles.c")),
    ("terminal.c", include_str!("../../probes/terminal.c")),
    ("trees.c", include_str!("../../probes/trees.c")),
];

/// Where the sandboxes see it.
pub(super) const INSIDE: &str = "/probe/probe";

static COMPILED: OnceLock<PathBuf> = OnceLock::new();

/// The compiled probe, which is there for every attempt until this is dropped.
#[derive(Debug)]
pub struct Probe(Scratch);

impl Probe {
    /// Compiles the probe, once for all attempts of this process: as a static program, since a
    /// sandbox may have another C library, or none. A machine without a compiler has the path of
    /// a compiled one in `TESTKIT_PROBE`.
    pub fn compile() -> Result<Self, NotPassed> {
        let folder = Scratch::public_in(&std::env::temp_dir())?;
        let program = folder.path().join("probe");
        match std::env::var_os("TESTKIT_PROBE") {
            Some(compiled) => {
                let copied = fs::copy(compiled, &program);
                copied.map_err(|why| NotPassed::failed_to("copy TESTKIT_PROBE", why))?;
            }
            None => compile_to(&program)?,
        }
        // A second one in the same process would take over from the first.
        COMPILED
            .set(program)
            .map_err(|_| NotPassed::Failed("the probe is already compiled".into()))?;
        Ok(Self(folder))
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("probe")
    }
}

fn compile_to(program: &Path) -> Verdict {
    let sources = Scratch::new(None)?;
    for (name, text) in SOURCES {
        sources.file(Path::new("work").join(name), text)?;
    }
    let linked_statically = compile(&sources, program, &["-static"])?;
    if !linked_statically.status.success() {
        let shared = compile(&sources, program, &[])?;
        if !shared.status.success() {
            return Err(NotPassed::failed_to("compile the probe", shared));
        }
    }
    Ok(())
}

fn compile(sources: &Scratch, program: &Path, flags: &[&str]) -> Result<Captured, NotPassed> {
    let files = SOURCES.iter().map(|(name, _)| *name);
    let mut command = Command::new("cc");
    command
        .args(["-std=gnu11", "-D_GNU_SOURCE", "-O1"])
        .args(flags)
        .arg("-o")
        .arg(program)
        .args(files.filter(|name| name.ends_with(".c")))
        .current_dir(sources.path().join("work"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Captured::of(command)
}

/// The probe on the host.
pub(super) fn path() -> Result<&'static Path, NotPassed> {
    let compiled = COMPILED.get().map(PathBuf::as_path);
    compiled.ok_or_else(|| NotPassed::Failed("the probe is not compiled".into()))
}

/// The flag that brings the probe into a sandbox.
pub(super) fn volume() -> Result<[String; 2], NotPassed> {
    let folder = path()?.parent().unwrap_or(Path::new("/"));
    Ok(["-v".into(), format!("{}:/probe:ro", folder.display())])
}

/// The probe with `words`, outside of any sandbox: as `caller`, with its files in `scratch`.
pub(super) fn outside(
    caller: Caller,
    scratch: &Scratch,
    words: &[impl AsRef<OsStr>],
) -> Result<Command, NotPassed> {
    let mut command = Command::new(path()?);
    command
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TMPDIR", scratch.path().join("tmp"))
        .current_dir(scratch.path().join("work"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    caller.become_in(&mut command);
    Ok(command)
}

/// Copies the probe to where a test needs one of its own.
pub(super) fn copy_to(place: &Path) -> Result<(), NotPassed> {
    fs::copy(path()?, place)?;
    Ok(())
}

/// What the probe said of its attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It was refused everything, in these words.
    Held(String),
    /// It got this.
    Escaped(String),
    /// This machine can't do what the attempt is about.
    Skipped(String),
    /// Nothing that proves the attempt was made.
    Missing,
}

impl Finding {
    /// Reads the last line.
    pub(super) fn of(output: &str) -> Self {
        let last = output.lines().last().unwrap_or_default().trim_end();
        match last.split_once(": ") {
            Some(("held", what)) => Self::Held(what.into()),
            Some(("ESCAPED", what)) => Self::Escaped(what.into()),
            Some(("skipped", why)) => Self::Skipped(why.into()),
            _ => Self::Missing,
        }
    }
}

/// Passes only if the probe said that everything was refused.
pub(super) fn judge(got: &Captured) -> Verdict {
    match Finding::of(&got.text()) {
        Finding::Held(_) => Ok(()),
        Finding::Escaped(what) => Err(NotPassed::Failed(format!("ESCAPED: {what}"))),
        Finding::Skipped(why) => Err(NotPassed::Skipped(why)),
        Finding::Missing => Err(NotPassed::Failed(format!("no attempt was made: {got}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_last_line_that_says_so_is_a_held_wall() {
        let held = |text: &str| matches!(Finding::of(text), Finding::Held(_));
        assert!(held("ready\nheld: mount: Operation not permitted\n"));
        assert!(held("held: it\r\n"));
        for text in ["", "held", "held: it\nSegmentation fault", "ESCAPED: held: it", "held:"] {
            assert!(!held(text), "{text:?}");
        }
        assert_eq!(Finding::of("ESCAPED: all"), Finding::Escaped("all".into()));
    }

    #[test]
    fn the_probe_compiles_and_an_unknown_attempt_proves_nothing() {
        let probe = Probe::compile().unwrap();
        let scratch = Scratch::new(None).unwrap();
        let got = Captured::of(outside(Caller::Me, &scratch, &["no-such-attempt"]).unwrap());
        let got = got.unwrap();
        assert_eq!(Finding::of(&got.text()), Finding::Missing, "{got}");
        assert!(probe.path().exists());
        assert!(Probe::compile().is_err());
    }
}
