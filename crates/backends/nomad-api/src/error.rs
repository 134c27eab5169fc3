//! What can't be had, and why.

use std::io;

use agentkernel_core::BootError;

use crate::client::Act;

/// Why something could not be asked of Nomad.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("Nomad at {address} can't be reached: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("can't {}: Nomad at {address} does not answer", act.words)]
    Slow { act: Act, address: String },
    /// In its own words.
    #[error("can't {}: {words} ({status})", act.words)]
    Refused { act: Act, status: u16, words: String, namespace: String, has_token: bool },
    #[error("can't {}: {why}", act.words)]
    Garbled { act: Act, why: String },
}

impl ApiError {
    pub fn garbled(act: Act, why: &dyn std::fmt::Display) -> Self {
        Self::Garbled { act, why: why.to_string() }
    }

    /// Whether what was asked for is not there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the caller may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. })
    }

    fn fix(&self) -> Option<String> {
        let Self::Refused { act, status, words, namespace, has_token } = self else {
            return match self {
                Self::Unreachable { .. } => Some(
                    "see that Nomad runs there, that NOMAD_ADDR leads to it, and with TLS that \
                     NOMAD_CACERT names its authority, and NOMAD_CLIENT_CERT you"
                        .into(),
                ),
                Self::Slow { .. } => Some("look what its servers do".into()),
                _ => None,
            };
        };
        if words.contains("ACL token not found") {
            return Some(
                "NOMAD_TOKEN is unknown to the cluster: it was revoked, has expired, or is another \
                 cluster's"
                    .into(),
            );
        }
        if *status == 403 || words.contains("Permission denied") {
            return Some(forbidden(act.needs, namespace, *has_token));
        }
        if words.contains("nonexistent namespace") {
            return Some(format!(
                "set NOMAD_NAMESPACE to one that is there, or make it with: nomad namespace apply \
                 {namespace}"
            ));
        }
        if words.contains("No path to region") {
            return Some("set NOMAD_REGION to a region of the cluster's".into());
        }
        if words.contains("No cluster leader") {
            return Some("wait until the servers have elected a leader, or look at them".into());
        }
        None
    }

    /// In the words of the edge.
    pub fn into_boot_error(self) -> BootError {
        match (self.fix(), &self) {
            (Some(fix), Self::Refused { act, words, namespace, .. }) if self.is_permission() => {
                BootError::Refused {
                    why: format!(
                        "Nomad does not let this token {}: {words} (it takes {} in namespace \
                         {namespace:?})",
                        act.words, act.needs
                    ),
                    fix,
                }
            }
            (Some(fix), _) => BootError::Unavailable { why: self.to_string(), fix },
            (None, Self::Refused { act, words, .. }) => BootError::Failed {
                what: format!("can't {}", act.words),
                source: io::Error::other(words.clone()),
            },
            (None, _) => BootError::Failed {
                what: "can't talk to Nomad".into(),
                source: io::Error::other(self.to_string()),
            },
        }
    }

    fn is_permission(&self) -> bool {
        match self {
            Self::Refused { status, words, .. } => {
                !words.contains("ACL token not found")
                    && (*status == 403 || words.contains("Permission denied"))
            }
            _ => false,
        }
    }
}

fn forbidden(needs: &str, namespace: &str, has_token: bool) -> String {
    let who = if has_token { "the token of NOMAD_TOKEN" } else { "a token as NOMAD_TOKEN" };
    match needs.split_once(':') {
        Some((scope, policy)) => {
            format!("give {who} a policy with {scope} {{ policy = \"{policy}\" }}")
        }
        None => format!(
            "give {who} a policy with namespace \"{namespace}\" {{ capabilities = [\"{needs}\"] }}; \
             docs/nomad.md has all that it takes"
        ),
    }
}

pub fn failed(what: &str, source: io::Error) -> BootError {
    BootError::Failed { what: what.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{EXEC, NODES};

    fn refused(act: Act, status: u16, words: &str, has_token: bool) -> (String, String) {
        let (words, namespace) = (words.to_owned(), "team".to_owned());
        let error = ApiError::Refused { act, status, words, namespace, has_token };
        match error.into_boot_error() {
            BootError::Refused { why, fix } | BootError::Unavailable { why, fix } => (why, fix),
            other => (other.to_string(), String::new()),
        }
    }

    #[test]
    fn a_refusal_names_what_is_missing() {
        let (why, fix) = refused(EXEC, 403, "Permission denied", true);
        assert!(
            why.contains("alloc-exec") && fix.contains("\"team\" { capabilities"),
            "{why} {fix}"
        );
        let (_, fix) = refused(NODES, 403, "Permission denied", false);
        assert!(fix.contains("node { policy = \"read\" }"), "{fix}");
        let (why, fix) = refused(EXEC, 403, "ACL token not found", true);
        assert!(why.contains("ACL token not found") && fix.contains("NOMAD_TOKEN is unknown"));
        let (why, _) = refused(EXEC, 500, "no such thing", true);
        assert!(why.contains("no such thing"), "{why}");
    }
}
