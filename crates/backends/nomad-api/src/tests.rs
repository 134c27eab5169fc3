//! Against a stand-in that answers with what the real one (1.1.2) has answered, in that order, and fails a
//! test that asks for anything else. What it has answered was shortened to what has names here, and some
//! more that is to be passed over.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread::{self, JoinHandle};

use agentkernel_core::BootError;
use agentkernel_far::session::{Key, Said, Session};
use agentkernel_sys::descriptor;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::bridge;
use crate::client::Client;
use crate::held::Held;
use crate::pump::Pump;
use crate::settings::{Address, Settings, Source, Tls};
use crate::watch;

/// A request that has to come, and its answer.
struct Exchange {
    request: &'static str,
    status: u16,
    index: u64,
    answer: String,
}

fn exchange(request: &'static str, status: u16, index: u64, answer: Value) -> Exchange {
    let answer = match answer {
        Value::String(words) => words,
        answer => answer.to_string(),
    };
    Exchange { request, status, index, answer }
}

/// Answers those in their order, over one connection, and ends with it.
fn stand_in(exchanges: Vec<Exchange>) -> (Client, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(&listener);
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for Exchange { request, status, index, answer } in exchanges {
            let asked = head(&mut stream);
            assert!(asked.starts_with(&format!("{request} HTTP/1.1\r\n")), "{request}: {asked}");
            assert!(asked.to_lowercase().contains("x-nomad-token: secret"), "{asked}");
            let length = answer.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nX-Nomad-Index: {index}\r\nContent-Length: {length}\r\n\r\n\
                 {answer}"
            )
            .unwrap();
        }
        // Nothing more is asked for.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    (client, served)
}

fn client(listener: &TcpListener) -> Client {
    let port = listener.local_addr().unwrap().port();
    Client::new(Settings {
        address: Address::Tcp { host: "127.0.0.1".into(), port, tls: false },
        region: None,
        namespace: Some("team".into()),
        token: Some("secret".into()),
        tls: Tls::default(),
        datacenters: Vec::new(),
        source: Source::Sent,
    })
}

/// A request's head; its body is read, too.
fn head(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    let head = String::from_utf8(all).unwrap();
    let length = head.to_lowercase();
    let length = length.split_once("content-length: ").map_or("0", |(_, rest)| rest);
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    head
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn allocation(client_status: &str, state: &str, events: Value) -> Value {
    json!({
        "ID": "a1b2", "NodeName": "vm", "JobID": "agentkernel-1", "DesiredStatus": "run",
        "DesiredDescription": "", "ClientStatus": client_status, "ClientDescription": "",
        "TaskStates": {"agent": {"State": state, "Failed": client_status == "failed",
                                 "Restarts": 0, "Events": events}},
        "DeploymentStatus": null,
    })
}

const REGISTER: &str = "PUT /v1/jobs?namespace=team";
const EVALUATION: &str = "GET /v1/evaluation/e1?index=0&wait=60s&namespace=team";

fn registered() -> Exchange {
    let answer = json!({"EvalID": "e1", "EvalCreateIndex": 12, "JobModifyIndex": 12,
                        "Warnings": "", "Index": 12, "KnownLeader": false});
    exchange(REGISTER, 200, 12, answer)
}

fn run(exchanges: Vec<Exchange>) -> Result<String, BootError> {
    let (mut client, served) = stand_in(exchanges);
    let runtime = runtime();
    let ran = runtime.block_on(watch::run(&mut client, &json!({}), "agentkernel-1", "image:1"));
    drop((client, runtime));
    served.join().unwrap();
    ran.map(|allocation| allocation.id)
}

#[test]
fn a_job_is_watched_by_blocking_queries_until_its_task_runs() {
    let pending = json!({"ID": "e1", "Status": "pending", "Type": "batch"});
    let complete = json!({"ID": "e1", "Status": "complete", "QueuedAllocations": {"sandbox": 0}});
    let found = run(vec![
        registered(),
        exchange(EVALUATION, 200, 12, pending),
        exchange("GET /v1/evaluation/e1?index=12&wait=60s&namespace=team", 200, 14, complete),
        exchange(
            "GET /v1/job/agentkernel-1/allocations?index=0&wait=60s&namespace=team",
            200,
            13,
            json!([allocation("pending", "pending", json!([]))]),
        ),
        exchange(
            "GET /v1/job/agentkernel-1/allocations?index=13&wait=60s&namespace=team",
            200,
            16,
            json!([allocation("running", "running", json!(null))]),
        ),
    ]);
    assert_eq!(found.unwrap(), "a1b2");
}

#[test]
fn what_can_not_be_placed_is_told_at_once() {
    let failed = json!({"ID": "e1", "Status": "complete", "BlockedEval": "e2", "FailedTGAllocs": {
        "sandbox": {"NodesEvaluated": 1, "NodesFiltered": 0, "NodesExhausted": 1,
                    "NodesAvailable": {"dc1": 1}, "DimensionExhausted": {"memory": 1},
                    "ConstraintFiltered": null, "CoalescedFailures": 0}}});
    let error = run(vec![registered(), exchange(EVALUATION, 200, 14, failed)]).unwrap_err();
    assert!(error.to_string().contains("memory exhausted on 1 of 1 nodes"), "{error}");
}

#[test]
fn a_task_that_fails_is_told_in_its_drivers_words() {
    let pull = "Failed to pull `image:1`: API error (404): manifest for image:1 not found";
    let events = json!([
        {"Type": "Received", "DisplayMessage": "Task received by client"},
        {"Type": "Driver", "DisplayMessage": "Downloading image"},
        {"Type": "Driver Failure", "DisplayMessage": pull},
        {"Type": "Not Restarting", "DisplayMessage": "Policy allows no restarts"},
    ]);
    let error = run(vec![
        registered(),
        exchange(EVALUATION, 200, 14, json!({"ID": "e1", "Status": "complete"})),
        exchange(
            "GET /v1/job/agentkernel-1/allocations?index=0&wait=60s&namespace=team",
            200,
            16,
            json!([allocation("failed", "dead", events)]),
        ),
    ])
    .unwrap_err();
    assert!(error.to_string().contains(pull) && error.to_string().contains("node vm"), "{error}");
}

#[test]
fn refusals_are_the_clusters_own_words_with_what_is_missing() {
    for (status, words, part) in [
        (403, "Permission denied", "submit-job in namespace \"team\""),
        (403, "ACL token not found", "ACL token not found"),
        (500, "nonexistent namespace \"team\"", "nonexistent namespace"),
        (500, "No path to region", "No path to region"),
    ] {
        let error = run(vec![exchange(REGISTER, status, 0, json!(words))]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_job_is_purged_and_its_allocations_are_cleared_away() {
    let (mut client, served) = stand_in(vec![
        exchange(
            "DELETE /v1/job/agentkernel-1?purge=true&namespace=team",
            200,
            20,
            json!({"EvalID": "e9", "JobModifyIndex": 20}),
        ),
        exchange(
            "GET /v1/job/agentkernel-1/allocations?all=true&namespace=team",
            200,
            20,
            json!([allocation("running", "running", json!(null))]),
        ),
        exchange(
            "GET /v1/allocation/a1b2?index=0&wait=60s&namespace=team",
            200,
            21,
            allocation("running", "running", json!(null)),
        ),
        exchange(
            "GET /v1/allocation/a1b2?index=21&wait=60s&namespace=team",
            200,
            22,
            allocation("complete", "dead", json!(null)),
        ),
        exchange("GET /v1/client/allocation/a1b2/gc?namespace=team", 200, 0, json!("")),
    ]);
    let runtime = runtime();
    runtime.block_on(bridge::remove(&mut client, "agentkernel-1")).unwrap();
    drop((client, runtime));
    served.join().unwrap();
}

/// What the stand-in's agent has heard of an exec's stream, and says on it.
struct Execs {
    socket: WebSocket<TcpStream>,
}

impl Execs {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        Self { socket: tungstenite::accept(stream).unwrap() }
    }

    fn say(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).unwrap();
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        self.say(&format!(r#"{{"stdout":{{"data":"{}"}}}}"#, STANDARD.encode(bytes)));
    }

    /// The bytes of the next frame.
    fn hear(&mut self) -> Vec<u8> {
        loop {
            let text = self.socket.read().unwrap().into_text().unwrap();
            let frame: Value = serde_json::from_str(&text).unwrap();
            // Others are heartbeats.
            if let Some(data) = frame["stdin"]["data"].as_str() {
                return STANDARD.decode(data).unwrap();
            }
        }
    }

    /// Talks until the other end has said something.
    fn talk(&mut self, session: &mut Session) -> Said {
        loop {
            let said = session.hear(&self.hear()).unwrap();
            self.tell(session);
            if let Some(said) = said.into_iter().next() {
                return said;
            }
        }
    }

    fn tell(&mut self, session: &mut Session) {
        while let said @ [_, ..] = session.outgoing() {
            let count = said.len();
            self.socket
                .send(Message::text(format!(
                    r#"{{"stdout":{{"data":"{}"}}}}"#,
                    STANDARD.encode(said)
                )))
                .unwrap();
            session.wrote(count);
        }
    }
}

/// Has an allocation's stream carried, and returns what came of it, and what was said besides.
fn pump(client: Client, program: Option<&[u8]>, said: &[u8]) -> (String, String) {
    let program = program.map(Into::into);
    let allocation = "a1b2".into();
    let mut held = Held { client, allocation, program, kept: false };
    let (ours, mut theirs) = StdUnixStream::pair().unwrap();
    let (errors, errors_to) = descriptor::pipe().unwrap();
    let (quit, _quits) = StdUnixStream::pair().unwrap();
    let runtime = runtime();
    theirs.write_all(said).unwrap();
    runtime.block_on(async {
        let socket = held.exec(false).await.unwrap();
        let pump = Pump::new(held, Key::default(), ours, File::from(errors_to), quit).unwrap();
        pump.carry(socket).await;
    });
    let (mut heard, mut besides) = (String::new(), String::new());
    theirs.read_to_string(&mut heard).unwrap();
    File::from(errors).read_to_string(&mut besides).unwrap();
    (heard, besides)
}

#[test]
fn a_stream_that_is_cut_goes_on_with_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(&listener);
    let served = thread::spawn(move || {
        let mut session = Session::new();
        let mut first = Execs::accept(&listener);
        assert_eq!(first.hear(), b"program");
        first.say_bytes(b"\n");
        session.begin();
        assert_eq!(first.talk(&mut session), Said::Data(b"then".into()));
        session.say(&Said::Data(b"a\0b".into()));
        first.tell(&mut session);
        // It is cut, and what is said meanwhile comes by the next one.
        drop(first);
        session.say(&Said::Data(b" and more".into()));
        session.say(&Said::Words(b"oops".into()));
        session.say(&Said::End);
        let mut second = Execs::accept(&listener);
        session.begin();
        second.say(r#"{"stderr":{"data":"bm90aGluZw=="}}"#);
        while !session.is_heard() {
            session.hear(&second.hear()).unwrap();
            second.tell(&mut session);
        }
    });
    let (heard, besides) = pump(client, Some(b"program"), b"then");
    assert_eq!((&*heard, &*besides), ("a\0b and more", "oops"));
    served.join().unwrap();
}

#[test]
fn why_there_is_no_exec_is_told() {
    let close = |code: u16, reason: &str| {
        Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })
    };
    for (frame, close, told) in [
        ("{}", close(1008, "Permission denied"), "it takes alloc-exec"),
        (r#"{"stdout":{"data":"b29wcw=="}}"#, None, "oops"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&listener);
        let served = thread::spawn(move || {
            let mut exec = Execs::accept(&listener);
            exec.say(frame);
            if close.is_none() {
                exec.say(r#"{"exited":true,"result":{"exit_code":126}}"#);
            }
            let _ = exec.socket.close(close);
            while exec.socket.read().is_ok() {}
        });
        let (_, besides) = pump(client, None, b"");
        assert!(besides.contains(told), "{besides}");
        served.join().unwrap();
    }
}

#[test]
fn a_sandbox_whose_job_is_gone_is_lost() {
    let exchanges = |answer| {
        vec![exchange("GET /v1/job/agentkernel-1/allocations?namespace=team", 200, 9, answer)]
    };
    for (answer, why) in [
        (json!([]), "no job agentkernel-1 any more"),
        (json!([allocation("failed", "dead", json!(null))]), "fails on node vm"),
    ] {
        let (mut client, served) = stand_in(exchanges(answer));
        let runtime = runtime();
        let found = runtime.block_on(watch::find(&mut client, "agentkernel-1", "image:1"));
        drop((client, runtime));
        served.join().unwrap();
        let error = found.unwrap_err().to_string();
        assert!(error.contains("is lost") && error.contains(why), "{error}");
    }
}
