//! Which image it is that a source has for a platform.

use super::{BringError, Said, chained, module, small};
use crate::manifest::{Configuration, Descriptor, Document, LONGEST, Manifest};
use crate::{Platform, Source};

/// What a manifest that is no image but says something of one has for a platform.
const UNKNOWN: &str = "unknown";

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
            Document::Manifest(manifest) => return Ok((bytes, manifest)),
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
    // A module runs wherever it is asked for.
    let is_module = |one: &&Descriptor| one.platform.as_ref().is_some_and(Platform::is_wasm);
    if let Some(one) = offered().find(is_module) {
        return Ok(one);
    }
    let there = offered().filter_map(|one| Some(one.platform.as_ref()?.to_string())).collect();
    Err(not_for(asked, there))
}

fn not_for(asked: &Platform, there: Vec<String>) -> BringError {
    match asked.is_wasm() {
        true => BringError::Programs { there },
        false => BringError::NoPlatform { asked: asked.clone(), there },
    }
}

/// Reads the configuration, and makes sure that it is for the platform and the manifest, or of a module.
pub(super) fn configuration(
    bytes: &[u8],
    manifest: &Manifest,
    asked: &Platform,
) -> Result<Said, BringError> {
    if let Some(layer) = module::layer(manifest)? {
        return Ok(module::said(bytes, layer));
    }
    let configuration = Configuration::parse(bytes)?;
    let module = module::path(&configuration, manifest, asked);
    let platform = &configuration.platform;
    // Some say nothing, and were made for whatever made them.
    let is_for_it =
        platform.architecture.is_empty() && !asked.is_wasm() || platform.distance(asked).is_some();
    if module.is_none() && !is_for_it {
        return Err(not_for(asked, vec![platform.to_string()]));
    }
    configuration.fits(manifest)?;
    let layers = chained(&configuration.rootfs.diff_ids);
    Ok(Said { configuration, layers, module })
}
