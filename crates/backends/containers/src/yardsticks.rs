//! The engines' own command lines, each as its own manual has it used.
//!
//! None of them filters more system calls, closes the root or drops more rights than the engine does
//! unasked, so each does less than these backends. That a sandbox has no network is asked for, since
//! setting one up would take them most of their time.

use std::io;
use std::path::Path;

use agentkernel_core::{Yardstick, YardstickLife};

pub const DOCKER: &[Yardstick] = &[Yardstick {
    name: "docker",
    program: "docker",
    version: &["--version"],
    prepare: nothing,
    place: None,
    run: &["run", "--rm", "--network", "none", "{image}", "{command}"],
    life: Some(YardstickLife {
        create: &[
            "create",
            "--network",
            "none",
            "--name",
            "{name}",
            "{image}",
            "/bin/sleep",
            "3600",
        ],
        start: &["start", "{name}"],
        exec: &["exec", "{name}", "{command}"],
        // Or it would wait for a process 1 that does not mind what it asks.
        stop: &["stop", "-t", "0", "{name}"],
        remove: &["rm", "-f", "{name}"],
    }),
}];

/// Its command line can do the work itself, or have a service do it. Which is faster depends on the
/// step and on how busy the machine is, so that both are measured.
pub const PODMAN: &[Yardstick] = &[
    Yardstick {
        name: "podman",
        program: "podman",
        version: &["--version"],
        prepare: nothing,
        // A service may have another storage than what the caller's settings say.
        place: Some([
            &["--remote=false", "info", "--format", "{{.Store.GraphRoot}}"],
            &["--remote", "info", "--format", "{{.Store.GraphRoot}}"],
        ]),
        run: &[
            // CONTAINER_HOST alone would make it remote.
            "--remote=false",
            "run",
            "--rm",
            "--network",
            "none",
            "{image}",
            "{command}",
        ],
        life: Some(YardstickLife {
            create: &[
                "--remote=false",
                "create",
                "--network",
                "none",
                "--name",
                "{name}",
                "{image}",
                "/bin/sleep",
                "3600",
            ],
            start: &["--remote=false", "start", "{name}"],
            exec: &["--remote=false", "exec", "{name}", "{command}"],
            stop: &["--remote=false", "stop", "-t", "0", "{name}"],
            remove: &["--remote=false", "rm", "-f", "-t", "0", "{name}"],
        }),
    },
    Yardstick {
        name: "podman-remote",
        program: "podman",
        version: &["--version"],
        prepare: nothing,
        place: None,
        run: &["--remote", "run", "--rm", "--network", "none", "{image}", "{command}"],
        life: Some(YardstickLife {
            create: &[
                "--remote",
                "create",
                "--network",
                "none",
                "--name",
                "{name}",
                "{image}",
                "/bin/sleep",
                "3600",
            ],
            start: &["--remote", "start", "{name}"],
            exec: &["--remote", "exec", "{name}", "{command}"],
            stop: &["--remote", "stop", "-t", "0", "{name}"],
            remove: &["--remote", "rm", "-f", "-t", "0", "{name}"],
        }),
    },
];

fn nothing(_: &Path, _: &[&str]) -> io::Result<()> {
    Ok(())
}
