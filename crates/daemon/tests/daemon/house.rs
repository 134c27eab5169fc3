//! What the daemon does for sandboxes that live.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::common::{Home, pause};
use agentkernel_store::{Dirs, Store};
use serde_json::Value;

pub fn store(home: &Home) -> Store {
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "XDG_STATE_HOME" => Some(home.path("state").into()),
            "XDG_RUNTIME_DIR" => Some(home.path("runtime").into()),
            _ => None,
        }
    };
    let uid = rustix::process::geteuid().as_raw();
    Store::open(&Dirs::find(variable, uid).unwrap()).unwrap()
}

/// The sandbox of this name, as `ps -a` tells it.
fn shown(home: &Home, name: &str) -> Option<Value> {
    let all: Value = serde_json::from_str(&home.must(&["ps", "-a", "--json"])).unwrap();
    all["sandboxes"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        pause();
    }
}

#[test]
fn what_ran_when_the_machine_went_down_is_started_again() {
    let home = Home::new("reboot");
    if home.client().is_none() {
        println!("skipped: agentkernel was not built beside agentkerneld");
        return;
    }
    for name in ["ran", "rested"] {
        home.must(&["create", name]);
        home.must(&["start", name]);
        home.must(&["exec", name, "--", "sh", "-c", "echo kept > ~/file"]);
    }
    home.must(&["stop", "rested"]);
    // As a machine leaves it that goes down: the processes are gone, and were of another boot.
    let pid = shown(&home, "ran").unwrap()["pid"].as_i64().unwrap();
    let init = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    let store = store(&home);
    let id = store.find("ran").unwrap().id;
    let process = store.find("ran").unwrap().process.unwrap();
    wait_until("it does not die", || !process.is_alive().unwrap());
    store
        .update(&id, |record| {
            record.process.as_mut().unwrap().boot_id = "another".into();
        })
        .unwrap();
    let mut daemon = home.daemon();
    wait_until("it is not started again", || shown(&home, "ran").unwrap()["state"] == "running");
    assert_eq!(home.must(&["exec", "ran", "--", "cat", "/home/agent/file"]), "kept\n");
    assert_eq!(shown(&home, "rested").unwrap()["state"], "stopped");
    home.must(&["daemon", "stop"]);
    daemon.wait().unwrap();
    // It does not depend on the daemon.
    assert_eq!(shown(&home, "ran").unwrap()["state"], "running");
    home.must(&["rm", "-f", "ran", "rested"]);
}

#[test]
fn what_has_died_or_has_had_its_time_is_put_away_without_being_asked_for() {
    let home = Home::new("house");
    if home.client().is_none() {
        println!("skipped: agentkernel was not built beside agentkerneld");
        return;
    }
    let mut daemon = home.daemon();
    home.must(&["create", "--ttl", "400ms", "resting"]);
    home.must(&["create", "--start", "killed"]);
    let store = store(&home);
    let process = store.find("killed").unwrap().process.unwrap();
    let init = rustix::process::Pid::from_raw(process.pid).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    // By the store alone: whoever asks agentkernel would put things in order.
    wait_until("the dead one is not put away", || {
        store.find("killed").unwrap().state == agentkernel_store::State::Stopped
    });
    wait_until("the old one is not removed", || store.find("resting").is_err());
    assert!(home.must(&["audit", "--kind", "expired"]).contains("resting"));
    home.must(&["rm", "killed"]);
    home.must(&["daemon", "stop"]);
    daemon.wait().unwrap();
}
