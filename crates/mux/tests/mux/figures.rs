//! What a stream costs, next to the agent's own socket.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use agentkernel_protocol::{Role, Status};
use agentkernel_sys::descriptor;

use crate::scene::{Home, Mux, Run, read_all};

const RUNS: usize = 1000;

/// Of one command and all its output, the connection included.
fn echo(home: &Home, door: &str) -> Duration {
    let begin = Instant::now();
    let mut run = Run::start(home, door, &["echo", "hello"], Role::Foreground);
    assert_eq!(run.client.end_of(0), Status::Exited(0));
    assert_eq!(read_all(run.output), b"hello\n");
    begin.elapsed()
}

/// Bytes per second of a command's output, and of its input.
fn throughput(home: &Home, door: &str) -> (f64, f64) {
    const MUCH: usize = 1 << 30;
    let begin = Instant::now();
    let much = MUCH.to_string();
    let run = Run::start(home, door, &["head", "-c", &much, "/dev/zero"], Role::Foreground);
    let (mut seen, mut buffer) = (0, vec![0; 256 << 10]);
    descriptor::widen(run.output.as_fd());
    while seen < MUCH {
        seen += descriptor::read(run.output.as_fd(), &mut buffer).unwrap();
    }
    let out = MUCH as f64 / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let mut run = Run::start(home, door, &["sh", "-c", "cat > /dev/null"], Role::Foreground);
    let input = run.input.take().unwrap();
    descriptor::widen(input.as_fd());
    let mut sent = 0;
    while sent < MUCH {
        sent += descriptor::write(input.as_fd(), &buffer).unwrap();
    }
    drop(input);
    assert_eq!(run.client.end_of(0), Status::Exited(0));
    (out, MUCH as f64 / begin.elapsed().as_secs_f64())
}

fn tell(what: &str, mut samples: Vec<Duration>) {
    samples.sort();
    let at = |part: usize| samples[samples.len() * part / 100].as_secs_f64() * 1e3;
    let runs = samples.len();
    println!("{what}: p50 {:.3} ms, p95 {:.3} ms, {runs} runs", at(50), at(95));
}

pub fn figures(home: Home) {
    let _mux = Mux::new(&home);
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (door, samples) in ["agent", "outer"].into_iter().zip(&mut samples) {
            samples.push(echo(&home, door));
        }
    }
    let [direct, over] = samples;
    tell("echo, agent's own socket", direct);
    tell("echo, stream", over);
    // Beside one whose output takes all that there is.
    let busy = Run::start(&home, "outer", &["cat", "/dev/zero"], Role::Foreground);
    let Run { client, output, .. } = busy;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while descriptor::read(output.as_fd(), &mut buffer).unwrap() > 0 {}
    });
    let beside = (0..RUNS / 10).map(|_| echo(&home, "outer")).collect();
    tell("echo, stream, beside a flood", beside);
    drop(client);
    reader.join().unwrap();
    for (door, name) in [("agent", "agent's own socket"), ("outer", "stream")] {
        let (out, into) = throughput(&home, door);
        println!("{name}: output {:.0} MB/s, input {:.0} MB/s", out / 1e6, into / 1e6);
    }
}
