//! What is set for an engine that is elsewhere: by variables, and below them by the user's settings file.

use std::collections::BTreeMap;
use std::env;

use agentkernel_core::BootError;
use agentkernel_sys::identity;
use agentkernel_wire::{read_engine, read_owned, user_file};

/// What is said of an engine.
#[derive(Debug, Default)]
pub struct Configured {
    file: BTreeMap<String, String>,
}

impl Configured {
    /// Reads what the user's settings file has for `engine`, which is what these `variables` would say.
    /// A project's file has no say in it.
    pub fn read(engine: &str, variables: &[&str]) -> Result<Self, BootError> {
        let Some(path) = user_file(|name| env::var_os(name)) else { return Ok(Self::default()) };
        let refused = |why: String, fix: String| BootError::Refused {
            why: format!("{}{why}", path.display()),
            fix,
        };
        let text = read_owned(&path, || Ok(identity::effective().0));
        let text = text.map_err(|error| {
            refused(format!(" {error}"), "correct the file, or move it away".into())
        })?;
        let Some(text) = text else { return Ok(Self::default()) };
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
