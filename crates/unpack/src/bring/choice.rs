//! Which image it is that a source has for a platform.

use super::{BringError, module, small};
use crate::manifest::{Configuration, Descriptor, Document, LONGEST, Manifest};
use crate::{Part, Platform, Source};

/// What a manifest that is no image but says something of one has for a platform.
const UNKNOWN: &str = "unknown";

/// What is said of a module for WebAssembly.
const MODULE: &str = "application/wasm";
const MODULE_CONFIGURATION: &str = "application/vnd.wasm.config.v";
const WASM: &str = "wasm";

/// The manifest for a platform.
pub(super) fn manifest<S: Source>(
    source: &S,
    asked: &Platform,
) -> Result<(Vec<u8>, Manifest), BringError> {
    let (mut bytes, mut kind) = source.top().map_err(BringError::source)?;
    // An index may be in another one, as in the layout of a folder; not more, or it has no end.
    for _ in 0..3 {
        if bytes.len() as u64 > LONGEST {
            return Err(BringError::TooLong { what: "the manifest" });
        }
        match Document::parse(&bytes, kind.as_deref())? {
            Document::Manifest(manifest) => {
                refuse_modules(&manifest)?;
                return Ok((bytes, manifest));
            }
            Document::Index(manifests) => {
                let chosen = choose(&manifests, asked)?.part();
                bytes = small(source, &chosen, "the manifest")?;
                kind = Some(chosen.kind);
            }
        }
    }
    let why = "it is in an index in an index".into();
    Err(BringError::Document { what: "the manifest", why })
}

fn choose<'a>(manifests: &'a [Descriptor], asked: &Platform) -> Result<&'a Descriptor, BringError> {
    let offered = || {
        let known = |one: &&Descriptor| one.platform.as_ref().is_none_or(|at| at.os != UNKNOWN);
        manifests.iter().filter(known)
    };
    let nearest = offered()
        .filter_map(|one| Some((one.platform.as_ref()?.distance(asked)?, one)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, nearest)) = nearest {
        return Ok(nearest);
    }
    let with_none: Vec<&Descriptor> = offered().filter(|one| one.platform.is_none()).collect();
    // What it is for is said further down.
    if let [one] = with_none.as_slice() {
        return Ok(one);
    }
    let is_module = |one: &&Descriptor| one.platform.as_ref().is_some_and(is_wasm);
    if let Some(one) = offered().find(is_module) {
        return Ok(one);
    }
    let there = offered().filter_map(|one| Some(one.platform.as_ref()?.to_string())).collect();
    Err(BringError::NoPlatform { asked: asked.clone(), there })
}

fn refuse_modules(manifest: &Manifest) -> Result<(), BringError> {
    let is_module = manifest.configuration.kind.starts_with(MODULE_CONFIGURATION)
        || manifest.layers.iter().any(|layer| layer.kind == MODULE);
    match module(manifest) {
        Some(layer) if is_module => Err(a_module(layer)),
        _ => Ok(()),
    }
}

fn a_module(layer: &Part) -> BringError {
    BringError::Module { layer: layer.clone() }
}

fn is_wasm(platform: &Platform) -> bool {
    platform.architecture == WASM
}

/// Reads the configuration, and makes sure that it is for the platform and the manifest.
pub(super) fn configuration(
    bytes: &[u8],
    manifest: &Manifest,
    asked: &Platform,
) -> Result<Configuration, BringError> {
    let said = Configuration::parse(bytes)?;
    if is_wasm(&said.platform)
        && let Some(layer) = module(manifest)
    {
        return Err(a_module(layer));
    }
    // Some say nothing, and were made for whatever made them.
    if !said.platform.architecture.is_empty() && said.platform.distance(asked).is_none() {
        let there = vec![said.platform.to_string()];
        return Err(BringError::NoPlatform { asked: asked.clone(), there });
    }
    said.fits(manifest)?;
    Ok(said)
}
