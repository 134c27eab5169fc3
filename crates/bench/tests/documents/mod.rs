//! Made-up documents: machines, backends and tools that there are not.

use std::collections::BTreeMap;

use agentkernel_bench::result::{
    BackendFacts, Case, Document, Failure, Machine, SCHEMA, Section, Settings, ToolFacts,
};

const MS: u64 = 1_000_000;

/// Two documents: an older one that was interrupted, and a newer, whole one.
pub fn all() -> Vec<(String, Document)> {
    vec![
        ("bench-old.json".to_owned(), interrupted()),
        ("bench-new.json".to_owned(), full()),
        ("stress-new.json".to_owned(), stress()),
    ]
}

/// Something of every section, of a process, a VM and a container backend; and one of each that
/// was not ready.
pub fn full() -> Document {
    let mut cases = Vec::new();
    cases.extend(once());
    cases.extend(living());
    cases.extend(phases());
    cases.extend(load());
    cases.extend(pool_and_memory());
    Document { cases, ..document("bench", "2026-02-02T12:00:00Z") }
}

/// The older, which tells of a backend that the newer one found not ready, and of a case that the
/// newer one has measured again.
pub fn interrupted() -> Document {
    let mut cold = case(Section::Once, "proc", "agentkernel", "cold");
    cold.group = "once".into();
    fill(&mut cold, "total", 77 * MS, 5);
    let failures = vec![Failure { error: "replaced, but not forgotten".into(), count: 2 }];
    let elsewhere = timed(Section::Once, "elsewhere", "agentkernel", "cold", 9 * MS);
    let cases = vec![Case { failures, attempts: 7, ..cold }, elsewhere];
    Document { interrupted: true, cases, ..document("bench", "2026-01-01T12:00:00Z") }
}

pub fn stress() -> Document {
    let mut stress = case(Section::Stress, "proc", "agentkernel", "");
    (stress.at_once, stress.wall_ns) = (100, 900 * MS);
    for (step, middle) in STEPS {
        fill(&mut stress, step, middle * MS, 997);
    }
    stress.attempts = 1000;
    stress.failures = vec![
        Failure { error: "no <b>room</b> | left".into(), count: 2 },
        Failure { error: "it took more than 120 seconds".into(), count: 1 },
    ];
    Document { cases: vec![stress], ..document("stress", "2026-02-02T13:00:00Z") }
}

const STEPS: [(&str, u64); 6] =
    [("create", 2), ("start", 3), ("exec", 2), ("stop", 2), ("remove", 4), ("total", 13)];

pub fn document(kind: &str, date: &str) -> Document {
    Document {
        schema: SCHEMA,
        kind: kind.into(),
        date: date.into(),
        interrupted: false,
        settings: Settings {
            quick: false,
            command: vec!["echo".into(), "hello".into()],
            output: "hello\n".into(),
            warm_up: 3,
        },
        machine: Machine {
            cpu: "Made-up 9000".into(),
            cpus: 2,
            memory_bytes: 8 << 30,
            hypervisor: "none of ours".into(),
            architecture: "x86_64".into(),
            system: "Imaginary Linux 12".into(),
            kernel: "6.18.0-made-up".into(),
            cgroup: "hybrid".into(),
            uid: 0,
            version: "0.1.0".into(),
            commit: Some("0123456789ab".into()),
            changed: Some(true),
            load_before: [0.55, 1.59, 2.26],
            load_after: [0.75, 1.62, 2.27],
        },
        backends: backends(),
        tools: vec![
            tool("wrapper", "proc", "wrapper 0.8.0", None),
            tool("boxer", "boxes", "boxer 5.1", None),
            tool("hypervise", "machine", "", Some("there is no hypervise on the PATH")),
        ],
        cases: Vec::new(),
    }
}

fn backends() -> Vec<BackendFacts> {
    let facts = |name: &str, class: &str, isolation: &str, unmeasured: Option<&str>| BackendFacts {
        name: name.into(),
        class: class.into(),
        isolation: isolation.into(),
        choose: format!("The one to take if you like {name}."),
        image: (class == "container").then(|| "localhost/echo:1".to_owned()),
        notes: (name == "machine")
            .then(|| "it is a virtual one itself".to_owned())
            .into_iter()
            .collect(),
        unmeasured: unmeasured.map(str::to_owned),
    };
    vec![
        facts("machine", "vm", "a kernel of its own", None),
        facts("elsewhere", "vm", "a kernel of its own, elsewhere", Some("there is no elsewhere")),
        facts("boxes", "container", "namespaces of an engine's", None),
        facts("proc", "process", "namespaces and a filter; one kernel", None),
        facts("crates", "container", "namespaces", Some("its socket is not there: no engine runs")),
    ]
}

fn tool(name: &str, backend: &str, version: &str, unmeasured: Option<&str>) -> ToolFacts {
    ToolFacts {
        name: name.into(),
        backend: backend.into(),
        version: version.into(),
        unmeasured: unmeasured.map(str::to_owned),
    }
}

pub fn case(section: Section, backend: &str, tool: &str, route: &str) -> Case {
    Case {
        section,
        backend: backend.into(),
        tool: tool.into(),
        route: route.into(),
        at_once: 1,
        ..Case::default()
    }
}

/// Samples about a middle, skewed as times are.
pub fn fill(case: &mut Case, series: &str, middle: u64, count: u64) {
    let samples = (0..count).map(|index| {
        // Steps through the range without order.
        let place = (index * 37 + middle / 7 % 89) % 101;
        Some(middle * (90 + place / 5) / 100 + middle * place.saturating_sub(92) / 10)
    });
    case.series.insert(series.to_owned(), samples.collect());
    case.attempts = count;
}

/// A hundred samples of `first-output` and `total`.
pub fn timed(section: Section, backend: &str, tool: &str, route: &str, middle: u64) -> Case {
    let mut case = case(section, backend, tool, route);
    fill(&mut case, "first-output", middle * 9 / 10, 100);
    fill(&mut case, "total", middle, 100);
    case
}

fn once() -> Vec<Case> {
    let mut cases = Vec::new();
    for (backend, tool, cold, pool, beside) in [
        ("proc", "wrapper", 3 * MS, 2 * MS, 3 * MS + MS / 2),
        ("machine", "", 180 * MS, 12 * MS, 0),
        ("boxes", "boxer", 400 * MS, 30 * MS, 380 * MS),
    ] {
        cases.push(timed(Section::Once, "process", "process", "", MS / 2));
        cases.push(timed(Section::Once, backend, "agentkernel", "cold", cold));
        cases.push(timed(Section::Once, backend, "agentkernel", "pool", pool));
        if !tool.is_empty() {
            cases.push(timed(Section::Once, backend, tool, "", beside));
        }
        for case in cases.iter_mut().filter(|case| case.group.is_empty()) {
            case.group = format!("once {backend}");
        }
    }
    cases
}

fn living() -> Vec<Case> {
    let mut cases = Vec::new();
    for (backend, tool, times) in
        [("proc", "agentkernel", 1), ("boxes", "agentkernel", 30), ("boxes", "boxer", 28)]
    {
        let mut life = case(Section::Lifecycle, backend, tool, "");
        life.group = format!("lifecycle {backend}");
        for (step, middle) in STEPS {
            fill(&mut life, step, middle * times * MS, 20);
        }
        let mut exec = timed(Section::Exec, backend, tool, "live", times * 2 * MS);
        exec.group = format!("exec {backend}");
        cases.extend([life, exec]);
    }
    cases
}

fn phases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (backend, [process, boot, ready, exec, shutdown]) in [
        ("proc", [700_000, 900_000, 200_000, 600_000, 500_000]),
        ("machine", [MS, 120 * MS, 30 * MS, 4 * MS, 25 * MS]),
        ("boxes", [MS, 250 * MS, 20 * MS, 60 * MS, 70 * MS]),
    ] {
        let mut case = case(Section::Phases, backend, "agentkernel", "cold");
        let parts = [
            ("process", process),
            ("boot", boot),
            ("ready", ready),
            ("exec", exec),
            ("shutdown", shutdown),
        ];
        for (name, middle) in parts {
            fill(&mut case, name, middle, 40);
        }
        let sums = (0..40).map(|index| {
            Some(parts.iter().filter_map(|(name, _)| case.series[*name][index]).sum::<u64>())
        });
        let sums = sums.collect();
        case.series.insert("total".into(), sums);
        cases.push(case);
    }
    cases
}

fn load() -> Vec<Case> {
    let mut cases = Vec::new();
    for (backend, tool, route, middle) in [
        ("proc", "agentkernel", "cold", 3 * MS),
        ("proc", "agentkernel", "pool", 2 * MS),
        ("boxes", "agentkernel", "cold", 400 * MS),
        ("proc", "wrapper", "", 4 * MS),
    ] {
        let mut requests = timed(Section::Requests, backend, tool, route, middle * 4);
        (requests.at_once, requests.wall_ns) = (10, middle * 100 / 2);
        cases.push(requests);
        for at_once in [5, 10, 20, 50] {
            let mut scale = case(Section::Scale, backend, tool, route);
            fill(&mut scale, "total", middle * at_once / 2, at_once);
            fill(&mut scale, "first-output", middle * at_once / 2, at_once);
            (scale.at_once, scale.wall_ns) = (at_once, middle * at_once / 2 + middle);
            if backend == "boxes" && at_once == 50 {
                scale.series.values_mut().for_each(|series| series[49] = None);
                scale.failures = vec![Failure { error: "the engine is busy".into(), count: 1 }];
            }
            cases.push(scale);
        }
    }
    cases
}

fn pool_and_memory() -> Vec<Case> {
    let mut cases = Vec::new();
    for (backend, refill, pss) in [("proc", 3 * MS, 521 << 10), ("machine", 180 * MS, 64 << 20)] {
        let mut hand_out = case(Section::HandOut, backend, "agentkernel", "");
        fill(&mut hand_out, "acquire", 60, 1000);
        hand_out.values.insert("clock".into(), 20.0);
        let mut refilled = case(Section::Refill, backend, "agentkernel", "");
        refilled.values.insert("refill".into(), refill as f64);
        let mut sustained = timed(Section::Sustained, backend, "agentkernel", "pool", refill);
        (sustained.at_once, sustained.wall_ns) = (4, refill * 100 / 2);
        sustained.values.insert("from-pool".into(), 71.0);
        let mut memory = case(Section::Memory, backend, "agentkernel", "");
        memory.values = BTreeMap::from([
            ("sandboxes".into(), 100.0),
            ("pss-bytes".into(), f64::from(pss)),
            ("available-bytes".into(), f64::from(pss) * 2.0),
            ("processes".into(), 2.0),
        ]);
        cases.extend([hand_out, refilled, sustained, memory]);
    }
    cases
}
