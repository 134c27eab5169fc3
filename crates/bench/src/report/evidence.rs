//! What a report has to go by: of all documents, the newest case of each kind.

use std::collections::HashSet;

use agentkernel_core::Class;
use agentkernel_sys::machine::NESTED;

use crate::result::{BackendFacts, Case, Document, OURS, Section};
use crate::stats::{Ratio, paired_ratio};

/// The backend that stands for none: the bare process.
const BARE: &str = "process";

/// A document, and what the report calls it: its place by age, the newest first, from 1.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub number: usize,
    pub name: &'a str,
    pub document: &'a Document,
}

/// A case, and where it was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub run: Run<'a>,
    pub case: &'a Case,
}

/// A backend or a class without any, and why it has no figure.
#[derive(Debug, Clone)]
pub struct Absent {
    pub backend: String,
    pub why: String,
}

#[derive(Debug)]
pub struct Evidence<'a> {
    pub runs: Vec<Run<'a>>,
    /// One of each name, those of a class together.
    backends: Vec<&'a BackendFacts>,
    /// One of each kind, those of a backend together, the bare process first.
    cases: Vec<Found<'a>>,
}

impl<'a> Found<'a> {
    pub fn is_bare(&self) -> bool {
        self.case.backend == BARE
    }

    pub fn is_ours(&self) -> bool {
        !self.is_bare() && self.case.tool == OURS
    }

    /// The cases that were measured in turn with this one.
    pub fn in_turn(self) -> impl Iterator<Item = Self> {
        let Self { run, case } = self;
        run.document
            .cases
            .iter()
            .filter(move |other| {
                !case.group.is_empty()
                    && (other.section, &other.group, other.at_once)
                        == (case.section, &case.group, case.at_once)
                    && !std::ptr::eq(*other, case)
            })
            .map(move |case| Self { run, case })
    }

    /// How many times as long this took as the other, by the rounds of both.
    pub fn ratio_to(&self, other: &Self) -> Option<Ratio> {
        let (ours, theirs) = (self.case.series.get("total")?, other.case.series.get("total")?);
        paired_ratio(ours, theirs)
    }

    /// The ratio to the bare process beside it.
    pub fn ratio_to_bare(self) -> Option<Ratio> {
        self.in_turn().find(Self::is_bare).and_then(|bare| self.ratio_to(&bare))
    }

    pub fn value(&self, name: &str) -> Option<f64> {
        self.case.values.get(name).copied()
    }

    /// By which name it goes where all kinds of cases stand together.
    pub fn name(&self) -> String {
        let Case { backend, tool, route, .. } = self.case;
        match (self.is_bare(), self.is_ours(), route.as_str()) {
            (true, ..) => "bare process".to_owned(),
            (_, true, "") => backend.clone(),
            (_, true, route) => format!("{backend}, {route}"),
            (_, false, "") => format!("{tool} ({backend})"),
            (_, false, route) => format!("{tool} ({backend}, {route})"),
        }
    }

    /// What is the same of two cases that measure the same.
    fn kind(&self) -> (Section, &'a str, &'a str, &'a str, u64) {
        let Case { section, backend, tool, route, at_once, .. } = self.case;
        (*section, backend, tool, route, *at_once)
    }
}

impl<'a> Evidence<'a> {
    pub fn of(documents: &'a [(String, Document)]) -> Self {
        let mut documents: Vec<_> = documents.iter().collect();
        documents.sort_by(|(_, one), (_, other)| other.date.cmp(&one.date));
        let runs: Vec<Run<'a>> = documents
            .into_iter()
            .enumerate()
            .map(|(index, (name, document))| Run { number: index + 1, name, document })
            .collect();
        let mut seen = HashSet::new();
        let mut backends: Vec<_> = runs
            .iter()
            .flat_map(|run| &run.document.backends)
            .filter(|facts| seen.insert(facts.name.as_str()))
            .collect();
        backends.sort_by_key(|facts| class_place(&facts.class));
        let mut seen = HashSet::new();
        let mut cases: Vec<_> = runs
            .iter()
            .flat_map(|&run| run.document.cases.iter().map(move |case| Found { run, case }))
            .filter(|found| seen.insert(found.kind()))
            .collect();
        let place = |found: &Found<'_>| {
            backends.iter().position(|facts| facts.name == found.case.backend).unwrap_or(usize::MAX)
        };
        cases.sort_by(|one, other| {
            let key = |found: &Found<'a>| {
                (!found.is_bare(), place(found), !found.is_ours(), found.kind())
            };
            key(one).cmp(&key(other))
        });
        Self { runs, backends, cases }
    }

    pub fn backends(&self) -> &[&'a BackendFacts] {
        &self.backends
    }

    /// What a backend says of itself; nothing if no document has it.
    pub fn facts(&self, backend: &str) -> Option<&'a BackendFacts> {
        self.backends.iter().find(|facts| facts.name == backend).copied()
    }

    pub fn is_of(&self, backend: &str, classes: &[Class]) -> bool {
        self.facts(backend)
            .is_some_and(|facts| classes.iter().any(|class| class.name() == facts.class))
    }

    pub fn all(&self, section: Section) -> impl Iterator<Item = Found<'a>> {
        self.cases.iter().filter(move |found| found.case.section == section).copied()
    }

    /// Those of agentkernel itself.
    pub fn ours(&self, section: Section) -> impl Iterator<Item = Found<'a>> {
        self.all(section).filter(Found::is_ours)
    }

    /// Cases of agentkernel's with each of a tool's that was measured in turn with it: of each two
    /// kinds the newest.
    pub fn pairs(&self, section: Section) -> Vec<(Found<'a>, Found<'a>)> {
        let mut seen = HashSet::new();
        let of_run = |run: &Run<'a>| {
            let run = *run;
            run.document.cases.iter().map(move |case| Found { run, case })
        };
        let mut pairs: Vec<_> = self
            .runs
            .iter()
            .flat_map(of_run)
            .filter(|ours| ours.is_ours() && ours.case.section == section)
            .flat_map(|ours| ours.in_turn().map(move |theirs| (ours, theirs)))
            .filter(|(_, theirs)| !theirs.is_ours())
            .filter(|(ours, theirs)| seen.insert((ours.kind(), theirs.kind())))
            .collect();
        let place = |case: &Case| {
            self.backends.iter().position(|facts| facts.name == case.backend).unwrap_or(usize::MAX)
        };
        pairs.sort_by_key(|(ours, theirs)| {
            (!theirs.is_bare(), place(ours.case), theirs.case.tool.as_str(), ours.kind())
        });
        pairs
    }

    /// Those of a backend, by the same way if the section tells ways apart.
    pub fn same_way(&self, section: Section, as_in: &Case) -> Vec<Found<'a>> {
        self.ours(section)
            .filter(|found| found.case.backend == as_in.backend)
            .filter(|found| found.case.route == as_in.route)
            .collect()
    }

    /// The backends of these classes of which a section has nothing, and the classes that have no
    /// backend.
    pub fn absent(&self, section: Section, classes: &[Class]) -> Vec<Absent> {
        let mut absent = self.unmeasured(section, classes);
        absent.extend(self.empty_classes(classes));
        absent
    }

    /// The backends alone.
    pub fn unmeasured(&self, section: Section, classes: &[Class]) -> Vec<Absent> {
        self.backends
            .iter()
            .filter(|facts| self.is_of(&facts.name, classes) || class_place(&facts.class).is_none())
            .filter(|facts| self.ours(section).all(|found| found.case.backend != facts.name))
            .map(|facts| Absent { backend: facts.name.clone(), why: self.why_unmeasured(facts) })
            .collect()
    }

    /// Whether any section has something of a backend.
    pub fn is_measured(&self, backend: &str) -> bool {
        self.cases.iter().any(|found| found.is_ours() && found.case.backend == backend)
    }

    pub fn why_unmeasured(&self, facts: &BackendFacts) -> String {
        match &facts.unmeasured {
            Some(why) => why.clone(),
            None if self.all_interrupted(&facts.name) => {
                "a run was interrupted before it came to this".to_owned()
            }
            None => "these runs had no such part for it".to_owned(),
        }
    }

    /// Whether no run that has a backend came to its end.
    fn all_interrupted(&self, backend: &str) -> bool {
        let knows = |run: &&Run<'_>| run.document.backends.iter().any(|of| of.name == backend);
        self.runs.iter().filter(knows).all(|run| run.document.interrupted)
    }

    pub fn empty_classes(&self, classes: &[Class]) -> impl Iterator<Item = Absent> {
        let why = if self.runs.is_empty() {
            "there are no results at all"
        } else {
            "this build has no such backend"
        };
        classes
            .iter()
            .filter(|class| self.backends.iter().all(|facts| facts.class != class.name()))
            .map(|class| Absent {
                backend: format!("any of class {}", class.name()),
                why: why.to_owned(),
            })
    }

    /// What has to be said beside a row.
    pub fn remark(&self, found: &Found<'_>) -> String {
        let mut remarks = Vec::new();
        let failed = found.case.failed();
        if failed > 0 {
            remarks.push(format!("{failed} of {} failed", found.case.attempts));
        }
        if self.runs.len() > 1 {
            remarks.push(format!("run {}", found.run.number));
        }
        if self.is_nested(found) {
            remarks.push(format!("{NESTED} ({})", found.run.document.machine.hypervisor));
        }
        if found.run.document.settings.quick {
            remarks.push("few samples, of a quick run".to_owned());
        }
        if found.run.document.interrupted {
            remarks.push("run interrupted".to_owned());
        }
        remarks.join("; ")
    }
}

impl Evidence<'_> {
    /// Whether its virtual machines were in one, and its backend has not noted that.
    fn is_nested(&self, found: &Found<'_>) -> bool {
        let facts = found.run.document.backends.iter().find(|f| f.name == found.case.backend);
        let unnoted = |facts: &BackendFacts| {
            facts.class == Class::Vm.name()
                && !facts.notes.iter().any(|note| note.contains("virtual one"))
        };
        !found.run.document.machine.hypervisor.is_empty() && facts.is_some_and(unnoted)
    }
}

fn class_place(class: &str) -> Option<usize> {
    Class::ALL.iter().position(|known| known.name() == class)
}
