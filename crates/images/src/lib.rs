//! The store of images: what each says, its layers as trees that can be stood on, and who uses it.
//!
//! Nothing in here knows where images come from. Whoever brings one in opens a [`Filling`], keeps
//! its layers and last its [`Record`]; a run finds it by a name or a digest, and [holds](Image) it.
//!
//! What lies in the store's folder, all of it the user's alone:
//!
//! - `names/DIGEST-OF-NAME`: a name, and the digest of the manifest that it stands for.
//! - `images/DIGEST`: a [`Record`], by the digest of its manifest. Its presence means that all of the
//!   image is there.
//! - `blobs/DIGEST`: manifests and configurations, as they came.
//! - `layers/CHAIN/root`: a layer as a tree in the form of overlayfs with `userxattr`, by its
//!   [`Chain`]; `layers/CHAIN/entries` lists what is in it.
//! - `roots/CHAIN.FORM`: all of the files of the layers up to that chain, merged into one file of
//!   some form, made of them when it is asked for. It goes with the last image that ends in them.
//! - `downloads/DIGEST`: a packed layer, or as much of it as has come.
//! - `work/NAME`: what is being made. All else comes into being by a rename, so it is whole.
//! - `lock`: held, shared, by who brings something in, and alone by who clears away.
#![forbid(unsafe_code)]

mod digest;
mod error;
mod filling;
mod image;
mod names;
mod porter;
mod record;
mod removal;
mod root;
mod specs;
mod store;

pub use digest::{Chain, Digest, Hasher};
pub use error::ImagesError;
pub use filling::{Download, Draft, Filling};
pub use image::Image;
pub use porter::{Porter, PorterError};
pub use record::{Config, Layer, Record};
pub use removal::Removed;
pub use root::RootDraft;
pub use specs::{open as open_for, pin, provide};
pub use store::{Images, Listed};
