//! The flags that say where words go.

use super::{COMMAND, put};
use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
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
        verbs: &[Verb::Run, Verb::Doctor, Verb::Pool, Verb::Daemon],
        doc: "Report as a line of JSON (run: on standard error)",
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
        long: "background",
        short: Some('b'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.background = true),
        verbs: &[Verb::Daemon],
        doc: "Start it in the background",
    },
];
