//! TLS towards the service: whom to believe, and who we are, both read again when their files change.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::policy::{CertificateFiles, Endpoint, Http2, UpstreamTls};
use crate::trust::files::{self, Fingerprint, TlsError};
use crate::trust::system_roots;

/// What the files hold.
struct Files {
    ca: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl Files {
    fn read(spec: &UpstreamTls) -> Result<Self, TlsError> {
        let pair = |files: &CertificateFiles| Ok((files::read(&files.cert)?, Zeroizing::new(files::read(&files.key)?)));
        Ok(Self {
            ca: spec.ca.as_deref().map(files::read).transpose()?,
            certificate: spec.certificate.as_ref().map(pair).transpose()?,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let pair = self.certificate.iter().flat_map(|(cert, key)| [cert.as_slice(), key.as_slice()]);
        files::fingerprint(pair.chain(self.ca.as_deref()))
    }

    /// The authorities of the file, where there is one.
    fn roots(&self, spec: &UpstreamTls) -> Result<Option<RootCertStore>, TlsError> {
        let (Some(file), Some(pem)) = (&spec.ca, &self.ca) else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for authority in files::certificates(file, pem)? {
            let added = roots.add(authority);
            added.map_err(|bad| TlsError::new(file, format!("holds no usable authority: {bad}")))?;
        }
        Ok(Some(roots))
    }

    fn config(&self, spec: &UpstreamTls, roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let (Some(files), Some((cert, key))) = (&spec.certificate, &self.certificate) else {
            return Ok(builder.with_no_client_auth());
        };
        let pair = || -> Result<_, TlsError> {
            Ok((files::certificates(&files.cert, cert)?, files::private_key(&files.key, key)?))
        };
        let (chain, key) = pair().map_err(|error| error.to_string())?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|bad| format!("{} does not fit {}: {bad}", files.key.display(), files.cert.display()))
    }
}

/// Reads and checks the files of an upstream's `tls`.
///
/// # Errors
/// The first file that cannot be used, and why.
pub fn check_tls(spec: &UpstreamTls) -> Result<(), String> {
    let files = Files::read(spec).map_err(|error| error.to_string())?;
    let roots = files.roots(spec).map_err(|error| error.to_string())?;
    files.config(spec, Arc::new(roots.unwrap_or_else(RootCertStore::empty))).map(drop)
}

/// One configuration for each set of protocols that a handshake may offer (RFC 7301).
struct Configs {
    usual: Arc<ClientConfig>,
    /// For what only HTTP/1.1 can do.
    http1: Arc<ClientConfig>,
}

/// The TLS of one upstream, with the files that are in force.
pub(super) struct ClientTls {
    spec: UpstreamTls,
    http2: Http2,
    configs: ArcSwap<Configs>,
    /// What was looked at last, good or not: a bad file is reported once.
    seen: Mutex<Option<Fingerprint>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// What a look at the files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    Changed,
    /// They have changed, and cannot be used.
    Bad(String),
}

impl ClientTls {
    /// # Errors
    /// The first file that cannot be used, and why.
    pub(super) fn load(spec: &UpstreamTls, http2: Http2) -> Result<Self, String> {
        let files = Files::read(spec).map_err(|error| error.to_string())?;
        let configs = ArcSwap::from_pointee(configs(&files, spec, http2)?);
        Ok(Self { spec: spec.clone(), http2, configs, seen: Mutex::new(Some(files.fingerprint())) })
    }

    pub(super) fn is_of(&self, spec: &UpstreamTls, http2: Http2) -> bool {
        self.spec == *spec && self.http2 == http2
    }

    /// Reads the files again. A change that makes sense is in force for the next connection; one that does not, as
    /// half of a new pair, leaves what is in force and is looked at again.
    pub(super) fn look(&self) -> Look {
        let read = Files::read(&self.spec);
        let state = read.as_ref().ok().map(Files::fingerprint);
        let is_new = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, state) != state
        };
        let files = match read {
            _ if !is_new => return Look::Same,
            Ok(files) => files,
            Err(error) => return Look::Bad(error.to_string()),
        };
        match configs(&files, &self.spec, self.http2) {
            Ok(configs) => {
                self.configs.store(Arc::new(configs));
                Look::Changed
            }
            Err(why) => Look::Bad(why),
        }
    }

    /// The name that the certificate of `endpoint` must have.
    pub(super) fn name(&self, endpoint: &Endpoint) -> Result<ServerName<'static>, String> {
        let host = match endpoint {
            Endpoint::Tcp { host, .. } => host,
            Endpoint::Unix(_) => return Err("a Unix socket is not spoken to in TLS".to_owned()),
        };
        let name = self.spec.server_name.as_ref().unwrap_or(host);
        ServerName::try_from(name.to_string()).map_err(|error| format!("{name}: {error}"))
    }

    /// Shakes hands, and tells whether HTTP/2 was agreed on.
    pub(super) async fn connect<S>(
        &self,
        stream: S,
        name: ServerName<'static>,
        only_http1: bool,
    ) -> io::Result<(TlsStream<S>, bool)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = {
            let configs = self.configs.load();
            Arc::clone(if only_http1 { &configs.http1 } else { &configs.usual })
        };
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.http2 == Http2::Always && !only_http1 && !http2 {
            return Err(io::Error::other("the service does not speak HTTP/2"));
        }
        Ok((stream, http2))
    }
}

fn configs(files: &Files, spec: &UpstreamTls, http2: Http2) -> Result<Configs, String> {
    let roots = match files.roots(spec).map_err(|error| error.to_string())? {
        Some(roots) => roots,
        None => system_roots("tls.ca of the upstream")?,
    };
    let mut usual = files.config(spec, Arc::new(roots))?;
    // Sessions of the one must not be resumed by the other: a session keeps its protocol.
    let mut http1 = usual.clone();
    http1.resumption = Resumption::default();
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    usual.alpn_protocols = match http2 {
        Http2::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Http2::Always => vec![b"h2".to_vec()],
        Http2::Never => vec![b"http/1.1".to_vec()],
    };
    Ok(Configs { usual: Arc::new(usual), http1: Arc::new(http1) })
}
