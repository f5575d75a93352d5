//! TLS towards clients: certificates by name, client certificates, both read again when their files change.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntGauge};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::io::Version;
use crate::observe::Metrics;

/// More than any chain of certificates; a wrong path must not fill the memory.
const MAX_FILE: u64 = 1 << 20;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which application protocols (RFC 7301) a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2, and HTTP/1.1 for who does not speak it.
    Http2AndHttp1,
    Http1,
}

impl Protocols {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http2AndHttp1 => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// What a listener's TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSpec {
    /// At least one. The first answers clients that name no host, or none that has a certificate.
    pub certificates: Vec<CertificateFiles>,
    /// Whoever connects shows a certificate of one of the authorities in this file.
    pub client_ca: Option<PathBuf>,
}

/// A certificate with its chain, and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    pub file: PathBuf,
    pub message: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file.display(), self.message)
    }
}

impl std::error::Error for TlsError {}

impl TlsSpec {
    /// Reads and checks every file.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn check(&self) -> Result<(), TlsError> {
        self.read()?.config(self, Protocols::Http1).map(drop)
    }

    /// Every file that is named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.certificates.iter().flat_map(|files| [&*files.cert, &*files.key]);
        pairs.chain(self.client_ca.as_deref())
    }

    fn read(&self) -> Result<Files, TlsError> {
        let certificates = self.certificates.iter().map(|files| Ok((read(&files.cert)?, read(&files.key)?.into())));
        Ok(Files {
            certificates: certificates.collect::<Result<_, TlsError>>()?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }
}

type Fingerprint = [u8; 32];

/// What the files hold.
struct Files {
    certificates: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    /// Tells one state of the files from another without keeping them.
    fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let pairs = self.certificates.iter().flat_map(|(cert, key)| [cert.as_slice(), key.as_slice()]);
        for file in pairs.chain(self.client_ca.as_deref()) {
            hash.update(file.len().to_le_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }

    fn config(&self, spec: &TlsSpec, protocols: Protocols) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut certificates = Certificates::default();
        for (files, (cert, key)) in spec.certificates.iter().zip(&self.certificates) {
            certificates.add(files, cert, key, &provider)?;
        }
        let error = |file: &Path, message: String| TlsError { file: file.to_owned(), message };
        let own = &spec.certificates[0].cert;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|bad| error(own, bad.to_string()))?;
        let builder = match (&spec.client_ca, &self.client_ca) {
            (Some(file), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates_of(file, pem)? {
                    roots.add(authority).map_err(|bad| error(file, format!("holds no usable authority: {bad}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|bad| error(file, bad.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = protocols.names();
        // Anew with every change of the files: who was let in by the old ones is asked again.
        config.ticketer = ring::Ticketer::new().map_err(|bad| error(own, bad.to_string()))?;
        Ok(config)
    }
}

/// Certificates by the names that they are for.
#[derive(Debug, Default)]
struct Certificates {
    first: Option<Arc<CertifiedKey>>,
    /// In lower case; a name that begins with `*.` stands for any one label there (RFC 9525 §6.3).
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    fn add(
        &mut self,
        files: &CertificateFiles,
        cert: &[u8],
        key: &[u8],
        provider: &CryptoProvider,
    ) -> Result<(), TlsError> {
        let error = |file: &Path, message: String| TlsError { file: file.to_owned(), message };
        let chain = certificates_of(&files.cert, cert)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| error(&files.key, "holds no private key in PEM".to_owned()))?;
        let names = webpki::EndEntityCert::try_from(&chain[0])
            .map(|leaf| leaf.valid_dns_names().map(str::to_ascii_lowercase).collect::<Vec<_>>())
            .map_err(|bad| error(&files.cert, format!("begins with no usable certificate: {bad}")))?;
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|bad| error(&files.key, format!("does not fit {}: {bad}", files.cert.display())))?;
        let certified = Arc::new(certified);
        for name in names {
            self.named.entry(name).or_insert_with(|| Arc::clone(&certified));
        }
        self.first.get_or_insert(certified);
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.map(str::to_ascii_lowercase).and_then(|name| {
            let wildcard = || self.named.get(&format!("*.{}", name.split_once('.')?.1));
            self.named.get(&name).or_else(wildcard)
        });
        named.or(self.first.as_ref()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| TlsError { file: file.to_owned(), message: format!("cannot be read: {error}") })
}

fn certificates_of(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |message: &str| TlsError { file: file.to_owned(), message: message.to_owned() };
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| error("holds a certificate that is not PEM"))?;
    if chain.is_empty() { Err(error("holds no certificate in PEM")) } else { Ok(chain) }
}

/// The TLS of the listeners, with the files that are in force.
pub struct Tls {
    spec: TlsSpec,
    protocols: Protocols,
    config: ArcSwap<ServerConfig>,
    /// What was looked at last, good or not: a bad file is reported once.
    seen: Mutex<Option<Fingerprint>>,
    handshake_failures: IntCounter,
    reload_success: IntGauge,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(spec: TlsSpec, protocols: Protocols, metrics: &Metrics) -> Result<Self, TlsError> {
        let files = spec.read()?;
        let config = ArcSwap::from_pointee(files.config(&spec, protocols)?);
        metrics.tls_reload_success.set(1);
        Ok(Self {
            spec,
            protocols,
            config,
            seen: Mutex::new(Some(files.fingerprint())),
            handshake_failures: metrics.tls_handshake_failures.clone(),
            reload_success: metrics.tls_reload_success.clone(),
        })
    }

    /// Looks at the files again and again. A change that makes sense is in force for the next connection; one that
    /// does not, as half of a new pair, leaves what is in force and is looked at again.
    pub async fn follow(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let tls = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    fn look(&self) {
        let read = self.spec.read();
        let state = read.as_ref().ok().map(Files::fingerprint);
        let is_new = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, state) != state
        };
        let changed = match read {
            Ok(_) if !is_new => Ok(None),
            read => read.and_then(|files| files.config(&self.spec, self.protocols)).map(Some),
        };
        match changed {
            Ok(None) => {}
            Ok(Some(config)) => {
                self.config.store(Arc::new(config));
                self.reload_success.set(1);
                tracing::info!("the new TLS certificates are in force");
            }
            Err(error) => {
                if self.reload_success.get() == 1 {
                    tracing::error!(%error, "the TLS files have changed and cannot be used; the old ones stay in force");
                }
                self.reload_success.set(0);
            }
        }
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Version>)> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(stream).await?;
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Some(Version::Http2),
            Some(_) => Some(Version::Http1),
            None => None,
        };
        Ok((stream, version))
    }

    pub(super) fn failed(&self) {
        self.handshake_failures.inc();
    }
}
