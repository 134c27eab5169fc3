//! Why a place could not be booted, as that crosses from a bridge to its booter: words in the place of a
//! far place's [why](crate::FarError::Open).

use std::io;

use agentkernel_core::BootError;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Why {
    Unavailable { why: String, fix: String },
    Refused { why: String, fix: String },
    Failed { what: String, why: String },
}

/// An error as a bridge says it.
pub fn told(error: BootError) -> String {
    let why = match error {
        BootError::Unavailable { why, fix } => Why::Unavailable { why, fix },
        BootError::Refused { why, fix } => Why::Refused { why, fix },
        BootError::Failed { what, source } => Why::Failed { what, why: source.to_string() },
    };
    serde_json::to_string(&why).unwrap_or_else(|error| error.to_string())
}

/// What a bridge has said. What is in no form of its own is why it can't do this: `what`.
pub fn understood(text: &str, what: &str) -> BootError {
    let failed =
        |what: String, why: String| BootError::Failed { what, source: io::Error::other(why) };
    match serde_json::from_str(text) {
        Ok(Why::Unavailable { why, fix }) => BootError::Unavailable { why, fix },
        Ok(Why::Refused { why, fix }) => BootError::Refused { why, fix },
        Ok(Why::Failed { what, why }) => failed(what, why),
        Err(_) => failed(what.into(), text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_over_as_it_was() {
        let refused = || BootError::Refused { why: "no".into(), fix: "yes".into() };
        let over = understood(&told(refused()), "can't boot");
        assert!(matches!(&over, BootError::Refused { why, fix } if why == "no" && fix == "yes"));
        let failed = BootError::Failed { what: "can't".into(), source: io::Error::other("broken") };
        assert_eq!(understood(&told(failed), "can't boot").to_string(), "can't: broken");
        assert_eq!(understood("boom", "can't boot").to_string(), "can't boot: boom");
    }
}
