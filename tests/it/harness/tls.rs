//! An authority of the tests' own, and what it certifies.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key in PEM.
#[derive(Clone)]
pub struct Certified {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // OpenSSL takes a certificate whose issuer has its own name for one that signed itself.
        params.distinguished_name.push(rcgen::DnType::CommonName, "The tests' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn certify(&self, names: &[&str]) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let cert = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer).expect("signed");
        Certified { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Answers as a server that shows `own`; where `clients` is given, to who shows a certificate of it.
    pub fn acceptor(&self, own: &Certified, protocols: &[&str], clients: Option<&Self>) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                let pem = clients.pem();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let cert = CertificateDer::from_pem_slice(own.cert.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
        let mut config = builder.with_single_cert(vec![cert], key).expect("a pair");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Connects as a client that trusts this authority alone.
    pub fn connector(&self, protocols: &[&str], own: Option<&Certified>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let pem = self.pem();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(Certified { cert, key }) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![cert], key).expect("a pair")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// Shakes hands with `address` as `name`.
pub async fn shake(
    connector: &TlsConnector,
    address: std::net::SocketAddr,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect(ServerName::try_from(name.to_owned()).expect("a name"), stream).await
}
