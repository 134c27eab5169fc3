//! Commands, as a client meets them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_protocol::{FromAgent, Role, Stage, Status, ToAgent};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{signal, socket, terminal};

use crate::scene::{Client, Home, Mux, PATIENCE, Run, read_all, read_now, run, sh, wait};

const DONE: Status = Status::Exited(0);

pub fn streams_come_back_and_stay_apart(home: Home) {
    let _mux = Mux::new(&home);
    assert_eq!(run(&home, &["echo", "hello"]), (DONE, "hello\n".into(), "".into()));
    let both = sh(&home, "echo out; echo err >&2; echo more; exit 7");
    assert_eq!(both, (Status::Exited(7), "out\nmore\n".into(), "err\n".into()));
    // A command opens its own streams, whoever made them.
    let own = sh(&home, "echo a > /dev/stdout; echo b > /dev/stderr; cat /dev/stdin");
    assert_eq!(own, (DONE, "a\n".into(), "b\n".into()));
}

pub fn endings_are_those_of_the_command(home: Home) {
    let _mux = Mux::new(&home);
    assert_eq!(sh(&home, "exit 255").0, Status::Exited(255));
    assert_eq!(sh(&home, "kill -USR1 $$").0, Status::Signaled(10));
    let mut killed = Run::foreground(&home, &["sleep", "1000"]);
    killed.client.say(&ToAgent::Kill { command: 0 }, &[]);
    assert_eq!(killed.client.end_of(0), Status::Signaled(9));
    let mut told = Run::foreground(&home, &["sleep", "1000"]);
    told.client.say(&ToAgent::Signal { command: 0, signal: 15 }, &[]);
    assert_eq!(told.client.end_of(0), Status::Signaled(15));
    // One that is not there, and whose streams end all the same.
    let mut client = Client::connect(&home.path("outer"));
    let (output, to_output) = descriptor::pipe().unwrap();
    let process = home.process(&["/no/such/program"]);
    client.start(0, process, Role::Foreground, None, &[to_output.as_fd(); 3]);
    drop(to_output);
    let word = client.next().unwrap().0;
    let FromAgent::NotStarted { command: 0, stage: Stage::Program, errno: 2 } = word else {
        panic!("{word:?}")
    };
    assert_eq!(read_all(output), b"");
}

/// Bytes that repeat nowhere near.
fn pattern(index: usize) -> [u8; 8] {
    let mut word = index as u64 ^ 0x9e37_79b9_7f4a_7c15;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    (word ^ (word >> 32)).to_le_bytes()
}

pub fn a_hundred_megabytes_go_both_ways_unchanged(home: Home) {
    const WORDS: usize = 100_000_000 / 8;
    let _mux = Mux::new(&home);
    let mut cat = Run::foreground(&home, &["cat"]);
    let input = cat.input.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut at = 0;
        while at < WORDS {
            let block: Vec<u8> = (at..WORDS.min(at + 8192)).flat_map(pattern).collect();
            let mut rest = &block[..];
            while !rest.is_empty() {
                rest = &rest[descriptor::write(input.as_fd(), rest).unwrap()..];
            }
            at += 8192;
        }
    });
    let (mut seen, mut buffer) = (0, [0; 64 * 1024]);
    loop {
        wait(cat.output.as_fd(), Instant::now() + PATIENCE);
        let read = descriptor::read(cat.output.as_fd(), &mut buffer).unwrap();
        if read == 0 {
            break;
        }
        let mut at = 0;
        while at < read {
            let word = pattern(seen / 8);
            let from = seen % 8;
            let most = (8 - from).min(read - at);
            assert_eq!(buffer[at..at + most], word[from..from + most], "at {seen}");
            seen += most;
            at += most;
        }
    }
    writer.join().unwrap();
    assert_eq!(seen, WORDS * 8);
    assert_eq!(cat.client.end_of(0), DONE);
}

pub fn each_end_of_a_stream_is_told_at_the_other(home: Home) {
    let _mux = Mux::new(&home);
    // The end of input.
    let mut count = Run::foreground(&home, &["sh", "-c", "wc -c; echo over"]);
    descriptor::write(count.input.as_ref().unwrap().as_fd(), b"12345").unwrap();
    count.input = None;
    assert_eq!(count.finish(), (DONE, b"5\nover\n".to_vec(), b"".to_vec()));
    // The end of output, while the command goes on.
    let quiet = Run::foreground(&home, &["sh", "-c", "echo x; exec > /dev/null; cat"]);
    let Run { mut client, input, output, errors } = quiet;
    assert_eq!(read_all(output), b"x\n");
    drop(input);
    assert_eq!(client.end_of(0), DONE);
    assert_eq!(read_all(errors), b"");
    // Nobody reads the output: the command is told as ever.
    let endless = Run::foreground(&home, &["yes"]);
    let Run { mut client, input, output, errors } = endless;
    assert_eq!(descriptor::read(output.as_fd(), &mut [0; 2]).unwrap(), 2);
    drop(output);
    assert_eq!(client.end_of(0), Status::Signaled(signal::SIGPIPE as u8));
    drop((input, errors));
    // Even one that only waits for that.
    let silent = Run::foreground(&home, &["tail", "-f", "/dev/null"]);
    let Run { mut client, input, output, errors } = silent;
    drop(output);
    assert!(matches!(client.end_of(0), Status::Signaled(_) | Status::Exited(_)));
    drop((input, errors));
    // The command takes no input any more.
    let full = Run::foreground(&home, &["sh", "-c", "exec 0<&-; echo closed; sleep 1000"]);
    let mut gone = [Interest::gone(full.input.as_ref().unwrap().as_fd())];
    assert!(descriptor::poll(&mut gone, Some(PATIENCE)).unwrap());
}

pub fn an_end_is_told_when_all_output_is_there(home: Home) {
    let _mux = Mux::new(&home);
    for _ in 0..50 {
        let script = "head -c 50000 /dev/zero; head -c 30000 /dev/zero >&2";
        let mut run = Run::foreground(&home, &["sh", "-c", script]);
        assert_eq!(run.client.end_of(0), DONE);
        let there = (read_now(run.output.as_fd()).len(), read_now(run.errors.as_fd()).len());
        assert_eq!(there, (50_000, 30_000));
    }
}

/// The bytes of memory that this process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

pub fn a_reader_that_stops_costs_the_others_nothing(home: Home) {
    const MUCH: usize = 40_000_000;
    let _mux = Mux::new(&home);
    assert_eq!(run(&home, &["echo", "first"]).1, "first\n");
    let before = resident();
    let much = MUCH.to_string();
    let mut slow: Vec<Run> =
        (0..4).map(|_| Run::foreground(&home, &["head", "-c", &much, "/dev/zero"])).collect();
    // One that does not take its input, too.
    let mut deaf = Run::foreground(&home, &["sleep", "1000"]);
    let input = deaf.input.take().unwrap();
    descriptor::set_nonblocking(input.as_fd()).unwrap();
    let begin = Instant::now();
    let mut taken = 0;
    while begin.elapsed() < Duration::from_millis(500) {
        taken += descriptor::write(input.as_fd(), &[0; 4096]).unwrap_or(0);
    }
    assert!(taken < 1 << 20, "{taken} bytes of input were taken for nobody");
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(run(&home, &["echo", "well"]).1, "well\n");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 12 << 20, "{grown} bytes more are held");
    // It was only late.
    let last = slow.pop().unwrap();
    assert_eq!(read_all(last.output).len(), MUCH);
    let mut client = last.client;
    assert_eq!(client.end_of(0), DONE);
    // Those who never read go.
    drop((slow, deaf));
    assert_eq!(run(&home, &["echo", "well"]).1, "well\n");
}

pub fn who_has_nothing_to_do_does_nothing(home: Home) {
    let _mux = Mux::new(&home);
    // Everybody waits for somebody: for room, for output, for input, for an end.
    let full = Run::foreground(&home, &["yes"]);
    let quiet = Run::foreground(&home, &["sleep", "1000"]);
    let left = Run::foreground(&home, &["sh", "-c", "sleep 1000 &"]);
    let mut terminal = Client::connect(&home.path("outer"));
    let process = home.process(&["sleep", "1000"]);
    terminal.start(0, process, Role::Foreground, Some((24, 80)), &[]);
    let controller = terminal.next().unwrap().1.expect("its controlling side");
    let mut rest = Vec::new();
    for _ in 0..20 {
        rest.push(Client::connect(&home.path("outer")));
    }
    let _ = descriptor::poll(&mut [], Some(Duration::from_millis(500)));
    let tasks = || -> Duration {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let of = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
        };
        tasks.map(|task| of(task.unwrap())).sum()
    };
    let before = tasks();
    let _ = descriptor::poll(&mut [], Some(Duration::from_millis(500)));
    let used = tasks() - before;
    assert!(used < Duration::from_millis(20), "{used:?} in half a second");
    drop((full, quiet, left, controller));
}

pub fn fifty_commands_run_at_once(home: Home) {
    let _mux = Mux::new(&home);
    let runs: Vec<Run> = (0..50)
        .map(|number| {
            let script = format!("read line; echo $line {number}; exit {number}");
            Run::foreground(&home, &["sh", "-c", &script])
        })
        .collect();
    for (number, mut run) in runs.into_iter().enumerate() {
        let input = run.input.take().unwrap();
        descriptor::write(input.as_fd(), b"number\n").unwrap();
        let (status, output, _) = run.finish();
        assert_eq!(output, format!("number {number}\n").into_bytes());
        assert_eq!(status, Status::Exited(number as u8));
    }
    // And on one link, where each has its own.
    let mut client = Client::connect(&home.path("outer"));
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let outputs: Vec<OwnedFd> = (0..20)
        .map(|number| {
            let (output, to_output) = descriptor::pipe().unwrap();
            let process = home.process(&["echo", &number.to_string()]);
            let streams = [null.as_fd(), to_output.as_fd(), to_output.as_fd()];
            client.start(number, process, Role::Foreground, None, &streams);
            output
        })
        .collect();
    let mut ended = 0;
    while ended < 20 {
        match client.next().unwrap().0 {
            FromAgent::Started { .. } => {}
            FromAgent::Ended { status: DONE, .. } => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    for (number, output) in outputs.into_iter().enumerate() {
        assert_eq!(read_all(output), format!("{number}\n").into_bytes());
    }
}

pub fn a_long_order_arrives_whole(home: Home) {
    let _mux = Mux::new(&home);
    let long = "x".repeat(100_000);
    let mut argv = vec!["sh", "-c", "echo $# ${#15}"];
    argv.extend([long.as_str(); 16]);
    assert_eq!(run(&home, &argv).1, "15 100000\n");
}

pub fn output_and_errors_of_one_pipe_keep_their_order(home: Home) {
    let _mux = Mux::new(&home);
    let mut client = Client::connect(&home.path("outer"));
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let (output, to_output) = descriptor::pipe().unwrap();
    let copy = to_output.try_clone().unwrap();
    let script = "i=0; while [ $i -lt 500 ]; do echo out; echo err >&2; i=$((i + 1)); done";
    let process = home.process(&["sh", "-c", script]);
    let streams = [null.as_fd(), to_output.as_fd(), copy.as_fd()];
    client.start(0, process, Role::Foreground, None, &streams);
    drop((to_output, copy));
    client.is_started(0);
    assert_eq!(client.end_of(0), DONE);
    assert_eq!(read_all(output), b"out\nerr\n".repeat(500));
}

pub fn sockets_and_null_are_streams_too(home: Home) {
    let _mux = Mux::new(&home);
    let mut client = Client::connect(&home.path("outer"));
    let (ours, theirs) = socket::pair().unwrap();
    let null: OwnedFd = std::fs::File::options().write(true).open("/dev/null").unwrap().into();
    let streams = [theirs.as_fd(), theirs.as_fd(), null.as_fd()];
    client.start(0, home.process(&["cat"]), Role::Foreground, None, &streams);
    drop(theirs);
    client.is_started(0);
    socket::send(ours.as_fd(), b"to and fro", &[]).unwrap();
    wait(ours.as_fd(), Instant::now() + PATIENCE);
    let mut buffer = [0; 64];
    let (read, _) = socket::receive(ours.as_fd(), &mut buffer).unwrap();
    assert_eq!(&buffer[..read], b"to and fro");
    drop(ours);
    // The end of the socket is the end of its input.
    assert_eq!(client.end_of(0), DONE);
}

/// What a pipe that others share must not become.
pub fn the_clients_descriptors_stay_as_they_are(home: Home) {
    let _mux = Mux::new(&home);
    let mut client = Client::connect(&home.path("outer"));
    let (input, _to_input) = descriptor::pipe().unwrap();
    let (_output, to_output) = descriptor::pipe().unwrap();
    let streams = [input.as_fd(), to_output.as_fd(), to_output.as_fd()];
    client.start(0, home.process(&["sleep", "1000"]), Role::Foreground, None, &streams);
    client.is_started(0);
    for fd in streams {
        let flags = rustix::fs::fcntl_getfl(fd).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
    }
}

/// Reads from a terminal until `wanted` has come.
fn expect(controller: &OwnedFd, wanted: &str) -> String {
    let (mut all, mut buffer) = (String::new(), [0; 1024]);
    let until = Instant::now() + PATIENCE;
    while !all.contains(wanted) {
        wait(controller.as_fd(), until);
        let read = descriptor::read(controller.as_fd(), &mut buffer);
        let read = read.unwrap_or_else(|error| panic!("{error} instead of {wanted:?}: {all:?}"));
        all.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    all
}

pub fn a_terminal_has_its_size_and_keeps_its_modes(home: Home) {
    let _mux = Mux::new(&home);
    let mut client = Client::connect(&home.path("outer"));
    let script = "stty size; tty > /dev/null && echo ready; \
                  while read line; do echo \"got $line\"; done; echo over; exit 3";
    client.start(0, home.process(&["sh", "-c", script]), Role::Foreground, Some((33, 101)), &[]);
    let (word, controller) = client.next().unwrap();
    assert_eq!(word, FromAgent::Terminal { command: 0 });
    let controller = controller.expect("its controlling side");
    assert_eq!(terminal::size(controller.as_fd()).unwrap(), (33, 101));
    client.is_started(0);
    assert_eq!(expect(&controller, "ready\r\n"), "33 101\r\nready\r\n");
    // Echo and the treatment of what is typed are the inner terminal's, and happen once.
    descriptor::write(controller.as_fd(), b"wo\x7f\x7fword\r").unwrap();
    let echo = expect(&controller, "got word\r\n");
    assert_eq!(echo.matches("got").count(), 1, "{echo:?}");
    // The end, as typed.
    descriptor::write(controller.as_fd(), &[4]).unwrap();
    assert_eq!(client.end_of(0), Status::Exited(3));
    let last = String::from_utf8(read_now(controller.as_fd())).unwrap();
    assert!(last.ends_with("over\r\n"), "{last:?}");

    // It changes its size at once, and tells the command.
    let script = "trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.05; done";
    for size in [(44, 120), (24, 79)] {
        client.start(0, home.process(&["sh", "-c", script]), Role::Foreground, Some((24, 80)), &[]);
        let controller = client.next().unwrap().1.expect("its controlling side");
        client.is_started(0);
        expect(&controller, "ready\r\n");
        terminal::set_size(controller.as_fd(), size.0, size.1).unwrap();
        expect(&controller, &format!("{} {}\r\n", size.0, size.1));
        assert_eq!(client.end_of(0), Status::Exited(9));
    }
    // So it does where that is set before anybody can have noticed.
    let process = home.process(&["sh", "-c", "read line; stty size"]);
    client.start(0, process, Role::Foreground, Some((24, 80)), &[]);
    let controller = client.next().unwrap().1.expect("its controlling side");
    terminal::set_size(controller.as_fd(), 5, 6).unwrap();
    client.is_started(0);
    let _ = descriptor::poll(&mut [], Some(Duration::from_millis(200)));
    descriptor::write(controller.as_fd(), b"\r").unwrap();
    expect(&controller, "5 6\r\n");
    assert_eq!(client.end_of(0), DONE);

    // What is typed to interrupt does.
    let process = home.process(&["sh", "-c", "echo ready; sleep 1000"]);
    client.start(1, process, Role::Foreground, Some((24, 80)), &[]);
    let controller = client.next().unwrap().1.expect("its controlling side");
    client.is_started(1);
    expect(&controller, "ready");
    // A shell that is about to start something may not heed the first.
    let mut word = [Interest::readable(client.link.as_fd())];
    loop {
        descriptor::write(controller.as_fd(), &[3]).unwrap();
        if descriptor::poll(&mut word, Some(Duration::from_millis(200))).unwrap() {
            break;
        }
    }
    assert_eq!(client.end_of(1), Status::Signaled(2));
}

pub fn a_terminals_last_words_are_not_lost(home: Home) {
    let _mux = Mux::new(&home);
    for round in 0..20 {
        let mut client = Client::connect(&home.path("outer"));
        let process = home.process(&["sh", "-c", "seq 1000"]);
        client.start(0, process, Role::Foreground, Some((24, 80)), &[]);
        let controller = client.next().unwrap().1.expect("its controlling side");
        client.is_started(0);
        assert_eq!(client.end_of(0), DONE);
        let all = String::from_utf8(read_now(controller.as_fd())).unwrap();
        assert_eq!(all.lines().count(), 1000, "in round {round}: {:?}", all.lines().last());
    }
    // A client that hangs up ends it.
    let mut client = Client::connect(&home.path("outer"));
    let process = home.process(&["sleep", "1000"]);
    client.start(0, process, Role::Foreground, Some((24, 80)), &[]);
    let controller = client.next().unwrap().1.expect("its controlling side");
    client.is_started(0);
    drop(controller);
    assert_eq!(client.end_of(0), Status::Signaled(signal::SIGHUP as u8));
}

pub fn what_needs_descriptors_of_files_is_refused(home: Home) {
    const NOT_SUPPORTED: i32 = 95;
    let _mux = Mux::new(&home);
    let mut client = Client::connect(&home.path("outer"));
    let refused = |command| FromAgent::Failed { command, errno: NOT_SUPPORTED };
    client.say(&ToAgent::Root { command: 1 }, &[]);
    assert_eq!(client.next().unwrap().0, refused(1));
    client.say(&ToAgent::UserNamespace { command: 2 }, &[]);
    assert_eq!(client.next().unwrap().0, refused(2));
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let role = Role::Background { number: 1, time_limit: None };
    client.start(3, home.process(&["true"]), role, None, &[file.as_fd(); 3]);
    let word = client.next().unwrap().0;
    let stage = Stage::Place;
    assert_eq!(word, FromAgent::NotStarted { command: 3, stage, errno: NOT_SUPPORTED });
    // Others go on, on the same link.
    client.say(&ToAgent::List { command: 4 }, &[]);
    assert_eq!(client.next().unwrap().0, FromAgent::Done { command: 4 });
    client.start(5, home.process(&["true"]), Role::Foreground, None, &[file.as_fd(); 3]);
    client.is_started(5);
    assert_eq!(client.end_of(5), DONE);
}
