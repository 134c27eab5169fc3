//! How links and streams end.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentkernel_mux::Outer;
use agentkernel_protocol::{FromAgent, Role, Status, ToAgent};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;

use crate::scene::{Client, Home, Mux, PATIENCE, Run, read_all, run, sh, wait};

/// How many processes in the place have this word in their command line.
fn count(home: &Home, word: &str) -> String {
    // It must not find itself.
    let (head, tail) = word.split_at(1);
    let script = format!(
        "cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' '\\n' | grep -c '[{head}]{tail}'"
    );
    let counted = Run::start(home, "agent", &["sh", "-c", &script], Role::Foreground).finish();
    String::from_utf8(counted.1).unwrap().trim().to_owned()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited for {what}");
        let _ = descriptor::poll(&mut [], Some(Duration::from_millis(20)));
    }
}

pub fn a_client_that_goes_takes_its_commands_along(home: Home) {
    let _mux = Mux::new(&home);
    let sleeper = Run::foreground(&home, &["sleep", "4242"]);
    until("it to run", || count(&home, "4242") == "1");
    drop(sleeper);
    until("it to be killed", || count(&home, "4242") == "0");
    // What it had said before counts.
    let other = Run::foreground(&home, &["sleep", "4343"]);
    let client = Client::connect(&home.path("outer"));
    client.say(&ToAgent::All { command: 1, signal: 9 }, &[]);
    drop(client);
    let Run { client: mut link, .. } = other;
    assert_eq!(link.end_of(0), Status::Signaled(9));
    // Nonsense ends its link, and no other.
    let mut nonsense = Client::connect(&home.path("outer"));
    socket::send(nonsense.link.as_fd(), &[0; 4], &[]).unwrap();
    nonsense.is_let_go();
    let mut few = Client::connect(&home.path("outer"));
    few.start(0, home.process(&["true"]), Role::Foreground, None, &[few.link.as_fd()]);
    few.is_let_go();
    assert_eq!(run(&home, &["echo", "well"]).1, "well\n");
}

pub fn a_crowd_is_let_in_as_far_as_an_agent_does(home: Home) {
    let _mux = Mux::new(&home);
    let mut crowd: Vec<Client> = (0..250).map(|_| Client::connect(&home.path("outer"))).collect();
    assert_eq!(run(&home, &["echo", "well"]).1, "well\n");
    let connect = |_| socket::connect(&home.path("outer"), PATIENCE).unwrap();
    let mut more: Vec<OwnedFd> = (0..20).map(connect).collect();
    Client::on(more.pop().unwrap()).is_let_go();
    drop(more);
    crowd.clear();
    until("there to be room again", || {
        let one = socket::connect(&home.path("outer"), PATIENCE).unwrap();
        Client::on(one).next().is_some()
    });
    assert_eq!(run(&home, &["echo", "well"]).1, "well\n");
}

pub fn when_the_stream_is_cut_everybody_hears_of_it(home: Home) {
    let mut mux = Mux::new(&home);
    let mut all: Vec<Run> = vec![
        Run::foreground(&home, &["sleep", "4242"]),
        Run::foreground(&home, &["yes", "4242"]),
        Run::foreground(&home, &["cat"]),
        Run::foreground(&home, &["sh", "-c", "sleep 4242 & echo said; exec sleep 4242"]),
    ];
    let mut idle = Client::connect(&home.path("outer"));
    let mut terminal = Client::connect(&home.path("outer"));
    let process = home.process(&["sleep", "4242"]);
    terminal.start(0, process, Role::Foreground, Some((24, 80)), &[]);
    let controller = terminal.next().unwrap().1.expect("its controlling side");
    terminal.is_started(0);
    wait(all[3].output.as_fd(), Instant::now() + PATIENCE);
    let begin = Instant::now();
    mux.cut();
    let rest = mux.ended();
    assert!(rest.why.is_none() && rest.is_empty(), "{:?}", rest.why);
    for run in &mut all {
        run.client.is_let_go();
    }
    idle.is_let_go();
    terminal.is_let_go();
    // Nobody else has the other ends of what they had given.
    for Run { output, errors, input, .. } in all {
        drop(input);
        read_all(errors);
        read_all(output);
    }
    let mut gone = [Interest::gone(controller.as_fd())];
    assert!(descriptor::poll(&mut gone, Some(PATIENCE)).unwrap());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    until("all to be killed", || count(&home, "4242") == "0");
    // Somebody else can have a stream of his own then.
    std::fs::remove_file(home.path("outer")).unwrap();
    let _mux = Mux::new(&home);
    assert_eq!(run(&home, &["echo", "again"]).1, "again\n");
}

pub fn when_a_place_ends_its_last_output_is_kept(mut home: Home) {
    // More than its pipe takes, and a reader who is late.
    const MUCH: usize = 300_000;
    let mut mux = Mux::new(&home);
    let argv = ["head", "-c", &MUCH.to_string(), "/dev/zero"];
    let mut run = Run::start(&home, "outer", &argv, Role::Only);
    // A second after the end it is gone with all that was in it.
    let mut gone = [Interest::readable(run.client.link.as_fd())];
    assert!(!descriptor::poll(&mut gone, Some(Duration::from_secs(2))).unwrap());
    home.end_place();
    mux.cut();
    let rest = mux.ended();
    assert!(!rest.is_empty());
    let rest = std::thread::spawn(|| rest.deliver());
    assert_eq!(read_all(run.output).len(), MUCH);
    assert_eq!(run.client.end_of(0), Status::Exited(0));
    run.client.is_let_go();
    rest.join().unwrap().unwrap();
}

pub fn when_an_agent_goes_its_clients_hear_of_it(mut home: Home) {
    let _mux = Mux::new(&home);
    let mut sleeper = Run::foreground(&home, &["sleep", "1000"]);
    home.end_place();
    sleeper.client.is_let_go();
    // And those who come later.
    let late = socket::connect(&home.path("outer"), PATIENCE).unwrap();
    Client::on(late).is_let_go();
}

pub fn others_wait_while_a_place_is_held_and_lose_nothing(home: Home) {
    let _mux = Mux::new(&home);
    let mut holder = Client::connect(&home.path("outer"));
    holder.say(&ToAgent::Hold { command: 1 }, &[]);
    assert_eq!(holder.next().unwrap().0, FromAgent::Done { command: 1 });
    let waiting = std::thread::spawn({
        let path = home.path("outer");
        move || {
            let mut client = Client::connect(&path);
            // More than is ever under way.
            for _ in 0..100_000 {
                client.say(&ToAgent::Kill { command: 99 }, &[]);
            }
            client.say(&ToAgent::List { command: 7 }, &[]);
            client.next().unwrap().0
        }
    });
    let _ = descriptor::poll(&mut [], Some(Duration::from_millis(300)));
    assert!(!waiting.is_finished());
    drop(holder);
    assert_eq!(waiting.join().unwrap(), FromAgent::Done { command: 7 });
    assert_eq!(sh(&home, "echo well").1, "well\n");
}

/// By this word the test's program is an inner side, with the agent's socket after it.
pub const INNER: &str = "serve-inner-side";

pub fn an_inner_side_is_a_process_that_may_be_killed(home: Home) {
    for kill in [false, true] {
        let mut inner = Command::new(std::env::current_exe().unwrap())
            .args([INNER.into(), home.agent()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = OwnedFd::from(inner.stdout.take().unwrap());
        let outer = Outer::new(input, inner.stdin.take().unwrap().into()).unwrap();
        let listener = socket::listen(&home.path("outer")).unwrap();
        let (quit_by, quit) = descriptor::pipe().unwrap();
        let outer = outer.listen(listener).quit_by(quit_by);
        let outer = std::thread::spawn(|| outer.serve());
        assert_eq!(run(&home, &["echo", "hello"]).1, "hello\n");
        let mut sleeper = Run::foreground(&home, &["sleep", "4242"]);
        if kill {
            inner.kill().unwrap();
        } else {
            drop(quit);
        }
        let rest = outer.join().unwrap();
        assert!(rest.why.is_none() && rest.is_empty(), "{:?}", rest.why);
        assert_eq!(inner.wait().unwrap().success(), !kill);
        sleeper.client.is_let_go();
        until("it to be killed", || count(&home, "4242") == "0");
        std::fs::remove_file(home.path("outer")).unwrap();
    }
}

pub fn pipes_do_for_a_stream_and_clients_can_be_handed_in(home: Home) {
    let (from_outer, to_inner) = descriptor::pipe().unwrap();
    let (from_inner, to_outer) = descriptor::pipe().unwrap();
    let inner = agentkernel_mux::Inner::new(from_outer, to_outer, home.agent()).unwrap();
    let inner = std::thread::spawn(|| inner.serve());
    let mut outer = Outer::new(from_inner, to_inner).unwrap();
    let (ours, theirs) = socket::pair().unwrap();
    outer.admit(theirs);
    let (quit_by, quit) = descriptor::pipe().unwrap();
    let outer = outer.quit_by(quit_by);
    let outer = std::thread::spawn(|| outer.serve());
    let mut client = Client::on(ours);
    assert!(matches!(client.next().unwrap().0, FromAgent::Hello { .. }));
    let (output, to_output) = descriptor::pipe().unwrap();
    let streams = [to_output.as_fd(); 3];
    client.start(0, home.process(&["echo", "hi"]), Role::Foreground, None, &streams);
    drop(to_output);
    client.is_started(0);
    assert_eq!(client.end_of(0), Status::Exited(0));
    assert_eq!(read_all(output), b"hi\n");
    drop(quit);
    drop(outer.join().unwrap());
    inner.join().unwrap().unwrap();
    client.is_let_go();
}
