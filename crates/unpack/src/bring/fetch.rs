//! Layers, fetched beside each other and unpacked in order.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use agentkernel_core::{News, Progress, tell};
use agentkernel_images::{Filling, Layer};

use super::{BringError, module, trees};
use crate::entries::{Kind, read_entries};
use crate::{Bounds, Part, Source, UnpackError, unpack_layer};

/// How many layers are fetched at a time.
const AT_ONCE: usize = 3;

/// How many bytes more come before anybody is told.
const WORTH_TELLING: u64 = 256 << 10;

/// What is told of how far it has come.
pub(super) struct Told<'a> {
    image: &'a str,
    layers: AtomicUsize,
    layers_done: AtomicUsize,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

impl<'a> Told<'a> {
    pub fn begin(image: &'a str) -> Self {
        let told = Self {
            image,
            layers: AtomicUsize::new(0),
            layers_done: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
        };
        told.tell();
        told
    }

    fn tell(&self) {
        let progress = Progress {
            layers: self.layers.load(Ordering::Relaxed),
            layers_done: self.layers_done.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
        };
        tell(News::Pulling { image: self.image, progress });
    }

    fn came(&self, more: u64) {
        let before = self.bytes_done.fetch_add(more, Ordering::Relaxed);
        if before / WORTH_TELLING != (before + more) / WORTH_TELLING {
            self.tell();
        }
    }

    fn done(&self) {
        self.layers_done.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }
}

/// What the threads share.
struct Work<'a, S> {
    source: &'a S,
    filling: &'a Filling,
    parts: &'a [Part],
    layers: &'a [Layer],
    /// The layers that aren't there, in order, and which of them is to be fetched next.
    missing: Vec<usize>,
    next: AtomicUsize,
    is_over: AtomicBool,
    told: &'a Told<'a>,
}

type Fetched = (usize, Result<Option<File>, BringError>);

/// Has all `layers` of these `parts` in the store, and finds out how big they are.
pub(super) fn fetch<S: Source>(
    source: &S,
    filling: &Filling,
    parts: &[Part],
    layers: &mut [Layer],
    told: &Told,
) -> Result<(), BringError> {
    let missing: Vec<usize> =
        (0..layers.len()).filter(|i| !filling.has(&layers[*i].chain)).collect();
    told.layers.store(layers.len(), Ordering::Relaxed);
    told.layers_done.store(layers.len() - missing.len(), Ordering::Relaxed);
    // A sum without an end is nobody's size.
    let sizes = missing.iter().map(|i| parts[*i].size);
    told.bytes.store(sizes.fold(0, u64::saturating_add), Ordering::Relaxed);
    told.tell();
    let work = Work {
        source,
        filling,
        parts,
        layers,
        missing,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        told,
    };
    let (send, fetched) = channel();
    let unpacked = thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(work.missing.len()) {
            let send = send.clone();
            scope.spawn(|| work.fetch(send));
        }
        drop(send);
        let done = work.unpack(&fetched);
        // Nothing more is worth fetching if one could not be unpacked.
        work.is_over.store(true, Ordering::Relaxed);
        done
    })?;
    for (layer, bytes) in layers.iter_mut().zip(unpacked) {
        layer.bytes = bytes.map_or_else(|| bytes_of(filling, layer), Ok)?;
    }
    Ok(())
}

impl<S: Source> Work<'_, S> {
    /// Fetches one layer after the other, as long as there are any.
    fn fetch(&self, send: Sender<Fetched>) {
        while let Some(i) = self.missing.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let is_over = || self.is_over.load(Ordering::Relaxed);
            let is_needless = || is_over() || self.filling.has(&self.layers[*i].chain);
            let came = |more| self.told.came(more);
            let file = self.source.layer(self.filling, &self.parts[*i], &is_needless, &came);
            // Whoever unpacks may have gone.
            if is_over() || send.send((*i, file.map_err(BringError::source))).is_err() {
                return;
            }
        }
    }

    /// Unpacks the layers in order, as they come. Says what the files of each hold that was unpacked
    /// here.
    fn unpack(&self, fetched: &Receiver<Fetched>) -> Result<Vec<Option<u64>>, BringError> {
        let mut unpacked = vec![None; self.layers.len()];
        let mut bounds = Bounds::default();
        let mut come: Vec<Option<Option<File>>> = self.layers.iter().map(|_| None).collect();
        for i in &self.missing {
            while come[*i].is_none() {
                // Those that fetch end early only with an error.
                let Ok((other, file)) = fetched.recv() else { break };
                come[other] = Some(file?);
            }
            if let Some(Some(file)) = come[*i].take() {
                unpacked[*i] = self.unpack_one(*i, &file, &mut bounds)?;
            }
            // A source may be wrong about what is needless.
            if !self.filling.has(&self.layers[*i].chain) {
                return Err(BringError::NoLayer(self.parts[*i].digest.clone()));
            }
            self.told.done();
        }
        Ok(unpacked)
    }

    /// None if another process has done so meanwhile.
    fn unpack_one(
        &self,
        i: usize,
        file: &File,
        bounds: &mut Bounds,
    ) -> Result<Option<u64>, BringError> {
        let (part, layer) = (&self.parts[i], &self.layers[i]);
        let mut bytes = None;
        if let Some(draft) = self.filling.draft(&layer.chain)? {
            let below = trees(self.filling.images(), &self.layers[..i]);
            let packed = file.take(part.size);
            let into = (&*draft.root(), &*draft.entries());
            let unpacked = match module::is_one(part) {
                true => module::keep(packed, into),
                false => unpack_layer(packed, &layer.diff, into, &below, bounds),
            };
            let unpacked = unpacked
                .map_err(|source| BringError::Layer { layer: part.digest.clone(), source })?;
            draft.keep()?;
            bytes = Some(unpacked);
        }
        let is_last = !self.parts[i + 1..].iter().any(|other| other.digest == part.digest);
        if is_last {
            self.filling.forget_download(&part.digest);
        }
        Ok(bytes)
    }
}

/// What a layer's files hold, in bytes, by its list.
fn bytes_of(filling: &Filling, layer: &Layer) -> Result<u64, BringError> {
    let failed = |error| BringError::Layer {
        layer: layer.diff.clone(),
        source: UnpackError::Entries(error),
    };
    let mut bytes = 0_u64;
    for entry in read_entries(&filling.images().entries(&layer.chain)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.kind == Kind::File {
            bytes = bytes.saturating_add(entry.size);
        }
    }
    Ok(bytes)
}
