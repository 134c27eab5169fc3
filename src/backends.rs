//! The backends that the small program knows. What it can't boot with, agentkerneld can.

#[cfg(target_os = "linux")]
use agentkernel_containers::{Containers, DOCKER, PODMAN};
use agentkernel_core::Backend;

/// The preferred ones first.
pub static BACKENDS: &[&dyn Backend] = &[
    #[cfg(target_os = "linux")]
    &agentkernel_native::NATIVE,
    #[cfg(target_os = "linux")]
    &agentkernel_wasm::WASM,
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    &agentkernel_wasm::HYPERLIGHT,
    #[cfg(target_os = "linux")]
    &agentkernel_firecracker::FIRECRACKER,
    #[cfg(target_os = "linux")]
    &Containers::without_driver(&DOCKER),
    #[cfg(target_os = "linux")]
    &Containers::without_driver(&PODMAN),
    #[cfg(target_os = "linux")]
    &agentkernel_apple::APPLE,
    #[cfg(target_os = "linux")]
    &agentkernel_kubernetes::KUBERNETES,
    #[cfg(target_os = "linux")]
    &agentkernel_nomad::NOMAD,
];
