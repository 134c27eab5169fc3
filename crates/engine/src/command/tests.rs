//! Commands in the hands of agents that are not what they should be.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use agentkernel_sys::process;

use super::*;

/// A live place's agent that says `bytes` to whoever has it start a command, and then nothing.
struct Fake {
    link: OwnedFd,
    agent: OwnedFd,
    killed: Cell<bool>,
}

impl Fake {
    fn new(words: &[FromAgent]) -> Self {
        let (link, agent) = socket::pair().unwrap();
        for word in words {
            socket::send(agent.as_fd(), word.encode().as_bytes(), &[]).unwrap();
        }
        Self { link, agent, killed: Cell::new(false) }
    }

    /// How a command in its hands ends.
    fn drive(&self, time_limit: Option<Duration>) -> Result<Ended, EngineError> {
        let (streams, stdio) = Streams::connect(false, false).unwrap();
        let mut run = CommandRun::new(streams, time_limit).unwrap();
        run.patience = Duration::from_millis(50);
        let called = Called { program: "program".into(), directory: "/".into() };
        let start = Instant::now();
        let course = run.drive_ready(stdio, self, process::clock(), &called, start)?;
        Ok(course.here(start).ending(0))
    }
}

impl Peer for Fake {
    fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn kill(&self) {
        self.killed.set(true);
    }

    fn explain(&self, _: u16, _: io::Error) -> EngineError {
        unreachable!("the place was ready before")
    }
}

const STARTED: FromAgent = FromAgent::Started { command: FIRST, at: Duration::ZERO };

fn ended(command: u32, status: Status) -> FromAgent {
    let (at, user, system) = Default::default();
    FromAgent::Ended { command, status, at, user, system, max_resident: 0 }
}

#[test]
fn an_agent_that_never_says_whether_the_command_runs_is_given_up() {
    let fake = Fake::new(&[]);
    assert!(matches!(fake.drive(None), Ok(Ended::Lost(_))));
    assert!(fake.killed.get());
}

#[test]
fn only_what_was_never_read_can_be_run_elsewhere() {
    let gone_after = |read: bool, told_more: bool| {
        let Fake { link, agent, killed } = Fake::new(&[]);
        socket::send(link.as_fd(), b"order", &[]).unwrap();
        if read {
            socket::receive(agent.as_fd(), &mut [0; 16]).unwrap();
        }
        drop(agent);
        let fake = Fake { agent: link.try_clone().unwrap(), link, killed };
        let mut heard = Heard { ready: Some(Duration::ZERO), told_more, ..Heard::default() };
        let (streams, _stdio) = Streams::connect(false, false).unwrap();
        let mut run = CommandRun::new(streams, None).unwrap();
        let called = Called { program: "program".into(), directory: "/".into() };
        run.carry_on(&mut heard, &mut Decoder::default(), &fake, &called, |_| false).unwrap();
        assert!(matches!(heard.ended, Some((_, _, End::Lost(_)))));
        heard.unread
    };
    assert!(gone_after(false, false));
    assert!(!gone_after(true, false));
    // Then it may be only the rest that it has not read.
    assert!(!gone_after(false, true));
}

#[test]
fn a_time_limit_holds_without_the_agent() {
    let fake = Fake::new(&[STARTED]);
    let begin = Instant::now();
    assert_eq!(fake.drive(Some(Duration::from_millis(20))).unwrap(), Ended::TimedOut);
    assert!(fake.killed.get() && begin.elapsed() < DEATH_PATIENCE * 3);
}

#[test]
fn words_at_the_wrong_time_or_for_others_lose_the_command() {
    let exited = ended(FIRST, Status::Exited(3));
    assert_eq!(Fake::new(&[STARTED, exited]).drive(None).unwrap(), Ended::Exited(3));
    for words in [
        &[exited][..],
        &[STARTED, STARTED],
        &[STARTED, ended(FIRST + 1, Status::Exited(0))],
        &[STARTED, FromAgent::Listed { command: FIRST, number: 1 }],
        &[FromAgent::Done { command: FIRST }],
        &[FromAgent::Hello { version: VERSION, at: Duration::ZERO }],
        &[FromAgent::Unready { step: 0, errno: 1 }],
        &[FromAgent::Failed { command: FIRST, errno: 1 }],
    ] {
        let fake = Fake::new(words);
        let outcome = fake.drive(None);
        assert!(matches!(outcome, Ok(Ended::Lost(_))), "{words:?}: {outcome:?}");
        assert!(fake.killed.get(), "{words:?}");
    }
    let fake = Fake::new(&[STARTED]);
    socket::send(fake.agent.as_fd(), &[255; 64], &[]).unwrap();
    assert!(matches!(fake.drive(None), Ok(Ended::Lost(_))));
}

#[test]
fn descriptors_that_nobody_asked_for_go_nowhere() {
    let fake = Fake::new(&[STARTED]);
    let (reading, writing) = descriptor::pipe().unwrap();
    let word = ended(FIRST, Status::Exited(0)).encode();
    let many = [writing.as_fd(); socket::MAX_DESCRIPTORS];
    socket::send(fake.agent.as_fd(), word.as_bytes(), &many).unwrap();
    drop(writing);
    assert_eq!(fake.drive(None).unwrap(), Ended::Exited(0));
    let mut ends = [Interest::gone(reading.as_fd())];
    assert!(descriptor::poll(&mut ends, Some(Duration::ZERO)).unwrap());
}

#[test]
fn phases_add_up_whatever_the_agent_says() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let millis = Duration::from_millis;
    for (ready, exec, expected) in [
        (1, 7, [2, 1, 7]),
        (0, 0, [10, 0, 0]),
        (50, 7, [0, 3, 7]),
        (50, u64::MAX / 1_000_000, [0, 0, 10]),
    ] {
        let timeline = Timeline { ended: after(10), ready: millis(ready), exec: millis(exec) };
        let Phases { boot, ready, exec, shutdown } = timeline.phases(start, after(15));
        assert_eq!([boot, ready, exec], expected.map(millis));
        assert_eq!(shutdown, millis(5));
    }
}
