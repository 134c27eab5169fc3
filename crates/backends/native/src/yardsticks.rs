//! Tools that put a command behind walls of the same kind, each as its own manual has it used.
//!
//! None of them filters system calls or limits anything here, so each does less than this backend.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use agentkernel_core::{Yardstick, YardstickLife};
use agentkernel_sys::identity;
use serde_json::{Value, json};

pub const YARDSTICKS: &[Yardstick] = &[
    Yardstick {
        name: "bwrap",
        program: "bwrap",
        version: &["--version"],
        prepare: nothing,
        place: None,
        run: &[
            "--ro-bind",
            "/",
            "/",
            "--unshare-all",
            "--die-with-parent",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "{command}",
        ],
        life: None,
    },
    // The same namespaces and nothing else: the least that a sandbox of them costs.
    Yardstick {
        name: "unshare",
        program: "unshare",
        version: &["--version"],
        prepare: nothing,
        place: None,
        run: &[
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--cgroup",
            "--fork",
            "--mount-proc",
            "{command}",
        ],
        life: None,
    },
    // Without control groups, which not every user has, and which the other two don't use either.
    Yardstick {
        name: "crun",
        program: "crun",
        version: &["--version"],
        prepare: bundles,
        place: None,
        run: &[
            "--root={dir}/state",
            "--cgroup-manager=disabled",
            "run",
            "--bundle={dir}/run",
            "{name}",
        ],
        life: Some(YardstickLife {
            create: &[
                "--root={dir}/state",
                "--cgroup-manager=disabled",
                "create",
                "--bundle={dir}/life",
                "{name}",
            ],
            start: &["--root={dir}/state", "--cgroup-manager=disabled", "start", "{name}"],
            exec: &[
                "--root={dir}/state",
                "--cgroup-manager=disabled",
                "exec",
                "{name}",
                "{command}",
            ],
            stop: &["--root={dir}/state", "--cgroup-manager=disabled", "kill", "{name}", "KILL"],
            // It does not wait for what it has killed, and would refuse what still ends.
            remove: &[
                "--root={dir}/state",
                "--cgroup-manager=disabled",
                "delete",
                "--force",
                "{name}",
            ],
        }),
    },
];

fn nothing(_: &Path, _: &[&str]) -> io::Result<()> {
    Ok(())
}

/// Writes two OCI bundles: `run`, of the command, and `life`, of a process that waits for others.
fn bundles(directory: &Path, command: &[&str]) -> io::Result<()> {
    // crun can't change its root to "/" itself, so what is in there is shown in a root of its own.
    let root = directory.join("root");
    let mounts = host_in(&root)?;
    let waiting = ["/bin/sleep", "3600"];
    for (name, args) in [("run", command), ("life", &waiting)] {
        let bundle = directory.join(name);
        DirBuilder::new().mode(0o700).create(&bundle)?;
        let config = config(&root, &mounts, args);
        fs::write(bundle.join("config.json"), config.to_string())?;
    }
    Ok(())
}

/// Makes a root in which everything of the host's can be shown at its place, and says how.
fn host_in(root: &Path) -> io::Result<Vec<Value>> {
    fs::create_dir(root)?;
    let mut mounts = Vec::new();
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let inside = root.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, inside)?;
        } else if kind.is_dir() {
            fs::create_dir(inside)?;
            let path = entry.path();
            if !["/dev", "/proc", "/sys"].map(Path::new).contains(&path.as_path()) {
                mounts.push(json!({
                    "destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"],
                }));
            }
        }
    }
    mounts.push(json!({ "destination": "/proc", "source": "proc", "type": "proc" }));
    mounts.push(json!({
        "destination": "/dev", "source": "tmpfs", "type": "tmpfs",
        "options": ["nosuid", "mode=755", "size=64k"],
    }));
    Ok(mounts)
}

fn config(root: &Path, mounts: &[Value], args: &[&str]) -> Value {
    let (uid, gid) = identity::effective();
    let namespaces = ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"];
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": root, "readonly": true },
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces.map(|name| json!({ "type": name })),
            "uidMappings": [{ "containerID": 0, "hostID": uid, "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": gid, "size": 1 }],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    #[test]
    fn a_bundle_shows_the_host_read_only() {
        let folder = std::env::temp_dir().join(format!("bundles-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        super::bundles(&folder, &["/bin/echo", "\"hello\""]).unwrap();
        let config = |name: &str| -> Value {
            let text = fs::read(folder.join(name).join("config.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (run, life) = (config("run"), config("life"));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(run["process"]["args"], serde_json::json!(["/bin/echo", "\"hello\""]));
        assert_eq!(life["process"]["args"][0], "/bin/sleep");
        assert_eq!(run["root"]["readonly"], true);
        let mounts = run["mounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["destination"] == "/usr"));
        for mount in mounts.iter().filter(|mount| mount["type"] == "bind") {
            assert_eq!(mount["options"], serde_json::json!(["rbind", "ro"]), "{mount}");
        }
    }
}
