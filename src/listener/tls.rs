//! TLS towards clients: certificates by name, client certificates, both read again when their files change.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntGauge};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::io::Version;
use crate::observe::Metrics;
use crate::policy::CertificateFiles;
use crate::trust::files::{self, Fingerprint, TlsError};

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
        let certificates =
            self.certificates.iter().map(|files| Ok((files::read(&files.cert)?, files::read(&files.key)?.into())));
        Ok(Files {
            certificates: certificates.collect::<Result<_, TlsError>>()?,
            client_ca: self.client_ca.as_deref().map(files::read).transpose()?,
        })
    }
}

/// What the files hold.
struct Files {
    certificates: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    /// Tells one state of the files from another without keeping them.
    fn fingerprint(&self) -> Fingerprint {
        let pairs = self.certificates.iter().flat_map(|(cert, key)| [cert.as_slice(), key.as_slice()]);
        files::fingerprint(pairs.chain(self.client_ca.as_deref()))
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
                for authority in files::certificates(file, pem)? {
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
        let chain = files::certificates(&files.cert, cert)?;
        let key = files::private_key(&files.key, key)?;
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

/// The names that the certificate of a client is for: DNS names and URIs. Empty where it showed none.
pub(super) fn client_names(stream: &TlsStream<TcpStream>) -> Arc<[Box<str>]> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some(leaf) = shown.and_then(|der| webpki::EndEntityCert::try_from(der).ok()) else { return Arc::default() };
    leaf.valid_dns_names().chain(leaf.valid_uri_names()).map(Box::from).collect()
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
