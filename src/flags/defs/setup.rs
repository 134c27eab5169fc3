//! The flags of what backends need to be set up.

use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
    Flag {
        long: "kernel",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "PATH",
            words: Words::Files,
            read: |low, value| {
                low.kernel = Some(value.into());
                Ok(())
            },
        },
        verbs: &[Verb::Setup],
        doc: "Take this one (default: one that is installed here)",
    },
    Flag {
        long: "force",
        short: Some('f'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.force = true),
        verbs: &[Verb::Setup],
        doc: "Replace what is there",
    },
];
