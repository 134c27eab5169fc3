//! How registries prove who they are.

use std::time::Duration;

use agentkernel_core::RegistrySettings;
use agentkernel_tls::Trust;
use reqwest::redirect::{Attempt, Policy};
use rustls::{ClientConfig, RootCertStore};

use crate::RegistryError;

/// As many as browsers follow.
const MAX_REDIRECTS: usize = 20;

/// A client for a registry. `is_open` if it need not prove who it is.
pub fn client(
    settings: &RegistrySettings,
    is_open: bool,
    is_here: bool,
    connect: Duration,
) -> Result<reqwest::Client, RegistryError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(config(settings, is_open)?)
        .user_agent(concat!("agentkernel/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .referer(false)
        .redirect(Policy::custom(move |attempt| follow(attempt, is_open)));
    // A proxy knows another loopback.
    if is_here {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| RegistryError::Refused {
        why: format!("there can be no client for registries: {error}"),
        fix: "check HTTPS_PROXY and HTTP_PROXY, if they are set".into(),
    })
}

/// The client itself takes an authorization off what goes to another host.
fn follow(attempt: Attempt<'_>, is_open: bool) -> reqwest::redirect::Action {
    let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it leads on and on");
    }
    if was_safe && attempt.url().scheme() != "https" && !is_open {
        return attempt.error("it leads to a place without TLS");
    }
    attempt.follow()
}

/// The digests of what comes are made sure of even if anybody may answer for the registry; a tag can be
/// made to mean anything.
fn config(settings: &RegistrySettings, is_open: bool) -> Result<ClientConfig, RegistryError> {
    let trust = match is_open {
        true => Trust::Anybody,
        false => Trust::Vouched(roots(settings)?),
    };
    let builder = agentkernel_tls::client(trust).map_err(|error| RegistryError::Refused {
        why: format!("TLS can't be spoken: {error}"),
        fix: "this is a mistake in agentkernel; please report it".into(),
    })?;
    Ok(builder.with_no_client_auth())
}

/// Whom the system trusts, and whom the settings do.
fn roots(settings: &RegistrySettings) -> Result<RootCertStore, RegistryError> {
    let mut roots = agentkernel_tls::system();
    let Some(file) = &settings.ca else { return Ok(roots) };
    let refused = |why: String| RegistryError::Refused {
        why: format!("the certificates in {} can't be used: {why}", file.display()),
        fix: "name a file of certificates in PEM form as `ca`".into(),
    };
    let found = agentkernel_tls::certificates(file).map_err(|error| refused(error.to_string()))?;
    if found.is_empty() {
        return Err(refused("there is none".into()));
    }
    for certificate in found {
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    Ok(roots)
}
