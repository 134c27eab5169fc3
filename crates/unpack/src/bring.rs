//! Bringing an image from any source into the store.

mod choice;
mod error;
mod fetch;
mod module;
mod users;

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use agentkernel_core::{News, tell};
use agentkernel_images::{Chain, Config, Digest, Image, Images, Layer, Record};

use crate::manifest::{Configuration, LONGEST};
use crate::{Part, Platform, Source};
pub use error::BringError;
use fetch::{Told, fetch};

/// Brings the image that `source` has, for `platform` if it has several, into the store under these
/// names, and says what it is. If it is there already that costs no more than its manifest.
///
/// Whoever listens is told of it by the first name. When this is interrupted or fails, what is in the
/// store is whole, and what was fetched is there for the next one.
pub fn bring<S: Source>(
    images: &Images,
    source: &S,
    names: &[&str],
    platform: &Platform,
) -> Result<Record, BringError> {
    let image = names.first().copied().unwrap_or_default();
    let told = Told::begin(image);
    let brought = bring_told(images, source, names, platform, &told);
    tell(News::Pulled { image, newer: brought.as_ref().ok().map(|(_, newer)| *newer) });
    brought.map(|(record, _)| record)
}

fn bring_told<S: Source>(
    images: &Images,
    source: &S,
    names: &[&str],
    platform: &Platform,
    told: &Told,
) -> Result<(Record, bool), BringError> {
    let (bytes, manifest) = choice::manifest(source, platform)?;
    let digest = Digest::of(&bytes);
    let filling = images.fill()?;
    let _turn = filling.image_turn(&digest)?;
    if let Some(held) = Image::open(images, &digest)? {
        filling.keep(held.record(), names)?;
        return Ok((held.into_record(), false));
    }
    let configuration = small(source, &manifest.configuration, "the configuration")?;
    let mut said = choice::configuration(&configuration, &manifest, platform)?;
    fetch(source, &filling, &manifest.layers, &mut said.layers, told)?;
    let kept = filling.keep_blob(&configuration)?;
    filling.keep_blob(&bytes)?;
    let record = record(images, digest, kept, said, platform)?;
    filling.keep(&record, names)?;
    Ok((record, true))
}

/// A manifest or a configuration that is what was asked for.
fn small<S: Source>(source: &S, part: &Part, what: &'static str) -> Result<Vec<u8>, BringError> {
    if part.size > LONGEST {
        return Err(BringError::TooLong { what });
    }
    let bytes = source.small(part).map_err(BringError::source)?;
    let found = Digest::of(&bytes);
    match found == part.digest && bytes.len() as u64 == part.size {
        true => Ok(bytes),
        false => Err(BringError::Digest { what, expected: part.digest.clone(), found }),
    }
}

/// What an image says of itself.
struct Said {
    configuration: Configuration,
    layers: Vec<Layer>,
    /// If it is a module: where that is in it.
    module: Option<String>,
}

/// The layers, of which nothing more is known yet.
fn chained(diffs: &[Digest]) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for diff in diffs {
        let chain = Chain::on(layers.last().map(|layer| &layer.chain), diff);
        layers.push(Layer { chain, diff: diff.clone(), bytes: 0 });
    }
    layers
}

fn record(
    images: &Images,
    manifest: Digest,
    configuration: Digest,
    Said { configuration: said, layers, module }: Said,
    asked: &Platform,
) -> Result<Record, BringError> {
    let trees = trees(images, &layers);
    let user_file = |path| users::read(&trees, path);
    let module = module.map(|path| module::find(images, &trees, &path)).transpose()?;
    let mut runtime = said.config.unwrap_or_default();
    if module.is_some() {
        runtime = module::with_entrypoint(runtime);
    }
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let platform = if said.platform.os.is_empty() { asked } else { &said.platform };
    Ok(Record {
        manifest,
        configuration,
        platform: platform.to_string(),
        created: said.created,
        module,
        kept: UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        config: Config {
            environment: runtime.env.unwrap_or_default(),
            entrypoint: runtime.entrypoint.unwrap_or_default(),
            command: runtime.cmd.unwrap_or_default(),
            directory: some(runtime.working_dir).map(PathBuf::from),
            user: some(runtime.user),
            passwd: user_file("etc/passwd")?,
            group: user_file("etc/group")?,
        },
        layers,
    })
}

/// The trees of layers, the lowest first.
fn trees(images: &Images, layers: &[Layer]) -> Vec<PathBuf> {
    layers.iter().map(|layer| images.layer(&layer.chain)).collect()
}
