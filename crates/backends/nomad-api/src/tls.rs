//! TLS to a cluster.

use std::io;
use std::path::Path;

use agentkernel_tls::Trust;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::settings::Tls;

/// A configuration by these settings.
pub fn configuration(settings: &Tls) -> io::Result<ClientConfig> {
    let trust = match settings.trusts_anybody {
        true => Trust::Anybody,
        false => Trust::Vouched(roots(settings)?),
    };
    let builder = agentkernel_tls::client(trust).map_err(io::Error::other)?;
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
        (None, None) => return Ok(agentkernel_tls::system()),
    }
    Ok(roots)
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    agentkernel_tls::certificates(path).map_err(|error| at(path, &error))
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
