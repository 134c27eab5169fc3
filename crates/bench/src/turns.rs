//! Measuring several things in turn, so that whatever slows the machine down hits all of them.

use std::time::Instant;

use crate::control::Control;
use crate::process::Timed;
use crate::result::{Case, Failure};

/// What one attempt has measured, by series.
pub type Found = Vec<(&'static str, u64)>;

/// Something that is measured in turn with others.
pub struct Entrant<'a> {
    case: Case,
    attempt: Box<dyn FnMut() -> Result<Found, String> + 'a>,
}

impl<'a> Entrant<'a> {
    pub fn new(case: Case, attempt: impl FnMut() -> Result<Found, String> + 'a) -> Self {
        Self { case, attempt: Box::new(attempt) }
    }
}

/// What of a process goes into samples.
pub fn found(timed: Timed) -> Found {
    let nanoseconds = |time: std::time::Duration| time.as_nanos() as u64;
    let total = ("total", nanoseconds(timed.total));
    timed
        .first_output
        .map(|first| ("first-output", nanoseconds(first)))
        .into_iter()
        .chain([total])
        .collect()
}

/// With fewer rounds a median says little, so they are made however long that takes.
const LEAST: u64 = 10;

/// Has each make so many attempts, in rounds that each begin with another one. `before` is called
/// before each round, with its number; the first `warm_up` rounds count for nothing.
///
/// It ends early, after a whole round, if it is stopped or has taken as long as one part may.
pub fn take_turns<'a>(
    mut entrants: Vec<Entrant<'a>>,
    rounds: u64,
    warm_up: u64,
    control: &Control,
    mut before: impl FnMut(u64) -> Result<(), String>,
) -> Result<Vec<Case>, String> {
    let start = Instant::now();
    for round in 0..warm_up + rounds {
        let enough = round >= warm_up + LEAST && start.elapsed() > control.patience();
        if enough || control.is_stopped() {
            break;
        }
        before(round)?;
        let count = entrants.len();
        for at in 0..count {
            let entrant = &mut entrants[(at + round as usize) % count];
            let outcome = (entrant.attempt)();
            if round >= warm_up {
                entrant.case.add(outcome);
            }
        }
        if round >= warm_up {
            control.advance();
        }
    }
    Ok(entrants.into_iter().map(|entrant| entrant.case).collect())
}

impl Case {
    /// Counts an attempt. The samples of all series stay in step.
    pub fn add(&mut self, outcome: Result<Found, String>) {
        let before = self.attempts as usize;
        self.attempts += 1;
        match outcome {
            Ok(found) => {
                for (name, value) in found {
                    let series = self.series.entry(name.to_owned()).or_default();
                    series.resize(before, None);
                    series.push(Some(value));
                }
            }
            Err(error) => self.fail(error, 1),
        }
        for series in self.series.values_mut() {
            series.resize(self.attempts as usize, None);
        }
    }

    /// Adds what was measured in the same way after it.
    pub fn absorb(&mut self, later: Self) {
        let (before, attempts) = (self.attempts as usize, later.attempts as usize);
        for (name, samples) in later.series {
            let series = self.series.entry(name).or_default();
            series.resize(before, None);
            series.extend(samples);
        }
        self.series.values_mut().for_each(|series| series.resize(before + attempts, None));
        self.attempts += later.attempts;
        self.wall_ns += later.wall_ns;
        later.failures.into_iter().for_each(|failure| self.fail(failure.error, failure.count));
    }

    pub fn fail(&mut self, error: String, count: u64) {
        match self.failures.iter_mut().find(|failure| failure.error == error) {
            Some(known) => known.count += count,
            None => self.failures.push(Failure { error, count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_and_warm_ups_do_not_count() {
        let log = std::cell::RefCell::new(Vec::new());
        let entrant = |name: &'static str| {
            let log = &log;
            Entrant::new(Case { tool: name.into(), ..Case::default() }, move || {
                log.borrow_mut().push(name);
                Ok(vec![("total", log.borrow().len() as u64)])
            })
        };
        let all = vec![entrant("a"), entrant("b"), entrant("c")];
        let cases = take_turns(all, 2, 1, &Control::silent(), |_| Ok(())).unwrap();
        assert_eq!(*log.borrow(), ["a", "b", "c", "b", "c", "a", "c", "a", "b"]);
        assert_eq!(cases[0].series["total"], [Some(6), Some(8)]);
        assert!(cases.iter().all(|case| case.attempts == 2));
    }

    #[test]
    fn a_failure_leaves_a_gap_and_is_counted() {
        let mut case = Case::default();
        case.add(Err("no".into()));
        case.add(Ok(vec![("total", 1), ("first-output", 2)]));
        case.add(Err("no".into()));
        case.add(Ok(vec![("total", 3)]));
        assert_eq!(case.series["total"], [None, Some(1), None, Some(3)]);
        assert_eq!(case.series["first-output"], [None, Some(2), None, None]);
        assert_eq!((case.attempts, case.failed()), (4, 2));
        assert_eq!(case.failures.len(), 1);
    }
}
