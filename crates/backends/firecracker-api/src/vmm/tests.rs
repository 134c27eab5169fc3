//! With a Firecracker that has no machines, and is stricter than the real one.

use std::path::Path;

use super::*;
use crate::scene::Scene;

impl Scene {
    fn boot(&self) -> Result<Machine, MachineError> {
        Machine::boot_within(&self.plan(), None, Duration::from_secs(60))
    }
}

/// Why a machine does not boot.
fn refusal(booted: Result<Machine, MachineError>) -> String {
    booted.err().map(|error| error.to_string()).unwrap_or_default()
}

fn echo(connection: &OwnedFd, text: &[u8]) -> Vec<u8> {
    socket::send(connection.as_fd(), text, &[]).unwrap();
    let mut answer = vec![0; text.len()];
    let mut read = 0;
    while read < answer.len() {
        match descriptor::read(connection.as_fd(), &mut answer[read..]).unwrap() {
            0 => break,
            more => read += more,
        }
    }
    answer
}

#[test]
fn a_machine_that_has_said_that_it_listens_takes_connections_and_leaves_nothing() {
    let scene = Scene::of("answers");
    let mut machine = scene.boot().unwrap();
    let connections = [machine.connect().unwrap(), machine.connect().unwrap()];
    let folder = machine.folder.0.clone();
    machine.close_doors();
    assert!(!folder.exists());
    for connection in &connections {
        assert_eq!(echo(connection, b"a word"), b"a word");
    }
    let process = Path::new("/proc").join(machine.child.pid().to_string());
    drop(machine);
    assert!(!process.exists());
    assert_eq!(descriptor::read(connections[0].as_fd(), &mut [0]).unwrap(), 0);
}

#[test]
fn what_firecracker_refuses_is_told_in_its_words() {
    let scene = Scene::new(b"no kernel");
    let told = refusal(scene.boot());
    assert!(told.contains("refuses to start the machine") && told.contains("magic"), "{told}");
    let scene = Scene::of("answers");
    let booted = |change: fn(&mut Plan)| {
        let mut plan = scene.plan();
        change(&mut plan);
        refusal(Machine::boot_within(&plan, None, Duration::from_secs(60)))
    };
    let told = booted(|plan| plan.kernel = "/no/kernel".into());
    assert!(told.contains("/no/kernel"), "{told}");
    let told = booted(|plan| plan.disks[0].path = "/no/disk".into());
    assert!(told.contains("/no/disk"), "{told}");
    let told = booted(|plan| plan.processors = 33);
    assert!(told.contains("number of vCPUs"), "{told}");
    let told = booted(|plan| plan.program = "/no/firecracker".into());
    assert!(told.contains("can't start Firecracker"), "{told}");
    let told = booted(|plan| plan.program = "/bin/true".into());
    assert!(told.contains("has ended"), "{told}");
}

#[test]
fn who_does_not_come_up_is_told_with_its_last_words() {
    let told = refusal(Scene::of("panics").boot());
    assert!(told.contains("has ended") && told.contains("Kernel panic - not syncing"), "{told}");
    let told = refusal(Scene::of("stops").boot());
    assert!(told.contains("has ended") || told.contains("start the machine"), "{told}");
    let scene = Scene::of("hangs");
    let told = refusal(Machine::boot_within(&scene.plan(), None, Duration::from_millis(300)));
    assert!(told.contains("did not boot") && told.contains("waiting for nothing"), "{told}");
}

#[test]
fn who_takes_no_connections_is_no_machine_of_use() {
    let scene = Scene::of("refuses");
    let machine = scene.boot().unwrap();
    let told = machine.connect().unwrap_err().to_string();
    assert!(told.contains("can't connect to the machine"), "{told}");
}

#[test]
fn a_machine_that_is_killed_ends_its_connections() {
    let machine = Scene::of("answers").boot().unwrap();
    let connection = machine.connect().unwrap();
    machine.child.signal(signal::SIGKILL).unwrap();
    assert_eq!(descriptor::read(connection.as_fd(), &mut [0]).unwrap(), 0);
    let told = machine.connect().unwrap_err().to_string();
    assert!(told.contains("can't connect"), "{told}");
}
