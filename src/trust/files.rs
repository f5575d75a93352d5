//! Files of certificates and keys, which are read again when they change.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// More than any chain of certificates; a wrong path must not fill the memory.
const MAX_FILE: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    pub file: PathBuf,
    pub message: String,
}

impl TlsError {
    pub fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), message: message.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file.display(), self.message)
    }
}

impl std::error::Error for TlsError {}

/// The bytes of a file.
pub fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| TlsError::new(file, format!("cannot be read: {error}")))
}

/// The certificates in what was read of `file`; at least one.
pub fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::new(file, "holds a certificate that is not PEM"))?;
    if chain.is_empty() { Err(TlsError::new(file, "holds no certificate in PEM")) } else { Ok(chain) }
}

/// The private key in what was read of `file`.
pub fn private_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::new(file, "holds no private key in PEM"))
}

/// Tells one state of some files from another without keeping them.
pub type Fingerprint = [u8; 32];

/// The fingerprint of what `files` hold, in this order.
pub fn fingerprint<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.len().to_le_bytes());
        hash.update(file);
    }
    hash.finalize().into()
}
