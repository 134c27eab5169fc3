//! A run's two entries in the audit log.

use agentkernel_core::Backend;
use agentkernel_store::audit::Kind;
use serde_json::{Value, json};

use crate::action::{Outcome, Route, Run};
use crate::{EngineError, Journal, journal};

/// A run that has been written down, and whose end is to be.
pub struct Diary<'a> {
    journal: Option<&'a Journal>,
    backend: &'static str,
    /// Its digest.
    spec: String,
    /// Why the log does not have it.
    missing: Option<String>,
}

impl<'a> Diary<'a> {
    /// Writes down that a command is about to be run. A log that can't be written is noted in the
    /// run's outcome; with `--strict` it is an error.
    pub fn open(
        journal: Option<&'a Journal>,
        backend: &dyn Backend,
        run: &Run,
    ) -> Result<Self, EngineError> {
        let spec = journal::spec_digest(&run.spec);
        let mut diary = Self { journal, backend: backend.name(), spec, missing: None };
        let written =
            diary.write(Kind::Command, journal::command(&run.command, &run.spec.image), None);
        match written {
            Err(error) if run.spec.strict => return Err(error),
            Err(error) => diary.missing = Some(error.why),
            Ok(()) => {}
        }
        Ok(diary)
    }

    /// Writes down how it has ended.
    pub fn close(mut self, outcome: Result<Outcome, EngineError>) -> Result<Outcome, EngineError> {
        let written = match &outcome {
            Ok(outcome) => {
                let route = match &outcome.route {
                    Route::Cold(_) => json!({ "route": "cold" }),
                    Route::Pool(pool) => json!({ "route": "pool", "pool": pool }),
                    Route::Live(name) => json!({ "route": "live", "name": name }),
                    Route::Kept(name) => json!({ "route": "kept", "name": name }),
                };
                self.write(Kind::Ended, route, Some(journal::ended(&outcome.ended)))
            }
            Err(error) => {
                let refused = error.hint.is_some() && error.exit_code == EngineError::FAILED;
                let kind = if refused { Kind::Refusal } else { Kind::Ended };
                self.write(kind, json!({ "error": error.why }), None)
            }
        };
        if let Err(error) = written {
            self.missing.get_or_insert(error.why);
        }
        let mut outcome = outcome?;
        outcome
            .notes
            .extend(self.missing.map(|why| format!("the run is not in the audit log: {why}")));
        Ok(outcome)
    }

    fn write(&self, kind: Kind, detail: Value, ended: Option<Value>) -> Result<(), EngineError> {
        match self.journal {
            Some(journal) => journal.run(kind, self.backend, &self.spec, detail, ended),
            None => Err(EngineError::refused(
                "there is no place for the audit log".into(),
                "set HOME or XDG_STATE_HOME".into(),
            )),
        }
    }
}
