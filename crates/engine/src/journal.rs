//! What is written into the audit log, in words that hold no secret.

use std::ffi::OsStr;
use std::io;

use agentkernel_core::{Command, Ended, Image, Spec};
use agentkernel_store::Dirs;
use agentkernel_store::audit::{Audit, AuditError, Entry, Kind, Who, digest};
use agentkernel_wire::{EndingReport, SpecRecord};
use serde_json::{Value, json};

use crate::EngineError;

/// The audit log, and who writes to it.
#[derive(Debug, Clone)]
pub struct Journal {
    dirs: Dirs,
    audit: Audit,
    who: Who,
}

impl Journal {
    /// The log in `dirs`. `client` is by what the user has come.
    pub fn new(dirs: &Dirs, client: &str) -> Self {
        let (audit, who) = (Audit::at(dirs.audit()), Who::this_process(client));
        Self { dirs: dirs.clone(), audit, who }
    }

    /// Writes an entry. The log's folder is made if there is none yet.
    pub fn append(&self, entry: Entry<'_>) -> Result<(), EngineError> {
        match self.audit.append(&entry) {
            Err(AuditError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.dirs.prepare_state()?;
                Ok(self.audit.append(&entry)?)
            }
            done => Ok(done?),
        }
    }

    /// Where the log and all else lies.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Writes down that a command was run in a sandbox of its own, or how that has ended. `spec` is
    /// the spec's [digest](spec_digest).
    pub fn run(
        &self,
        kind: Kind,
        backend: &str,
        spec: &str,
        detail: Value,
        ended: Option<Value>,
    ) -> Result<(), EngineError> {
        let entry = Entry::new(kind, &self.who);
        self.append(Entry { backend: Some(backend), spec: Some(spec), ended, detail, ..entry })
    }
}

/// What stands for a spec in the log.
pub fn spec_digest(spec: &Spec) -> String {
    digest(SpecRecord::from(&without_values(spec)).to_json())
}

/// A spec whose variables have names only: a digest over values would let short ones be guessed.
fn without_values(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.environment.values_mut().for_each(std::ffi::OsString::clear);
    spec
}

/// A command, as the log has it: its program, which may be its sandbox's image, and how many
/// arguments it has. They may hold passwords, which must not lie about.
pub fn command(command: &Command, image: &Image) -> Value {
    let mut words = command.words(image);
    let program = words.next().map(OsStr::to_string_lossy).unwrap_or_default();
    let mut detail = json!({ "program": program, "arguments": words.count() });
    if let Some(function) = &command.function {
        detail["function"] = json!(function);
    }
    detail
}

/// How a command has ended.
pub fn ended(ended: &Ended) -> Value {
    serde_json::to_value(EndingReport::from(ended)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use agentkernel_core::Module;

    use super::*;

    #[test]
    fn a_command_is_its_program_and_how_many_arguments_it_has() {
        let of = |argv: &[&str], function: Option<&str>, image| {
            let argv = argv.iter().map(Into::into).collect();
            let function = function.map(String::from);
            command(&Command { argv, function, ..Command::default() }, &image).to_string()
        };
        let module = || Image::Module(Module::File("/srv/app.wasm".into()));
        for (detail, expected) in [
            (of(&["echo", "secret"], None, Image::Host), r#"{"arguments":1,"program":"echo"}"#),
            (of(&[], None, Image::Host), r#"{"arguments":0,"program":""}"#),
            (of(&["secret"], None, module()), r#"{"arguments":1,"program":"app.wasm"}"#),
            (of(&[], None, module()), r#"{"arguments":0,"program":"app.wasm"}"#),
            (
                of(&["1", "2"], Some("add"), module()),
                r#"{"arguments":2,"function":"add","program":"app.wasm"}"#,
            ),
        ] {
            assert_eq!(detail, expected);
        }
    }
}
