//! What takes a word with a container engine, over Docker's Engine API, which Podman serves too.
//!
//! - [`host`]: where the engine is.
//! - [`client`]: a connection to it, and what its errors mean.
//! - [`image`]: images, looked up and pulled, and [`credentials`] for that.
//! - [`build`]: images, built.
//! - [`config`]: from a spec to a container.
//! - [`kept`]: what stays of sandboxes that live, and its copies.
//! - [`door`]: the folder through which a container's agent connects.
//! - [`boot`]: a place, from all of these.
//! - [`published`]: the host's ports that lead into it.
//! - [`service`]: an engine without a daemon, served while it is needed.
//! - [`far`]: the same with an engine that is elsewhere.
//! - [`transport`]: connections to an engine elsewhere.
//! - [`sweep`]: what killed makers have left.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod archive;
mod boot;
mod build;
mod client;
mod config;
mod credentials;
mod door;
mod far;
mod host;
mod image;
mod kept;
mod probe;
mod published;
mod service;
mod sweep;
mod transport;
mod trap;

use std::path::PathBuf;

use agentkernel_containers::{Containers, Driver, Product};
use agentkernel_core::{BootError, DestroyError, Life, Place, Probe, Provision, Spec};

pub use agentkernel_containers::{DOCKER, PODMAN};
pub use archive::build_archive;
pub use host::VARIABLES;

/// The backends, for a registry.
pub static DOCKER_BACKEND: Containers = Containers::with_driver(&DOCKER, &Api);
pub static PODMAN_BACKEND: Containers = Containers::with_driver(&PODMAN, &Api);

/// Serves as the bridge of a place of the backend `name`, if it is one of these, over standard input:
/// this program is started for that by the words `bridge NAME`, and `exec` if the place has no agent.
pub fn bridge(name: &str, how: Option<&str>) -> std::io::Result<()> {
    let products = [&DOCKER, &PODMAN];
    let product = products.into_iter().find(|product| product.name == name);
    far::bridge(product.ok_or(std::io::ErrorKind::NotFound)?, how == Some(far::EXEC))
}

/// The driver.
struct Api;

impl Driver for Api {
    fn probe(&self, product: &'static Product) -> Probe {
        probe::probe(product)
    }

    fn provide(
        &self,
        product: &'static Product,
        spec: &Spec,
        provision: &Provision,
    ) -> Result<(), BootError> {
        image::provide(product, spec, provision)
    }

    fn boot(
        &self,
        product: &'static Product,
        spec: &Spec,
        life: Life,
    ) -> Result<Box<dyn Place>, BootError> {
        boot::boot(product, spec, life)
    }

    fn copy(&self, product: &'static Product, from: &str, to: &str) -> Result<(), BootError> {
        kept::copy(product, from, to)
    }

    fn kill(&self, product: &'static Product, name: &str) -> Result<(), DestroyError> {
        kept::kill(product, name)
    }

    fn forget(&self, product: &'static Product, name: &str) -> Result<(), DestroyError> {
        kept::forget(product, name)
    }

    fn sweep(&self, product: &'static Product) -> Vec<PathBuf> {
        sweep::sweep(product)
    }
}
