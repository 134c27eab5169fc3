//! What a figure depends on, besides what is measured.

use std::env::consts::ARCH;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use agentkernel_sys::{identity, machine};

use crate::result::Machine;

/// The facts of this machine. What can't be found out stays empty.
///
/// `source` is where the source would be that the programs were built from. Its commit is asked of
/// git, once; if it is no checkout of this project's there is none.
pub fn facts(source: &Path) -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let (commit, changed) = checkout(source).unzip();
    let load = load();
    Machine {
        cpu: field(&cpuinfo, "model name", ':').unwrap_or_default(),
        cpus: machine::processors().into(),
        memory_bytes: machine::memory_bytes().unwrap_or_default(),
        hypervisor: hypervisor(&cpuinfo),
        architecture: ARCH.to_owned(),
        system: field(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_default(),
        kernel: machine::setting("kernel/osrelease").unwrap_or_default(),
        cgroup: cgroup().to_owned(),
        uid: identity::effective().0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit,
        changed,
        load_before: load,
        load_after: load,
    }
}

/// How many processes were ready to run over the last 1, 5 and 15 minutes.
pub fn load() -> [f64; 3] {
    let text = read("/proc/loadavg");
    let mut words = text.split_whitespace();
    [(); 3].map(|()| words.next().and_then(|word| word.parse().ok()).unwrap_or_default())
}

/// An empty text if it can't be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line that begins with this name.
fn field(text: &str, name: &str, between: char) -> Option<String> {
    text.lines().find_map(|line| {
        let (before, value) = line.split_once(between)?;
        (before.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The vendor of the machine that this one is only played by.
fn hypervisor(cpuinfo: &str) -> String {
    let flags = field(cpuinfo, "flags", ':').unwrap_or_default();
    let played = flags.split_whitespace().any(|flag| flag == "hypervisor");
    let vendors = ["/sys/hypervisor/type", "/sys/class/dmi/id/sys_vendor"];
    let vendor = vendors.map(read).into_iter().find(|text| !text.trim().is_empty());
    match (vendor, played) {
        (Some(vendor), true) => vendor.trim().to_owned(),
        (None, true) => "unknown".to_owned(),
        // What the firmware of a real machine says is who built it.
        (_, false) => read("/sys/hypervisor/type").trim().to_owned(),
    }
}

fn cgroup() -> &'static str {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        "v2"
    } else if root.join("unified/cgroup.controllers").exists() {
        "hybrid"
    } else if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
        "v1"
    } else {
        "none"
    }
}

/// The commit of this project's checkout in a directory, and whether it has changes that were not
/// committed.
fn checkout(source: &Path) -> Option<(String, bool)> {
    // Whoever runs an installed program in a project of theirs has a commit, but not of ours.
    let manifest = fs::read_to_string(source.join("Cargo.toml")).ok()?;
    manifest.lines().find(|line| *line == "name = \"agentkernel\"")?;
    let output = Command::new("git")
        .args(["status", "--porcelain=v2", "--branch", "--untracked-files=no"])
        .current_dir(source)
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let commit = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let changed = text.lines().any(|line| !line.starts_with('#'));
    Some((commit.to_owned(), changed))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{facts, field, hypervisor};

    #[test]
    fn every_machine_has_these() {
        let machine = facts(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0, "{machine:?}");
        assert!(machine.kernel.contains('.'), "{machine:?}");
        assert!(["v1", "v2", "hybrid", "none"].contains(&machine.cgroup.as_str()), "{machine:?}");
        assert_eq!((machine.commit, machine.changed), (None, None));
    }

    #[test]
    fn the_kernel_s_files_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Fast One: new\nflags\t\t: fpu sse\n";
        assert_eq!(field(cpuinfo, "model name", ':').as_deref(), Some("Fast One: new"));
        assert_eq!(
            field("NAME=x\nPRETTY_NAME=\"A B\"\n", "PRETTY_NAME", '=').as_deref(),
            Some("A B")
        );
        assert_eq!(field(cpuinfo, "name", ':'), None);
        let played = hypervisor("flags : fpu hypervisor sse\n");
        assert!(!played.is_empty());
    }
}
