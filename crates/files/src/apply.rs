//! Carrying a sandbox's changes over to the host.

mod baseline;
mod host;
mod links;

use std::io;
use std::path::{Path, PathBuf};

use crate::contents::same_content;
use crate::diff::{LISTED_MAX, came_from_below, each_change, judge};
use crate::directory::{Directory, was_copied_up};
use crate::error::{FilesError, While};
use crate::facts::{Facts, FileKind};
use crate::layer::{Change, ChangeKind, Layer, Lower};
use crate::walk::{Entered, Next, Spot, Visitor, walk};
use host::{Beside, Victim};

pub use baseline::{Applied, Baseline};

/// Why something was not carried over.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Here, or in the directory that is to be removed or replaced.
    #[error("{0:?} was changed on the host meanwhile")]
    HostChanged(PathBuf),
    #[error("it was removed on the host meanwhile")]
    HostRemoved,
    /// Never carried over, not even by force.
    #[error("a {0} can't be carried over")]
    Special(FileKind),
    /// Nor this: whoever forces a conflict does not mean to let the sandbox plant it.
    #[error("the link leads out of the project, to {0:?}")]
    LeadsOut(PathBuf),
    #[error("{0}")]
    Failed(#[source] io::Error),
}

#[derive(Debug)]
pub struct NotApplied {
    /// Absolute, in the sandbox. A directory stands for all that is in it.
    pub path: PathBuf,
    pub reason: Reason,
}

/// What became of the changes. What the host had already is in neither list.
#[derive(Debug, Default)]
pub struct Report {
    pub applied: Vec<Change>,
    pub refused: Vec<NotApplied>,
}

/// Carries the changes of `layer` over to the host's directory under it.
///
/// `only` names what to carry over, with all below it: paths in the sandbox, or relative to the
/// layer's target; nothing means all. If one of them holds no change, nothing is done. Directories
/// on the way are made as needed.
///
/// What the host changed since the baseline is refused, unless forced; and always a link that leads
/// out, and what is neither a file nor a directory nor a link. What fails is refused with the reason,
/// and the rest goes on. Each file is replaced at once or not at all, without its setuid, setgid and
/// sticky bits, and belongs to the owner of what it replaces or of the directory that it is in; other
/// names of a replaced file keep the old content. A directory is emptied before it is removed, so that
/// a failure there leaves a part.
///
/// The caller keeps `baseline`, also after an error, and has only one `apply` at a time.
pub fn apply(
    layer: &Layer,
    only: &[PathBuf],
    baseline: &mut Baseline,
    force: bool,
) -> Result<Report, FilesError> {
    let Some(Lower::Host(lower)) = &layer.lower else {
        return Err(FilesError::NoHost(layer.target.clone()));
    };
    let only: Vec<PathBuf> = only.iter().map(|path| layer.target.join(path)).collect();
    if !only.is_empty() {
        find_all(layer, &only)?;
    }
    let top = Directory::root(lower).doing("open", lower)?;
    let mut applier = Applier {
        layer,
        only: &only,
        baseline,
        force,
        report: Report::default(),
        listed: 0,
        frames: Vec::new(),
        next: Frame::default(),
    };
    layer.walk(&[], &mut applier)?;
    applier.finish(&layer.target, || Ok(Some(top.facts()?)))?;
    Ok(applier.report)
}

/// Makes sure that every path holds a change.
fn find_all(layer: &Layer, only: &[PathBuf]) -> Result<(), FilesError> {
    let mut missing: Vec<&PathBuf> = only.iter().collect();
    each_change(layer, &[], &mut |change| missing.retain(|path| !change.path.starts_with(path)))?;
    match missing.first() {
        Some(path) => Err(FilesError::NothingAt((*path).clone())),
        None => Ok(()),
    }
}

/// What has to be known of a directory while the walk is in it.
#[derive(Debug, Default)]
struct Frame {
    /// Nobody but us changed the host's directory since the sandbox began.
    clean: bool,
    /// Something that the sandbox copied up may have been removed from it on the host.
    may_have_lost: bool,
    /// We changed it.
    touched: bool,
    /// The mode to set when all is in it.
    mode: Option<u32>,
}

struct Applier<'a> {
    layer: &'a Layer,
    only: &'a [PathBuf],
    baseline: &'a mut Baseline,
    force: bool,
    report: Report,
    /// Bytes of paths in the report.
    listed: usize,
    /// One for each directory from the top to where the walk is.
    frames: Vec<Frame>,
    /// What is known of the directory that is about to be entered.
    next: Frame,
}

enum Outcome {
    Applied,
    /// The host has it already.
    Same,
    Refused(Reason),
}

impl Visitor for Applier<'_> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        let wanted =
            self.only.is_empty() || self.only.iter().any(|only| spot.path.starts_with(only));
        let on_the_way = self.only.iter().any(|only| only.starts_with(spot.path));
        if !(wanted || on_the_way && is_dir(spot.here)) {
            return Ok(Next::Skip);
        }
        let both_dirs = is_dir(spot.here) && is_dir(spot.there);
        let change = if !wanted && both_dirs { None } else { judge(spot, self.layer)? };
        if let Some(there) = spot.there.filter(Facts::is_dir) {
            let clean = !self.baseline.is_strange(spot.path, &there);
            self.next = Frame { clean, may_have_lost: !clean, ..Frame::default() };
        }
        let Some((kind, what)) = change else { return Ok(Next::Enter) };
        self.listed += spot.path.as_os_str().len();
        if self.listed > LISTED_MAX {
            return Err(FilesError::TooMuch(self.layer.target.clone()));
        }
        let outcome = match self.carry_over(spot, what, kind) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(Reason::Failed(error)),
        };
        let path = spot.path.to_owned();
        match outcome {
            Outcome::Applied => self.report.applied.push(Change { path, kind, what }),
            Outcome::Same => {}
            Outcome::Refused(reason) => {
                self.report.refused.push(NotApplied { path, reason });
                // What is in it has nowhere to go, unless only the mode was refused.
                return Ok(if both_dirs { Next::Enter } else { Next::Skip });
            }
        }
        Ok(Next::Enter)
    }

    fn enter(&mut self, entered: &Entered<'_>) -> Result<(), FilesError> {
        let mut frame = std::mem::take(&mut self.next);
        if let (true, Some(lower)) = (self.frames.is_empty(), entered.lower) {
            let facts = lower.facts().doing("look at the host's", entered.path)?;
            frame.clean = !self.baseline.is_strange(entered.path, &facts);
            frame.may_have_lost = !frame.clean;
        }
        // What an opaque directory has was never the host's, though it may come from elsewhere.
        frame.may_have_lost &= !entered.opaque;
        self.frames.push(frame);
        Ok(())
    }

    fn leave(&mut self, spot: &Spot<'_>) -> Result<(), FilesError> {
        let Some(host) = spot.lower else {
            self.frames.pop();
            return Ok(());
        };
        if let Some(mode) = self.frames.last().and_then(|frame| frame.mode)
            && let Err(error) = host::set_mode(host, spot.name, mode)
        {
            let reason = Reason::Failed(error);
            self.report.refused.push(NotApplied { path: spot.path.to_owned(), reason });
        }
        self.finish(spot.path, || host.stat(spot.name))
    }
}

impl Applier<'_> {
    /// Leaves a directory, and notes how we leave it if nobody else has changed it.
    fn finish(
        &mut self,
        path: &Path,
        facts: impl FnOnce() -> io::Result<Option<Facts>>,
    ) -> Result<(), FilesError> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if frame.clean
            && frame.touched
            && let Some(facts) = facts().doing("look at the host's", path)?
        {
            self.baseline.applied.note(path, &facts);
        }
        Ok(())
    }

    fn carry_over(
        &mut self,
        spot: &Spot<'_>,
        what: FileKind,
        kind: ChangeKind,
    ) -> io::Result<Outcome> {
        let Some(host) = spot.lower else { return Err(io::ErrorKind::NotFound.into()) };
        let outcome = match (kind, what, spot.here) {
            (ChangeKind::Deleted, ..) => self.delete(spot, host)?,
            (_, FileKind::File, _) => self.file(spot, host)?,
            (_, FileKind::Link, Some(here)) => self.link(spot, host, &here)?,
            (_, FileKind::Directory, Some(here)) => self.directory(spot, host, &here)?,
            (_, special, _) => Outcome::Refused(Reason::Special(special)),
        };
        if let (Outcome::Applied, Some(frame)) = (&outcome, self.frames.last_mut()) {
            frame.touched = true;
        }
        Ok(outcome)
    }

    fn delete(&mut self, spot: &Spot<'_>, host: &Directory) -> io::Result<Outcome> {
        let Some(there) = host.stat(spot.name)? else { return Ok(Outcome::Same) };
        if let Some(reason) = self.objection(spot, host, false)? {
            return Ok(Outcome::Refused(reason));
        }
        if Some(there) != spot.there && !self.force {
            return Ok(Outcome::Refused(Reason::HostChanged(spot.path.to_owned())));
        }
        if there.is_dir() {
            host::remove_tree(host, self.victim(spot, &self.keep()))?;
        } else {
            host::remove(host, spot.name)?;
        }
        self.baseline.applied.forget(spot.path);
        Ok(Outcome::Applied)
    }

    fn file(&mut self, spot: &Spot<'_>, host: &Directory) -> io::Result<Outcome> {
        let (source, from) = spot.upper.file(spot.name)?;
        let mode = from.mode & 0o777;
        if let Some(there) = spot.there.filter(|there| there.kind == FileKind::File)
            && (there.mode, there.size) == (mode, from.size)
            && same_content(&source, &host.file(spot.name)?.0, from.size)?
        {
            return Ok(Outcome::Same);
        }
        if let Some(reason) = self.objection(spot, host, was_copied_up(&source)?)? {
            return Ok(Outcome::Refused(reason));
        }
        let owner = self.owner(spot, host)?;
        let (beside, file) = Beside::file(host, &source, &from, mode, &owner)?;
        let outcome = self.put(spot, host, beside)?;
        if let Outcome::Applied = outcome {
            let facts = Facts::from(rustix::fs::fstat(&file)?);
            self.baseline.applied.note(spot.path, &facts);
        }
        Ok(outcome)
    }

    fn link(&mut self, spot: &Spot<'_>, host: &Directory, here: &Facts) -> io::Result<Outcome> {
        let to = PathBuf::from(spot.upper.target(spot.name)?);
        if let Some(reason) = self.objection(spot, host, false)? {
            return Ok(Outcome::Refused(reason));
        }
        if links::leads_out(spot.path, &to, &self.layer.target) {
            return Ok(Outcome::Refused(Reason::LeadsOut(to)));
        }
        let beside = Beside::link(host, &to, here, &self.owner(spot, host)?)?;
        let outcome = self.put(spot, host, beside)?;
        if let (Outcome::Applied, Some(facts)) = (&outcome, host.stat(spot.name)?) {
            self.baseline.applied.note(spot.path, &facts);
        }
        Ok(outcome)
    }

    fn directory(
        &mut self,
        spot: &Spot<'_>,
        host: &Directory,
        here: &Facts,
    ) -> io::Result<Outcome> {
        let copied_up = came_from_below(spot, here).map_err(io::Error::other)?;
        let mode = here.mode & 0o3777;
        if let Some(there) = spot.there.filter(Facts::is_dir) {
            // Here `objection` would look at all that is in it.
            if !self.force && self.baseline.is_strange(spot.path, &there) {
                return Ok(Outcome::Refused(Reason::HostChanged(spot.path.to_owned())));
            }
            host::set_mode(host, spot.name, mode | 0o700)?;
            self.next.touched = true;
        } else {
            if let Some(reason) = self.objection(spot, host, copied_up)? {
                return Ok(Outcome::Refused(reason));
            }
            let beside = Beside::directory(host, mode, &self.owner(spot, host)?)?;
            if let Outcome::Refused(reason) = self.put(spot, host, beside)? {
                return Ok(Outcome::Refused(reason));
            }
            self.next = Frame { clean: true, touched: true, ..Frame::default() };
        }
        self.next.mode = Some(mode);
        Ok(Outcome::Applied)
    }

    /// Puts what was made in its place, after a last look at what the host has there.
    fn put(&self, spot: &Spot<'_>, host: &Directory, beside: Beside<'_>) -> io::Result<Outcome> {
        let there = host.stat(spot.name)?;
        if there != spot.there && !self.force {
            return Ok(Outcome::Refused(Reason::HostChanged(spot.path.to_owned())));
        }
        beside.put(self.victim(spot, &self.keep()), there.as_ref())?;
        Ok(Outcome::Applied)
    }

    /// What speaks against replacing or removing what the host has, if anything.
    fn objection(
        &self,
        spot: &Spot<'_>,
        host: &Directory,
        copied_up: bool,
    ) -> io::Result<Option<Reason>> {
        let Some(there) = spot.there else {
            return Ok(
                (!self.force && self.was_removed(spot, copied_up)).then_some(Reason::HostRemoved)
            );
        };
        if self.force {
            return Ok(None);
        }
        let mut search = Search { baseline: self.baseline, found: None };
        if self.baseline.is_strange(spot.path, &there) {
            search.found = Some(spot.path.to_owned());
        } else if there.is_dir() {
            walk(host.open(spot.name)?, None, spot.path, &[], &mut search)
                .map_err(io::Error::other)?;
        }
        Ok(search.found.map(Reason::HostChanged))
    }

    /// Whether the host had what isn't there. A copied-up file may also have been renamed in the
    /// sandbox; then the host's directory has lost nothing since. Directories can't be renamed.
    fn was_removed(&self, spot: &Spot<'_>, copied_up: bool) -> bool {
        let may_have_lost = self.frames.last().is_some_and(|frame| frame.may_have_lost);
        self.baseline.applied.holds(spot.path) || copied_up && (is_dir(spot.here) || may_have_lost)
    }

    fn owner(&self, spot: &Spot<'_>, host: &Directory) -> io::Result<Facts> {
        spot.there.map_or_else(|| host.facts(), Ok)
    }

    fn victim<'v>(&self, spot: &'v Spot<'_>, keep: host::Keep<'v>) -> Victim<'v> {
        Victim { name: spot.name, path: spot.path, keep }
    }

    fn keep(&self) -> impl Fn(&Path, &Facts) -> bool {
        |path, facts| !self.force && self.baseline.is_strange(path, facts)
    }
}

/// Looks for something that the host changed.
struct Search<'a> {
    baseline: &'a Baseline,
    found: Option<PathBuf>,
}

impl Visitor for Search<'_> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        if self.found.is_some() {
            return Ok(Next::Skip);
        }
        if spot.here.is_some_and(|here| self.baseline.is_strange(spot.path, &here)) {
            self.found = Some(spot.path.to_owned());
            return Ok(Next::Skip);
        }
        Ok(Next::Enter)
    }
}

fn is_dir(facts: Option<Facts>) -> bool {
    facts.is_some_and(|facts| facts.is_dir())
}
