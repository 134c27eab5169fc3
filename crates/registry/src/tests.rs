//! Whole pulls, from real registries and from one that plays up.

mod answers;
mod broken;
mod good;
mod mirrors;
mod real;
mod secured;
mod server;
mod tokens;

use std::env;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use agentkernel_core::{Reference, Registries};
use agentkernel_images::{Digest, Images};
use agentkernel_unpack::{Part, Source};
use serde_json::Value;

use crate::patience::Patience;
use crate::{Registry, RegistryError};

/// A store that goes with the test.
struct Store {
    folder: PathBuf,
    images: Images,
}

impl Store {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("agentkernel-registry-{}-{number}", std::process::id());
        Self::at(env::temp_dir().join(name))
    }

    fn at(folder: PathBuf) -> Self {
        let images = Images::at(folder.join("images"));
        Self { folder, images }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What came of a pull.
#[derive(Debug, PartialEq, Eq)]
struct Pulled {
    manifest: Digest,
    /// Its configuration and its layers, packed.
    parts: Vec<(Digest, Vec<u8>)>,
    /// How many bytes of layers were told of.
    came: u64,
}

fn part(value: &Value) -> Part {
    Part {
        kind: value["mediaType"].as_str().unwrap().into(),
        digest: value["digest"].as_str().unwrap().parse().unwrap(),
        size: value["size"].as_u64().unwrap(),
    }
}

/// Fetches all of an image for a machine.
fn pull(registry: &Registry, store: &Store, machine: &str) -> Result<Pulled, RegistryError> {
    let (mut bytes, _) = registry.top()?;
    let mut content: Value = serde_json::from_slice(&bytes).unwrap();
    if let Some(all) = content["manifests"].as_array() {
        let mut fitting = all.iter();
        let fitting = fitting.find(|one| one["platform"]["architecture"] == machine).unwrap();
        bytes = registry.small(&part(fitting))?;
        content = serde_json::from_slice(&bytes).unwrap();
    }
    let filling = store.images.fill()?;
    let config = part(&content["config"]);
    let mut parts = vec![(config.digest.clone(), registry.small(&config)?)];
    let layers: Vec<Part> = content["layers"].as_array().unwrap().iter().map(part).collect();
    let came = AtomicU64::new(0);
    let fetch = |layer: &Part| {
        let add = |more| {
            came.fetch_add(more, Ordering::Relaxed);
        };
        let mut content = Vec::new();
        let file = registry.layer(&filling, layer, &|| false, &add)?;
        file.unwrap().read_to_end(&mut content).unwrap();
        Ok::<_, RegistryError>((layer.digest.clone(), content))
    };
    let fetched: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = layers.iter().map(|layer| scope.spawn(|| fetch(layer))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for layer in fetched {
        parts.push(layer?);
    }
    for (digest, content) in &parts {
        assert_eq!(Digest::of(content), *digest);
    }
    Ok(Pulled { manifest: Digest::of(&bytes), parts, came: came.into_inner() })
}

fn open(name: &str, settings: &Registries) -> Registry {
    Registry::open(&Reference::parse(name).unwrap(), settings).unwrap()
}

fn impatient(name: &str, settings: &Registries, patience: Patience) -> Registry {
    Registry::with(&Reference::parse(name).unwrap(), settings, patience).unwrap()
}

fn anybody() -> Registries {
    Registries::default()
}

fn machine() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// One of these tests in a process of its own, with an environment of its own.
fn apart(test: &str, variables: &[(&str, &str)]) -> Command {
    // Signals that would end it are held back, as a command that is run holds them back.
    let mut command = Command::new("env");
    command.arg("--block-signal=TERM").arg(env::current_exe().unwrap());
    command.args(["--exact", &format!("tests::{test}"), "--ignored", "--nocapture"]);
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "HTTP_PROXY"] {
        command.env_remove(name);
    }
    // Without any, the harness looks the user up, which a static program can't do everywhere.
    command.env("HOME", "/nonexistent");
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
#[ignore = "it is started by others"]
fn pull_what_is_named() {
    let Ok(name) = env::var("PULL") else { return };
    let mut settings = Registries::default();
    if let Ok(open) = env::var("OPEN") {
        settings.0.entry(open).or_default().insecure = true;
    }
    match pull(&open(&name, &settings), &Store::new(), machine()) {
        Ok(pulled) => println!("pulled {}", pulled.manifest),
        Err(error) => println!("failed: {error}\nhint: {}", error.hint()),
    }
}
