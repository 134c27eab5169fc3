//! What somebody asks for, and what is printed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agentkernel_core::Backend;
use agentkernel_wire::{BenchMeasure, BenchRequest};

use serde::Deserialize;

use crate::control::Control;
use crate::measure::measure;
use crate::result::{Document, SCHEMA};
use crate::world::Programs;
use crate::{compare, report, table};

/// Why nothing came of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("what is to be measured can't be read: {0}")]
    Request(String),
    #[error("can't {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{} is no result of a benchmark: {why}", path.display())]
    NoResult { path: PathBuf, why: String },
}

impl BenchError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Request(_) => "use agentkernel bench, of the same version",
            Self::Io { .. } => "check the path and the free space",
            Self::NoResult { .. } => "name files that agentkernel bench has written",
        }
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |source| BenchError::Io { what, source }
}

/// Does what a [`BenchRequest`] asks for, and returns the exit status: 1 if something failed or has
/// become slower than it may.
pub fn run(request: &str, registry: &[&dyn Backend]) -> Result<u8, BenchError> {
    match BenchRequest::from_json(request).map_err(BenchError::Request)? {
        BenchRequest::Measure(request) => run_measure(&request, registry),
        BenchRequest::Compare { before, after, fail_above } => {
            let comparison = compare::compare(&read(&before)?, &read(&after)?);
            print(&comparison.text())?;
            let slower = fail_above.map(|limit| comparison.fails_above(limit)).unwrap_or_default();
            for case in &slower {
                eprintln!("worse than it may be: {}", case.name);
            }
            Ok(u8::from(!slower.is_empty()))
        }
        BenchRequest::Report { results, markdown, html } => {
            let all = read_all(&results)?;
            if let Some(path) = &html {
                write(path, &report::html(&all))?;
            }
            match markdown {
                Some(path) => write(&path, &report::markdown(&all))?,
                None if html.is_none() => print(&report::markdown(&all))?,
                None => {}
            }
            Ok(0)
        }
    }
}

fn run_measure(request: &BenchMeasure, registry: &[&dyn Backend]) -> Result<u8, BenchError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends it at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(io_error("receive signals"))?;
    }
    if !request.json {
        // Whoever waits for a result is told now that it can't be kept, and not in the end.
        make(&request.results)?;
    }
    let own = std::env::current_exe().map_err(io_error("find this program"))?;
    let programs = Programs { agentkernel: request.program.clone(), agentkerneld: own };
    let patience = Duration::from_secs(if request.quick { 3 } else { 60 });
    let control = Control::new(stop, patience);
    let document = measure(request, &programs, registry, &control).map_err(io_error("measure"))?;
    let mut is_elsewhere = false;
    if request.json {
        let text = serde_json::to_string(&document).map_err(io::Error::from);
        print(&(text.map_err(io_error("write JSON"))? + "\n"))?;
    } else {
        let saved = save(&document, &request.results);
        is_elsewhere = saved.is_err();
        print(&table::table(&document))?;
        // What took so long to measure is not thrown away for want of space there.
        let path = saved.or_else(|error| {
            eprintln!("error: {error}");
            save(&document, &std::env::temp_dir())
        })?;
        print(&format!("{}\n", path.display()))?;
    }
    let failed = document.cases.iter().any(|case| case.failed() > 0);
    Ok(if document.interrupted { 130 } else { u8::from(failed || is_elsewhere) })
}

/// Keeps a result under its kind and date, in a directory that is made if need be.
pub fn save(document: &Document, directory: &Path) -> Result<PathBuf, BenchError> {
    let date = document.date.replace([':', '.'], "");
    let path = directory.join(format!("{}-{date}.json", document.kind));
    let text = serde_json::to_string(document).map_err(io::Error::from);
    let text = text.map_err(io_error("write JSON"))? + "\n";
    make(directory)?;
    write(&path, &text)?;
    Ok(path)
}

fn make(directory: &Path) -> Result<(), BenchError> {
    let made = fs::create_dir_all(directory);
    made.map_err(io_error(format!("make {}", directory.display())))
}

/// Reads a result of this version.
pub fn read(path: &Path) -> Result<Document, BenchError> {
    let no_result = |why: String| BenchError::NoResult { path: path.to_owned(), why };
    let text = fs::read(path).map_err(io_error(format!("read {}", path.display())))?;
    /// What every version has.
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let json = |error: serde_json::Error| no_result(error.to_string());
    match serde_json::from_slice::<Versioned>(&text).map_err(json)?.schema {
        SCHEMA => serde_json::from_slice(&text).map_err(json),
        other => Err(no_result(format!("it is of version {other}, and {SCHEMA} is known"))),
    }
}

/// Reads those among files that are results, and says which are not: a directory of results holds
/// summaries and other measurements, too. Fails if none is one.
fn read_all(paths: &[PathBuf]) -> Result<Vec<(String, Document)>, BenchError> {
    let (mut all, mut last) = (Vec::new(), None);
    for path in paths {
        match read(path) {
            Ok(document) => all.push((name_of(path), document)),
            Err(error @ BenchError::NoResult { .. }) => {
                if let Some(before) = last.replace(error) {
                    eprintln!("passed over: {before}");
                }
            }
            Err(error) => return Err(error),
        }
    }
    match last {
        Some(error) if all.is_empty() => Err(error),
        other => {
            other.iter().for_each(|error| eprintln!("passed over: {error}"));
            Ok(all)
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    write_whole(path, text).map_err(io_error(format!("write {}", path.display())))
}

/// Whole or not at all: the old file stays until the new one is complete.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o644))
        .tempfile_in(parent.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// A reader that has gone away is no error.
fn print(text: &str) -> Result<(), BenchError> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(io_error("print")),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
