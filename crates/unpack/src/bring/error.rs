//! Why an image can't be brought in.

use std::error::Error;

use agentkernel_images::{Digest, ImagesError};

use crate::{Platform, UnpackError};

#[derive(Debug, thiserror::Error)]
pub enum BringError {
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// What the source says, which has hints of its own.
    #[error("{0}")]
    Source(#[source] Box<dyn Error + Send + Sync>),
    #[error("the layer {layer} can't be unpacked: {source}")]
    Layer { layer: Digest, source: UnpackError },
    #[error("the layer {0} is not there")]
    NoLayer(Digest),
    #[error("{what} can't be understood: {why}")]
    Document { what: &'static str, why: String },
    #[error("{what} is longer than 4 MiB")]
    TooLong { what: &'static str },
    #[error("{what} is {found}, and not {expected}")]
    Digest { what: &'static str, expected: Digest, found: Digest },
    #[error(
        "the image is in the old form of Docker's (schema 1), which has no digests of its layers"
    )]
    Schema1,
    #[error("there is no image for {asked}: {}", listed(there))]
    NoPlatform { asked: Platform, there: Vec<String> },
    #[error("a layer of the kind {kind:?} can't be used: {why}")]
    Kind { kind: String, why: &'static str },
    #[error("it is an image of Linux programs, not a module: {}", listed(there))]
    Programs { there: Vec<String> },
    #[error("it is said to be a WebAssembly module, but {0}")]
    Module(String),
    #[error("the image's /{path} can't be read: {why}")]
    Users { path: &'static str, why: String },
}

impl BringError {
    pub(crate) fn source(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Source(Box::new(error))
    }

    /// What the user can do about it, if it is known here: a source knows more of its own errors.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Source(_) => return None,
            Self::Images(error) => error.hint(),
            Self::Layer { source, .. } => source.hint(),
            Self::Document { .. } | Self::TooLong { .. } | Self::Users { .. } => {
                "have the image built again".into()
            }
            Self::NoLayer(_) | Self::Digest { .. } => {
                "fetch it again; if that doesn't help, don't trust where it comes from".into()
            }
            Self::Schema1 => "push it again with a newer Docker, or another tool".into(),
            Self::NoPlatform { .. } => "ask for one of these with --platform".into(),
            Self::Kind { .. } => "use an image whose layers are archives, packed with gzip, zstd \
                                  or not at all"
                .into(),
            Self::Programs { .. } => "use -B native".into(),
            Self::Module(_) => "push it as a Wasm OCI artifact: with a configuration \
                                application/vnd.wasm.config.v0+json and one layer application/wasm"
                .into(),
        })
    }
}

fn listed(there: &[String]) -> String {
    match there {
        [] => "it says nothing of platforms".into(),
        there => format!("there is {}", there.join(", ")),
    }
}
