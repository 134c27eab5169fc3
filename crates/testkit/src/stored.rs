//! An image in agentkernel's own store.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::subject::{Caller, Subject};
use crate::{Captured, NotPassed};

/// The variables that name a registry with the image in which the suites' commands can run, or an archive
/// of it, where there is none.
const REGISTRY: &str = "TESTKIT_REGISTRY";
const ARCHIVE: &str = "TESTKIT_ARCHIVE";
const NAME: &str = "agentkernel-test:1";

/// An image in a store that all subjects of one caller share.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The caller's `XDG_DATA_HOME`.
    pub data: PathBuf,
    pub image: String,
}

impl Stored {
    /// Has it brought, if it can be had, into a folder beside the program, which goes with that.
    pub(crate) fn for_caller(bare: &Subject) -> Result<Option<Self>, NotPassed> {
        static TURN: Mutex<()> = Mutex::new(());
        let (image, words): (_, Vec<OsString>) = match (env::var(REGISTRY), env::var_os(ARCHIVE)) {
            (Ok(registry), _) => {
                let image = format!("{registry}/{NAME}");
                (image.clone(), vec!["pull".into(), image.into()])
            }
            (_, Some(archive)) => (NAME.into(), vec!["import".into(), archive, NAME.into()]),
            _ => return Ok(None),
        };
        let caller = bare.caller;
        let data = bare.program.with_file_name(format!("data-{}", caller.uid()));
        let stored = Self { data, image };
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !stored.data.exists() {
            let failed = |why| NotPassed::failed_to("make a folder for images", why);
            fs::create_dir(&stored.data).map_err(failed)?;
            if let Caller::User { uid, gid } = caller {
                std::os::unix::fs::chown(&stored.data, Some(uid), Some(gid)).map_err(failed)?;
            }
            let scratch = bare.scratch()?;
            let mut bring = bare.agentkernel(&scratch);
            bring.env("XDG_DATA_HOME", &stored.data).arg("image").args(words);
            caller.become_in(&mut bring);
            Captured::of(bring)?.exits(0)?;
        }
        Ok(Some(stored))
    }
}
