//! Whose certificates are believed, for every TLS connection that this process opens.
//!
//! Enters: PEM. Leaves: the roots for a client of rustls. Nothing here opens a connection.

pub mod files;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Certificates to trust, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedCertificates(Vec<CertificateDer<'static>>);

impl TrustedCertificates {
    /// Reads the certificates of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = Self(certificates.map_err(|error| format!("is no PEM file: {error}"))?);
        if certificates.0.is_empty() {
            return Err("holds no certificate".to_owned());
        }
        certificates.roots().map(|_| certificates)
    }

    /// These certificates as the roots of a client.
    pub fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.0 {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("holds a certificate that cannot be trusted: {error}"))?;
        }
        Ok(roots)
    }
}

/// The certificates that the system trusts (the package `ca-certificates`, or where `SSL_CERT_FILE` points). `option`
/// is the configuration's way to name others.
pub fn system_roots(option: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(format!("this system has no root certificates: install ca-certificates, or name some by {option}"));
    }
    Ok(roots)
}
