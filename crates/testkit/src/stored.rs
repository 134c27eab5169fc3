//! An image in agentkernel's own store.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::subject::{Caller, Subject};
use crate::{Captured, NotPassed};

/// The variable that names a registry with the image in which the suites' commands can run.
const REGISTRY: &str = "TESTKIT_REGISTRY";
const NAME: &str = "agentkernel-test:1";

/// An image in a store that all subjects of one caller share.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The caller's `XDG_DATA_HOME`.
    pub data: PathBuf,
    pub image: String,
}

impl Stored {
    /// Pulls it, if there is a registry, into a folder beside the program, which goes with that.
    pub(crate) fn for_caller(bare: &Subject) -> Result<Option<Self>, NotPassed> {
        static TURN: Mutex<()> = Mutex::new(());
        let Ok(registry) = std::env::var(REGISTRY) else { return Ok(None) };
        let caller = bare.caller;
        let data = bare.program.with_file_name(format!("data-{}", caller.uid()));
        let stored = Self { data, image: format!("{registry}/{NAME}") };
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !stored.data.exists() {
            let failed = |why| NotPassed::failed_to("make a folder for images", why);
            fs::create_dir(&stored.data).map_err(failed)?;
            if let Caller::User { uid, gid } = caller {
                std::os::unix::fs::chown(&stored.data, Some(uid), Some(gid)).map_err(failed)?;
            }
            let scratch = bare.scratch()?;
            let mut pull = bare.agentkernel(&scratch);
            pull.env("XDG_DATA_HOME", &stored.data).args(["image", "pull", &stored.image]);
            caller.become_in(&mut pull);
            Captured::of(pull)?.exits(0)?;
        }
        Ok(Some(stored))
    }
}
