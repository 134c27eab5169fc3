//! The flags of what sandboxes have changed, and of those made from others.

use std::ffi::OsStr;

use agentkernel_wire::ValueError;

use super::life::name;
use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
    Flag {
        long: "from",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "SNAPSHOT",
            words: Words::Any,
            read: |low, value| {
                low.from = Some(name(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Create],
        doc: "Begin with a snapshot, and make it as that was made",
    },
    Flag {
        long: "keep",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.keep = true),
        verbs: &[Verb::Run],
        doc: "Keep the sandbox, stopped, for diff, apply or start",
    },
    Flag {
        long: "count",
        short: Some('n'),
        aliases: &[],
        takes: Takes::Value {
            name: "COUNT",
            words: Words::Any,
            read: |low, value| {
                low.count = Some(count(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Fork],
        doc: "Make so many (default: 1)",
    },
    Flag {
        long: "name",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "PREFIX",
            words: Words::Any,
            read: |low, value| {
                low.name = Some(name(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Fork],
        doc: "Begin their names so (default: the other one's)",
    },
    Flag {
        long: "patch",
        short: Some('p'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.patch = true),
        verbs: &[Verb::Diff],
        doc: "Show what was changed in text files, as a patch",
    },
    Flag {
        long: "force",
        short: Some('f'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.force = true),
        verbs: &[Verb::Apply],
        doc: "Go over the host's own changes, and take all links",
    },
    Flag {
        long: "output",
        short: Some('o'),
        aliases: &[],
        takes: Takes::Value {
            name: "FILE",
            words: Words::Files,
            read: |low, value| {
                low.output = Some(value.into());
                Ok(())
            },
        },
        verbs: &[Verb::Export],
        doc: "Write it to a file (default: standard output)",
    },
    Flag {
        long: "follow-link",
        short: Some('L'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.follow_links = true),
        verbs: &[Verb::Cp],
        doc: "Copy what the source leads to, if it is a link",
    },
];

/// How many sandboxes one fork may make: each takes a descriptor until all are there.
const MOST: u32 = 256;

fn count(text: &OsStr) -> Result<u32, ValueError> {
    let count = text.to_str().and_then(|text| text.parse().ok());
    count.filter(|count| (1..=MOST).contains(count)).ok_or_else(|| {
        ValueError::new(format!("{text:?} is not a number of sandboxes, from 1 to {MOST}"))
    })
}
