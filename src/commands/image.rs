//! `agentkernel image pull | import | build | ls | inspect | tag | rm | prune`

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::{Duration, UNIX_EPOCH};

use agentkernel_core::{Backend, Pull};
use agentkernel_engine::Engine;
use agentkernel_images::{
    Digest, Images, ImagesError, Listed, Porter, PorterError, Record, Removed,
};
use agentkernel_store::time;
use agentkernel_wire::{ImageEntry, ImagesReport};

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::verbs::Verb;
use crate::{news, output};

use super::{sandboxes, snapshot, spec, unexpected};

pub(super) fn run(
    low: LowArgs,
    backends: &'static [&'static dyn Backend],
    porter: Option<&'static dyn Porter>,
) -> Result<u8, CommandError> {
    let [verb, rest @ ..] = low.words.as_slice() else {
        return Err(CommandError::new(
            "nothing to do with images was named",
            "agentkernel image ls shows all of them, and agentkernel help image what can be done",
        ));
    };
    let engine = Engine::new(backends);
    let images = Images::of_caller()?;
    match (verb.to_str(), rest) {
        (Some("pull"), [_, ..]) => pull(&low, &images, rest, porter),
        (Some("import"), [source]) => import(&low, &images, source, None, porter),
        (Some("import"), [source, name]) => import(&low, &images, source, Some(name), porter),
        (Some("build"), [folder, name]) => build(&low, &images, folder, name, porter),
        (Some("ls" | "list"), []) => list(&low, &images),
        (Some("inspect"), [_, ..]) => inspect(&images, rest),
        (Some("tag"), [image, name]) => tag(&images, image, name),
        (Some("rm" | "remove"), [_, ..]) => remove(&low, &images, rest, &engine),
        (Some("prune"), []) => prune(&low, &images, &engine),
        (Some("pull" | "inspect" | "rm" | "remove"), []) => Err(CommandError::new(
            "no image was named",
            "name one, as in agentkernel image pull debian:13",
        )),
        (Some("import" | "build" | "tag"), []) | (Some("build" | "tag"), [_]) => {
            Err(CommandError::new(
                "a word is missing",
                "agentkernel help image shows what goes with which word",
            ))
        }
        (Some("ls" | "list" | "prune"), [word, ..])
        | (Some("import" | "build" | "tag"), [_, _, word, ..]) => {
            Err(unexpected(Verb::Image, word))
        }
        _ => Err(unexpected(Verb::Image, verb)),
    }
}

/// Who brings images in, or word that another program does.
fn expect(
    porter: Option<&'static dyn Porter>,
    low: &LowArgs,
) -> Result<&'static dyn Porter, CommandError> {
    let porter = porter.ok_or_else(|| CommandError {
        elsewhere: true,
        ..CommandError::new(
            "images are brought in by agentkerneld",
            "install agentkerneld beside agentkernel",
        )
    })?;
    news::listen(low.json || low.quiet, low.verbose);
    Ok(porter)
}

/// Prints the digest of each one that is there now.
fn pull(
    low: &LowArgs,
    images: &Images,
    names: &[OsString],
    porter: Option<&'static dyn Porter>,
) -> Result<u8, CommandError> {
    let porter = expect(porter, low)?;
    let registries = spec::registries(low)?;
    each(names, |name| {
        let platform = low.platform.as_deref();
        let record = porter.pull(images, text(name)?, platform, &registries)?;
        output::line(record.manifest.as_str())
    })
}

fn import(
    low: &LowArgs,
    images: &Images,
    source: &OsStr,
    name: Option<&OsString>,
    porter: Option<&'static dyn Porter>,
) -> Result<u8, CommandError> {
    let porter = expect(porter, low)?;
    let name = name.map(|name| text(name)).transpose()?;
    let record = porter.import(images, source, name, low.platform.as_deref())?;
    output::line(record.manifest.as_str())?;
    Ok(0)
}

fn build(
    low: &LowArgs,
    images: &Images,
    folder: &OsStr,
    name: &OsStr,
    porter: Option<&'static dyn Porter>,
) -> Result<u8, CommandError> {
    let porter = expect(porter, low)?;
    let record = porter.build(images, folder.as_ref(), text(name)?, Pull::Missing)?;
    output::line(record.manifest.as_str())?;
    Ok(0)
}

fn list(low: &LowArgs, images: &Images) -> Result<u8, CommandError> {
    let all = images.list()?;
    if low.json {
        let entries: Vec<ImageEntry> = all.iter().map(entry).collect();
        output::line(&ImagesReport::from(entries).to_json())?;
        return Ok(0);
    }
    if low.quiet {
        for image in &all {
            output::line(short(&image.record.manifest))?;
        }
        return Ok(0);
    }
    let header = ["NAME", "DIGEST", "PLATFORM", "AGE", "SIZE", "OWN"].map(String::from);
    let row = |name: &str, image: &Listed| {
        [
            name.to_owned(),
            short(&image.record.manifest).to_owned(),
            output::shown(&image.record.platform),
            sandboxes::age(kept(&image.record)),
            snapshot::size(image.bytes),
            snapshot::size(image.own_bytes),
        ]
    };
    let rows = all.iter().flat_map(|image| match image.names.is_empty() {
        true => vec![row("-", image)],
        false => image.names.iter().map(|name| row(familiar(name), image)).collect(),
    });
    let rows: Vec<_> = [header].into_iter().chain(rows).collect();
    output::table(&rows)?;
    Ok(0)
}

fn inspect(images: &Images, names: &[OsString]) -> Result<u8, CommandError> {
    let all = images.list()?;
    let mut entries = Vec::new();
    for name in names {
        let digest = images.look_up(text(name)?)?;
        entries.extend(all.iter().filter(|image| image.record.manifest == digest).map(entry));
    }
    output::line(&ImagesReport::from(entries).to_json())?;
    Ok(0)
}

fn tag(images: &Images, image: &OsStr, name: &OsStr) -> Result<u8, CommandError> {
    let digest = images.look_up(text(image)?)?;
    output::line(familiar(&images.tag(&digest, text(name)?)?))?;
    Ok(0)
}

/// Takes names away, and removes images with their last one.
fn remove(
    low: &LowArgs,
    images: &Images,
    words: &[OsString],
    engine: &Engine,
) -> Result<u8, CommandError> {
    each(words, |word| {
        let word = text(word)?;
        let digest = images.look_up(word)?;
        let names = images.names_of(&digest)?;
        let is_name =
            !word.contains('@') && images.resolve(word).is_ok_and(|found| found.is_some());
        let is_one_of_many = is_name && names.len() > 1;
        let by = match names.as_slice() {
            _ if low.force || is_one_of_many => None,
            [_, _, ..] => Some(format!("the names {}", names.join(", "))),
            _ => in_use(engine, images)?.remove(&digest),
        };
        if let Some(by) = by {
            return Err(ImagesError::Used { name: word.into(), by }.into());
        }
        match is_one_of_many {
            true => images.untag(word)?,
            false => names.iter().try_for_each(|name| images.untag(name))?,
        }
        let used = in_use(engine, images)?;
        let goes = |record: &Record, names: &[String]| {
            record.manifest == digest && names.is_empty() && !used.contains_key(&digest)
        };
        tell(images.clear(goes)?)?;
        output::line(word)
    })
}

/// Removes what nobody uses, after asking, and prints what that was.
fn prune(low: &LowArgs, images: &Images, engine: &Engine) -> Result<u8, CommandError> {
    let used = in_use(engine, images)?;
    let goes = |record: &Record, names: &[String]| {
        !used.contains_key(&record.manifest) && (low.all || names.is_empty())
    };
    let doomed: Vec<Listed> =
        images.list()?.into_iter().filter(|one| goes(&one.record, &one.names)).collect();
    if !doomed.is_empty() && !low.force {
        let line = |one: &Listed| match one.names.first() {
            Some(name) => format!("  {}\n", familiar(name)),
            None => format!("  {}\n", one.record.manifest),
        };
        let lines: String = doomed.iter().map(line).collect();
        let answer = output::ask(&format!("This removes for ever:\n{lines}Go on?"));
        let is_confirmed = answer.ok_or_else(|| {
            CommandError::new(
                "nobody can be asked whether to remove them",
                "pass -f to remove them",
            )
        })?;
        if !is_confirmed {
            return Ok(0);
        }
    }
    tell(images.clear(goes)?)?;
    Ok(0)
}

/// Prints what was removed.
fn tell(removed: Option<Removed>) -> Result<(), CommandError> {
    let Some(removed) = removed else {
        output::note(
            "agentkernel: an image is being brought in; agentkernel image prune removes the files \
             once that is done",
        );
        return Ok(());
    };
    for digest in &removed.images {
        output::line(digest.as_str())?;
    }
    if removed.bytes > 0 {
        output::note(&format!("agentkernel: {} are free again", snapshot::size(removed.bytes)));
    }
    Ok(())
}

/// The images that something is made of, with what that is.
fn in_use(engine: &Engine, images: &Images) -> Result<BTreeMap<Digest, String>, CommandError> {
    let Some(all) = sandboxes::open_existing(engine)? else { return Ok(BTreeMap::new()) };
    let mut used = BTreeMap::new();
    for (by, name) in all.images_in_use()? {
        // A container engine's name need not be one of the store's.
        if let Ok(Some(digest)) = images.resolve(&name) {
            used.insert(digest, by);
        }
    }
    Ok(used)
}

/// Does the same with each word, and goes on after an error, which the exit status tells.
fn each(
    words: &[OsString],
    mut work: impl FnMut(&OsStr) -> Result<(), CommandError>,
) -> Result<u8, CommandError> {
    let mut status = 0;
    for word in words {
        if let Err(error) = work(word) {
            output::error(error, false);
            status = FAILED;
        }
    }
    Ok(status)
}

fn text(word: &OsStr) -> Result<&str, CommandError> {
    word.to_str().ok_or_else(|| {
        CommandError::new(
            format!("{word:?} is not the name of an image"),
            "name it as in debian:13, or ghcr.io/owner/image@sha256:DIGEST",
        )
    })
}

fn entry(image: &Listed) -> ImageEntry {
    let Listed { record, names, bytes, own_bytes } = image;
    ImageEntry {
        names: names.clone(),
        digest: record.manifest.to_string(),
        id: record.configuration.to_string(),
        platform: record.platform.clone(),
        module: record.module.is_some(),
        created: record.created.clone(),
        kept: time::to_text(kept(record)),
        bytes: *bytes,
        own_bytes: *own_bytes,
        entrypoint: record.config.entrypoint.clone(),
        command: record.config.command.clone(),
        environment: record.config.environment.clone(),
        directory: record.config.directory.as_ref().map(|path| path.display().to_string()),
        user: record.config.user.clone(),
        layers: record.layers.iter().map(|layer| layer.diff.to_string()).collect(),
    }
}

fn kept(record: &Record) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_secs(record.kept)
}

/// Enough of a digest to tell it from others.
fn short(digest: &Digest) -> &str {
    &digest.hex()[..12]
}

/// A name as people write it.
fn familiar(full: &str) -> &str {
    let hub = full.strip_prefix("docker.io/").unwrap_or(full);
    hub.strip_prefix("library/").unwrap_or(hub)
}

impl From<ImagesError> for CommandError {
    fn from(error: ImagesError) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

impl From<PorterError> for CommandError {
    fn from(PorterError { why, fix }: PorterError) -> Self {
        Self::new(why, fix)
    }
}
