//! What agentkernel tells of a run and of the machine, and that it is true.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agentkernel_core::Capability;
use serde_json::{Value, json};

use crate::{Behaviour, Captured, Commands, NO_FLAGS, NotPassed, Route, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "report-names-the-run",
        "the report holds the version, backend, route, profile, command, ending and exit status",
        &[],
        report_names_the_run,
    ),
    Behaviour::new(
        "report-phases-add-up",
        "the four phases of the report add up to its total, which the clock confirms",
        &[],
        report_phases_add_up,
    ),
    Behaviour::new(
        "report-usage",
        "the report's processor time and memory are those that the command used",
        &[],
        report_usage,
    ),
    Behaviour::new(
        "walls-stand",
        "the report names every wall of a sandbox, all of them in force",
        &[],
        walls_stand,
    ),
    Behaviour::new(
        "report-as-a-line",
        "--json puts the report on standard error as one line, and an error in its place",
        &[],
        report_as_a_line,
    ),
    Behaviour::new(
        "verbose-tells",
        "--verbose names the backend, each wall, and each limit with what is missing from it",
        &[],
        verbose_tells,
    ),
    Behaviour::new(
        "doctor-agrees",
        "doctor names the walls that a run then has, and only capabilities that there are",
        &[],
        doctor_agrees,
    ),
    Behaviour::new(
        "doctor-for-people",
        "doctor without --json names the backend in plain text",
        &[],
        doctor_for_people,
    )
    .only(Route::Cold, "doctor runs no command")
    .of(Commands::None),
];

/// Runs `argv` with `flags` and `--report`; returns the report as well.
pub(super) fn reported(
    subject: &Subject,
    flags: &[impl AsRef<OsStr>],
    argv: &[impl AsRef<OsStr>],
) -> Result<(Captured, Value), NotPassed> {
    let scratch = subject.scratch()?;
    let file = scratch.path().join("work/report.json");
    let report = [OsStr::new("--report"), file.as_os_str()];
    let flags: Vec<&OsStr> = flags.iter().map(AsRef::as_ref).chain(report).collect();
    let got = Captured::of(subject.run_command(&scratch, &flags, argv))?;
    let report = read(&file).map_err(|why| NotPassed::Failed(format!("{why:?}: {got}")))?;
    Ok((got, report))
}

/// Reads a report: one JSON object.
pub(super) fn read(file: &Path) -> Result<Value, NotPassed> {
    let text = std::fs::read(file).map_err(|why| NotPassed::failed_to("read the report", why))?;
    let report: Value = serde_json::from_slice(&text)
        .map_err(|why| NotPassed::failed_to("read the report as JSON", why))?;
    ensure!(report.is_object(), "the report is no object: {report}");
    Ok(report)
}

fn report_names_the_run(subject: &Subject) -> Verdict {
    let flags = ["--profile", "restrictive"];
    let argv = ["sh", "-c", "exit 42", "two words", "quo\"te"];
    let (got, report) = reported(subject, &flags, &argv)?;
    got.exits(42)?;
    let expected = [
        ("version", json!(1)),
        ("backend", json!(subject.backend)),
        ("profile", json!("restrictive")),
        ("command", json!(argv)),
        ("ended", json!({"kind": "exited", "code": 42})),
        ("exit_code", json!(42)),
        ("oom_kills", json!(0)),
        ("route/kind", json!(subject.route.name())),
    ];
    for (key, expected) in expected {
        let found = report.pointer(&format!("/{key}")).unwrap_or(&Value::Null);
        ensure!(*found == expected, "the report's {key} is {found}, not {expected}");
    }
    let (_, report) = reported(subject, &NO_FLAGS, &["true"])?;
    let profile = &report["profile"];
    ensure!(profile == "moderate", "the profile without a word is {profile}, not moderate");
    Ok(())
}

fn report_phases_add_up(subject: &Subject) -> Verdict {
    let started = Instant::now();
    let (got, report) = reported(subject, &NO_FLAGS, &["sleep", "0.3"])?;
    got.exits(0)?;
    let whole = started.elapsed();
    let phases = &report["phases_us"];
    let phase = |name: &str| {
        let micros = phases[name].as_u64();
        let micros = micros.ok_or_else(|| NotPassed::Failed(format!("no {name} in {phases}")))?;
        Ok::<_, NotPassed>(Duration::from_micros(micros))
    };
    let exec = phase("exec")?;
    let sum = phase("boot")? + phase("ready")? + exec + phase("shutdown")?;
    let total = phase("total")?;
    ensure!(sum == total, "the phases make {sum:?}, the total is {total:?}: {phases}");
    ensure!(total <= whole, "the total is {total:?}, but the clock counted {whole:?}");
    let slept = Duration::from_millis(300);
    // On a busy machine word of the start can be late, and the end's with it, but not by this much.
    let since_ready = phase("ready")? + exec;
    ensure!(since_ready >= slept, "ready and exec are {since_ready:?}, and it slept {slept:?}");
    ensure!(exec >= slept / 2, "exec is {exec:?}, but the command slept {slept:?}");
    Ok(())
}

fn report_usage(subject: &Subject) -> Verdict {
    // 64 MiB stay in tail's memory until the input ends.
    let script = "head -c 64m /dev/zero | tail -c 64m > /dev/null; \
                  i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let (got, report) = reported(subject, &NO_FLAGS, &["sh", "-c", script])?;
    got.exits(0)?;
    let usage = &report["rusage"];
    let count = |key: &str| usage[key].as_u64().unwrap_or_default();
    let cpu = Duration::from_micros(count("user_us") + count("system_us"));
    let idle = reported(subject, &NO_FLAGS, &["sleep", "0.3"])?.1;
    let idle_count = |key: &str| idle["rusage"][key].as_u64().unwrap_or(u64::MAX >> 1);
    let idle_cpu = Duration::from_micros(idle_count("user_us") + idle_count("system_us"));
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    ensure!(cpu > Duration::from_millis(50), "the busy command used only {cpu:?}: {usage}");
    ensure!(cpu < got.took * processors, "{cpu:?} of processor time in {:?}: {usage}", got.took);
    ensure!(idle_cpu < cpu / 2, "sleeping took {idle_cpu:?}, working {cpu:?}");
    let (most, idle_most) = (count("max_rss_bytes"), idle_count("max_rss_bytes"));
    ensure!(most >= 64 << 20, "64 MiB were in memory, the report says {most} bytes");
    ensure!(most < 256 << 20, "64 MiB were in memory, the report says {most} bytes");
    ensure!(idle_most < 64 << 20, "sleep had {idle_most} bytes in memory");
    Ok(())
}

/// What must stand around every native sandbox without a network.
const NATIVE_WALLS: [&str; 10] = [
    "user-namespace",
    "mount-namespace",
    "pid-namespace",
    "ipc-namespace",
    "uts-namespace",
    "cgroup-namespace",
    "network-namespace",
    "no-new-privileges",
    "capabilities",
    "seccomp",
];

/// The names of the walls in a report or in doctor's word on a backend; none may be missing but
/// those that doctor says are.
fn standing_walls(subject: &Subject, walls: &Value) -> Result<Vec<String>, NotPassed> {
    let list = walls.as_array().map(Vec::as_slice).unwrap_or_default();
    let known =
        |wall: &&Value| subject.missing_walls.iter().any(|name| wall["name"] == name.as_str());
    let missing = list.iter().filter(|wall| wall["in_force"] != true).find(|wall| !known(wall));
    ensure!(missing.is_none(), "a wall is missing: {}", missing.unwrap_or(walls));
    let standing = list.iter().filter(|wall| wall["in_force"] == true);
    let names = standing.filter_map(|wall| wall["name"].as_str());
    Ok(names.map(Into::into).collect())
}

fn walls_stand(subject: &Subject) -> Verdict {
    let (got, report) = reported(subject, &["--network", "none"], &["true"])?;
    got.exits(0)?;
    let walls = standing_walls(subject, &report["walls"])?;
    ensure!(!walls.is_empty(), "the report names no walls");
    if subject.backend == "native" {
        let missing = NATIVE_WALLS.iter().find(|wall| !walls.iter().any(|found| found == *wall));
        ensure!(missing.is_none(), "no wall is named {missing:?}: {walls:?}");
    }
    Ok(())
}

fn report_as_a_line(subject: &Subject) -> Verdict {
    let line = |got: &Captured| -> Result<Value, NotPassed> {
        ensure!(got.errors().lines().count() == 1, "expected one line of JSON: {got}");
        serde_json::from_slice(&got.stderr)
            .map_err(|why| NotPassed::Failed(format!("no JSON on standard error ({why}): {got}")))
    };
    let got = subject.shell(&["--json"], "echo out; exit 3")?;
    got.exits(3)?.prints("out\n")?;
    let report = line(&got)?;
    let expected = json!({"kind": "exited", "code": 3});
    ensure!(report["ended"] == expected, "expected {expected} in the report: {report}");
    let got = subject.run(&["--json"], &["no-such-program"])?;
    got.exits(127)?.prints("")?;
    let error = &line(&got)?["error"];
    let message = error["message"].as_str().unwrap_or_default();
    ensure!(message.contains("no-such-program"), "expected a message on it: {error}");
    ensure!(error["exit_code"] == 127, "expected exit status 127: {error}");
    Ok(())
}

fn verbose_tells(subject: &Subject) -> Verdict {
    let flags = ["--verbose", "--profile", "restrictive"];
    let (got, report) = reported(subject, &flags, &["true"])?;
    got.exits(0)?.prints("")?.mentions(&subject.backend)?;
    let lists = [&report["walls"], &report["limits"]];
    for entry in lists.into_iter().filter_map(Value::as_array).flatten() {
        got.mentions(entry["name"].as_str().unwrap_or_default())?;
        got.mentions(entry["why"].as_str().unwrap_or_default())?;
    }
    Ok(())
}

fn doctor_agrees(subject: &Subject) -> Verdict {
    agrees_with_doctor(subject, || Ok(reported(subject, &["--network", "none"], &["true"])?.1))
}

/// Doctor promises the walls that the report of a run without a network then tells of.
pub(super) fn agrees_with_doctor(
    subject: &Subject,
    run: impl FnOnce() -> Result<Value, NotPassed>,
) -> Verdict {
    let scratch = subject.scratch()?;
    let mut doctor = subject.agentkernel(&scratch);
    doctor.args(["doctor", "--json"]);
    let got = Captured::of(doctor)?;
    got.exits(0)?.complains("")?;
    let document: Value = serde_json::from_slice(&got.stdout)
        .map_err(|why| NotPassed::failed_to("read what doctor says", why))?;
    ensure!(document["version"] == 1, "doctor's version is {}", document["version"]);
    let backends = document["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = backends.iter().find(|backend| backend["name"] == subject.backend.as_str());
    let promised = standing_walls(subject, &ours.unwrap_or(&Value::Null)["walls"])?;
    let built = standing_walls(subject, &run()?["walls"])?;
    // What doctor can't tell before a run, it calls missing, with that reason.
    let mut told = built.clone();
    told.retain(|name| promised.contains(name) || !subject.missing_walls.contains(name));
    ensure!(promised == told, "doctor promises {promised:?}, a run has {built:?}");
    let known = |name: &&String| ALL_CAPABILITIES.iter().all(|known| known.name() != name.as_str());
    let unknown = subject.capabilities.iter().find(known);
    ensure!(unknown.is_none(), "nobody knows the capability {unknown:?}");
    ensure!(!subject.capabilities.is_empty(), "the backend claims no capability");
    Ok(())
}

const ALL_CAPABILITIES: [Capability; 25] = [
    Capability::ImageBuild,
    Capability::NetworkNone,
    Capability::HostLoopback,
    Capability::ImageReference,
    Capability::NetworkFull,
    Capability::NetworkAllow,
    Capability::Ports,
    Capability::RootReadOnly,
    Capability::ImageHost,
    Capability::ImageRootfs,
    Capability::ImageModule,
    Capability::ImageComponent,
    Capability::MountReadOnly,
    Capability::MountReadWrite,
    Capability::MountCopyOnWrite,
    Capability::LimitCpus,
    Capability::LimitMemory,
    Capability::LimitPids,
    Capability::LimitDisk,
    Capability::Terminal,
    Capability::User,
    Capability::Live,
    Capability::Changes,
    Capability::RootChanges,
    Capability::Snapshots,
];

fn doctor_for_people(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut doctor = subject.agentkernel(&scratch);
    doctor.arg("doctor").stdin(Stdio::null());
    let got = Captured::of(doctor)?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    ensure!(text.contains(&subject.backend), "doctor does not name the backend: {got}");
    ensure!(!text.trim_start().starts_with('{'), "doctor speaks JSON to people: {got}");
    Ok(())
}
