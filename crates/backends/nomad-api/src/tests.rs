//! Against a stand-in that answers with what the real one (1.1.2) has answered, in that order, and fails a
//! test that asks for anything else. What it has answered was shortened to what has names here, and some
//! more that is to be passed over.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread::{self, JoinHandle};

use agentkernel_core::BootError;
use agentkernel_sys::descriptor;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::Message;

use crate::bridge;
use crate::client::Client;
use crate::exec;
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

#[test]
fn an_exec_carries_bytes_both_ways_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(&listener);
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut socket = tokio_tungstenite::tungstenite::accept(stream).unwrap();
        let mut next = || loop {
            let text = socket.read().unwrap().into_text().unwrap();
            // A heartbeat.
            if text != "{}" {
                return text.to_string();
            }
        };
        assert_eq!(next(), r#"{"stdin":{"data":"Zmlyc3Q="}}"#);
        assert_eq!(next(), r#"{"stdin":{"data":"dGhlbg=="}}"#);
        for frame in [
            r#"{"stderr":{"data":"b29wcw=="}}"#,
            r#"{"stdout":{"data":"YQBi"}}"#,
            r#"{"stdout":{"close":true}}"#,
            r#"{"exited":true,"result":{}}"#,
        ] {
            socket.send(Message::text(frame)).unwrap();
        }
        let _ = socket.close(None);
        while socket.read().is_ok() {}
    });
    let runtime = runtime();
    let socket = runtime.block_on(exec::open(&client, "a1b2", &["agent", "bring"])).unwrap();
    let (ours, mut theirs) = StdUnixStream::pair().unwrap();
    let (errors, errors_to) = descriptor::pipe().unwrap();
    let (quit, _held) = StdUnixStream::pair().unwrap();
    theirs.write_all(b"then").unwrap();
    let pumped = exec::pump(&client, socket, b"first".to_vec(), ours, File::from(errors_to), quit);
    runtime.block_on(pumped).unwrap();
    drop(runtime);
    let (mut said, mut besides) = (String::new(), String::new());
    theirs.read_to_string(&mut said).unwrap();
    File::from(errors).read_to_string(&mut besides).unwrap();
    assert_eq!((&*said, &*besides), ("a\0b", "oops"));
    served.join().unwrap();
}
