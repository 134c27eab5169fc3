//! TLS to a cluster.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::settings::Tls;

/// A configuration by these settings.
pub fn configuration(settings: &Tls) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match settings.trusts_anybody {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(roots(settings)?),
    };
    match (&settings.own, &settings.key) {
        (Some(own), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| at(key, &error))?;
            builder.with_client_auth_cert(read(own)?, secret).map_err(|error| at(own, &error))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => {
            Err(io::Error::other("NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY are of use together only"))
        }
    }
}

/// Whom somebody has named, or whom the system trusts.
fn roots(settings: &Tls) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let mut add = |file: &Path| -> io::Result<()> {
        for root in read(file)? {
            roots.add(root).map_err(|error| at(file, &error))?;
        }
        Ok(())
    };
    match (&settings.ca, &settings.ca_folder) {
        (Some(file), _) => add(file)?,
        (None, Some(folder)) => {
            for entry in std::fs::read_dir(folder).map_err(|error| at(folder, &error))? {
                let path = entry?.path();
                if path.is_file() {
                    add(&path)?;
                }
            }
        }
        // One of them that makes no sense makes the others no worse.
        (None, None) => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| at(path, &error))?;
    all.collect::<Result<_, _>>().map_err(|error| at(path, &error))
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Takes anybody for whom it says it is, as `NOMAD_SKIP_VERIFY` asks for; not what it has not signed.
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
