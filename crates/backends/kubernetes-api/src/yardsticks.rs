//! The cluster's own command line, as its manual has it used.

use agentkernel_core::{Yardstick, YardstickLife};

/// Its pods have none of the walls that these have besides the runtime's, nor an agent.
pub const YARDSTICKS: &[Yardstick] = &[Yardstick {
    name: "kubectl",
    program: "kubectl",
    version: &["version", "--client"],
    prepare: |_, _| Ok(()),
    place: None,
    run: &[
        "run",
        "{name}",
        "--image={image}",
        "--image-pull-policy=IfNotPresent",
        "--restart=Never",
        "--attach",
        "--rm",
        "--quiet",
        "--command",
        "--",
        "{command}",
    ],
    life: Some(YardstickLife {
        create: &[
            "run",
            "{name}",
            "--image={image}",
            "--image-pull-policy=IfNotPresent",
            "--restart=Never",
            "--command",
            "--",
            "/bin/sleep",
            "3600",
        ],
        start: &["wait", "--for=condition=Ready", "--timeout=60s", "pod/{name}"],
        exec: &["exec", "{name}", "--", "{command}"],
        stop: &[],
        // Or it would wait for a process 1 that does not mind what it asks.
        remove: &["delete", "pod", "{name}", "--now"],
    }),
}];
