//! `listen`, `admin`, `health`, `trusted_proxies`, `memory`, `shutdown` and `usage`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::admin::Exposed;
use crate::config::address::{self, Address, ListenAddress};
use crate::config::field::{At, Field, Spot};
use crate::config::process::UsageOutput;
use crate::config::secret::secret;
use crate::config::section::{Keys, Section};
use crate::config::value::{Value, YEAR};
use crate::listener::TlsSpec;
use crate::policy::{CertificateFiles, SecretString};

pub(super) const LISTEN: Keys = Keys {
    known: &["address", "max_connections", "max_header_bytes", "max_streams", "timeouts", "tls", "proxy_protocol"],
    later: &[],
};
pub(super) const LISTEN_TIMEOUTS: Keys = Keys { known: &["handshake", "header", "body", "write"], later: &[] };
pub(super) const TLS: Keys = Keys { known: &["cert", "key", "certificates", "client_ca"], later: &[] };
pub(super) const CERTIFICATE: Keys = Keys { known: &["cert", "key"], later: &[] };
pub(super) const FILE: Keys = Keys { known: &["file"], later: &[] };
pub(super) const ADMIN: Keys = Keys { known: &["address", "token"], later: &["tls"] };
pub(super) const HEALTH: Keys = Keys { known: &["address", "exposed"], later: &["tls"] };
pub(super) const SHUTDOWN: Keys = Keys { known: &["delay", "grace"], later: &[] };
pub(super) const USAGE: Keys = Keys { known: &["file"], later: &[] };

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// The sections that need a restart to take effect, and `trusted_proxies`.
pub(crate) struct ProcessSection {
    pub listen: Listen,
    pub admin: Option<Admin>,
    pub health: Option<Health>,
    pub trusted_proxies: Field<Vec<At<IpNet>>>,
    pub memory: Field<u64>,
    pub delay: Field<Duration>,
    pub grace: Field<Duration>,
    pub usage: Field<UsageOutput>,
}

pub(crate) struct Listen {
    /// Where the section stands, if it was written.
    pub spot: Option<Spot>,
    pub addresses: Field<Vec<At<ListenAddress>>>,
    pub max_connections: Field<u64>,
    pub max_header_bytes: Field<u64>,
    pub max_streams: Field<u64>,
    pub tls: Field<TlsSpec>,
    pub proxy_protocol: Field<Vec<At<IpNet>>>,
    pub handshake_timeout: Field<Duration>,
    pub header_timeout: Field<Duration>,
    pub body_timeout: Field<Duration>,
    pub write_timeout: Field<Duration>,
}

pub(crate) struct Admin {
    pub address: Field<Address>,
    pub token: Field<SecretString>,
}

pub(crate) struct Health {
    pub address: Field<Address>,
    pub exposed: Field<Exposed>,
}

impl ProcessSection {
    pub fn read(top: &Section<'_>) -> Self {
        let [delay, grace] = top
            .section("shutdown", &SHUTDOWN, |shutdown| {
                [
                    shutdown.field("delay", |value| value.duration(Duration::ZERO..=YEAR)),
                    shutdown.field("grace", timeout),
                ]
            })
            .unwrap_or([const { Field::Missing }; 2]);
        Self {
            listen: top.section("listen", &LISTEN, Listen::read).unwrap_or_else(Listen::missing),
            admin: top.section("admin", &ADMIN, |admin| Admin {
                address: admin.required("address", address),
                token: admin.required("token", secret),
            }),
            health: top.section("health", &HEALTH, |health| Health {
                address: health.required("address", address),
                exposed: health.field("exposed", |value| {
                    value.word(&[("warn", Exposed::Warn), ("refuse", Exposed::Refuse), ("ignore", Exposed::Ignore)])
                }),
            }),
            trusted_proxies: top.field("trusted_proxies", |value| value.set(network)),
            memory: top.field("memory", |value| value.size(MIB..=TIB)),
            delay,
            grace,
            usage: top.field("usage", usage),
        }
    }
}

impl Listen {
    fn missing() -> Self {
        Self {
            spot: None,
            addresses: Field::Missing,
            max_connections: Field::Missing,
            max_header_bytes: Field::Missing,
            max_streams: Field::Missing,
            tls: Field::Missing,
            proxy_protocol: Field::Missing,
            handshake_timeout: Field::Missing,
            header_timeout: Field::Missing,
            body_timeout: Field::Missing,
            write_timeout: Field::Missing,
        }
    }

    fn read(listen: &Section<'_>) -> Self {
        let [handshake_timeout, header_timeout, body_timeout, write_timeout] = listen
            .section("timeouts", &LISTEN_TIMEOUTS, |timeouts| {
                ["handshake", "header", "body", "write"].map(|name| timeouts.field(name, timeout))
            })
            .unwrap_or([const { Field::Missing }; 4]);
        Self {
            spot: Some(listen.spot()),
            addresses: listen.field("address", addresses),
            max_connections: listen.field("max_connections", |value| value.count(1..=1_000_000)),
            max_header_bytes: listen.field("max_header_bytes", |value| value.size(8 * KIB..=MIB)),
            max_streams: listen.field("max_streams", |value| value.count(1..=10_000)),
            tls: listen.field("tls", tls),
            proxy_protocol: listen.field("proxy_protocol", |value| value.set(network)),
            handshake_timeout,
            header_timeout,
            body_timeout,
            write_timeout,
        }
    }
}

/// Reads a certificate with its key, or several of them, and what clients are to show.
pub(super) fn tls(value: &Value<'_>) -> Option<TlsSpec> {
    let section = Section::open(value, &TLS)?;
    let own = section.get("cert").or_else(|| section.get("key")).is_some();
    let first = own.then(|| certificate(&section));
    let more = section.field("certificates", |value| {
        let list = value.items("a list of `{cert: {file: …}, key: {file: …}}`")?;
        let read = |value: &Value<'_>| certificate(&Section::open(value, &CERTIFICATE)?);
        Some(list.iter().map(read).collect::<Vec<_>>())
    });
    let client_ca = section.field("client_ca", file);
    let broken = matches!(more, Field::Broken) || matches!(client_ca, Field::Broken);
    let certificates: Option<Vec<_>> = first.into_iter().chain(more.given().unwrap_or_default()).collect();
    let certificates = certificates.filter(|_| !broken)?;
    if certificates.is_empty() {
        let help = "write `tls: {cert: {file: tls.crt}, key: {file: tls.key}}`";
        return value.refuse(value.mistake("a certificate and its key are missing").help(help));
    }
    let spec = TlsSpec { certificates, client_ca: client_ca.given() };
    match spec.check() {
        // Whoever uses them follows them.
        Ok(()) => Some(spec),
        Err(error) => {
            spec.files().for_each(|file| value.context.findings.depends_on(file));
            value.refuse(value.mistake(error.to_string()))
        }
    }
}

pub(super) fn certificate(section: &Section<'_>) -> Option<CertificateFiles> {
    let (cert, key) = (section.required("cert", file), section.required("key", file));
    Some(CertificateFiles { cert: cert.given()?, key: key.given()? })
}

/// Reads `{file: PATH}` of a file that is read again when it changes.
pub(super) fn file(value: &Value<'_>) -> Option<PathBuf> {
    let section = Section::open(value, &FILE)?;
    section.required("file", path).given()
}

/// A wait that must end.
pub(super) fn timeout(value: &Value<'_>) -> Option<Duration> {
    value.duration(Duration::from_millis(1)..=YEAR)
}

fn addresses(value: &Value<'_>) -> Option<Vec<At<ListenAddress>>> {
    let base_dir = value.context.base_dir;
    let read = |value: &Value<'_>| {
        located(value, "an address `host:port` or `unix:PATH`", |text| address::listen_or_unix(text, base_dir))
    };
    let list = value.list(read)?;
    if list.is_empty() { value.refuse(value.mistake("expected at least one address")) } else { Some(list) }
}

pub(super) fn address(value: &Value<'_>) -> Option<Address> {
    located(value, "an address `host:port`", address::listen)
}

/// Reads an address and reports why it is none.
pub(super) fn located<T>(
    value: &Value<'_>,
    expected: &str,
    read: impl Fn(&str) -> Result<T, address::BadAddress>,
) -> Option<T> {
    match read(value.text(expected)?) {
        Ok(address) => Some(address),
        Err(bad) => {
            let mistake = value.mistake(bad.message);
            value.refuse(match bad.help {
                Some(help) => mistake.help(help),
                None => mistake,
            })
        }
    }
}

pub(super) fn network(value: &Value<'_>) -> Option<IpNet> {
    value.parsed("an address or a network such as `10.0.0.0/8`", |text| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| network.trunc()).map_err(|_| "is neither an address nor a network such as `10.0.0.0/8`")
    })
}

fn usage(value: &Value<'_>) -> Option<UsageOutput> {
    if !value.is_map() {
        const WORDS: [(&str, bool); 2] = [("stdout", true), ("off", false)];
        return value.word(&WORDS).map(|on| if on { UsageOutput::Stdout } else { UsageOutput::Off });
    }
    let section = Section::open(value, &USAGE)?;
    section.required("file", path).given().map(UsageOutput::File)
}

fn path(value: &Value<'_>) -> Option<PathBuf> {
    Some(value.context.base_dir.join(value.text("the path of a file")?))
}
