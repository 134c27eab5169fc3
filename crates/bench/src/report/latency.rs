//! The parts of the report that tell how long one command takes, and why.

use agentkernel_core::Class;

use super::chart::Chart;
use super::evidence::{Evidence, Found};
use super::figures::{NONE, bytes, duration, or_none, per_second, rate, ratio, share};
use super::phases::PhaseTimes;
use super::table::{Column, Table};
use super::{Block, Part};
use crate::result::{ALL, Case, Section};
use crate::stats::{self, spread};

use Column::{Figure, Text, Words};

/// The median of a series of a case.
pub fn median(case: &Case, series: &str) -> String {
    or_none(stats::median(&case.samples(series)), duration)
}

pub fn percentile(case: &Case, series: &str, percent: f64) -> String {
    or_none(stats::percentile(&case.samples(series), percent), duration)
}

pub fn headline(evidence: &Evidence<'_>) -> Part {
    let mut table = Table::new(&[
        Text("backend"),
        Text("route"),
        Figure("median"),
        Figure("95th percentile"),
        Figure("throughput"),
        Words("isolation"),
        Figure("times the bare process"),
        Figure("runs"),
    ]);
    let bare = evidence.all(Section::Once).find(Found::is_bare);
    for found in bare.into_iter().chain(evidence.ours(Section::Once)) {
        let case = found.case;
        let (name, isolation) = match found.is_bare() {
            true => ("bare process".to_owned(), "none".to_owned()),
            false => (case.backend.clone(), isolation(evidence, &case.backend)),
        };
        let cells = vec![
            name,
            or_none(Some(&case.route).filter(|route| !route.is_empty()), Clone::clone),
            median(case, "total"),
            percentile(case, "total", 95.0),
            best_throughput(evidence, case),
            isolation,
            or_none(found.ratio_to_bare(), |found| ratio(&found)),
            case.samples("total").len().to_string(),
        ];
        let remarks = [evidence.remark(&found)].into_iter().chain(notes(&found));
        let remarks: Vec<String> = remarks.filter(|remark| !remark.is_empty()).collect();
        table.row(cells, remarks.join("; "));
    }
    table.all_absent(&evidence.absent(Section::Once, Class::ALL));
    let text = "One command in a sandbox of its own, as a whole process, from its start to its \
                end. A ratio is the median of the ratios of each round, with its 95 % confidence \
                interval. Throughput is the best of the runs of many requests, with how many of \
                them went on at once.";
    let mut blocks = vec![Block::text(text), Block::table(&table)];
    blocks.extend(Chart::latency(evidence).map(Block::Chart));
    Part { title: "At a glance", blocks }
}

fn isolation(evidence: &Evidence<'_>, backend: &str) -> String {
    or_none(evidence.facts(backend), |facts| facts.isolation.clone())
}

/// What its backend has noted of the machine that it was measured on.
fn notes(found: &Found<'_>) -> Vec<String> {
    let backends = &found.run.document.backends;
    let facts = backends.iter().find(|facts| facts.name == found.case.backend);
    facts.map_or(Vec::new(), |facts| facts.notes.clone())
}

fn best_throughput(evidence: &Evidence<'_>, as_in: &Case) -> String {
    let requests = evidence.same_way(Section::Requests, as_in);
    let best = requests
        .iter()
        .filter_map(|found| Some((per_second(found.case)?, found.case.at_once)))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    or_none(best, |(best, at_once)| format!("{} ({at_once} at once)", rate(best)))
}

pub fn phases(evidence: &Evidence<'_>) -> Part {
    let mut columns = vec![Text("backend"), Text("route")];
    columns.extend(PhaseTimes::NAMES.map(Figure));
    columns.extend([Figure("whole"), Figure("adds up in")]);
    let mut table = Table::new(&columns);
    let mut charted = Vec::new();
    for found in evidence.ours(Section::Phases) {
        let case = found.case;
        let mut cells = vec![case.backend.clone(), route(case)];
        match PhaseTimes::of(case) {
            Some(times) => {
                cells.extend(times.parts.map(duration));
                cells.push(duration(times.total));
                cells.push(format!("{} of {} runs", times.added_up, times.runs));
                charted.push((found, times));
            }
            None => cells.extend(std::iter::repeat_n(NONE.to_owned(), PhaseTimes::NAMES.len() + 2)),
        }
        table.row(cells, evidence.remark(&found));
    }
    table.all_absent(&evidence.unmeasured(Section::Phases, Class::ALL));
    let text = "What a run spends on what. `process` is all outside of the run itself: the start \
                of the program, and its end. `boot` makes the sandbox, `ready` waits until it can \
                run a command, `exec` is the command, `shutdown` removes the sandbox. The figures \
                are means of the middle half of the runs, which add up as medians would not. A \
                run adds up if its phases and its whole differ by less than a thousandth part.";
    let mut blocks = vec![Block::text(text), Block::table(&table)];
    blocks.extend(Chart::phases(&charted).map(Block::Chart));
    Part { title: "Where the time goes", blocks }
}

pub fn route(case: &Case) -> String {
    if case.route.is_empty() { NONE.to_owned() } else { case.route.clone() }
}

pub fn vm_against_container(evidence: &Evidence<'_>) -> Part {
    const CLASSES: &[Class] = &[Class::Vm, Class::Container];
    let mut table = Table::new(&[
        Text("backend"),
        Text("class"),
        Text("route"),
        Figure("process start"),
        Figure("instance ready"),
        Figure("execution"),
        Figure("shutdown"),
        Figure("memory"),
        Words("isolation"),
    ]);
    for found in evidence.ours(Section::Phases) {
        let case = found.case;
        let Some(facts) = evidence.facts(&case.backend) else { continue };
        if !evidence.is_of(&case.backend, CLASSES) {
            continue;
        }
        let times = PhaseTimes::of(case);
        let phase = |of: &dyn Fn(&PhaseTimes) -> f64| or_none(times.as_ref().map(of), duration);
        let cells = vec![
            case.backend.clone(),
            facts.class.clone(),
            route(case),
            phase(&|times| times.parts[0]),
            phase(&PhaseTimes::instance_ready),
            phase(&|times| times.parts[3]),
            phase(&|times| times.parts[4]),
            memory_of(evidence, &case.backend),
            facts.isolation.clone(),
        ];
        table.row(cells, evidence.remark(&found));
    }
    table.all_absent(&evidence.absent(Section::Phases, CLASSES));
    let text = "The same command in a virtual machine and in a container. `instance ready` is \
                `boot` and `ready` of the part above together; `memory` is what the processes of \
                one waiting sandbox hold.";
    Part { title: "VM against container", blocks: vec![Block::text(text), Block::table(&table)] }
}

fn memory_of(evidence: &Evidence<'_>, backend: &str) -> String {
    let held = evidence
        .ours(Section::Memory)
        .filter(|found| found.case.backend == backend)
        .find_map(|found| found.value("pss-bytes"));
    or_none(held, bytes)
}

pub fn cold_against_pool(evidence: &Evidence<'_>) -> Part {
    let classes: Vec<_> =
        Class::ALL.iter().copied().filter(|class| *class != Class::Container).collect();
    let mut blocks = vec![Block::text(
        "From the claim to the first output of a real command: how long until whoever starts \
         `agentkernel run` reads the first byte. `cold` makes a sandbox for it, `pool` takes one \
         that is ready.",
    )];
    blocks.extend(by_route(evidence, &classes, false));
    Part { title: "Cold against pool", blocks }
}

pub fn container_engines(evidence: &Evidence<'_>) -> Part {
    let mut blocks = vec![Block::text("The same for backends that are container engines.")];
    blocks.extend(by_route(evidence, &[Class::Container], true));
    Part { title: "Container engines: cold against pool", blocks }
}

/// Two tables: what a run takes by each route, and what it costs to keep the pool full.
fn by_route(evidence: &Evidence<'_>, classes: &[Class], tell_if_none: bool) -> Vec<Block> {
    let mut latencies = Table::new(&[
        Text("backend"),
        Text("route"),
        Figure("first output, median"),
        Figure("95th percentile"),
        Figure("whole run, median"),
        Figure("runs"),
    ]);
    // What no document says the class of belongs to those that aren't containers.
    let ours = |found: &Found<'_>| {
        let known = evidence.is_of(&found.case.backend, Class::ALL);
        let is_everybodys = found.case.backend == ALL;
        evidence.is_of(&found.case.backend, classes) || (!tell_if_none && !known) || is_everybodys
    };
    for found in evidence.ours(Section::Once).filter(ours) {
        let case = found.case;
        let first = spread(&case.samples("first-output"));
        let cells = vec![
            case.backend.clone(),
            route(case),
            or_none(first, |first| duration(first.p50)),
            or_none(first, |first| duration(first.p95)),
            median(case, "total"),
            or_none(first, |first| first.count.to_string()),
        ];
        latencies.row(cells, evidence.remark(&found));
    }
    let absent = match tell_if_none {
        true => evidence.absent(Section::Once, classes),
        false => evidence.unmeasured(Section::Once, classes),
    };
    latencies.all_absent(&absent);
    let costs = pool_costs(evidence, &ours, classes, tell_if_none);
    let text = "What the pool costs. The hand-out alone is a lease taken in process, with nothing \
                of a run in it: it is **no latency of a command** and is not to be compared with \
                any. Refilling is what each sandbox taken costs later. Sustained are requests \
                without a pause for longer than the pool lasts, so that it is exhausted.";
    vec![Block::table(&latencies), Block::text(text), Block::table(&costs)]
}

fn pool_costs(
    evidence: &Evidence<'_>,
    ours: &dyn Fn(&Found<'_>) -> bool,
    classes: &[Class],
    tell_if_none: bool,
) -> Table {
    let mut table = Table::new(&[
        Text("backend"),
        Figure("hand-out alone, median"),
        Figure("99th percentile"),
        Figure("of it, the clock"),
        Figure("refill of one"),
        Figure("sustained, exhausted"),
        Figure("out of the pool"),
    ]);
    let sections = [Section::HandOut, Section::Refill, Section::Sustained];
    let mut backends: Vec<&str> = Vec::new();
    for found in sections.into_iter().flat_map(|section| evidence.ours(section)).filter(ours) {
        if !backends.contains(&found.case.backend.as_str()) {
            backends.push(&found.case.backend);
        }
    }
    for backend in &backends {
        let [hand_out, refill, sustained] = sections
            .map(|section| evidence.ours(section).find(|found| found.case.backend == *backend));
        let of =
            |found: Option<Found<'_>>, name| or_none(found.and_then(|f| f.value(name)), duration);
        let remarks = [hand_out, refill, sustained].into_iter().flatten();
        let mut remarks: Vec<_> = remarks.map(|found| evidence.remark(&found)).collect();
        remarks.retain(|remark| !remark.is_empty());
        remarks.dedup();
        let cells = vec![
            (*backend).to_owned(),
            or_none(hand_out, |found| median(found.case, "acquire")),
            or_none(hand_out, |found| percentile(found.case, "acquire", 99.0)),
            of(hand_out, "clock"),
            of(refill, "refill"),
            or_none(sustained.and_then(|found| per_second(found.case)), rate),
            or_none(sustained, |found| from_pool(&found)),
        ];
        table.row(cells, remarks.join("; "));
    }
    let absent = match tell_if_none {
        true => evidence.absent(Section::HandOut, classes),
        false => evidence.unmeasured(Section::HandOut, classes),
    };
    let absent = absent.into_iter().filter(|row| !backends.contains(&row.backend.as_str()));
    table.all_absent(&absent.collect::<Vec<_>>());
    table
}

fn from_pool(sustained: &Found<'_>) -> String {
    or_none(sustained.value("from-pool"), |count| {
        let attempts = sustained.case.attempts;
        format!("{count:.0} of {attempts} ({})", share(count as u64, attempts))
    })
}
