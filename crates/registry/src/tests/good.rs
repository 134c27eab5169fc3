//! An image, a registry that has it, and what plays up.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::json;

use super::server::{Reply, Request, Server};
use super::*;

/// As the real one, in less time.
pub const QUICK: Patience = Patience {
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(20),
    tries: 5,
    pause: Duration::from_millis(2),
    longest: Duration::from_secs(60),
};

pub const LAYERS: usize = 3;
/// For those from whom nothing comes.
pub const HASTY: Patience = Patience { silence: Duration::from_millis(500), ..QUICK };

/// More than what a socket holds, and than what counts as progress.
pub const SIZE: usize = 3 << 20;

/// An image, and what a registry answers that is well.
#[derive(Clone)]
pub struct Good {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Arc<Vec<Vec<u8>>>,
    /// Of its layers and its configuration, in this order.
    pub digests: Vec<Digest>,
}

impl Good {
    pub fn new() -> Self {
        static GOOD: LazyLock<Good> = LazyLock::new(|| Good::of_size(SIZE));
        GOOD.clone()
    }

    pub fn of_size(size: usize) -> Self {
        let layer = |seed: usize| {
            let bytes = (0..size).map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 13) as u8);
            bytes.collect::<Vec<u8>>()
        };
        let layers: Vec<_> = (0..LAYERS).map(layer).collect();
        let config = b"{}".to_vec();
        let all = layers.iter().chain([&config]);
        let digests: Vec<_> = all.map(|content| Digest::of(content)).collect();
        let part = |kind: &str, content: &[u8], digest: &Digest| {
            let kind = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": kind, "digest": digest.as_str(), "size": content.len()})
        };
        let parts = layers.iter().zip(&digests);
        let parts: Vec<_> =
            parts.map(|(layer, digest)| part("layer.v1.tar", layer, digest)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", &config, &digests[LAYERS]),
            "layers": parts,
        });
        Self { manifest: manifest.to_string().into_bytes(), config, layers: layers.into(), digests }
    }

    pub fn part(&self, layer: usize) -> Part {
        let size = self.layers[layer].len() as u64;
        Part { kind: "x".into(), digest: self.digests[layer].clone(), size }
    }

    pub fn blob(&self, path: &str) -> Option<&[u8]> {
        let wanted = path.split("/blobs/").nth(1)?;
        let found = self.digests.iter().position(|digest| digest.as_str() == wanted)?;
        Some(self.layers.get(found).unwrap_or(&self.config))
    }

    pub fn answer(&self, request: &Request) -> Reply {
        if request.path.contains("/manifests/") {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            return Reply::new(200, self.manifest.clone()).with("Content-Type", kind);
        }
        let Some(content) = self.blob(&request.path) else { return Reply::new(404, "{}") };
        match request.header("range") {
            None => Reply::new(200, content),
            Some(range) => {
                let first: usize = range[6..range.len() - 1].parse().unwrap();
                let (last, all) = (content.len() - 1, content.len());
                Reply::new(206, &content[first..])
                    .with("Content-Range", format!("bytes {first}-{last}/{all}"))
            }
        }
    }
}

/// A registry that answers well, unless `play_up` has something else.
pub fn registry(
    play_up: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Good, Server) {
    let good = Good::new();
    let answers = good.clone();
    let count = AtomicUsize::new(0);
    let server = Server::new(move |request| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        play_up(request, number).unwrap_or_else(|| answers.answer(request))
    });
    (good, server)
}

pub fn from(server: &Server) -> Registry {
    impatient(&format!("{}/x/y:1", server.host), &anybody(), QUICK)
}

pub fn pull_from(server: &Server) -> Result<Pulled, RegistryError> {
    pull(&from(server), &Store::new(), "")
}

pub fn fetch(registry: &Registry, store: &Store, part: &Part) -> Result<Vec<u8>, RegistryError> {
    let filling = store.images.fill()?;
    let mut content = Vec::new();
    let file = registry.layer(&filling, part, &|| false, &|_| ())?;
    file.unwrap().read_to_end(&mut content).unwrap();
    Ok(content)
}

pub fn is_manifest(request: &Request) -> bool {
    request.path.contains("/manifests/")
}

pub fn is_layer(good: &Good, request: &Request) -> bool {
    request.path.contains("/blobs/") && !request.path.ends_with(good.digests[LAYERS].as_str())
}
