//! `keys.kinde`: which Kinde verifies keys, and what it is shown.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::address::{self, BadAddress};
use crate::config::field::{Field, Spot};
use crate::config::process::{ForwardProxy, Origin, ProxyCredentials, TrustedCertificates};
use crate::config::secret::secret;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::policy::SecretString;

use super::process::located;

pub(super) const KINDE: Keys = Keys {
    known: &[
        "url",
        "client_id",
        "client_secret",
        "auth",
        "audience",
        "api_id",
        "ca",
        "timeout",
        "poll",
        "proxy",
        "revocations",
    ],
    later: &[],
};
pub(super) const AUTH: Keys = Keys { known: &["token"], later: &[] };
pub(super) const PROXY: Keys = Keys { known: &["url", "username", "password"], later: &[] };
pub(super) const CA: Keys = Keys { known: &["file"], later: &[] };

/// More than any bundle of certificates; a wrong path must not fill the memory.
const MAX_CA_BYTES: u64 = 4 << 20;

/// A caller that waits longer for an answer about its key has gone.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// More often would use up what Kinde lets us ask; less often says nothing that a ttl does not.
const POLLS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);

pub(crate) struct Kinde {
    pub spot: Spot,
    pub url: Field<Origin>,
    pub client_id: Field<String>,
    pub client_secret: Field<SecretString>,
    pub auth: Field<KindeAuth>,
    pub audience: Field<String>,
    pub api_id: Field<String>,
    pub ca: Field<TrustedCertificates>,
    pub timeout: Field<Duration>,
    pub poll: Field<Duration>,
    pub proxy: Field<ForwardProxy>,
    pub revocations: Field<bool>,
}

#[derive(Clone)]
pub(crate) enum KindeAuth {
    M2m,
    Nothing,
    Token(SecretString),
}

impl Kinde {
    pub fn read(section: &Section<'_>) -> Self {
        Self {
            spot: section.spot(),
            url: section.required("url", |value| located(value, "a URL such as `https://acme.kinde.com`", origin)),
            client_id: section.field("client_id", |value| word(value, "the id of a machine-to-machine application")),
            client_secret: section.field("client_secret", secret),
            auth: section.field("auth", auth),
            audience: section.field("audience", |value| word(value, "the audience of the token")),
            api_id: section.field("api_id", |value| word(value, "the id of an API in Kinde")),
            ca: section.field("ca", ca),
            timeout: section.field("timeout", |value| value.duration(Duration::from_millis(1)..=LONGEST_TIMEOUT)),
            poll: section.field("poll", |value| value.duration(POLLS)),
            proxy: section.field("proxy", proxy),
            revocations: section.field("revocations", Value::boolean),
        }
    }
}

/// A value without spaces, so that a slip is seen here and not in Kinde's refusal.
fn word(value: &Value<'_>, expected: &str) -> Option<String> {
    let text = value.text(expected)?;
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    value.refuse(value.mistake("must be visible ASCII without spaces"))
}

fn auth(value: &Value<'_>) -> Option<KindeAuth> {
    if !value.is_map() {
        const WORDS: [(&str, bool); 2] = [("m2m", true), ("none", false)];
        return value.word(&WORDS).map(|m2m| if m2m { KindeAuth::M2m } else { KindeAuth::Nothing });
    }
    let section = Section::open(value, &AUTH)?;
    section.required("token", secret).given().map(KindeAuth::Token)
}

/// `{file: PATH}`, the certificates to trust.
pub(super) fn ca(value: &Value<'_>) -> Option<TrustedCertificates> {
    let section = Section::open(value, &CA)?;
    section
        .required("file", |value| {
            let file = value.context.base_dir.join(value.text("the path of a file")?);
            value.context.findings.depends_on(&file);
            let read = || -> io::Result<Vec<u8>> {
                let mut bytes = Vec::new();
                File::open(&file)?.take(MAX_CA_BYTES).read_to_end(&mut bytes)?;
                Ok(bytes)
            };
            match read().map(|pem| TrustedCertificates::from_pem(&pem)) {
                Ok(Ok(certificates)) => Some(certificates),
                Ok(Err(why)) => value.refuse(value.mistake(format!("{} {why}", file.display()))),
                Err(error) => value.refuse(value.mistake(format!("cannot read {}: {error}", file.display()))),
            }
        })
        .given()
}

/// Reads the URL of a forward proxy, or a mapping with what the proxy is shown.
fn proxy(value: &Value<'_>) -> Option<ForwardProxy> {
    const URL: &str = "the URL of a proxy such as `http://proxy.internal:3128`";
    if !value.is_map() {
        return located(value, URL, proxy_url);
    }
    let section = Section::open(value, &PROXY)?;
    let url = section.required("url", |value| located(value, URL, proxy_url));
    let username = section.field("username", |value| {
        let name = word(value, "the name that the proxy knows")?;
        if name.contains(':') {
            return value.refuse(value.mistake("a name with `:` cannot be told from its password (RFC 7617)"));
        }
        Some(name)
    });
    let password = section.field("password", secret);
    for (missing, given, name) in
        [(username.is_missing(), &password.spot(), "username"), (password.is_missing(), &username.spot(), "password")]
    {
        if let Some(spot) = given.filter(|_| missing) {
            value.context.findings.add(spot.mistake(format!("means nothing without `{name}`")));
        }
    }
    let credentials = match (username.given(), password.given()) {
        (Some(username), Some(password)) => Some(ProxyCredentials { username, password }),
        _ => None,
    };
    url.given().map(|proxy| ForwardProxy { credentials, ..proxy })
}

/// Reads `http://host:port`.
fn proxy_url(text: &str) -> Result<ForwardProxy, BadAddress> {
    const EXPECTED: &str = "expected a URL such as `http://proxy.internal:3128`";
    let bad = |message: &str, help: Option<String>| BadAddress { message: message.to_owned(), help };
    let Some(rest) = text.strip_prefix("http://") else {
        let meant = address::authority(text, 0).filter(|(_, port)| *port != 0);
        return Err(match text.split_once("://") {
            Some(("https", _)) => bad("a proxy that is spoken to in TLS is not supported; Kinde is, through it", None),
            _ => bad(EXPECTED, meant.map(|_| format!("did you mean `http://{text}`?"))),
        });
    };
    if rest.contains('@') {
        let help = "write `proxy: {url: …, username: …, password: {file: …}}`".to_owned();
        return Err(bad("a URL with a user or password is never written here", Some(help)));
    }
    // There is no usual port of proxies, so it is always written.
    match address::authority(rest.strip_suffix('/').unwrap_or(rest), 0) {
        Some((host, port)) if port != 0 => Ok(ForwardProxy { host, port, credentials: None }),
        Some((host, _)) => Err(bad("the port of the proxy is missing", Some(format!("such as `http://{host}:3128`")))),
        None => Err(bad(EXPECTED, None)),
    }
}

/// Reads `https://host:port`; `http://` only where nobody listens on the way.
pub(crate) fn origin(text: &str) -> Result<Origin, BadAddress> {
    const EXPECTED: &str = "expected a URL such as `https://acme.kinde.com`";
    let bad = |message: &str, help: Option<String>| BadAddress { message: message.to_owned(), help };
    let (tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return Err(bad(EXPECTED, None)),
        None => {
            let meant = address::authority(text, 443).map(|_| format!("did you mean `https://{text}`?"));
            return Err(bad(EXPECTED, meant));
        }
    };
    if rest.contains('@') {
        return Err(bad("a URL with a user or password is never written here", None));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        let host = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let scheme = if tls { "https" } else { "http" };
        return Err(bad(
            "only scheme and host: the paths are Kinde's own",
            Some(format!("did you mean `{scheme}://{host}`?")),
        ));
    }
    let (host, port) = address::authority(authority, if tls { 443 } else { 80 }).ok_or_else(|| bad(EXPECTED, None))?;
    let loopback = &*host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !tls && !loopback {
        let help = Some(format!("did you mean `https://{authority}`?"));
        return Err(bad("keys and tokens would go over the network unencrypted", help));
    }
    Ok(Origin { tls, host: host.to_ascii_lowercase().into(), port })
}
