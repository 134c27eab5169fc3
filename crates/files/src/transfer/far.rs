//! Copies between the host and a sandbox whose files only its agent reaches: archives over streams.
//!
//! The one who sends packs, the other unpacks, and each keeps to the rules on its own side. The agent reports what
//! it did when it has done it. What it sends, and what it reports, may be lies: it makes nothing but what was asked
//! for, where that was to be, and nothing of it is held that has no bound.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentkernel_protocol::Carry;
pub use agentkernel_protocol::Way;

use super::error::{TransferError, Transferred, Where};
use super::place::{self, Side, Source};
use super::report::{read_report, report};
use super::tar_in::{Top, unpack_copy};
use super::tar_out::{self, Kept};
use super::write::Writer;
use super::{Inside, TransferOptions, pass};

const BUFFER: usize = 128 << 10;

/// What the agent of a sandbox is to do.
#[derive(Debug)]
pub struct Errand<'a> {
    pub way: Way,
    /// In the sandbox.
    pub path: &'a Path,
    pub follow: bool,
}

/// The ends of the streams of whoever runs an errand, at this side.
#[derive(Debug)]
pub struct Streams {
    /// What it reads.
    pub input: File,
    /// What it writes.
    pub output: File,
    /// What it reports.
    pub report: File,
}

/// The agent of a sandbox.
pub trait Agent {
    /// Has it run an errand.
    fn run(&self, errand: &Errand<'_>) -> io::Result<Streams>;
}

fn run(agent: &dyn Agent, errand: &Errand<'_>) -> Result<Streams, TransferError> {
    agent.run(errand).map_err(|source| TransferError::Agent { source })
}

pub(super) fn copy_in(
    source: &Path,
    agent: &dyn Agent,
    target: &Path,
    options: TransferOptions,
) -> Result<Transferred, TransferError> {
    let from = place::find_source(&Side::Host, source, options.follow)?;
    let way = match &from {
        Source::Directory { name: None, .. } => Way::ContentsIn,
        Source::Directory { .. } | Source::File { .. } => Way::CopyIn,
    };
    let Streams { input, output, report } =
        run(agent, &Errand { way, path: target, follow: false })?;
    drop(output);
    let sent = tar_out::write(from, (source, Where::Host), Kept::Copies, input);
    let told = read_report(report);
    match sent {
        // Nobody takes any more, and whoever has let go of it says why.
        Err(TransferError::Output { source }) => told.and(Err(TransferError::Agent { source })),
        Err(error) => Err(error),
        Ok(mut done) => {
            let told = told?;
            done.directories = told.directories;
            done.refuse_all(told);
            Ok(done)
        }
    }
}

pub(super) fn copy_out(
    agent: &dyn Agent,
    source: &Path,
    target: &Path,
    options: TransferOptions,
    writer: Writer,
) -> Result<Transferred, TransferError> {
    let name = place::name_of(&Side::Host, source)?;
    let top = match &name {
        None => Top::Contents,
        Some(name) => Top::Named(Some(name)),
    };
    let errand = Errand { way: Way::CopyOut, path: source, follow: options.follow };
    let Streams { input, output, report } = run(agent, &errand)?;
    drop(input);
    let output = BufReader::with_capacity(BUFFER, output);
    let made = unpack_copy(&top, &Side::Host, target, writer, output);
    received(made, read_report(report))
}

pub(super) fn tar_in(
    agent: &dyn Agent,
    target: &Path,
    input: impl Read,
) -> Result<Transferred, TransferError> {
    let errand = Errand { way: Way::ArchiveIn, path: target, follow: false };
    let Streams { input: to, output, report } = run(agent, &errand)?;
    drop(output);
    let sent = send(input, to);
    let told = read_report(report)?;
    sent.map_err(|source| TransferError::Archive { source })?;
    Ok(told)
}

/// Sends `input`, until nobody takes any more: there may be anything behind an archive.
fn send(mut input: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn tar_out(
    agent: &dyn Agent,
    source: &Path,
    options: TransferOptions,
    out: impl Write,
) -> Result<Transferred, TransferError> {
    let name = place::name_of(&Side::Host, source)?;
    let errand = Errand { way: Way::ArchiveOut, path: source, follow: options.follow };
    let Streams { input, output, report } = run(agent, &errand)?;
    drop(input);
    let output = BufReader::with_capacity(BUFFER, output);
    let made = pass::pass_on(output, name.as_deref(), out);
    received(made, read_report(report))
}

/// Has an agent's layer be the directory `into`, which is made, as the overlay has it. Of owners and set-user-ID bits
/// nothing is kept.
pub fn fetch_layer(
    agent: &dyn Agent,
    name: &Path,
    into: &Path,
) -> Result<Transferred, TransferError> {
    let errand = Errand { way: Way::LayerOut, path: name, follow: false };
    let Streams { input, output, report } = run(agent, &errand)?;
    drop(input);
    let output = BufReader::with_capacity(BUFFER, output);
    let writer = Writer::new(Where::Host, None);
    let made = unpack_copy(&Top::Layer, &Side::Host, into, writer, output);
    received(made, read_report(report))
}

/// What came of what was `made` of an archive whose sender has `told` what it sent.
fn received(
    made: Result<Transferred, TransferError>,
    told: Result<Transferred, TransferError>,
) -> Result<Transferred, TransferError> {
    match (made, told) {
        // Of one that was given up.
        (Err(error), Err(TransferError::Output { .. } | TransferError::Agent { .. })) => Err(error),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Ok(mut done), Ok(told)) => {
            done.refuse_all(told);
            Ok(done)
        }
    }
}

/// Carries files as an agent does, whose sandbox has this root, and `kept` for the directory of its layers: reads,
/// writes and reports. Returns the exit status that stands for it.
pub fn serve(
    root: BorrowedFd<'_>,
    kept: Option<BorrowedFd<'_>>,
    carry: &Carry,
    streams: [OwnedFd; 3],
) -> u8 {
    let [input, output, told] = streams.map(File::from);
    let done = serve_streams((root, kept), carry, input, output);
    u8::from(report(done, told).is_err())
}

fn serve_streams(
    (root, kept): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
    carry: &Carry,
    input: File,
    output: File,
) -> Result<Transferred, TransferError> {
    let owner = (carry.uid, carry.gid);
    let (inside, side) = (Inside::Near { root, owner }, Side::Sandbox(root));
    let path = Path::new(OsStr::from_bytes(carry.path.to_bytes()));
    let options = TransferOptions { follow: carry.follow };
    let top = match carry.way {
        Way::ArchiveIn => {
            drop(output);
            return super::tar_in(&inside, path, BufReader::with_capacity(BUFFER, input));
        }
        Way::ArchiveOut => return super::tar_out(&inside, path, options, output),
        Way::CopyOut => {
            let from = place::find_source(&side, path, carry.follow)?;
            return tar_out::write(from, (path, Where::Sandbox), Kept::Copies, output);
        }
        Way::LayerOut => {
            let none = || TransferError::Agent { source: io::ErrorKind::Unsupported.into() };
            let side = Side::Sandbox(kept.ok_or_else(none)?);
            let from = place::find_source(&side, &path.join("."), false)?;
            return tar_out::write(from, (path, Where::Sandbox), Kept::Layers, output);
        }
        Way::CopyIn => Top::Named(None),
        Way::ContentsIn => Top::Contents,
    };
    drop(output);
    let writer = Writer::new(Where::Sandbox, Some(owner));
    unpack_copy(&top, &side, path, writer, BufReader::with_capacity(BUFFER, input))
}
