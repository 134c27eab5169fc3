//! Errors at the edge: one message for people, and what they can do about it.

use agentkernel_engine::EngineError;
use agentkernel_wire::{ErrorReport, FailureReport, RequestError};

use crate::output;

/// The exit status of everything that is agentkernel's own failure, as with Docker.
pub(crate) const FAILED: u8 = 125;

/// Why a verb came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CommandError {
    pub message: String,
    pub hint: Option<String>,
    pub exit_code: u8,
}

impl CommandError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit_code: FAILED }
    }

    pub fn hinted(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Says it on standard error, once, and returns the exit status that stands for it.
    pub fn say(self, json: bool) -> u8 {
        let exit_code = self.exit_code;
        match (json, &self.hint) {
            (true, _) => output::note(&self.report().to_json()),
            (false, Some(hint)) => output::note(&format!("error: {}\nhint: {hint}", self.message)),
            (false, None) => output::note(&format!("error: {}", self.message)),
        }
        exit_code
    }

    pub fn report(self) -> ErrorReport {
        let Self { message, hint, exit_code } = self;
        FailureReport { message, hint, exit_code }.into()
    }
}

impl From<RequestError> for CommandError {
    fn from(err: RequestError) -> Self {
        let hint = err.hint().map(String::from);
        Self { hint, ..Self::new(err.to_string()) }
    }
}

impl From<EngineError> for CommandError {
    fn from(err: EngineError) -> Self {
        Self { message: err.why, hint: err.hint, exit_code: err.exit_code }
    }
}
