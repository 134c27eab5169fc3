//! What a machine of the stand-in's is made of.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::jail::Kind;
use crate::plan::{Disk, Plan};

const FAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testkit/fakes/firecracker");

/// Files for a machine, removed with this.
pub struct Scene(pub PathBuf);

impl Scene {
    pub fn new(kernel: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("agentkernel-vmm-{}-{count}", std::process::id());
        let scene = Self(std::env::temp_dir().join(folder));
        fs::create_dir(&scene.0).unwrap();
        fs::write(scene.0.join("kernel"), kernel).unwrap();
        for name in ["initrd", "image"] {
            fs::write(scene.0.join(name), "").unwrap();
        }
        scene
    }

    /// A machine that does what this `kind` does.
    pub fn of(kind: &str) -> Self {
        Self::new(format!("\x7fELF{kind}").as_bytes())
    }

    pub fn plan(&self) -> Plan {
        let at = |name: &str| self.0.join(name);
        Plan {
            program: FAKE.into(),
            kernel: at("kernel"),
            initrd: at("initrd"),
            processors: 2,
            memory: 128,
            disks: vec![Disk { path: at("image"), read_only: true }],
            network: false,
            // The stand-in needs an interpreter.
            jail: Kind::None,
            golden: None,
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
