//! What is made sure of before a place is booted, and what is told of that while it is done.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::{Port, Pull, Registries};

/// How a spec's image is to be had. It is no part of the spec: what a sandbox is made of is the
/// same, whenever that was fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provision {
    /// The folder from whose Dockerfile the image is built, under the spec's name for it: absolute,
    /// without links.
    pub build: Option<PathBuf>,
    /// When it is fetched; of one that is built, what its Dockerfile begins with.
    pub pull: Pull,
    /// How registries are to be asked, by backends that ask them themselves.
    pub registries: Registries,
}

impl Provision {
    /// Whether the image may be another one than it was a moment ago, so that a place which was
    /// booted before will not do.
    pub fn renews(&self) -> bool {
        self.build.is_some() || self.pull == Pull::Always
    }

    /// Whether there is more to make sure of than a boot does of itself.
    pub fn is_needed(&self) -> bool {
        self.renews() || self.pull == Pull::Never
    }
}

/// What a backend tells of work that takes long enough for somebody to wonder. Texts that come from
/// elsewhere may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// An image is being fetched. This comes at the begin, with zeros, and each time that more is
    /// known.
    Pulling { image: &'a str, progress: Progress },
    /// That has ended. `newer` is none if it has failed, and false if it was there already.
    Pulled { image: &'a str, newer: Option<bool> },
    /// An image is being built: its `step`, such as `1/3: FROM debian`.
    Building { step: &'a str },
    /// A line of a step's output.
    Output { line: &'a str },
    /// The build has ended; `done` if it has not failed.
    Built { image: &'a str, done: bool },
    /// These ports lead into a sandbox, some of which nobody could know before.
    Published { ports: &'a [Port] },
    /// Something that was passed over, as a whole sentence without its full stop.
    Note { text: &'a str },
}

/// How far a pull has come. More layers and bytes become known while it goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub layers: usize,
    pub layers_done: usize,
    /// Of the layers whose size is known, packed.
    pub bytes: u64,
    pub bytes_done: u64,
}

/// Who is told.
type Listener = Box<dyn Fn(News<'_>) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Has the whole process tell its news to `listener`: a program that speaks to people calls this at
/// its start. In others nobody hears them. Only the first call counts.
pub fn listen(listener: Listener) {
    // A second one is as good as the first: both are the program's.
    let _ = LISTENER.set(listener);
}

/// Tells whoever listens. Backends call it, in the middle of what they do.
pub fn tell(news: News<'_>) {
    if let Some(listener) = LISTENER.get() {
        listener(news);
    }
}
