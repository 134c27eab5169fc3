//! The parts of the report that say what was measured where, and how to do it oneself.

use agentkernel_core::Class;

use super::evidence::{Evidence, Run};
use super::figures::{NONE, bytes};
use super::table::{Column, Table, UNMEASURED};
use super::{Block, Part, escape};
use crate::result::{Document, Machine};

use Column::{Text, Words};

pub fn choosing(evidence: &Evidence<'_>) -> Part {
    let mut table = Table::new(&[
        Text("backend"),
        Text("class"),
        Words("here"),
        Words("choose it for"),
        Words("isolation"),
    ]);
    for facts in evidence.backends() {
        let here = match evidence.is_measured(&facts.name) {
            true => "measured".to_owned(),
            false => format!("{UNMEASURED}: {}", evidence.why_unmeasured(facts)),
        };
        let cells = vec![
            facts.name.clone(),
            facts.class.clone(),
            here,
            facts.choose.clone(),
            facts.isolation.clone(),
        ];
        table.row(cells, String::new());
    }
    for absent in evidence.empty_classes(Class::ALL) {
        let none = || NONE.to_owned();
        let here = format!("{UNMEASURED}: {}", absent.why);
        table.row(vec![absent.backend, none(), here, none(), none()], String::new());
    }
    let text = "What each backend says of itself. Classes say what may be compared with what.";
    Part { title: "Choosing a backend", blocks: vec![Block::text(text), Block::table(&table)] }
}

pub fn running() -> Part {
    let text = "Everything that is ready, with the tools beside it, and one file of results in \
                `benchmark-results/`:\n\n\
                ```\n\
                agentkernel bench\n\
                agentkernel bench --quick\n\
                ```\n\n\
                This page out of files of results, and two of them compared, as for a change:\n\n\
                ```\n\
                agentkernel bench report\n\
                agentkernel bench compare A.json B.json --fail-above 1.10\n\
                ```\n\n\
                The commands that people know, on the same harness. `AGENTKERNEL_BACKEND` picks \
                the backend:\n\n\
                ```\n\
                cargo test --test stress_test -- --nocapture --ignored\n\
                cargo test --test benchmark_test -- --nocapture --ignored\n\
                ./scripts/benchmark.sh [ITERATIONS]\n\
                ./scripts/stress-test.sh [TOTAL] [CONCURRENCY]\n\
                ```\n\n\
                How it is measured, and what each field of a result means, is in \
                [benchmarks-method.md](benchmarks-method.md). Compare ratios of one run rather \
                than times of two: another machine, or the same one under load, has other times.";
    Part { title: "Running your own", blocks: vec![Block::text(text)] }
}

pub fn hardware(evidence: &Evidence<'_>) -> Part {
    let mut blocks = vec![Block::text(match evidence.runs.len() {
        0 => "There are no results.",
        1 => "All figures of this page are of one run.",
        _ => {
            "The runs of this page, the newest first. Where two measured the same, the newer \
              counts."
        }
    })];
    for run in &evidence.runs {
        blocks.push(Block::text(format!("### Run {}: {}\n", run.number, escape(run.name))));
        blocks.push(Block::table(&facts(run)));
        if !run.document.tools.is_empty() {
            blocks.push(Block::table(&tools(run)));
        }
    }
    Part { title: "Test hardware", blocks }
}

fn facts(run: &Run<'_>) -> Table {
    let document = run.document;
    let Machine { cpu, cpus, memory_bytes, hypervisor, architecture, .. } = &document.machine;
    let machine = &document.machine;
    let load = |load: [f64; 3]| load.map(|load| format!("{load:.2}")).join(" ");
    let counts = |of: fn(&crate::result::Case) -> u64| document.cases.iter().map(of).sum::<u64>();
    let kind = match (document.settings.quick, document.interrupted) {
        (false, false) => document.kind.clone(),
        (true, false) => format!("{}, quick", document.kind),
        (false, true) => format!("{}, interrupted", document.kind),
        (true, true) => format!("{}, quick, interrupted", document.kind),
    };
    let built = match (&machine.commit, machine.changed) {
        (Some(commit), Some(true)) => format!("{} at {commit}, with changes", machine.version),
        (Some(commit), _) => format!("{} at {commit}", machine.version),
        (None, _) => machine.version.clone(),
    };
    let mut table = Table::new(&[Text("what"), Words("is")]);
    for (what, is) in [
        ("kind of run", kind),
        ("date", document.date.clone()),
        ("attempts", counts(|case| case.attempts).to_string()),
        ("of them failed", counts(crate::result::Case::failed).to_string()),
        ("samples of the whole", counts(|case| case.samples("total").len() as u64).to_string()),
        ("warm-up, uncounted, of each", format!("{} runs", document.settings.warm_up)),
        ("command", document.settings.command.join(" ")),
        ("output, checked each time", format!("{:?}", document.settings.output)),
        ("images", images(document)),
        ("agentkernel", built),
        ("processor", format!("{cpus} × {cpu} ({architecture})")),
        ("memory", bytes(*memory_bytes as f64)),
        ("hypervisor", if hypervisor.is_empty() { "none known" } else { hypervisor }.to_owned()),
        ("system", machine.system.clone()),
        ("kernel", machine.kernel.clone()),
        ("control groups", machine.cgroup.clone()),
        ("user", machine.uid.to_string()),
        ("load before, over 1, 5 and 15 minutes", load(machine.load_before)),
        ("load after", load(machine.load_after)),
    ] {
        table.row(vec![what.to_owned(), is], String::new());
    }
    table
}

/// Which image each backend has measured in.
fn images(document: &Document) -> String {
    let measured = document.backends.iter().filter(|facts| facts.unmeasured.is_none());
    let named = measured.filter_map(|facts| Some((&facts.name, facts.image.as_ref()?)));
    let images: Vec<_> = named.map(|(name, image)| format!("{name}: {image}")).collect();
    if images.is_empty() { "none".to_owned() } else { images.join(", ") }
}

fn tools(run: &Run<'_>) -> Table {
    let mut table = Table::new(&[Text("tool"), Text("beside"), Text("version"), Words("here")]);
    for tool in &run.document.tools {
        let here = match &tool.unmeasured {
            None => "measured".to_owned(),
            Some(why) => format!("{UNMEASURED}: {why}"),
        };
        let cells = vec![tool.name.clone(), tool.backend.clone(), tool.version.clone(), here];
        table.row(cells, String::new());
    }
    table
}
