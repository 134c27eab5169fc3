//! One attempt of the probe's: outside, where it must get through, and in a sandbox, where it
//! must not.

use std::ffi::OsString;
use std::process::Command;

use super::probe::{self, Finding, judge};
use crate::{Caller, Captured, NotPassed, Scratch, Subject, Verdict, ensure};

/// The kinds of sandbox in which the walls must be the same: the default, the loosest, and one
/// that makes its program root inside.
const KINDS: [&[&str]; 3] = [&[], &["--profile", "permissive"], &["-u", "0"]];

/// An attempt, and how to tell that it can succeed.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    name: &'static str,
    words: Vec<OsString>,
    flags: Vec<OsString>,
    control: Control,
}

#[derive(Debug, Clone)]
enum Control {
    /// The same outside of any sandbox, in namespaces of its own where it would else change the
    /// machine, with other words where its own lead nowhere.
    Outside { throwaway: bool, words: Option<Vec<OsString>> },
    /// It would do harm, or can't be told.
    None(&'static str),
}

impl Attempt {
    pub(super) fn new(name: &'static str) -> Self {
        let control = Control::Outside { throwaway: false, words: None };
        Self { name, words: Vec::new(), flags: Vec::new(), control }
    }

    /// Adds words for the probe.
    pub(super) fn words(mut self, words: &[impl Into<OsString> + Clone]) -> Self {
        self.words.extend(words.iter().cloned().map(Into::into));
        self
    }

    /// Adds flags for agentkernel.
    pub(super) fn flags(mut self, flags: &[impl Into<OsString> + Clone]) -> Self {
        self.flags.extend(flags.iter().cloned().map(Into::into));
        self
    }

    /// Lets the control run in namespaces of its own.
    pub(super) fn throwaway(mut self) -> Self {
        if let Control::Outside { throwaway, .. } = &mut self.control {
            *throwaway = true;
        }
        self
    }

    /// Gives the control these words instead.
    pub(super) fn control_words(mut self, instead: &[impl Into<OsString> + Clone]) -> Self {
        if let Control::Outside { words, .. } = &mut self.control {
            *words = Some(instead.iter().cloned().map(Into::into).collect());
        }
        self
    }

    /// Does without a control, for this reason.
    pub(super) fn uncontrolled(self, why: &'static str) -> Self {
        let control = Control::None(why);
        Self { control, ..self }
    }

    /// Runs the control, then the attempt in sandboxes of every [kind](KINDS); passes if only
    /// the sandboxes held.
    pub(super) fn holds(&self, subject: &Subject) -> Verdict {
        self.run_control(subject)?;
        for kind in KINDS {
            let attempt = self.clone().flags(kind);
            let got = attempt.inside(subject, &subject.scratch()?)?;
            // An ordinary user, or another backend, may not be able to have such a sandbox.
            let refused = got.status.code() == Some(125) && !kind.is_empty();
            if !refused {
                judge(&got).map_err(|why| why.within(&kind.join(" ")))?;
            }
        }
        Ok(())
    }

    /// Runs the control, then the attempt in one sandbox, where the caller's own folders are those
    /// in `scratch`.
    pub(super) fn holds_in(&self, subject: &Subject, scratch: &Scratch) -> Verdict {
        self.run_control(subject)?;
        judge(&self.inside(subject, scratch)?)
    }

    /// Runs the control, unless this is about another than the tests' own user: for whom a
    /// control fails whose user may do less. Where it fails all the same it is said, since
    /// nothing then shows that the attempt could have succeeded.
    pub(super) fn run_control(&self, subject: &Subject) -> Verdict {
        if subject.caller != Caller::Me {
            return Ok(());
        }
        let (throwaway, words) = match &self.control {
            Control::Outside { throwaway, words } => (*throwaway, words),
            Control::None(why) => {
                note(self.name, why);
                return Ok(());
            }
        };
        let mut all: Vec<OsString> = Vec::new();
        all.extend(throwaway.then(|| "--throwaway".into()));
        all.push(self.name.into());
        all.extend(words.as_ref().unwrap_or(&self.words).iter().cloned());
        let scratch = subject.scratch()?;
        let got = Captured::of(probe::outside(Caller::Me, &scratch, &all)?)?;
        control_finds(self.name, &got)
    }

    /// Makes the attempt in a sandbox.
    pub(super) fn inside(
        &self,
        subject: &Subject,
        scratch: &Scratch,
    ) -> Result<Captured, NotPassed> {
        Captured::of(self.command(subject, scratch)?)
    }

    /// The command line of the attempt in a sandbox.
    pub(super) fn command(
        &self,
        subject: &Subject,
        scratch: &Scratch,
    ) -> Result<Command, NotPassed> {
        let mut flags: Vec<OsString> = probe::volume()?.map(Into::into).into();
        // The profiles differ in that, and the walls do not depend on it.
        if !self.flags.iter().any(|flag| flag == "--network") {
            flags.extend(["--network", "none"].map(Into::into));
        }
        flags.extend(self.flags.iter().cloned());
        let mut argv: Vec<OsString> = vec![probe::INSIDE.into(), self.name.into()];
        argv.extend(self.words.iter().cloned());
        Ok(subject.run_command(scratch, &flags, &argv))
    }
}

/// Judges a control: it passes if the attempt got through.
pub(super) fn control_finds(name: &str, got: &Captured) -> Verdict {
    match Finding::of(&got.text()) {
        Finding::Escaped(_) => {}
        Finding::Held(what) => note(name, &format!("this machine refuses it anyway: {what}")),
        Finding::Skipped(why) => note(name, &why),
        Finding::Missing => {
            ensure!(false, "the control made no attempt: {got}");
        }
    }
    Ok(())
}

/// Says that there is no control, and why.
pub(super) fn note(name: &str, why: &str) {
    const ENOUGH: usize = 160;
    let why: String = why.chars().take(ENOUGH).collect();
    println!("without control {name}: {why}");
}

/// A table's entry for an attempt of the same name that needs nothing but the probe: its name,
/// the promise, and what is to be said of it.
macro_rules! attempt {
    ($name:literal, $promise:literal $(, $step:ident($($argument:expr),*))*) => {
        $crate::Behaviour::new(
            $name,
            $promise,
            &[agentkernel_core::Capability::MountReadOnly],
            |subject| {
                $crate::escape::attempt::Attempt::new($name)$(.$step($($argument),*))*.holds(subject)
            },
        )
    };
}
pub(super) use attempt;
