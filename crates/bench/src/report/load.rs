//! The parts of the report that set agentkernel beside other tools and under load.

use agentkernel_core::Class;

use super::chart::Chart;
use super::evidence::{Absent, Evidence, Found};
use super::figures::{NONE, bytes, or_none, per_second, rate, ratio, share, three};
use super::latency::{median, percentile, route};
use super::table::{Column, Table};
use super::{Block, Part};
use crate::result::Section;

use Column::{Figure, Text, Words};

/// The sections in which a tool does the same work, and what that is called.
const COMPARED: [(Section, &str); 6] = [
    (Section::Once, "one command"),
    (Section::Lifecycle, "lifecycle"),
    (Section::Exec, "exec"),
    (Section::Requests, "requests"),
    (Section::Scale, "scale"),
    (Section::Stress, "stress"),
];

pub fn beside_tools(evidence: &Evidence<'_>) -> Part {
    let mut table = Table::new(&[
        Text("tool"),
        Text("work"),
        Figure("tool, median"),
        Text("agentkernel"),
        Figure("agentkernel, median"),
        Figure("agentkernel to tool"),
        Figure("rounds"),
    ]);
    for (section, work) in COMPARED {
        for (ours, theirs) in evidence.pairs(section) {
            compare_with(evidence, &ours, &theirs, work, &mut table);
        }
    }
    table.all_absent(&unmeasured_tools(evidence));
    let text = "The same work by an engine's own tool, by a neighbour, and without any sandbox, \
                each in turn with agentkernel. The ratio is the median of the ratios of each \
                round, with its 95 % confidence interval: below 1, agentkernel is faster. Versions are \
                at the end of the page.";
    Part {
        title: "Beside the engines' own tools",
        blocks: vec![Block::text(text), Block::table(&table)],
    }
}

/// A row for a case of agentkernel's and one of a tool's that was measured in turn with it.
fn compare_with(
    evidence: &Evidence<'_>,
    ours: &Found<'_>,
    theirs: &Found<'_>,
    work: &str,
    table: &mut Table,
) {
    let name = match theirs.is_bare() {
        true => "bare process",
        false => &theirs.case.tool,
    };
    let work = match theirs.case.at_once {
        0 | 1 => work.to_owned(),
        at_once => format!("{work}, {at_once} at once"),
    };
    let mut remark = evidence.remark(theirs);
    if ours.case.failed() > 0 {
        let ours = format!("agentkernel: {} of {}", ours.case.failed(), ours.case.attempts);
        remark = format!("{ours} failed; {remark}").trim_end_matches("; ").to_owned();
    }
    let compared = ours.ratio_to(theirs);
    let cells = vec![
        name.to_owned(),
        work,
        median(theirs.case, "total"),
        ours.name(),
        median(ours.case, "total"),
        or_none(compared, |compared| ratio(&compared)),
        or_none(compared, |compared| compared.count.to_string()),
    ];
    table.row(cells, remark);
}

/// The tools that no case is of, each once, by the newest run that knows of it.
fn unmeasured_tools(evidence: &Evidence<'_>) -> Vec<Absent> {
    let mut absent: Vec<Absent> = Vec::new();
    for tool in evidence.runs.iter().flat_map(|run| &run.document.tools) {
        let measured = COMPARED
            .iter()
            .flat_map(|(section, _)| evidence.all(*section))
            .any(|found| found.case.tool == tool.name && found.case.backend == tool.backend);
        let name = format!("{} ({})", tool.name, tool.backend);
        if !measured && absent.iter().all(|known| known.backend != name) {
            let why = tool.unmeasured.clone();
            let why = why.unwrap_or_else(|| "these runs had no such part for it".to_owned());
            absent.push(Absent { backend: name, why });
        }
    }
    absent
}

/// Who did it, where agentkernel's and the tools' cases stand together.
fn who(found: &Found<'_>) -> [String; 2] {
    match found.is_bare() {
        true => ["bare process".to_owned(), NONE.to_owned()],
        false => [found.case.backend.clone(), found.case.tool.clone()],
    }
}

pub fn lifecycle(evidence: &Evidence<'_>) -> Part {
    const STEPS: [&str; 6] = ["create", "start", "exec", "stop", "remove", "total"];
    let mut columns = vec![Text("backend"), Text("tool")];
    columns.extend(STEPS.map(Figure));
    let mut table = Table::new(&columns);
    for found in evidence.all(Section::Lifecycle) {
        let mut cells = who(&found).to_vec();
        cells.extend(STEPS.map(|step| median(found.case, step)));
        table.row(cells, evidence.remark(&found));
    }
    table.all_absent(&evidence.unmeasured(Section::Lifecycle, Class::ALL));
    let mut exec = Table::new(&[
        Text("backend"),
        Text("tool"),
        Figure("first output, median"),
        Figure("whole, median"),
        Figure("95th percentile"),
        Figure("commands a second"),
        Figure("commands"),
    ]);
    for found in evidence.all(Section::Exec) {
        let case = found.case;
        let mut cells = who(&found).to_vec();
        cells.extend([
            median(case, "first-output"),
            median(case, "total"),
            percentile(case, "total", 95.0),
            or_none(per_second(case), rate),
            case.samples("total").len().to_string(),
        ]);
        exec.row(cells, evidence.remark(&found));
    }
    exec.all_absent(&evidence.unmeasured(Section::Exec, Class::ALL));
    Part {
        title: "Lifecycle and exec",
        blocks: vec![
            Block::text("The life of a sandbox, each step a whole process. Medians."),
            Block::table(&table),
            Block::text("Commands in one sandbox that lives, one after the other."),
            Block::table(&exec),
        ],
    }
}

pub fn stress(evidence: &Evidence<'_>) -> Part {
    let mut table = Table::new(&[
        Text("backend"),
        Text("tool"),
        Text("route"),
        Text("work"),
        Figure("at once"),
        Figure("attempts"),
        Figure("succeeded"),
        Figure("p50"),
        Figure("p95"),
        Figure("p99"),
        Figure("throughput"),
    ]);
    let sections =
        [(Section::Requests, "requests"), (Section::Scale, "scale"), (Section::Stress, "stress")];
    for (section, work) in sections {
        for found in evidence.all(section) {
            let case = found.case;
            let mut cells = who(&found).to_vec();
            cells.extend([
                route(case),
                work.to_owned(),
                case.at_once.to_string(),
                case.attempts.to_string(),
                share(case.attempts.saturating_sub(case.failed()), case.attempts),
                median(case, "total"),
                percentile(case, "total", 95.0),
                percentile(case, "total", 99.0),
                or_none(per_second(case), rate),
            ]);
            table.row(cells, evidence.remark(&found));
        }
    }
    table.all_absent(&without_load(evidence, &sections));
    let text = "`requests` are a number of commands, so many at a time; `scale` starts as many at \
                once as there are; `stress` is the lives of many sandboxes at once, from their \
                making to their removal. Times are those of what succeeded.";
    let mut blocks = vec![Block::text(text), Block::table(&table)];
    blocks.extend(Chart::throughput(evidence).map(Block::Chart));
    blocks.extend([Block::text("### What failed\n"), Block::text(failures(evidence))]);
    Part { title: "Stress and scale", blocks }
}

/// A row for each backend that has none of the sections, and else one for each that it lacks.
fn without_load(evidence: &Evidence<'_>, sections: &[(Section, &str)]) -> Vec<Absent> {
    let mut absent: Vec<Absent> = Vec::new();
    for facts in evidence.backends() {
        let lacked: Vec<_> = sections
            .iter()
            .flat_map(|(section, work)| {
                let rows = evidence.unmeasured(*section, Class::ALL).into_iter();
                rows.filter(|row| row.backend == facts.name).map(move |row| (row, work))
            })
            .collect();
        if lacked.len() == sections.len() {
            absent.extend(lacked.into_iter().next().map(|(row, _)| row));
        } else {
            absent.extend(
                lacked.into_iter().map(|(row, work)| Absent {
                    backend: format!("{} ({work})", row.backend),
                    ..row
                }),
            );
        }
    }
    absent
}

/// All failures of all runs, those of cases that a newer run has replaced as well.
fn failures(evidence: &Evidence<'_>) -> String {
    let mut table = Table::new(&[
        Text("case"),
        Text("run"),
        Words("error"),
        Figure("times"),
        Figure("of attempts"),
    ]);
    let mut any = false;
    for run in &evidence.runs {
        for case in &run.document.cases {
            let found = Found { run: *run, case };
            for failure in &case.failures {
                any = true;
                let at_once = match case.at_once {
                    0 | 1 => String::new(),
                    at_once => format!(", {at_once} at once"),
                };
                let cells = vec![
                    format!("{}: {}{at_once}", section_name(case.section), found.name()),
                    run.name.to_owned(),
                    beginning(&failure.error),
                    failure.count.to_string(),
                    case.attempts.to_string(),
                ];
                table.row(cells, String::new());
            }
        }
    }
    match any {
        true => table.markdown(),
        false if evidence.runs.is_empty() => "Nothing was measured.".to_owned(),
        false => "Nothing did.".to_owned(),
    }
}

/// As much of an error as a page has room for: a kernel's last words take a whole one.
fn beginning(error: &str) -> String {
    const ROOM: usize = 300;
    match error.char_indices().nth(ROOM) {
        None => error.to_owned(),
        Some((end, _)) => format!("{}... (the file has all of it)", &error[..end]),
    }
}

/// A section as results name it.
pub fn section_name(section: Section) -> String {
    match serde_json::to_value(section) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{section:?}"),
    }
}

pub fn orchestration(evidence: &Evidence<'_>) -> Part {
    const CLASSES: &[Class] = &[Class::Orchestrator];
    let mut table = Table::new(&[
        Text("backend"),
        Figure("lifecycle, median"),
        Figure("one command, median"),
        Figure("exec throughput"),
        Figure("most at once"),
        Figure("p95 of those"),
    ]);
    let sections = [Section::Once, Section::Lifecycle, Section::Exec, Section::Scale];
    let mut absent = evidence.absent(Section::Once, CLASSES);
    for facts in evidence.backends() {
        let backend = facts.name.as_str();
        let first = |section| evidence.ours(section).find(|found| found.case.backend == backend);
        let found = sections.map(first);
        if !evidence.is_of(backend, CLASSES) || found.iter().all(Option::is_none) {
            continue;
        }
        absent.retain(|row| row.backend != backend);
        let [once, life, exec, _] = found;
        let most = evidence
            .ours(Section::Scale)
            .filter(|found| found.case.backend == backend && found.case.failed() == 0)
            .max_by_key(|found| found.case.at_once);
        let cells = vec![
            backend.to_owned(),
            or_none(life, |found| median(found.case, "total")),
            or_none(once, |found| median(found.case, "total")),
            or_none(exec.and_then(|found| per_second(found.case)), rate),
            or_none(most, |found| found.case.at_once.to_string()),
            or_none(most, |found| percentile(found.case, "total", 95.0)),
        ];
        let remark = once.or(life).or(exec).map(|found| evidence.remark(&found));
        table.row(cells, remark.unwrap_or_default());
    }
    table.all_absent(&absent);
    let text = "Backends whose sandboxes a cluster places on its machines. `most at once` is the \
                largest number that was started at once without a failure.";
    Part { title: "Orchestration", blocks: vec![Block::text(text), Block::table(&table)] }
}

pub fn memory(evidence: &Evidence<'_>) -> Part {
    let mut table = Table::new(&[
        Text("backend"),
        Text("tool"),
        Figure("held by its processes"),
        Figure("of the machine's available memory"),
        Figure("processes"),
        Figure("sandboxes measured"),
    ]);
    for found in evidence.all(Section::Memory) {
        let mut cells = who(&found).to_vec();
        cells.extend([
            or_none(found.value("pss-bytes"), bytes),
            or_none(found.value("available-bytes"), bytes),
            or_none(found.value("processes"), three),
            or_none(found.value("sandboxes"), |count| format!("{count:.0}")),
        ]);
        table.row(cells, evidence.remark(&found));
    }
    table.all_absent(&evidence.unmeasured(Section::Memory, Class::ALL));
    let text = "What one sandbox costs that waits: the proportional set size of its processes, \
                and by how much the machine's available memory shrank, with what the kernel needs.";
    let mut blocks = vec![Block::text(text), Block::table(&table)];
    blocks.extend(Chart::memory(evidence).map(Block::Chart));
    Part { title: "Memory", blocks }
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn of_a_long_error_a_page_has_the_beginning() {
        assert_eq!(beginning("it failed"), "it failed");
        let long = "é".repeat(301);
        assert_eq!(beginning(&long), format!("{}... (the file has all of it)", "é".repeat(300)));
    }
}
