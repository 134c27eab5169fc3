//! `AGENTKERNEL_*`: a spec in the caller's environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::value::{ValueError, Written};
use crate::{SpecRequest, nearest};

/// What the names of all variables begin with. Those that are not known are errors.
pub const PREFIX: &str = "AGENTKERNEL_";

/// A variable's name after the prefix, and how it fills a request.
type Variable = (&'static str, fn(&mut SpecRequest, &OsStr) -> Result<(), ValueError>);

/// Every variable. Volumes, ports and a sandbox's own variables are lists, which have no good form here.
const TABLE: [Variable; 15] = [
    ("BACKEND", |request, text| put(&mut request.backend, text)),
    ("IMAGE", |request, text| put(&mut request.image, text)),
    ("BUILD", |request, text| put(&mut request.build, text)),
    ("PULL", |request, text| put(&mut request.pull, text)),
    ("PROFILE", |request, text| put(&mut request.profile, text)),
    ("NETWORK", |request, text| put(&mut request.network, text)),
    ("CPUS", |request, text| put(&mut request.cpus, text)),
    ("MEMORY", |request, text| put(&mut request.memory, text)),
    ("PIDS", |request, text| put(&mut request.pids, text)),
    ("DISK", |request, text| put(&mut request.disk, text)),
    ("PROJECT", |request, text| put(&mut request.project, text)),
    ("DIRECTORY", |request, text| put(&mut request.directory, text)),
    ("USER", |request, text| put(&mut request.user, text)),
    ("TIMEOUT", |request, text| put(&mut request.timeout, text)),
    ("STRICT", |request, text| put(&mut request.strict, text)),
];

/// The names of all variables, after the prefix.
pub const VARIABLES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TABLE[at].0;
        at += 1;
    }
    names
};

fn put<T: Written>(slot: &mut Option<T>, text: &OsStr) -> Result<(), ValueError> {
    *slot = Some(T::read(text)?);
    Ok(())
}

/// A variable that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    #[error("unknown variable {name}")]
    Unknown { name: String, hint: String },
    #[error("{PREFIX}{name}: {reason}")]
    Value { name: &'static str, reason: ValueError },
}

/// Reads the variables that begin with [`PREFIX`] and passes over the others. An empty one counts
/// as unset.
pub fn read_variables(all: &[(OsString, OsString)]) -> Result<SpecRequest, VariableError> {
    let mut request = SpecRequest::default();
    for (name, value) in all {
        let Some(name) = name.as_bytes().strip_prefix(PREFIX.as_bytes()) else {
            continue;
        };
        let Some((name, set)) = TABLE.iter().find(|(known, _)| known.as_bytes() == name) else {
            return Err(unknown(&String::from_utf8_lossy(name)));
        };
        if !value.is_empty() {
            set(&mut request, value).map_err(|reason| VariableError::Value { name, reason })?;
        }
    }
    Ok(request)
}

fn unknown(name: &str) -> VariableError {
    let hint = match nearest(name, VARIABLES) {
        Some(meant) => format!("did you mean {PREFIX}{meant}?"),
        None => format!("after {PREFIX} comes one of {}", VARIABLES.join(", ")),
    };
    VariableError::Unknown { name: format!("{PREFIX}{name}"), hint }
}

#[cfg(test)]
mod tests {
    use agentkernel_core::Bytes;

    use super::*;
    use crate::KEYS;

    fn read(name: &str, value: &str) -> Result<SpecRequest, VariableError> {
        read_variables(&[("PATH".into(), "/bin".into()), (name.into(), value.into())])
    }

    #[test]
    fn variables_fill_a_request() {
        assert_eq!(read("AGENTKERNEL_MEMORY", "1m").unwrap().memory, Some(Bytes::mib(1)));
        assert_eq!(read("AGENTKERNEL_MEMORY", ""), Ok(SpecRequest::default()));
        assert_eq!(read("OTHER_MEMORY", "1m"), Ok(SpecRequest::default()));
    }

    #[test]
    fn each_variable_sets_the_key_of_its_name() {
        let lists = ["ports", "volumes", "env", "pools", "registries", "kubernetes", "nomad"];
        let keys: Vec<_> = KEYS.into_iter().filter(|key| !lists.contains(key)).collect();
        assert_eq!(VARIABLES.map(str::to_lowercase).as_slice(), keys);
    }

    #[test]
    fn an_unknown_variable_is_shown_with_the_nearest() {
        let Err(VariableError::Unknown { name, hint }) = read("AGENTKERNEL_MEMROY", "1m") else {
            panic!("it was taken");
        };
        assert_eq!(name, "AGENTKERNEL_MEMROY");
        assert_eq!(hint, "did you mean AGENTKERNEL_MEMORY?");
        let Err(VariableError::Unknown { hint, .. }) = read("AGENTKERNEL_", "") else {
            panic!("it was taken");
        };
        assert!(hint.contains("MEMORY, PIDS"), "{hint}");
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        let err = read("AGENTKERNEL_MEMORY", "1x").unwrap_err().to_string();
        assert!(err.starts_with("AGENTKERNEL_MEMORY: \"1x\" is not"), "{err}");
    }
}
