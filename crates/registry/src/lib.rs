//! Images from registries, as a [`Source`] of their parts.
//!
//! What comes is made sure of by its digest while it comes, goes to the store's downloads, and is gone
//! on with there when a connection, a registry or a process dies. Mirrors are asked before the
//! registry, in the order of the settings.
//!
//! It blocks, and several threads may ask at once. A signal that is held back and would end a program
//! ends what is fetched: each 100 ms it is looked whether one waits.
//!
//! Why no client of the registries' protocol is used is in `ARCHITECTURE.md`.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod answer;
mod blob;
mod challenge;
mod credentials;
mod error;
mod manifest;
mod patience;
mod place;
#[cfg(test)]
mod tests;
mod tls;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use agentkernel_core::{Reference, Registries};
use agentkernel_images::{Digest, Download, Filling};
use agentkernel_unpack::{Part, Source};
use tokio::runtime::{Builder, Runtime};

use crate::blob::Incoming;
use crate::patience::Patience;
use crate::place::Place;

pub use error::{Known, RegistryError};

/// How long is waited for threads to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// An image in a registry.
pub struct Registry {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    /// Its tag or its digest.
    version: String,
    digest: Option<Digest>,
    /// Who is asked, in this order. The last is the registry itself.
    places: Vec<Place>,
}

impl Registry {
    /// Asks nobody yet.
    pub fn open(reference: &Reference<'_>, settings: &Registries) -> Result<Self, RegistryError> {
        Self::with(reference, settings, Patience::default())
    }

    fn with(
        reference: &Reference<'_>,
        settings: &Registries,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let digest = reference.digest.map(str::parse::<Digest>).transpose();
        let digest = digest.map_err(|why| RegistryError::Refused {
            why,
            fix: "name the image by its SHA-256 digest, or by a tag".into(),
        })?;
        let (name, repository) = (reference.registry(), reference.repository());
        // A mirror is not waited for: there is somebody else.
        let hasty = Patience { tries: patience.tries.min(2), ..patience };
        let mut places = Vec::new();
        for mirror in &settings.of(name).mirrors {
            places.push(Place::mirror(mirror, &repository, settings, hasty)?);
        }
        places.push(Place::new(name, repository, settings, patience)?);
        let version = digest.as_ref().map(Digest::as_str).or(reference.tag).unwrap_or("latest");
        // One thread of its own moves bytes; hashing and writing is done by those who ask.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(RegistryError::Start)?;
        Ok(Self { runtime: Some(runtime), version: version.into(), digest, places })
    }

    /// Asks one after the other, until somebody has it.
    fn anywhere<T>(
        &self,
        mut ask: impl AsyncFnMut(&Place) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let Some(runtime) = &self.runtime else { return Err(RegistryError::Interrupted) };
        let mut failed = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            let is_last = index + 1 == self.places.len();
            if place.is_lost() && !is_last {
                continue;
            }
            match runtime.block_on(ask(place)) {
                Err(error) if !error.is_ours() => {
                    if error.is_gone() {
                        place.lose();
                    }
                    failed.push(error);
                }
                done => return done,
            }
        }
        match failed.len() {
            1 => Err(failed.remove(0)),
            _ => Err(RegistryError::Everywhere { all: failed }),
        }
    }
}

impl Drop for Registry {
    /// Its threads end, so that whoever comes next may be the only one.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever looks up a name can't be told to stop.
            runtime.shutdown_timeout(FAREWELL);
        }
    }
}

impl Source for Registry {
    type Error = RegistryError;

    fn top(&self) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        self.anywhere(async |place| manifest::top(place, &self.version, self.digest.as_ref()).await)
    }

    fn small(&self, part: &Part) -> Result<Vec<u8>, RegistryError> {
        self.anywhere(async |place| manifest::small(place, part).await)
    }

    /// Any blob, in fact: a module is fetched like this, too.
    fn layer(
        &self,
        filling: &Filling,
        part: &Part,
        is_needless: &dyn Fn() -> bool,
        came: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<File>, RegistryError> {
        let mut file = match filling.download(&part.digest, is_needless)? {
            None => return Ok(None),
            Some(Download::Whole(file)) => {
                came(part.size);
                file
            }
            Some(Download::Partial(partial)) => {
                let mut incoming = Incoming::new(&partial.file, part, is_needless, came)?;
                match self.anywhere(async |place| incoming.fetch(place).await) {
                    Err(RegistryError::Needless) => return Ok(None),
                    fetched => fetched?,
                }
                partial.complete()?
            }
        };
        file.seek(SeekFrom::Start(0)).map_err(RegistryError::Keep)?;
        Ok(Some(file))
    }
}
