//! What came of a suite, and how long it took.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::{NotPassed, Subject, Verdict};

/// How many are shown of those that took longest.
const SLOWEST: usize = 30;

/// The counts of a suite.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// How long each that was tried took, by its subject and its name.
    times: Vec<(Duration, String, String)>,
}

impl Tally {
    /// Counts what was tried on a subject, and keeps how long it took.
    pub(crate) fn tried(&mut self, name: &str, of: &Subject, verdict: &Verdict, took: Duration) {
        self.count(name, verdict);
        self.times.push((took, of.label(), name.into()));
    }

    /// Prints what took longest, of the subjects and of what was tried, with the slowest first.
    pub(crate) fn print_slowest(&mut self) {
        let mut of_subjects: BTreeMap<&str, (Duration, usize)> = BTreeMap::new();
        for (took, subject, _) in &self.times {
            let (whole, count) = of_subjects.entry(subject).or_default();
            (*whole, *count) = (*whole + *took, *count + 1);
        }
        let mut of_subjects: Vec<_> = of_subjects.into_iter().collect();
        of_subjects.sort_by_key(|(_, (whole, _))| Reverse(*whole));
        for (subject, (whole, count)) in of_subjects {
            println!("took {:7.2} s in all: {count} of {subject}", whole.as_secs_f64());
        }
        self.times.sort_by_key(|(took, ..)| Reverse(*took));
        for (took, _, name) in self.times.iter().take(SLOWEST) {
            println!("took {:7.2} s: {name}", took.as_secs_f64());
        }
    }

    /// Counts one, and prints what came of it.
    pub(crate) fn count(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Ok(()) => {
                self.passed += 1;
                println!("passed {name}");
            }
            Err(NotPassed::Failed(why)) => {
                self.failed += 1;
                println!("FAILED {name}: {why}");
            }
            Err(NotPassed::Skipped(why)) => {
                self.skipped += 1;
                println!("skipped {name}: {why}");
            }
        }
    }

    pub(crate) fn skip_all(&mut self, subject: &Subject, behaviours: usize, why: &str) {
        self.skipped += behaviours;
        println!("skipped all {behaviours} of {}: {why}", subject.label());
    }

    pub(crate) fn close(&self) {
        let Self { passed, failed, skipped, .. } = self;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}
