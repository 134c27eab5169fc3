//! The flags of a sandbox's life.

use std::ffi::OsStr;
use std::time::Duration;

use agentkernel_store::{Name, NameError};
use agentkernel_wire::{Label, ValueError, Written};

use super::put;
use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
    Flag {
        long: "name",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "NAME",
            words: Words::Any,
            read: |low, value| {
                low.name = Some(name(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Create, Verb::Run],
        doc: "Call it so (default: a name that is made up)",
    },
    Flag {
        long: "label",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "KEY=VALUE",
            words: Words::Any,
            read: |low, value| {
                let Label { key, value } = Label::read(&value)?;
                low.labels.insert(key, value);
                Ok(())
            },
        },
        verbs: &[Verb::Create],
        doc: "Give it a label (repeatable)",
    },
    Flag {
        long: "ttl",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "TIME",
            words: Words::Any,
            read: |low, value| put(&mut low.ttl, &value),
        },
        verbs: &[Verb::Create],
        doc: "Remove it this long after its creation",
    },
    Flag {
        long: "idle",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "TIME",
            words: Words::Any,
            read: |low, value| put(&mut low.idle, &value),
        },
        verbs: &[Verb::Create],
        doc: "Remove it when it was not used for this long",
    },
    Flag {
        long: "start",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.start = true),
        verbs: &[Verb::Create],
        doc: "Start it as well",
    },
    Flag {
        long: "detach",
        short: Some('d'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.detach = true),
        verbs: &[Verb::Exec],
        doc: "Leave it in the background and print its number",
    },
    Flag {
        long: "time",
        short: Some('t'),
        aliases: &[],
        takes: Takes::Value {
            name: "TIME",
            words: Words::Any,
            read: |low, value| put_grace(&mut low.grace, &value),
        },
        verbs: &[Verb::Stop],
        doc: "Kill what has not ended by then (default: 10s)",
    },
    Flag {
        long: "signal",
        short: Some('s'),
        aliases: &[],
        takes: Takes::Value {
            name: "SIGNAL",
            words: Words::OneOf(&["TERM", "KILL", "INT", "HUP", "USR1", "USR2"]),
            read: |low, value| put(&mut low.signal, &value),
        },
        verbs: &[Verb::Kill],
        doc: "Send this one (default: KILL)",
    },
    Flag {
        long: "force",
        short: Some('f'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.force = true),
        verbs: &[Verb::Rm],
        doc: "Remove it even if it runs",
    },
    Flag {
        long: "force",
        short: Some('f'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.force = true),
        verbs: &[Verb::Prune],
        doc: "Do not ask",
    },
    Flag {
        long: "force",
        short: Some('f'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.force = true),
        verbs: &[Verb::Image],
        doc: "Do not ask (prune), and remove names in use (rm)",
    },
];

pub(super) fn name(text: &OsStr) -> Result<Name, ValueError> {
    let name = Name::try_from(text.to_string_lossy().into_owned());
    name.map_err(|err: NameError| ValueError::new(format!("{err}: {}", err.hint())))
}

/// As any other time, but none at all will do.
fn put_grace(slot: &mut Option<Duration>, text: &OsStr) -> Result<(), ValueError> {
    match text == "0" {
        true => *slot = Some(Duration::ZERO),
        false => put(slot, text)?,
    }
    Ok(())
}
