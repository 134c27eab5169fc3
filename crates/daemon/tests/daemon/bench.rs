//! `agentkernel bench`, from its words to what is kept.

use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use agentkernel_bench::read;
use agentkernel_bench::result::{Case, Document, Section};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::common::{Home, need_client, until};

/// A benchmark of a moment.
const SHORT: &[&str] =
    &["bench", "native", "--quick", "--runs", "12", "--max", "5", "--results", "results"];

/// The results that were kept.
fn kept(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.path("work/results")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn status(output: &Output, expected: i32) {
    assert_eq!(output.status.code(), Some(expected), "{output:?}");
}

#[test]
fn a_benchmark_measures_every_part_and_can_be_told_of() {
    let home = Home::new("bench");
    need_client!(home);
    let output = home.run(SHORT);
    let said = String::from_utf8_lossy(&output.stdout);
    let [path] = kept(&home).try_into().unwrap();
    assert!(said.contains("times process"), "{said}");
    let document: Document = read(&path).unwrap();
    // Another tool may stumble on a busy machine, and that is told; agentkernel may not.
    let failed = |case: &&Case| case.failed() > 0;
    let own = document.cases.iter().filter(|case| case.tool == "agentkernel").find(failed);
    assert!(own.is_none(), "{own:?}");
    status(&output, document.cases.iter().find(failed).map_or(0, |_| 1));
    assert!(!document.interrupted);
    let of = |section: Section, route: &str| {
        let found = document.cases.iter().find(|case| {
            (case.section, case.tool.as_str(), case.route.as_str())
                == (section, "agentkernel", route)
        });
        found.unwrap_or_else(|| panic!("no {section:?} by {route:?}"))
    };
    for route in ["cold", "pool"] {
        assert_eq!(of(Section::Once, route).samples("total").len(), 12);
        let phases = of(Section::Phases, route);
        let parts = ["process", "boot", "ready", "exec", "shutdown"].map(|p| phases.samples(p));
        for (at, total) in phases.samples("total").into_iter().enumerate() {
            assert_eq!(parts.iter().map(|samples| samples[at]).sum::<u64>(), total);
        }
        assert_eq!(of(Section::Requests, route).attempts, 100);
    }
    assert_eq!(of(Section::Once, "pool").values["from-pool"], 12.0);
    assert_eq!(of(Section::Scale, "cold").at_once, 5);
    assert!(of(Section::Sustained, "pool").values["from-pool"] > 0.0);
    assert!(of(Section::Refill, "pool").values["refill"] > 0.0);
    assert_eq!(of(Section::Exec, "live").attempts, 50);
    assert_eq!(of(Section::Lifecycle, "live").failed(), 0);
    assert!(of(Section::Memory, "live").values["processes"] >= 1.0);
    assert!(!of(Section::HandOut, "pool").samples("acquire").is_empty());

    let path = path.to_str().unwrap();
    let same = home.run(&["bench", "compare", path, path, "--fail-above", "1.1"]);
    status(&same, 0);
    assert!(home.must(&["bench", "report", path]).contains("# Benchmarks"));
    home.must(&["bench", "report", path, "--html", "page.html", "--markdown", "page.md"]);
    assert!(fs::read_to_string(home.path("work/page.html")).unwrap().contains("<svg"));
    assert!(fs::read_to_string(home.path("work/page.md")).unwrap().contains("| native |"));
}

#[test]
fn a_benchmark_that_is_interrupted_keeps_what_it_has() {
    let home = Home::new("bench-int");
    need_client!(home);
    // Where it works, a folder of a short name, for it holds sockets.
    let worlds = home.path("t");
    fs::create_dir(&worlds).unwrap();
    let mut client = home.client().unwrap();
    client
        .args(["bench", "native", "--runs", "100000", "--results", "results"])
        .env("TMPDIR", &worlds);
    std::os::unix::process::CommandExt::process_group(&mut client, 0);
    let child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the benchmark to begin", || fs::read_dir(&worlds).unwrap().next().is_some());
    // As a terminal does it.
    kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    status(&output, 130);
    let [path] = kept(&home).try_into().unwrap();
    let document = read(&path).unwrap();
    assert!(document.interrupted);
    let failures: Vec<_> = document.cases.iter().flat_map(|case| &case.failures).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(fs::read_dir(&worlds).unwrap().next().is_none(), "it has left its folder");
}

#[test]
fn what_is_no_result_is_an_error_that_says_so() {
    let home = Home::new("bench-bad");
    need_client!(home);
    let folder = home.path("work");
    fs::write(folder.join("text"), "not JSON").unwrap();
    fs::write(folder.join("newer"), "{\"schema\": 99}").unwrap();
    for (words, expected) in [
        (&["bench", "report", "nowhere"][..], "can't read nowhere"),
        (&["bench", "report", "text"], "text is no result of a benchmark"),
        (&["bench", "report", "newer"], "newer is no result of a benchmark: it is of version 99"),
        (&["bench", "compare", "text"], "two results are compared"),
        (&["bench", "report"], "no result was named"),
        (&["bench", "nonesuch"], "there is no backend \"nonesuch\""),
        (&["bench", "--runs", "0"], "is not a number from 1"),
        (&["bench", "--max", "99999999"], "is not a number from 1"),
        (&["bench", "--fail-above", "0.5"], "is not a ratio of 1 or more"),
        (&["bench", "--results", "text", "--quick", "--runs", "1"], "can't make text"),
    ] {
        let output = home.run(words);
        status(&output, 125);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{words:?}: {said}");
        assert!(said.contains("hint:"), "{words:?}: {said}");
    }
}
