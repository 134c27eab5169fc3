//! `agentkernel bench [FLAGS] [BACKEND...]`, `bench compare BEFORE AFTER`, `bench report RESULT...`
//!
//! The benchmark is in the daemon's program, so that this one stays small.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_wire::{BenchMeasure, BenchRequest};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::{daemon, unexpected};

/// Where results are kept if nothing else is said.
const RESULTS: &str = "benchmark-results";

pub(super) fn run(
    low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let request = request(low, backends)?;
    let request = request.to_json().map_err(|why| {
        CommandError::new(format!("can't hand on a path: {why}"), "use paths that are UTF-8")
    })?;
    // Only a failure returns.
    let error = daemon::program()?.args(["bench", &request]).exec();
    Err(daemon::failed("start agentkerneld", &error))
}

fn request(
    low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<BenchRequest, CommandError> {
    let LowArgs { bench, words, json, .. } = low;
    let mut words = words.into_iter();
    let first = words.next();
    let rest: Vec<OsString> = words.collect();
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("compare") => match <[OsString; 2]>::try_from(rest) {
            Ok([before, after]) => Ok(BenchRequest::Compare {
                before: before.into(),
                after: after.into(),
                fail_above: bench.fail_above,
            }),
            Err(_) => Err(CommandError::new(
                "two results are compared",
                "the form is agentkernel bench compare BEFORE.json AFTER.json",
            )),
        },
        Some("report") if rest.is_empty() => Err(CommandError::new(
            "no result was named",
            format!("the form is agentkernel bench report {RESULTS}/*.json"),
        )),
        Some("report") => Ok(BenchRequest::Report {
            results: rest.into_iter().map(PathBuf::from).collect(),
            markdown: bench.markdown,
            html: bench.html,
        }),
        _ => {
            let engine = Engine::new(backends);
            let named = |word: OsString| match word.to_str() {
                Some(name) => Ok(engine.select(Some(name))?.name().to_owned()),
                None => Err(unexpected(Verb::Bench, &word)),
            };
            let program = env::current_exe();
            Ok(BenchRequest::Measure(BenchMeasure {
                program: program.map_err(|error| daemon::failed("find this program", &error))?,
                backends: first.into_iter().chain(rest).map(named).collect::<Result<_, _>>()?,
                quick: bench.quick,
                json,
                runs: bench.runs,
                most: bench.most,
                results: bench.results.unwrap_or_else(|| RESULTS.into()),
            }))
        }
    }
}
