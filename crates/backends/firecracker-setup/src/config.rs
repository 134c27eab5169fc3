//! A kernel's configuration, where it is beside the kernel.

use std::collections::BTreeMap;

/// What a machine takes besides the modules that it needs, and what for.
const NEEDED: [(&str, &str); 11] = [
    ("64BIT", "a processor of 64 bits"),
    ("BLK_DEV_INITRD", "the initial root"),
    ("DEVTMPFS", "/dev"),
    ("TMPFS", "what is written"),
    ("PID_NS", "namespaces of processes"),
    ("UTS_NS", "a name of its own"),
    ("IPC_NS", "namespaces of messages"),
    ("MEMCG", "limits of memory"),
    ("CGROUP_PIDS", "limits of processes"),
    ("CFS_BANDWIDTH", "limits of processors"),
    ("SECCOMP_FILTER", "filters of system calls"),
];

/// How it is told which devices it has.
const DEVICES: [&str; 2] = ["ACPI", "VIRTIO_MMIO_CMDLINE_DEVICES"];

/// Options that are set, without `CONFIG_`, and how.
pub struct Config(BTreeMap<String, String>);

impl Config {
    pub fn of(text: &str) -> Self {
        let option = |line: &str| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(option).collect())
    }

    /// Whether it is in the kernel itself.
    pub fn has(&self, option: &str) -> bool {
        self.0.get(option).is_some_and(|value| value == "y")
    }

    /// What is missing of what can be told by it.
    pub fn lacks(&self, takes_modules: bool) -> Vec<String> {
        let mut lacking: Vec<String> = NEEDED
            .iter()
            .filter(|(option, _)| !self.has(option))
            .map(|(option, what)| format!("CONFIG_{option} ({what})"))
            .collect();
        if !DEVICES.iter().any(|option| self.has(option)) {
            lacking.push(format!("CONFIG_{} or CONFIG_{} (devices)", DEVICES[0], DEVICES[1]));
        }
        if takes_modules && !self.has("MODULES") {
            lacking.push("CONFIG_MODULES (modules)".into());
        }
        lacking
    }

    /// What is weaker without something that is not in it.
    pub fn notes(&self) -> Vec<String> {
        let landlock = (!self.has("SECURITY_LANDLOCK"))
            .then(|| "it has no Landlock: that wall will be missing inside".into());
        landlock.into_iter().collect()
    }
}
