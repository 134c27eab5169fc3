//! Nomad's own command line. It has a word for each step, and none for a whole run, so a shell says them.

use std::fs;

use agentkernel_core::{Yardstick, YardstickLife};

/// Its jobs have none of the walls that these have besides Docker's, nor an agent.
pub const YARDSTICKS: &[Yardstick] = &[Yardstick {
    name: "nomad",
    program: "sh",
    version: &["-c", "nomad version"],
    prepare: |directory, _| fs::write(directory.join("life.sh"), include_str!("life.sh")),
    place: None,
    run: &["{dir}/life.sh", "run", "{name}", "{image}", "{command}"],
    life: Some(YardstickLife {
        create: &["{dir}/life.sh", "create", "{name}", "{image}"],
        start: &["{dir}/life.sh", "start", "{name}", "{image}"],
        exec: &["{dir}/life.sh", "exec", "{name}", "{image}", "{command}"],
        stop: &[],
        remove: &["{dir}/life.sh", "remove", "{name}", "{image}"],
    }),
}];
