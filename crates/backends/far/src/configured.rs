//! What is set for an engine that is elsewhere: by variables, and below them by the user's settings file.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use agentkernel_core::BootError;
use agentkernel_sys::identity;
use agentkernel_wire::read_engine;

/// By which variables the settings file is found.
pub const FOLDERS: [&str; 2] = ["XDG_CONFIG_HOME", "HOME"];

/// No settings file is longer, in bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// What is said of an engine.
#[derive(Debug, Default)]
pub struct Configured {
    file: BTreeMap<String, String>,
}

impl Configured {
    /// Reads what the user's settings file has for `engine`, which is what these `variables` would say.
    /// A project's file has no say in it.
    pub fn read(engine: &str, variables: &[&str]) -> Result<Self, BootError> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let refused = |why: String, fix: String| BootError::Refused {
            why: format!("{}{why}", path.display()),
            fix,
        };
        let text = match text(&path) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Self::default()),
            Err(error) => {
                let fix = "correct the file, or move it away".into();
                return Err(refused(format!(" can't be read: {error}"), fix));
            }
        };
        let file = read_engine(&text, engine, variables).map_err(|error| {
            let hint = error.hint.clone().unwrap_or_else(|| "correct it".into());
            refused(format!(":{error}"), hint)
        })?;
        Ok(Self { file })
    }

    /// What the variable `name` says, or the file where it says nothing.
    pub fn get(&self, name: &str) -> Option<String> {
        let variable = env::var(name).ok().filter(|value| !value.is_empty());
        variable.or_else(|| self.file.get(name).filter(|value| !value.is_empty()).cloned())
    }
}

fn path() -> Option<PathBuf> {
    let folder = |name| Some(PathBuf::from(env::var_os(name)?)).filter(|path| path.is_absolute());
    let [config, home] = FOLDERS;
    let config = folder(config).or_else(|| Some(folder(home)?.join(".config")))?;
    Some(config.join("agentkernel/config.toml"))
}

/// The text of a file that is the caller's own or root's, if there is one.
fn text(path: &std::path::Path) -> io::Result<Option<String>> {
    // A pipe would be waited for.
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() => {}
        _ => return Ok(None),
    }
    let file = File::open(path)?;
    let owner = file.metadata()?.uid();
    if owner != 0 && owner != identity::effective().0 {
        return Err(io::Error::other(format!("it belongs to user {owner}, not to you")));
    }
    let mut text = String::new();
    file.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_LENGTH {
        true => Err(io::Error::other("it is longer than 1 MiB")),
        false => Ok(Some(text)),
    }
}
