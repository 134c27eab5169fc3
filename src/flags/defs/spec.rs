//! The flags of a spec.

use agentkernel_core::Network;
use agentkernel_wire::{BuildRequest, ProjectRequest, Publish, Volume, Written};

use super::{SPEC, put};
use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
    Flag {
        long: "backend",
        short: Some('B'),
        aliases: &[],
        takes: Takes::Value {
            name: "NAME",
            words: Words::Backends,
            read: |low, value| put(&mut low.spec.backend, &value),
        },
        verbs: &[Verb::Run, Verb::Create, Verb::Pool, Verb::Adopt],
        doc: "Use this backend (default: the first one ready)",
    },
    Flag {
        long: "image",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "REF",
            words: Words::Files,
            read: |low, value| put(&mut low.spec.image, &value),
        },
        verbs: SPEC,
        doc: "Root: host, auto, a name, rootfs:DIR, or FILE.wasm",
    },
    Flag {
        long: "build",
        short: None,
        aliases: &[],
        takes: Takes::Optional {
            name: "[=DIR]",
            words: Words::Directories,
            read: |low, value| {
                let given = value.as_deref().map(BuildRequest::read).transpose()?;
                low.spec.build = Some(given.unwrap_or(BuildRequest::On(None)));
                Ok(())
            },
        },
        verbs: SPEC,
        doc: "Root: an image built from the project's Dockerfile",
    },
    Flag {
        long: "pull",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "WHEN",
            words: Words::OneOf(&["missing", "always", "never"]),
            read: |low, value| put(&mut low.spec.pull, &value),
        },
        verbs: SPEC,
        doc: "Fetch an image if missing (default), always, never",
    },
    Flag {
        long: "profile",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "PROFILE",
            words: Words::OneOf(&["restrictive", "moderate", "permissive"]),
            read: |low, value| put(&mut low.spec.profile, &value),
        },
        verbs: SPEC,
        doc: "Take restrictive, moderate or permissive defaults",
    },
    Flag {
        long: "network",
        short: None,
        aliases: &["net"],
        takes: Takes::Value {
            name: "NETWORK",
            words: Words::OneOf(&["none", "full", "allow="]),
            read: |low, value| put(&mut low.spec.network, &value),
        },
        verbs: SPEC,
        doc: "Let it reach none, full or allow=HOST,... only",
    },
    Flag {
        long: "no-network",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.spec.network = Some(Network::None)),
        verbs: SPEC,
        doc: "The same as --network none",
    },
    Flag {
        long: "publish",
        short: Some('p'),
        aliases: &[],
        takes: Takes::Value {
            name: "[ADDR:][HOSTPORT:]PORT",
            words: Words::Any,
            read: |low, value| {
                low.spec.ports.push(Publish::read(&value)?);
                Ok(())
            },
        },
        verbs: SPEC,
        doc: "Publish PORT, at 127.0.0.1 unless said (repeatable)",
    },
    Flag {
        long: "cpus",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "N",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.cpus, &value),
        },
        verbs: SPEC,
        doc: "Limit processor time to N processors, such as 0.5",
    },
    Flag {
        long: "memory",
        short: Some('m'),
        aliases: &[],
        takes: Takes::Value {
            name: "SIZE",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.memory, &value),
        },
        verbs: SPEC,
        doc: "Limit memory, such as 512m or 2g",
    },
    Flag {
        long: "pids",
        short: None,
        aliases: &["pids-limit"],
        takes: Takes::Value {
            name: "N",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.pids, &value),
        },
        verbs: SPEC,
        doc: "Limit processes and threads together",
    },
    Flag {
        long: "disk",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "SIZE",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.disk, &value),
        },
        verbs: SPEC,
        doc: "Limit all that is written, rw mounts aside",
    },
    Flag {
        long: "project",
        short: None,
        aliases: &[],
        takes: Takes::Optional {
            name: "[=DIR][:cow|ro|rw]",
            words: Words::Directories,
            read: |low, value| {
                let given = value.as_deref().map(ProjectRequest::read).transpose()?;
                low.spec.project = Some(given.unwrap_or(ProjectRequest::DEFAULT));
                Ok(())
            },
        },
        verbs: SPEC,
        doc: "Show the project's folder, cow, and start in it",
    },
    Flag {
        long: "dir",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "DIR",
            words: Words::Directories,
            read: |low, value| put(&mut low.spec.project, &value),
        },
        verbs: SPEC,
        doc: "The same as --project=DIR",
    },
    Flag {
        long: "volume",
        short: Some('v'),
        aliases: &[],
        takes: Takes::Value {
            name: "SRC:DST[:ro|rw|cow]",
            words: Words::Files,
            read: |low, value| {
                let volume = Volume::read(&value)?;
                low.spec.volumes.push(volume);
                Ok(())
            },
        },
        verbs: SPEC,
        doc: "Show SRC at DST, ro unless said (repeatable)",
    },
    Flag {
        long: "strict",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.spec.strict = Some(true)),
        verbs: SPEC,
        doc: "Fail rather than fall short of a profile's limits",
    },
    Flag {
        long: "no-config",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.no_config = true),
        verbs: SPEC,
        doc: "Read neither agentkernel.toml nor the user's file",
    },
    Flag {
        long: "trust",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.trust = true),
        verbs: SPEC,
        doc: "Let agentkernel.toml open more than its project",
    },
];
