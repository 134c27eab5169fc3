//! The tools beside which backends are measured, as far as they work on this machine.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::thread;

use agentkernel_bench::result::Section;
use agentkernel_bench::{
    COMMAND, Lives, OUTPUT, Programs, Stopwatch, Subject, Surroundings, Tool, World, lives,
};

/// Runs of the tool in each of ten threads.
const RUNS: u64 = 3;

fn runs_many_at_once(tool: &Tool<'_>) {
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut stopwatch = Stopwatch::new().unwrap();
                for _ in 0..RUNS {
                    let run = stopwatch.time(&mut tool.run(), Some(OUTPUT));
                    assert!(run.is_ok(), "{}: {run:?}", tool.name());
                }
            });
        }
    });
}

fn lives_many_at_once(world: &World, backend: &str, tool: &Tool<'_>) {
    let subject = Subject { backend, tool: Some(tool) };
    let asked = Lives { section: Section::Lifecycle, count: 20, at_once: 10, execs: 2 };
    let case = lives(world, &subject, &asked, &|_| (), &|| false).unwrap();
    // What a tool fails at now and then is its own, and a benchmark tells it: crun 1.8.1 has been seen
    // to be denied a container that had just started. That most live shows that its words are right.
    let failed: u64 = case.failures.iter().map(|failure| failure.count).sum();
    assert!(case.attempts == 20 && failed <= 5, "{}: {:?}", tool.name(), case.failures);
    assert_eq!(case.samples("exec").len() as u64, 2 * (20 - failed));
    case.failures.iter().for_each(|failure| println!("{}: {failure:?}", tool.name()));
}

/// What `scripts/lanes/containers.sh` tells of the engines that it has brought up, where nobody says
/// otherwise.
fn variable(name: &str) -> Option<OsString> {
    let socket = |lanes: &str| {
        let mut address = OsString::from("unix://");
        address.push(env::var_os(lanes)?);
        Some(address)
    };
    env::var_os(name).or_else(|| match name {
        "AGENTKERNEL_IMAGE" => env::var_os("TESTKIT_IMAGE"),
        "DOCKER_HOST" => socket("TESTKIT_DOCKER"),
        "CONTAINER_HOST" => socket("TESTKIT_PODMAN_ROOT"),
        _ => None,
    })
}

#[test]
fn each_tool_works_or_says_why_not() {
    let programs = Path::new(env!("CARGO_BIN_EXE_agentkernel"));
    // No daemon is started here.
    let programs = Programs { agentkernel: programs.to_owned(), agentkerneld: programs.to_owned() };
    for backend in agentkernel::BACKENDS {
        let surroundings = Surroundings::of(*backend, &variable).unwrap();
        // The default one is a registry's, which tests don't ask.
        if surroundings.image().is_some() && variable("AGENTKERNEL_IMAGE").is_none() {
            println!("skipped: {}'s tools need an image: AGENTKERNEL_IMAGE", backend.name());
            continue;
        }
        let world = World::within(&programs, surroundings).unwrap();
        for yardstick in backend.yardsticks() {
            let tool = Tool::new(&world, yardstick, COMMAND, OUTPUT);
            if let Some(why) = tool.unusable() {
                println!("skipped: {why}");
                continue;
            }
            println!("{:?}", tool.facts(backend.name()));
            runs_many_at_once(&tool);
            if tool.has_life() {
                lives_many_at_once(&world, backend.name(), &tool);
            }
        }
    }
}
