//! The programs as they are released.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Programs;

/// Those in a directory, which must be there.
pub fn found(directory: &Path) -> io::Result<Programs> {
    let programs = Programs::in_directory(directory);
    for program in [&programs.agentkernel, &programs.agentkerneld] {
        program.metadata().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        })?;
    }
    Ok(programs)
}

/// Builds those of a checkout. What cargo says goes to standard error.
pub fn build(source: &Path) -> io::Result<Programs> {
    // One after the other, or features that only the daemon needs get into the small program.
    Ok(Programs {
        agentkernel: built(source, "agentkernel", "agentkernel")?,
        agentkerneld: built(source, "agentkernel-daemon", "agentkerneld")?,
    })
}

fn built(source: &Path, package: &str, program: &str) -> io::Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What an outer cargo says of the package that it runs: some build scripts would have all that rests on
    // them compiled again for it, and once more when it is gone.
    for (name, _) in env::vars_os() {
        let begins_with = |start: &&str| name.as_encoded_bytes().starts_with(start.as_bytes());
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"].iter().any(begins_with) {
            cargo.env_remove(&name);
        }
    }
    let output = cargo
        .args(["build", "--release", "--message-format=json-render-diagnostics", "-p", package])
        .current_dir(source)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let failed = || io::Error::other(format!("cargo build --release -p {package} failed"));
    if !output.status.success() {
        return Err(failed());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == program;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    executable.ok_or_else(failed)
}
