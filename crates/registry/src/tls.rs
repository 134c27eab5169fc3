//! How registries prove who they are, with ring, which builds without further tools.

use std::sync::Arc;
use std::time::Duration;

use agentkernel_core::RegistrySettings;
use reqwest::redirect::{Attempt, Policy};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

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

fn config(settings: &RegistrySettings, is_open: bool) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Refused {
            why: format!("TLS can't be spoken: {error}"),
            fix: "this is a mistake in agentkernel; please report it".into(),
        })?;
    Ok(match is_open {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
        false => builder.with_root_certificates(roots(settings)?).with_no_client_auth(),
    })
}

/// Whom the system trusts, and whom the settings do. Nobody is an answer, too: it shows when somebody
/// is to be trusted.
fn roots(settings: &RegistrySettings) -> Result<RootCertStore, RegistryError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(file) = &settings.ca else { return Ok(roots) };
    let refused = |why: String| RegistryError::Refused {
        why: format!("the certificates in {} can't be used: {why}", file.display()),
        fix: "name a file of certificates in PEM form as `ca`".into(),
    };
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| refused(error.to_string()))?;
    if found.is_empty() {
        return Err(refused("there is none".into()));
    }
    for certificate in found {
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    Ok(roots)
}

/// Takes whoever answers for the registry, as the user has said. The digests of what comes are made
/// sure of all the same; a tag can be made to mean anything.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
