//! What a run gets out of a pool: a clean sandbox, for itself, once; and its command's true end.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;

use serde_json::Value;

use crate::common::{Home, is_dead, need_client, nurseries_and_inits, pause, until};

/// Runs with these words, which must take a sandbox out of a pool; its exit status and report.
fn pooled(home: &Home, words: &[&str]) -> (Option<i32>, Value) {
    let report = home.path("report.json");
    let flags = ["run", "--report", report.to_str().unwrap()];
    let output = home.run(&[&flags, words].concat());
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["route"]["kind"], "pool", "{words:?}: {report} {output:?}");
    (output.status.code(), report)
}

/// The processes of this machine that have `mark` among their arguments.
fn with_mark(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
            // Itself and the client, which has it there, too, do not count.
            && line.starts_with(b"sleep")
    })
    .count()
}

#[test]
fn every_run_gets_a_clean_sandbox() {
    let home = Home::new("clean");
    need_client!(home);
    home.must(&["pool", "set", "pool", "3"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let script = "for place in ~ /tmp /run /dev/shm; do
            ls -A $place; echo mark > $place/mark || exit 1
        done";
    let first = home.must(&["run", "--", "sh", "-c", script]);
    for round in 1..12 {
        home.until_pool("pool", |pool| pool["ready"].as_u64() > Some(0));
        let output = home.must(&["run", "--", "sh", "-c", script]);
        assert!(!output.contains("mark"), "round {round}: {output}");
        assert_eq!(output, first);
    }
    let pool = home.pool("pool");
    assert_eq!(pool["handed_out"], 12, "{pool}");
    home.end(daemon);
}

#[test]
fn endings_are_told_apart() {
    let home = Home::new("endings");
    need_client!(home);
    home.must(&["pool", "set", "pool", "2"]);
    home.must(&["pool", "set", "small", "1", "--memory", "64m"]);
    let daemon = home.daemon();
    let pools = ["pool", "small"];
    for (words, code, kind) in [
        (&["--", "sh", "-c", "exit 3"][..], 3, "exited"),
        (&["--", "sh", "-c", "kill -TERM $$"], 143, "signaled"),
        (&["--", "sh", "-c", "kill -KILL $$"], 137, "signaled"),
        (&["--timeout", "200ms", "--", "sleep", "60"], 124, "timed_out"),
        (&["--memory", "64m", "--", "tail", "/dev/zero"], 137, "out_of_memory"),
        // Whose child died of that, but which went on.
        (&["--memory", "64m", "--", "sh", "-c", "tail /dev/zero; exit 4"], 4, "exited"),
    ] {
        pools.iter().for_each(|pool| _ = home.until_full(pool));
        let (status, report) = pooled(&home, words);
        assert_eq!(status, Some(code), "{words:?}: {report}");
        assert_eq!(report["ended"]["kind"], kind, "{words:?}: {report}");
    }
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        home.until_full("pool");
        assert_eq!(home.run(&["run", "--", program]).status.code(), Some(code));
    }
    home.end(daemon);
}

#[test]
fn a_killed_client_takes_its_command_along() {
    let home = Home::new("client");
    need_client!(home);
    home.must(&["pool", "set", "pool", "2"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let mark = format!("7{}", std::process::id());
    let script = format!("sleep {mark} & setsid sleep {mark} & sleep {mark}");
    let mut client = home.client().unwrap();
    let mut client = client.args(["run", "--", "sh", "-c", &script]).spawn().unwrap();
    until("the command to run", || with_mark(&mark) == 3);
    client.kill().unwrap();
    assert_eq!(client.wait().unwrap().signal(), Some(9));
    until("the command to die", || with_mark(&mark) == 0);
    home.until_full("pool");
    home.end(daemon);
}

#[test]
fn places_whose_runs_are_over_do_not_pile_up() {
    let home = Home::new("over");
    need_client!(home);
    home.must(&["pool", "set", "pool", "4"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let (_, fresh) = nurseries_and_inits(&daemon);
    assert_eq!(fresh.len(), 4);
    let mut from_pool = 0;
    while from_pool < 4 {
        home.must(&["run", "--", "true"]);
        from_pool = home.pool("pool")["handed_out"].as_u64().unwrap_or(0);
    }
    until("the used ones to be gone", || fresh.iter().all(|pid| is_dead(*pid)));
    home.until_full("pool");
    until("none but the ready ones to be there", || nurseries_and_inits(&daemon).1.len() == 4);
    home.end(daemon);
}

#[test]
fn no_two_runs_at_once_share_a_sandbox() {
    let home = Home::new("shared");
    need_client!(home);
    home.must(&["pool", "set", "pool", "4"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let script =
        "test ! -e /tmp/mark && touch /tmp/mark && test $(ls /proc | grep -c '^[0-9]') -lt 8";
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| _ = home.must(&["run", "--", "sh", "-c", script])));
        }
    });
    assert!(home.pool("pool")["handed_out"].as_u64() >= Some(4));
    home.end(daemon);
}

#[test]
fn stopping_waits_for_the_commands_of_leases() {
    let home = Home::new("drain");
    need_client!(home);
    home.must(&["pool", "set", "pool", "1"]);
    let mut daemon = home.daemon();
    home.until_full("pool");
    let go = home.path("work/go");
    let script = "echo begun > begun; while ! test -e go; do sleep 0.01; done; echo done";
    let mut client = home.client().unwrap();
    client.args(["run", "--project=.:rw", "--", "sh", "-c", script]).stdout(Stdio::piped());
    let client = client.spawn().unwrap();
    until("the command to run", || home.path("work/begun").exists());
    let mut stop = home.client().unwrap();
    let mut stop = stop.args(["daemon", "stop"]).spawn().unwrap();
    // A cold run meanwhile, for nobody is let in any more.
    assert_eq!(home.must(&["run", "--", "echo", "cold"]), "cold\n");
    (0..20).for_each(|_| pause());
    assert!(daemon.try_wait().unwrap().is_none(), "it did not wait");
    fs::write(go, "").unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    assert!(output.status.success());
    assert!(stop.wait().unwrap().success());
    assert!(daemon.wait().unwrap().success());
}
