//! The flags that say where words go.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use agentkernel_store::audit::Kind;
use agentkernel_store::time;
use agentkernel_wire::{Filter, ValueError, Written, nearest};

use super::{COMMAND, put};
use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
    Flag {
        long: "all",
        short: Some('a'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.all = true),
        verbs: &[Verb::Ps],
        doc: "Show those that do not run, too",
    },
    Flag {
        long: "all",
        short: Some('a'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.all = true),
        verbs: &[Verb::Image],
        doc: "Remove those that have names, too (prune)",
    },
    Flag {
        long: "platform",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "OS/ARCH[/VARIANT]",
            words: Words::Any,
            read: |low, value| {
                low.platform = Some(platform(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Image],
        doc: "Take an image for that, not for this machine",
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.quiet = true),
        verbs: &[Verb::Ps, Verb::Image],
        doc: "Print ids only (ps NAME: numbers)",
    },
    Flag {
        long: "filter",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "label=KEY[=VALUE]",
            words: Words::Any,
            read: |low, value| {
                low.filters.push(Filter::read(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Ps],
        doc: "Show those that have this label (repeatable)",
    },
    Flag {
        long: "follow",
        short: Some('f'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.follow = true),
        verbs: &[Verb::Logs, Verb::Audit],
        doc: "Go on with what comes",
    },
    Flag {
        long: "since",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "TIME",
            words: Words::Any,
            read: |low, value| {
                low.since = Some(since(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Events, Verb::Audit],
        doc: "Begin so long ago (10m), or then (2026-12-31T23:59Z)",
    },
    Flag {
        long: "kind",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "KIND",
            words: Words::OneOf(KINDS),
            read: |low, value| {
                low.kinds.push(kind(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Audit],
        doc: "Show entries of this kind (repeatable)",
    },
    Flag {
        long: "sandbox",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "NAME",
            words: Words::Sandboxes,
            read: |low, value| put(&mut low.sandbox, &value),
        },
        verbs: &[Verb::Audit],
        doc: "Show entries about this sandbox, by its name or id",
    },
    Flag {
        long: "report",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "FILE",
            words: Words::Files,
            read: |low, value| {
                low.report = Some(value.into());
                Ok(())
            },
        },
        verbs: COMMAND,
        doc: "Write a JSON report of the run to a file",
    },
    Flag {
        long: "json",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.json = true),
        verbs: &[
            Verb::Run,
            Verb::Exec,
            Verb::Ps,
            Verb::Port,
            Verb::Inspect,
            Verb::Events,
            Verb::Audit,
            Verb::Diff,
            Verb::Apply,
            Verb::Snapshot,
            Verb::Adopt,
            Verb::Image,
            Verb::Pool,
            Verb::Daemon,
            Verb::Setup,
            Verb::Doctor,
            Verb::Bench,
        ],
        doc: "Report as JSON (run, exec: on standard error)",
    },
    Flag {
        long: "verbose",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.verbose = true),
        verbs: COMMAND,
        doc: "Say what was read, enforced and measured",
    },
    Flag {
        long: "max-age",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "TIME",
            words: Words::Any,
            read: |low, value| put(&mut low.max_age, &value),
        },
        verbs: &[Verb::Pool],
        doc: "Replace a sandbox that has waited so long (1h)",
    },
    Flag {
        long: "shared",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.shared = true),
        verbs: &[Verb::Pool],
        doc: "The engine's own, for all of its clients",
    },
    Flag {
        long: "background",
        short: Some('b'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.background = true),
        verbs: &[Verb::Daemon],
        doc: "Start it in the background",
    },
];

/// The names of all kinds of entries.
const KINDS: &[&str] = &{
    let mut names = [""; Kind::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Kind::ALL[at].name();
        at += 1;
    }
    names
};

fn platform(text: &OsStr) -> Result<String, ValueError> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let words = text.to_str().filter(|text| text.split('/').all(is_word));
    let words = words.filter(|text| (1..=2).contains(&text.matches('/').count()));
    words.map(str::to_owned).ok_or_else(|| {
        ValueError::new(format!("{text:?} is not a platform such as linux/amd64 or linux/arm/v7"))
    })
}

fn kind(text: &OsStr) -> Result<Kind, ValueError> {
    let found = Kind::ALL.into_iter().find(|kind| text == kind.name());
    found.ok_or_else(|| {
        let near = nearest(&text.to_string_lossy(), KINDS.iter().copied());
        let hint = match near {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("there are {}", KINDS.join(", ")),
        };
        ValueError::new(format!("{text:?} is not a kind of entry; {hint}"))
    })
}

/// A time, or how long it is ago.
fn since(text: &OsStr) -> Result<SystemTime, ValueError> {
    if let Some(time) = text.to_str().and_then(time::from_text) {
        return Ok(time);
    }
    let ago = Duration::read(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.ok_or_else(|| {
        let forms = "a time such as 2026-12-31T23:59:59Z, or how long ago that is, such as 10m";
        ValueError::new(format!("{text:?} is not {forms}"))
    })
}
