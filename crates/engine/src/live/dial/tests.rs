//! Agents that are not what they should be.

use std::fs::File;
use std::thread;

use agentkernel_protocol::Frame;

use super::*;

const SOON: Duration = Duration::from_millis(100);
/// For what comes at once, on a machine that is busy.
const LATER: Duration = Duration::from_secs(20);

fn hello(version: u16) -> Frame {
    FromAgent::Hello { version, at: Duration::ZERO }.encode()
}

/// A connection to an agent that has said hello, and the agent's end of it.
fn connected() -> (Dial, OwnedFd) {
    let (link, agent) = socket::pair().unwrap();
    say(&agent, hello(VERSION).as_bytes());
    (Dial::greeted(link).unwrap(), agent)
}

fn say(agent: &OwnedFd, bytes: &[u8]) {
    socket::send(agent.as_fd(), bytes, &[]).unwrap();
}

fn list(command: CommandId) -> ToAgent {
    ToAgent::List { command }
}

/// What comes of a question that is answered by these bytes.
fn answered(bytes: &[u8]) -> Result<Answer, DialError> {
    let (mut dial, agent) = connected();
    say(&agent, bytes);
    dial.ask(list, &[], LATER)
}

#[test]
fn an_agent_that_does_not_greet_is_an_error() {
    let greeted = |bytes: &[u8]| {
        let (link, agent) = socket::pair().unwrap();
        say(&agent, bytes);
        drop(agent);
        Dial::greeted(link).err().unwrap()
    };
    assert!(
        matches!(greeted(hello(VERSION + 1).as_bytes()), DialError::Version(v) if v == VERSION + 1)
    );
    let said = greeted(hello(7).as_bytes()).to_string();
    assert!(said.contains("version 7") && said.contains(&VERSION.to_string()), "{said}");
    let done = FromAgent::Done { command: 1 }.encode();
    assert!(matches!(greeted(done.as_bytes()), DialError::Nonsense(_)));
    assert!(matches!(greeted(&[0; 5]), DialError::Nonsense(_)));
    assert!(matches!(greeted(b"HTTP/1.1 400 Bad Request\r\n"), DialError::Nonsense(_)));
    assert!(matches!(greeted(&hello(VERSION).as_bytes()[..5]), DialError::Gone));
    assert!(matches!(greeted(&[]), DialError::Gone));
    let (link, _silent) = socket::pair().unwrap();
    assert!(matches!(Dial::greeted_within(link, SOON).err(), Some(DialError::Silent(SOON))));
}

#[test]
fn only_the_answer_to_what_was_asked_is_believed() {
    let wrong = [
        FromAgent::Done { command: 2 },
        FromAgent::Failed { command: 0, errno: 1 },
        FromAgent::Listed { command: 2, number: 1 },
        FromAgent::Started { command: 9, at: Duration::ZERO },
        FromAgent::Terminal { command: 1 },
        FromAgent::Unready { step: 1, errno: 1 },
        FromAgent::Hello { version: VERSION, at: Duration::ZERO },
    ];
    for word in wrong {
        let said = answered(word.encode().as_bytes());
        assert!(matches!(said, Err(DialError::Nonsense(_))), "{word:?}: {said:?}");
    }
    for bytes in [&u32::MAX.to_le_bytes()[..], &[0; 4], &[1, 0, 0, 0, 200], &[2, 0, 0, 0, 7, 1]] {
        let said = answered(bytes);
        assert!(matches!(said, Err(DialError::Nonsense(_))), "{bytes:?}: {said:?}");
    }
}

#[test]
fn whoever_lists_without_end_is_not_heard_to_the_end() {
    let (mut dial, agent) = connected();
    let words = FromAgent::Listed { command: 1, number: 7 }.encode();
    let words = words.as_bytes().repeat(1024);
    let talker = thread::spawn(move || while socket::send(agent.as_fd(), &words, &[]).is_ok() {});
    assert!(matches!(dial.ask(list, &[], LATER), Err(DialError::Nonsense(_))));
    drop(dial);
    talker.join().unwrap();
}

#[test]
fn whoever_says_little_at_a_time_has_no_more_time_for_it() {
    let (mut dial, agent) = connected();
    let word = FromAgent::Listed { command: 1, number: 7 }.encode();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let talker = thread::spawn(move || {
        let pause = Duration::from_millis(10);
        for byte in word.as_bytes().iter().cycle() {
            let timeout = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if stopped.recv_timeout(pause) != timeout {
                return;
            }
            say(&agent, &[*byte]);
        }
    });
    let begin = Instant::now();
    assert!(matches!(dial.ask(list, &[], SOON), Err(DialError::Silent(SOON))));
    assert!(begin.elapsed() < LATER);
    drop(stop);
    talker.join().unwrap();
}

#[test]
fn an_agent_that_goes_in_the_middle_is_gone() {
    let (mut dial, agent) = connected();
    say(&agent, &FromAgent::Done { command: 1 }.encode().as_bytes()[..6]);
    drop(agent);
    assert!(matches!(dial.ask(list, &[], LATER), Err(DialError::Gone)));
    assert!(matches!(dial.ask(list, &[], LATER), Err(DialError::Gone)));
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let (mut dial, agent) = connected();
    let null = File::open("/dev/null").unwrap();
    let word = FromAgent::Listed { command: 1, number: 7 }.encode();
    // A pipe tells whether anybody still has its other end.
    let (reading, writing) = descriptor::pipe().unwrap();
    socket::send(agent.as_fd(), word.as_bytes(), &[writing.as_fd(), null.as_fd()]).unwrap();
    socket::send(agent.as_fd(), word.as_bytes(), &[null.as_fd(), writing.as_fd()]).unwrap();
    drop(writing);
    say(&agent, FromAgent::Done { command: 1 }.encode().as_bytes());
    let answer = dial.ask(list, &[], LATER).unwrap();
    assert_eq!(answer.listed, [7, 7]);
    drop(answer);
    let mut ends = [Interest::gone(reading.as_fd())];
    assert!(descriptor::poll(&mut ends, Some(Duration::ZERO)).unwrap());
}
