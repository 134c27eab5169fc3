//! Images that an engine builds for somebody else.

use std::io::{self, Read};
use std::path::Path;

use agentkernel_containers::Product;
use agentkernel_core::{BootError, Pull};
use futures_util::StreamExt;

use crate::client::Client;

/// Builds the image of a Dockerfile's folder under this name with the first of these engines that is
/// there, and hands its archive, as `docker save` writes it, to `take`. The image stays in the engine,
/// which has its layers there for the next time.
pub fn build_archive<T>(
    products: &[&'static Product],
    folder: &Path,
    name: &str,
    pull: Pull,
    take: impl FnOnce(&mut (dyn Read + Send)) -> T,
) -> Result<T, BootError> {
    let mut missing = Vec::new();
    for product in products {
        match Client::connect(product) {
            Ok(client) => {
                client.build(folder, name, pull)?;
                return Ok(client.save(name, take));
            }
            Err(BootError::Unavailable { why, .. }) => missing.push(why),
            Err(error) => return Err(error),
        }
    }
    Err(BootError::Unavailable {
        why: format!("no engine is there to build an image: {}", missing.join("; ")),
        fix: "install Docker or Podman, or import an image that was built elsewhere".into(),
    })
}

impl Client {
    /// Hands an image's archive to `take`, while it comes.
    fn save<T>(&self, name: &str, take: impl FnOnce(&mut (dyn Read + Send)) -> T) -> T {
        let mut parts = Box::pin(self.docker.export_image(name));
        let mut part: io::Cursor<Vec<u8>> = io::Cursor::default();
        let read = |buffer: &mut [u8]| loop {
            match part.read(buffer)? {
                0 if !buffer.is_empty() => match self.runtime.block_on(parts.next()) {
                    Some(next) => part = io::Cursor::new(next.map_err(io::Error::other)?.into()),
                    None => return Ok(0),
                },
                read => return Ok(read),
            }
        };
        take(&mut Parts(read))
    }
}

/// What a function reads.
struct Parts<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Parts<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer)
    }
}
