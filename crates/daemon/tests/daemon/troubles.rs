//! What can go wrong with a daemon and its pools, and what becomes of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{
    Home, family, groups, is_dead, need_client, nurseries_and_inits, state, until,
};

/// Sends a signal to the process `pid`.
fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    // It may have died a moment ago.
    let _ = kill_process(pid, signal);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let home = Home::new("two");
    need_client!(home);
    let daemon = home.daemon();
    let second = home.daemon_program().output().unwrap();
    assert_eq!(second.status.code(), Some(125));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.starts_with("error: a daemon is running already, as process "), "{said}");
    assert!(said.contains(&daemon.id().to_string()), "{said}");
    let in_background = home.run(&["daemon", "start", "-b"]);
    assert_eq!(in_background.status.code(), Some(125), "{in_background:?}");
    home.must(&["daemon", "status"]);
    home.end(daemon);
}

#[test]
fn what_a_killed_daemon_leaves_is_in_nobodys_way() {
    let home = Home::new("stale");
    need_client!(home);
    let mut first = home.daemon();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(home.socket().exists(), "it had no time to remove it");
    assert_eq!(home.must(&["run", "--", "echo", "cold"]), "cold\n");
    let status = home.run(&["daemon", "status"]);
    assert_eq!(status.status.code(), Some(125));
    home.end(home.daemon());
}

#[test]
fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
    let home = Home::new("held");
    need_client!(home);
    let mut first = home.daemon();
    first.kill().unwrap();
    first.wait().unwrap();
    let path = home.socket().with_file_name("daemon.lock");
    // As a copy of it would that is about to become another program.
    let lock = fs::File::open(&path).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut second = home.daemon_program().stdout(Stdio::piped()).spawn().unwrap();
    let opened = format!("/proc/{}/fd", second.id());
    until("the lock to be tried", || {
        let all = fs::read_dir(&opened).into_iter().flatten().flatten();
        all.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to == path)
    });
    drop(lock);
    let mut line = String::new();
    BufReader::new(second.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    home.end(second);
}

#[test]
fn signals_end_it_as_a_stop_does() {
    let home = Home::new("signals");
    need_client!(home);
    home.must(&["pool", "set", "pool", "2"]);
    for kind in [Signal::TERM, Signal::INT] {
        let mut daemon = home.daemon();
        home.until_full("pool");
        let all = family(daemon.id());
        signal(daemon.id(), kind);
        assert!(daemon.wait().unwrap().success());
        assert_eq!(family(daemon.id()), [0; 0]);
        assert!(groups(&all).is_empty());
        assert!(!home.socket().exists());
    }
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_a_clear_error() {
    let home = Home::new(&"long".repeat(30));
    need_client!(home);
    let refused = home.daemon_program().output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("too long") && said.contains("\nhint: "), "{said}");
    // What needs no socket works.
    assert_eq!(home.must(&["run", "--", "echo", "cold"]), "cold\n");
}

#[test]
fn folders_that_cannot_be_written_are_a_clear_error() {
    let home = Home::new("readonly");
    for variable in ["XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        // Where not even root can make anything.
        let refused = home.daemon_program().env(variable, "/proc/sys").output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(125), "{variable}: {said}");
        assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{variable}: {said}");
        assert!(said.contains("/proc/sys"), "{variable}: {said}");
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn a_pool_whose_boots_fail_says_why_and_recovers() {
    let home = Home::new("failing");
    need_client!(home);
    let image = home.path("image");
    for folder in ["bin", "proc", "dev", "etc"] {
        fs::create_dir_all(image.join(folder)).unwrap();
    }
    let flag = format!("rootfs:{}", image.display());
    home.must(&["pool", "set", "image", "1", "--image", &flag]);
    let daemon = home.daemon();
    home.until_full("image");
    let away = home.path("away");
    fs::rename(&image, &away).unwrap();
    // What is ready needs it no more, what takes its place does.
    let (_, inits) = nurseries_and_inits(&daemon);
    inits.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let pool = home.until_pool("image", |pool| pool["failures"].as_u64() >= Some(2));
    let why = pool["last_failure"].as_str().unwrap_or_default();
    assert!(why.contains(image.to_str().unwrap()), "{pool}");
    let told = String::from_utf8(home.run(&["pool", "ls"]).stderr).unwrap();
    assert!(told.contains(image.to_str().unwrap()), "{told}");
    // It does not try for ever as fast as it can.
    let failures = |home: &Home| home.pool("image")["failures"].as_u64().unwrap();
    until("the back-off", || {
        let before = failures(&home);
        (0..60).for_each(|_| crate::common::pause());
        failures(&home) <= before + 4
    });
    fs::rename(&away, &image).unwrap();
    let pool = home.until_full("image");
    assert!(pool["last_failure"].is_null(), "{pool}");
    home.end(daemon);
}

#[test]
fn a_nursery_that_was_killed_is_replaced_and_leaves_nothing() {
    let home = Home::new("nursery");
    need_client!(home);
    home.must(&["pool", "set", "pool", "4"]);
    let daemon = home.daemon();
    for _ in 0..3 {
        home.until_full("pool");
        let (nurseries, inits) = nurseries_and_inits(&daemon);
        assert!(!nurseries.is_empty() && inits.len() >= 4, "{nurseries:?} {inits:?}");
        let groups_before: Vec<u32> = nurseries.clone();
        nurseries.iter().for_each(|pid| signal(*pid, Signal::KILL));
        // Before that one could be handed out that dies while its command runs, which its client
        // can't run again. After that nobody notices.
        until("its places to be dead", || inits.iter().all(|pid| is_dead(*pid)));
        assert_eq!(home.must(&["run", "--", "echo", "there"]), "there\n");
        until("the old places to go", || {
            let now = family(daemon.id());
            nurseries.iter().chain(&inits).all(|pid| !now.contains(pid))
        });
        until("their groups to go", || groups(&groups_before).is_empty());
    }
    home.until_full("pool");
    home.end(daemon);
}

#[test]
fn a_nursery_that_was_stopped_keeps_nobody_waiting() {
    let home = Home::new("stopped");
    need_client!(home);
    home.must(&["pool", "set", "pool", "2"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let (nurseries, _) = nurseries_and_inits(&daemon);
    nurseries.iter().for_each(|pid| signal(*pid, Signal::STOP));
    for _ in 0..6 {
        assert_eq!(home.must(&["run", "--", "echo", "there"]), "there\n");
    }
    home.must(&["daemon", "status"]);
    home.must(&["pool", "rm", "pool"]);
    home.must(&["daemon", "status"]);
    nurseries.iter().for_each(|pid| signal(*pid, Signal::CONT));
    home.end(daemon);
}

#[test]
fn a_ready_sandbox_that_was_killed_is_never_handed_out() {
    let home = Home::new("dead");
    need_client!(home);
    home.must(&["pool", "set", "pool", "3"]);
    let daemon = home.daemon();
    for _ in 0..5 {
        home.until_full("pool");
        let (_, inits) = nurseries_and_inits(&daemon);
        assert!(inits.len() >= 3, "{inits:?}");
        inits.iter().for_each(|pid| signal(*pid, Signal::KILL));
        // Before that one could be handed out that still lives, and is lost by its client.
        until("the killed to be dead", || inits.iter().all(|pid| is_dead(*pid)));
        for _ in 0..3 {
            assert_eq!(home.must(&["run", "--", "echo", "there"]), "there\n");
        }
    }
    let pool = home.until_full("pool");
    assert!(pool["dead"].as_u64() > Some(0), "{pool}");
    home.end(daemon);
}

#[test]
fn pools_can_be_changed_while_they_are_used() {
    let home = Home::new("changed");
    need_client!(home);
    home.must(&["pool", "set", "pool", "2"]);
    let daemon = home.daemon();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let runner = || {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) || count < 10 {
                assert_eq!(home.must(&["run", "--", "echo", "there"]), "there\n");
                count += 1;
            }
        };
        let runners = [scope.spawn(runner), scope.spawn(runner)];
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for size in ["5", "1", "3", "2"] {
                home.must(&["pool", "set", "pool", size]);
                home.must(&["pool", "rm", "pool"]);
                home.must(&["pool", "set", "pool", size, "--max-age", "1s"]);
                home.until_pool("pool", |pool| pool["ready"].as_u64() > Some(0));
            }
        }));
        done.store(true, Ordering::Relaxed);
        runners.into_iter().for_each(|runner| runner.join().unwrap());
        outcome.unwrap();
    });
    home.end(daemon);
}

#[test]
fn a_pool_that_is_removed_leaves_alone_what_was_leased() {
    let home = Home::new("leased");
    need_client!(home);
    home.must(&["pool", "set", "pool", "2"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let mut client = home.client().unwrap();
    client.args(["run", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let (mut input, mut output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    input.write_all(b"before\n").unwrap();
    output.read_exact(&mut [0; 7]).unwrap();
    assert_eq!(home.pool("pool")["handed_out"], 1);
    home.must(&["pool", "rm", "pool"]);
    until("the pool's own sandboxes to go", || nurseries_and_inits(&daemon).1.len() == 1);
    input.write_all(b"after\n").unwrap();
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "after\n");
    assert!(client.wait().unwrap().success());
    home.end(daemon);
}

#[test]
fn a_sandbox_that_dies_before_it_has_read_its_command_is_replaced() {
    let home = Home::new("unread");
    need_client!(home);
    home.must(&["pool", "set", "pool", "1"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let (_, inits) = nurseries_and_inits(&daemon);
    // It lives, so it is handed out, but reads nothing.
    inits.iter().for_each(|pid| signal(*pid, Signal::STOP));
    let mut client = home.client().unwrap();
    client.args(["run", "--", "echo", "there"]).stdout(Stdio::piped());
    let client = client.spawn().unwrap();
    until("the order to be sent", || {
        home.pool("pool")["handed_out"] == 1 && state(client.id()) == 'S'
    });
    inits.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "there\n", "{output:?}");
    home.end(daemon);
}

#[test]
fn a_daemon_that_is_stopped_is_passed_over() {
    let home = Home::new("frozen");
    need_client!(home);
    let daemon = home.daemon();
    signal(daemon.id(), Signal::STOP);
    let mut clients: Vec<Child> = (0..3)
        .map(|_| {
            let mut client = home.client().unwrap();
            client.args(["run", "--", "echo", "cold"]).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for client in &mut clients {
        assert!(client.wait().unwrap().success());
        let mut said = String::new();
        client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "cold\n");
    }
    signal(daemon.id(), Signal::CONT);
    home.end(daemon);
}
