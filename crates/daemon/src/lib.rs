//! The daemon: it holds pools of sandboxes ready, hands them out, and keeps house among the
//! sandboxes that live.
//!
//! It runs no command and sees none of their bytes. Sandboxes with names don't depend on it: its
//! death at any moment costs them nothing, and takes all that is its own along.
//!
//! - [`front`]: one thread that answers on the socket; it never waits for anything else.
//! - [`pools`]: the pools of the store, by the key that clients ask with.
//! - [`nursery`]: processes of a single thread, in which places are booted.
//! - [`reaper`]: a thread that sees places to their end.
//! - [`setup`]: what backends need, put in place; nothing of the daemon.
//! - [`house`]: a thread that brings the store in line with what is there.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod door;
mod error;
mod front;
mod house;
mod nursery;
mod pools;
mod porter;
mod reaper;
mod setup;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_firecracker::Firecracker;
use agentkernel_native::Native;
use agentkernel_store::Dirs;
use agentkernel_wasm::Code;
#[cfg(target_arch = "x86_64")]
use agentkernel_wasm::{HYPERLIGHT_CODE, PLAIN_CODE};

pub use error::DaemonError;

/// The backends that the daemon drives, the preferred ones first.
static BACKENDS: &[&dyn Backend] = &[
    &NATIVE,
    &WASM,
    #[cfg(target_arch = "x86_64")]
    &HYPERLIGHT,
    &FIRECRACKER,
    &agentkernel_containers_api::DOCKER_BACKEND,
    &agentkernel_containers_api::PODMAN_BACKEND,
    &agentkernel_apple::APPLE_BACKEND,
    &agentkernel_kubernetes_api::KUBERNETES_BACKEND,
    &agentkernel_nomad_api::NOMAD_BACKEND,
];

static NATIVE: Native = Native::with_porter(&porter::Everywhere);

static MODULES: Code = Code::for_wasm(&agentkernel_wasm_engine::WASMTIME);
static WASM: Native = MODULES.wasm(&porter::Everywhere);

#[cfg(target_arch = "x86_64")]
static GUESTS: Code = Code::for_hyperlight(
    if cfg!(feature = "plain-guest") { PLAIN_CODE } else { HYPERLIGHT_CODE },
    &agentkernel_hyperlight_engine::HYPERLIGHT,
);
#[cfg(target_arch = "x86_64")]
static HYPERLIGHT: Native = GUESTS.hyperlight(&porter::Everywhere);

static MACHINES: agentkernel_firecracker_api::Firecracker =
    agentkernel_firecracker_api::Firecracker::new(&porter::Everywhere);
static FIRECRACKER: Firecracker = Firecracker::with_driver(&MACHINES);

/// What says where engines are.
static VARIABLES: nursery::Variables = &[
    agentkernel_containers_api::VARIABLES,
    agentkernel_firecracker_api::VARIABLES,
    agentkernel_kubernetes_api::VARIABLES,
    agentkernel_kubernetes_api::OWN_VARIABLES,
    agentkernel_nomad_api::VARIABLES,
];

static ENGINE: Engine = Engine::new(BACKENDS);

/// Does what `args` ask for, the program's name first, and returns the exit status.
pub fn run(mut args: impl Iterator<Item = OsString>) -> u8 {
    // The small program hands its words over by its own name.
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new("agentkernel")) {
        let porter = Some(&porter::Everywhere as &dyn agentkernel_images::Porter);
        return agentkernel::run(args, agentkernel::Hands { backends: BACKENDS, porter });
    }
    let args: Vec<OsString> = args.collect();
    if let Some(words) = args.strip_prefix([OsString::from("setup")].as_slice()) {
        return setup::run(words);
    }
    let words: Vec<String> = args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => serve(),
        ["--version"] => {
            println!("agentkerneld {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        ["nursery", _] => nursery::serve(&ENGINE).map_err(DaemonError::from),
        ["bridge", "apple"] => agentkernel_apple::bridge().map_err(DaemonError::from),
        ["bridge", "kubernetes"] => agentkernel_kubernetes_api::bridge().map_err(DaemonError::from),
        ["bridge", "nomad"] => agentkernel_nomad_api::bridge().map_err(DaemonError::from),
        ["bridge", name] => {
            agentkernel_containers_api::bridge(name, None).map_err(DaemonError::from)
        }
        ["bridge", name, how] => {
            agentkernel_containers_api::bridge(name, Some(how)).map_err(DaemonError::from)
        }
        ["bench", request] => return bench(request),
        ["restart", names @ ..] => house::restart(&ENGINE, names),
        _ => Err(DaemonError::Usage),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            125
        }
    }
}

/// Measures, as the small program has been asked to.
fn bench(request: &str) -> u8 {
    match agentkernel_bench::run(request, BACKENDS) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            125
        }
    }
}

/// The folders of whoever runs the daemon.
fn dirs() -> Result<Dirs, DaemonError> {
    let uid = rustix::process::geteuid().as_raw();
    Ok(Dirs::find(|name| std::env::var_os(name), uid)?)
}

/// Serves until it is told to stop.
fn serve() -> Result<(), DaemonError> {
    let dirs = dirs()?;
    // Everything that can be wrong is found before anybody can connect.
    let door = door::Door::open(&dirs)?;
    let store = agentkernel_store::Store::open(&dirs)?;
    let signals = front::Front::signals()?;
    house::note(&dirs, "started")?;
    let nurseries = nursery::Nurseries::start(VARIABLES)?;
    let (reaper, ends) = reaper::Reaper::start()?;
    let pools = pools::Pools::load(&store, &ENGINE, nurseries)?;
    let house = house::House::start(dirs.clone(), &ENGINE)?;
    front::Front::new(door, signals, dirs.clone(), store, pools, reaper, ends).serve()?;
    house.stop();
    house::note(&dirs, "stopped")
}
