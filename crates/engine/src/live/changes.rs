//! What a sandbox has changed: listed, shown, carried over to the host, packed.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use agentkernel_core::{self as core, Access, Backend, Capability, Spec};
use agentkernel_files::{
    self as files, Baseline, Change, ChangeKind, FileKind, FilesError, Ids, Layer, LeftOut, Lower,
    TransferError,
};
use agentkernel_store::Record;
use agentkernel_store::audit::Kind;
use serde_json::json;

use super::Sandboxes;
use super::dial::Dial;
use super::settle::is_said_to_run;
use super::snapshots::random_id;
use super::transfer::{Carrier, Reached};
use crate::EngineError;

impl Sandboxes<'_> {
    /// What a sandbox has changed, sorted by path. One that runs goes on meanwhile.
    pub fn changes(&self, asked: &str) -> Result<Vec<Change>, EngineError> {
        let record = self.find(asked)?;
        let seen = self.see_layers(&record)?;
        let layers = &seen.layers;
        let made: Vec<_> = layers.iter().flat_map(|layer| layer.made.clone()).collect();
        let is_place = |path: &Path| made.iter().any(|made| made.starts_with(path));
        let mut changes = files::changes(&mapped(self.backend(&record)?, layers)?)?;
        changes.retain(|change| {
            let is_new_directory =
                (change.kind, change.what) == (ChangeKind::Added, FileKind::Directory);
            !(is_new_directory && is_place(&change.path))
        });
        Ok(changes)
    }

    /// Writes a unified difference of what it has changed, by [`agentkernel_files::patch`]: in its
    /// copy-on-write mounts, so that it can be taken over there, or everywhere if it has none.
    pub fn patch(&self, asked: &str, out: impl Write) -> Result<(), EngineError> {
        let record = self.find(asked)?;
        let mut seen = self.see_layers(&record)?;
        let layers = &mut seen.layers;
        let is_mount =
            |layer: &core::Layer| layer.target != Path::new("/") && !layer.lower.is_empty();
        if layers.iter().any(is_mount) {
            layers.retain(is_mount);
        }
        Ok(files::patch(&mapped(self.backend(&record)?, layers)?, out)?)
    }

    /// Writes what it has changed as an OCI image's layer, by [`agentkernel_files::export`]. A
    /// sandbox that runs stands still for as long as it takes.
    pub fn export(&self, asked: &str, out: impl Write) -> Result<Vec<LeftOut>, EngineError> {
        let (record, _lock) = self.lock(asked)?;
        let backend = self.able(&record, Capability::RootChanges)?;
        let owners = backend.owners(&self.spec(&record)?, &Self::place(&record).image())?;
        let ids = |outside, inside| Ids { outside, inside, count: owners.count };
        let owners = files::Owners {
            users: ids(owners.outside.0, owners.inside.0),
            groups: ids(owners.outside.1, owners.inside.1),
        };
        let mut held = self.hold(&record)?;
        let seen = self.see_layers_of(&record, held.agent())?;
        let left_out = files::export(&mapped(backend, &seen.layers)?, owners, out)?;
        self.note(Kind::File, &record, json!({ "direction": "out", "export": true }))?;
        Ok(left_out)
    }

    /// Carries what it has changed in its copy-on-write mounts over to the host, by
    /// [`agentkernel_files::apply`]: all of it, or what is at or below `paths`, which are inside,
    /// or relative to where its commands start. A sandbox that runs stands still meanwhile.
    pub fn apply(
        &self,
        asked: &str,
        paths: &[PathBuf],
        force: bool,
    ) -> Result<files::Report, EngineError> {
        let (record, _lock) = self.lock(asked)?;
        let spec = self.spec(&record)?;
        if !spec.mounts.iter().any(is_copy) {
            return Err(EngineError::refused(
                format!("the sandbox {} has no copy of anything of the host's", record.name),
                "make one with --project DIR:cow; agentkernel cp copies files out".into(),
            ));
        }
        let mut held = self.hold(&record)?;
        let mut seen = self.see_layers_of(&record, held.agent())?;
        seen.layers.retain(|layer| is_target_of_copy(&spec, &layer.target));
        let layers = mapped(self.backend(&record)?, &seen.layers)?;
        let parts = parts(base(&spec), &layers, paths)?;
        let mut baseline = read_baseline(&record)?;
        let report = carry_over(&parts, &mut baseline, force);
        drop(held);
        // What was written is kept even if not all was.
        let applied = write_baseline(&baseline);
        self.store.update(&record.id, |record| record.applied = applied)?;
        let detail = match &report {
            Ok(done) => json!({
                "applied": done.applied.len(),
                "refused": done.refused.len(),
                "force": force,
            }),
            Err(error) => json!({ "error": error.to_string(), "force": force }),
        };
        self.note(Kind::Apply, &record, detail)?;
        Ok(report?)
    }

    /// Its backend, if that can do this much with what a sandbox has written.
    pub(super) fn able(
        &self,
        record: &Record,
        capability: Capability,
    ) -> Result<&'static dyn Backend, EngineError> {
        let backend = self.backend(record)?;
        if backend.capabilities().has(capability) {
            return Ok(backend);
        }
        let what = match capability {
            Capability::Snapshots => "can't copy what a sandbox has written",
            Capability::RootChanges => "can't tell all that a sandbox has changed",
            _ => "can't tell what a sandbox has changed",
        };
        Err(EngineError::refused(
            format!("the {} backend {what}", backend.name()),
            format!("choose a backend that agentkernel doctor lists with {}", capability.name()),
        ))
    }

    /// The layers of a sandbox as somebody sees them who does not stop it.
    fn see_layers(&self, record: &Record) -> Result<Seen, EngineError> {
        let (backend, spec) = (self.backend(record)?, self.spec(record)?);
        let image = Self::place(record).image();
        if backend.carried(&spec, &image, self.dirs.state()).is_none() {
            return self.see_layers_of(record, None);
        }
        if is_said_to_run(record) {
            return self.see_layers_of(record, Some(&mut self.dial(record)?));
        }
        let (record, _lock) = self.lock(record.id.as_str())?;
        self.see_layers_of(&record, None)
    }

    /// The layers of a sandbox that there are: one that never ran has none. If only its agent reaches
    /// them, it hands them out; one that does not run is booted for that.
    fn see_layers_of(
        &self,
        record: &Record,
        agent: Option<&mut Dial>,
    ) -> Result<Seen, EngineError> {
        let (backend, spec) = (self.able(record, Capability::Changes)?, self.spec(record)?);
        let directory = self.dirs.layers(&record.id);
        let Ok(directory) = directory.canonicalize() else { return Ok(Seen::default()) };
        let folder = self.dirs.sandbox(&record.id).join(format!("seen-{}", random_id()?));
        let Some(layers) = backend.carried(&spec, &Self::place(record).image(), &folder) else {
            let mut layers = backend.layers(&spec, &directory);
            layers.retain(|layer| layer.upper.symlink_metadata().is_ok());
            return Ok(Seen { layers, folder: None });
        };
        let failed =
            |error| EngineError::failed("can't make a folder for what it has written", &error);
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let seen = Seen { layers, folder: Some(folder) };
        match agent {
            Some(agent) => seen.fetch(&Carrier::of(agent))?,
            None => self.visit_locked(record, |reached, _| match reached {
                Reached::Agent(mut dial) => seen.fetch(&Carrier::of(&mut dial)),
                Reached::Root(_) => Ok(()),
            })??,
        }
        Ok(seen)
    }

    /// What has to be known later of the host's files as they are now, if the sandbox has a copy
    /// of any.
    pub(super) fn baseline(&self, spec: &Spec) -> Result<Option<String>, EngineError> {
        if !spec.mounts.iter().any(is_copy) {
            return Ok(None);
        }
        self.dirs.prepare_state()?;
        Ok(write_baseline(&Baseline::now(self.dirs.state())?))
    }
}

/// A sandbox's layers, as far as they can be seen from here.
#[derive(Default)]
struct Seen {
    layers: Vec<core::Layer>,
    /// Where those are that were handed out, for as long as this lives.
    folder: Option<PathBuf>,
}

impl Seen {
    /// Has an agent hand out all of them. What can't be in one is left out.
    fn fetch(&self, agent: &Carrier<'_>) -> Result<(), TransferError> {
        for layer in &self.layers {
            let name = layer.upper.file_name().unwrap_or_default();
            let _ = files::fetch_layer(agent, Path::new(name), &layer.upper)?;
        }
        Ok(())
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // It goes with the sandbox at the latest.
            let _ = files::remove_tree(folder);
        }
    }
}

/// A layer with what is asked for in it; all if there is nothing.
type Part<'a> = (&'a Layer, Vec<PathBuf>);

/// Where relative paths start.
fn base(spec: &Spec) -> &Path {
    let first = spec.mounts.iter().find(|mount| is_copy(mount)).map(|mount| &mount.target);
    spec.directory.as_ref().or(first).map_or(Path::new("/"), PathBuf::as_path)
}

/// Says which layer each path, seen from `base`, is in. Nothing means all of all.
fn parts<'a>(
    base: &Path,
    layers: &'a [Layer],
    paths: &[PathBuf],
) -> Result<Vec<Part<'a>>, EngineError> {
    if paths.is_empty() {
        return Ok(layers.iter().map(|layer| (layer, Vec::new())).collect());
    }
    let mut parts: Vec<Part<'a>> = Vec::new();
    for path in paths {
        let path = plain(&base.join(path))?;
        let holders = layers.iter().filter(|layer| layer.holds(&path));
        let Some(layer) = holders.max_by_key(|layer| layer.target.as_os_str().len()) else {
            return Err(FilesError::NoHost(path).into());
        };
        match parts.iter_mut().find(|(other, _)| std::ptr::eq(*other, layer)) {
            Some((_, paths)) => paths.push(path),
            None => parts.push((layer, vec![path])),
        }
    }
    Ok(parts)
}

/// The path without `.`; what `..` leads to only the sandbox can say.
fn plain(path: &Path) -> Result<PathBuf, EngineError> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(EngineError::refused(
            format!("{path:?} has .. in it"),
            "name the path as agentkernel diff shows it".into(),
        ));
    }
    Ok(path.components().filter(|part| *part != Component::CurDir).collect())
}

fn carry_over(
    parts: &[Part<'_>],
    baseline: &mut Baseline,
    force: bool,
) -> Result<files::Report, FilesError> {
    let mut all = files::Report::default();
    if let [_, _, ..] = parts {
        refuse_nothing(parts)?;
    }
    for (layer, paths) in parts {
        let report = files::apply(layer, paths, baseline, force)?;
        all.applied.extend(report.applied);
        all.refused.extend(report.refused);
    }
    Ok(all)
}

/// Refuses a path at which nothing was changed, before anything is done for the others.
fn refuse_nothing(parts: &[Part<'_>]) -> Result<(), FilesError> {
    for (layer, paths) in parts.iter().filter(|(_, paths)| !paths.is_empty()) {
        let changes = files::changes(std::slice::from_ref(*layer))?;
        let is_idle = |path: &&PathBuf| !changes.iter().any(|c| c.path.starts_with(path));
        if let Some(path) = paths.iter().find(is_idle) {
            return Err(FilesError::NothingAt(path.clone()));
        }
    }
    Ok(())
}

fn is_copy(mount: &core::Mount) -> bool {
    mount.access == Access::CopyOnWrite
}

fn is_target_of_copy(spec: &Spec, target: &Path) -> bool {
    spec.mounts.iter().any(|mount| is_copy(mount) && mount.target == target)
}

fn mapped(backend: &dyn Backend, layers: &[core::Layer]) -> Result<Vec<Layer>, EngineError> {
    let lower = |layer: &core::Layer| {
        Ok::<_, EngineError>(match layer.lower.as_slice() {
            [] => None,
            [one] => Some(Lower::Host(one.clone())),
            many => Some(Lower::Shown(Arc::new(backend.merge(many)?))),
        })
    };
    let map = |layer: &core::Layer| {
        Ok(Layer {
            target: layer.target.clone(),
            lower: lower(layer)?,
            upper: layer.upper.clone(),
            skip: layer.covered.iter().filter(|path| **path != layer.target).cloned().collect(),
        })
    };
    layers.iter().map(map).collect()
}

fn read_baseline(record: &Record) -> Result<Baseline, EngineError> {
    let Some(text) = &record.applied else {
        return Ok(Baseline { since: record.created, applied: Default::default() });
    };
    serde_json::from_str(text).map_err(|error| {
        EngineError::refused(
            format!("the record of {} is damaged: {error}", record.name),
            "agentkernel cp copies files out of it, and diff --patch shows what it changed".into(),
        )
    })
}

fn write_baseline(baseline: &Baseline) -> Option<String> {
    // It is made of strings and numbers only.
    serde_json::to_string(baseline).ok()
}

impl From<FilesError> for EngineError {
    fn from(error: FilesError) -> Self {
        let hint = match &error {
            FilesError::NothingAt(_) => "agentkernel diff shows what was changed",
            FilesError::NoHost(_) => "make the sandbox with --project DIR:cow",
            FilesError::Moved(_) => "the sandbox moves its files about; pause it, then try again",
            FilesError::TooMuch(_) => "remove some of it in the sandbox, or copy with cp",
            FilesError::Output(_) => "make room where it goes, or send it elsewhere",
            FilesError::Step { .. } => "see to that, then try again",
        };
        Self::refused(error.to_string(), hint.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(target: &str) -> Layer {
        let (target, upper) = (target.into(), "/nowhere".into());
        Layer { target, lower: Some(Lower::Host("/host".into())), upper, skip: Vec::new() }
    }

    fn told(base: &Path, paths: &[&str]) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
        let layers = [layer("/home/agent/project"), layer("/home/agent/project/data")];
        let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
        let parts = parts(base, &layers, &paths).map_err(|error| error.why)?;
        let part = |(layer, paths): Part<'_>| (layer.target.display().to_string(), paths);
        Ok(parts.into_iter().map(part).collect())
    }

    #[test]
    fn a_path_belongs_to_the_innermost_mount() {
        let project = Path::new("/home/agent/project");
        let expected = vec![
            ("/home/agent/project".to_owned(), vec![project.join("a"), project.join("b/c")]),
            ("/home/agent/project/data".to_owned(), vec![project.join("data/x")]),
        ];
        let paths = ["a", "/home/agent/project/./data/x", "./b//c"];
        assert_eq!(told(project, &paths), Ok(expected));
        assert_eq!(told(project, &[]).map(|all| all.len()), Ok(2));
    }

    #[test]
    fn a_path_that_is_in_no_copy_or_not_plain_is_refused() {
        let project = Path::new("/home/agent/project");
        for bad in ["..", "a/../../b", "/home/agent", "/home/agent/projects", "/"] {
            assert!(told(project, &[bad]).is_err(), "{bad}");
        }
    }
}
