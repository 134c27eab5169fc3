//! What the agent of a living sandbox does with clients and with commands that mean no good.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agentkernel_core::{Attachment, Backend, Command, ImageFacts, Process, Spec};
use agentkernel_engine::{Dial, DialError};
use agentkernel_native::NATIVE;
use agentkernel_protocol::{CommandId, MAX_LONG_FRAME, Role, Start, ToAgent};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;
use agentkernel_wire::SpecRecord;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::clients::ticks;
use crate::common::{Home, need_client, pause, until};
use crate::house::store;

/// How long an agent may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A living sandbox.
struct Scene {
    home: Home,
    socket: PathBuf,
    process: Process,
    pid: i32,
}

impl Scene {
    /// One that is made with these flags, in which commands sleep.
    fn new(home: Home, flags: &[&str]) -> Self {
        home.must(&[&["create", "--start", "box"], flags].concat());
        let record = store(&home).find("box").unwrap();
        let spec: Spec = SpecRecord::from_json(&record.spec).unwrap().try_into().unwrap();
        let command = Command { argv: vec!["sleep".into(), "1000".into()], ..Command::default() };
        let process = NATIVE.process(&spec, &command, &ImageFacts::default).unwrap();
        let pid = record.process.unwrap().pid;
        let socket = home.path("runtime/agentkernel/sandboxes").join(format!("{}.sock", record.id));
        Self { home, socket, process, pid }
    }

    fn dial(&self) -> Dial {
        Dial::connect(&self.socket).unwrap()
    }

    fn start(&self, role: Role) -> impl FnOnce(CommandId) -> ToAgent + use<> {
        let start = Start { process: self.process.clone(), terminal: None, role };
        move |command| ToAgent::Start { command, start: Box::new(start) }
    }

    fn background(&self, number: u32) -> impl FnOnce(CommandId) -> ToAgent + use<> {
        self.start(Role::Background { number, time_limit: None })
    }

    /// That it serves others as ever.
    fn is_well(&self) {
        assert_eq!(self.home.must(&["exec", "box", "--", "echo", "there"]), "there\n");
    }

    /// How many descriptors its agent has; nothing where that can't be known.
    fn descriptors(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count())
    }

    fn end(&self) {
        self.home.must(&["rm", "-f", "box"]);
    }
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// Waits until the agent lets a client go.
fn is_let_go(link: impl AsFd) {
    let mut gone = [Interest::gone(link.as_fd())];
    assert!(descriptor::poll(&mut gone, Some(Duration::from_secs(20))).unwrap(), "it is kept");
}

fn say(dial: &Dial, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    // It may be let go in the middle of it.
    let _ = socket::send(dial.as_fd(), bytes, descriptors);
}

#[test]
fn orders_out_of_order_are_refused_and_cost_the_others_nothing() {
    let home = Home::new("orders");
    need_client!(home);
    let scene = Scene::new(home, &[]);
    scene.is_well();
    let before = scene.descriptors();
    let null = null();
    let streams = [null.as_fd(); 3];

    let mut dial = scene.dial();
    let attach = |command| ToAgent::Attach {
        command,
        attachment: Attachment::User {
            uid: 0,
            gid: 0,
            home: c"root".into(),
            passwd: c"".into(),
            group: c"".into(),
        },
    };
    assert!(matches!(dial.ask(attach, &[], PATIENCE), Err(DialError::Refused(_))));
    let unknown = |command| ToAgent::Background { command, number: 77, signal: 9 };
    assert!(matches!(dial.ask(unknown, &[], PATIENCE), Err(DialError::Refused(_))));
    // Of commands that there are not.
    dial.say(&ToAgent::Kill { command: 99 }, &[]).unwrap();
    dial.say(&ToAgent::Signal { command: 99, signal: 9 }, &[]).unwrap();
    dial.ask(|command| ToAgent::List { command }, &[], PATIENCE).unwrap();

    // Without streams, or with too few.
    for few in 0..3 {
        let dial = scene.dial();
        dial.say(&scene.start(Role::Foreground)(7), &streams[..few]).unwrap();
        is_let_go(dial);
    }
    // Twice under one number: both go.
    let mut twice = scene.dial();
    twice.ask(scene.start(Role::Foreground), &streams, PATIENCE).unwrap();
    twice.say(&scene.start(Role::Foreground)(1), &streams).unwrap();
    is_let_go(twice);
    let mut twice = scene.dial();
    twice.ask(scene.background(5), &streams, PATIENCE).unwrap();
    twice.say(&scene.background(5)(2), &streams).unwrap();
    is_let_go(twice);
    // The one in the background goes on, as it was.
    let listed = dial.ask(|command| ToAgent::List { command }, &[], PATIENCE).unwrap().listed;
    assert_eq!(listed, [5]);
    let kill = |command| ToAgent::Background { command, number: 5, signal: 9 };
    dial.ask(kill, &[], PATIENCE).unwrap();

    drop(dial);
    scene.is_well();
    until("all descriptors to be closed again", || scene.descriptors() <= before);
    scene.end();
}

#[test]
fn nonsense_ends_its_link_and_no_other() {
    let home = Home::new("frames");
    need_client!(home);
    let scene = Scene::new(home, &[]);
    scene.is_well();
    let before = scene.descriptors();
    let too_long = (MAX_LONG_FRAME as u32).to_le_bytes();
    let bodies = [&[1, 0, 0, 0, 1][..], &[2, 0, 0, 0, 66, 0], &[6, 0, 0, 0, 64, 0, 0, 0, 0, 65]];
    for bytes in
        [&[0; 4][..], &[255; 64], &too_long, b"GET / HTTP/1.1\r\n\r\n"].iter().chain(&bodies)
    {
        let dial = scene.dial();
        say(&dial, bytes, &[]);
        is_let_go(dial);
    }
    // More descriptors than anything needs.
    let (generous, null) = (scene.dial(), null());
    for _ in 0..4 {
        say(&generous, &[255, 0, 0, 0, 66][..1], &[null.as_fd(); socket::MAX_DESCRIPTORS]);
    }
    is_let_go(generous);
    // Long frames that never end keep nobody else waiting, nor do those who never listen.
    let slow: Vec<Dial> = (0..8).map(|_| scene.dial()).collect();
    let length = (MAX_LONG_FRAME as u32 - 4).to_le_bytes();
    for dial in &slow {
        say(dial, &[&length[..], &[66; 256 * 1024]].concat(), &[null.as_fd(); 3]);
    }
    let deaf = scene.dial();
    let list = ToAgent::List { command: 1 }.encode().unwrap();
    while socket::send_now(deaf.as_fd(), &list.repeat(100), &[]).is_ok() {}
    scene.is_well();
    drop(slow);
    is_let_go(deaf);
    scene.is_well();
    until("all descriptors to be closed again", || scene.descriptors() <= before);
    scene.end();
}

#[test]
fn many_commands_are_listed_and_ended_at_once() {
    let home = Home::new("commands");
    need_client!(home);
    let scene = Scene::new(home, &[]);
    let (mut dial, null) = (scene.dial(), null());
    let numbers: Vec<u32> = (1..=150).collect();
    for number in &numbers {
        dial.ask(scene.background(*number), &[null.as_fd(); 3], PATIENCE).unwrap();
    }
    let listed = dial.ask(|command| ToAgent::List { command }, &[], PATIENCE).unwrap().listed;
    assert_eq!(listed, numbers);
    scene.is_well();
    scene.home.must(&["kill", "box"]);
    until("all to end", || {
        let list = |command| ToAgent::List { command };
        scene.dial().ask(list, &[], PATIENCE).unwrap().listed.is_empty()
    });
    scene.is_well();
    scene.end();
}

#[test]
fn a_crowd_of_clients_is_no_danger_to_an_agent() {
    let home = Home::new("crowd");
    need_client!(home);
    let scene = Scene::new(home, &[]);
    scene.is_well();
    let connect = || socket::connect(&scene.socket, PATIENCE).unwrap();
    let crowd: Vec<OwnedFd> = (0..300).map(|_| connect()).collect();
    drop(crowd);
    scene.is_well();
    // The same for one that may not have many descriptors.
    let limit = Rlimit { current: Some(32), ..getrlimit(Resource::Nofile) };
    if prlimit(Pid::from_raw(scene.pid), Resource::Nofile, limit).is_err() {
        println!("skipped in part: the limit of another process can't be set here");
        return scene.end();
    }
    let crowd: Vec<OwnedFd> = (0..100).map(|_| connect()).collect();
    let (begin, before) = (Instant::now(), ticks(scene.pid.cast_unsigned()));
    while begin.elapsed() < Duration::from_millis(500) {
        pause();
    }
    let used = ticks(scene.pid.cast_unsigned()) - before;
    assert!(used < 15, "it used {used} hundredths of a second in half a second");
    drop(crowd);
    scene.is_well();
    scene.end();
}

#[test]
fn a_command_can_do_nothing_to_the_agent() {
    let home = Home::new("inside");
    need_client!(home);
    let scene = Scene::new(home, &["--pids", "32"]);
    let inside = |script: &str| scene.home.run(&["exec", "box", "--", "sh", "-c", script]);
    // Signals to process 1, and then to everything, which is the process that is ready for the
    // next command, too.
    let signals =
        "for s in HUP INT TERM KILL STOP CHLD SEGV USR1; do kill -$s 1; done 2> /dev/null";
    inside(signals);
    scene.is_well();
    for _ in 0..10 {
        inside("kill -KILL -1");
        scene.is_well();
    }
    // Somebody else's signal to everything may stop what is ready, too.
    scene.home.must(&["kill", "-s", "STOP", "box"]);
    scene.is_well();
    for file in ["stat", "mem", "fd/0", "environ", "root"] {
        let seen = inside(&format!("cat /proc/1/{file}"));
        assert!(!seen.status.success() || file == "stat", "{file}: {seen:?}");
    }
    // No process is left for anybody; the agent says so, and is well when there is again.
    let sleep = || scene.home.run(&["exec", "-d", "box", "--", "sleep", "1000"]);
    let refused = std::iter::repeat_with(sleep).take(40).find(|run| !run.status.success());
    let refused = refused.expect("more processes than the limit");
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    let told = scene.home.must(&["ps", "box"]);
    assert!(!told.contains("lost"), "what was refused is none of its commands: {told}");
    scene.home.must(&["kill", "box"]);
    scene.is_well();
    // Nor is there room for anything.
    let full =
        "for place in /tmp /run /dev/shm; do head -c 2g /dev/zero > $place/full; done 2> /dev/null";
    inside(full);
    scene.is_well();
    scene.home.must(&["exec", "-d", "box", "--", "true"]);
    scene.home.must(&["stop", "box"]);
    scene.end();
}
