//! Which PostgreSQL database: read from a URL as libpq reads it, as far as it is supported.
//!
//! Invariant: neither a mistake nor `Debug` nor `Display` shows a password, so a mistake quotes nothing of the URL: a
//! password with a reserved character in it can be taken for any other part.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::policy::SecretString;
use crate::trust::TrustedCertificates;

const PORT: u16 = 5432;

/// The longest name of a role or a database that PostgreSQL keeps.
const LONGEST_NAME: usize = 63;

/// A PostgreSQL database and what it takes to be let in.
#[derive(Clone)]
pub struct PostgresSpec {
    /// Tried in this order; the first that takes writes is used.
    pub hosts: Vec<PostgresHost>,
    pub user: String,
    pub database: String,
    pub password: Option<SecretString>,
    pub tls: PostgresTls,
}

/// Where a PostgreSQL server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresHost {
    /// Host name or IP address, without brackets.
    Tcp { host: String, port: u16 },
    /// The directory of its socket, whose name holds the port.
    Unix { directory: PathBuf, port: u16 },
}

/// What is asked of the connection; libpq calls it `sslmode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresTls {
    /// `disable`.
    Off,
    /// `require`: encrypted, to whoever answers.
    Unverified,
    /// `verify-full`: the certificate has to be for this host, under these certificates or the system's.
    Verified(Option<TrustedCertificates>),
}

/// Why a URL names no database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPostgresUrl {
    pub message: &'static str,
    pub help: Option<&'static str>,
}

impl BadPostgresUrl {
    fn new(message: &'static str) -> Self {
        Self { message, help: None }
    }

    fn help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }
}

impl PostgresSpec {
    /// Reads `postgres://USER[:PASSWORD]@HOST[:PORT][,…]/DATABASE[?sslmode=…&host=DIRECTORY&port=…]`, with `%`-escapes.
    /// Without `sslmode` the certificate is verified, except of a server on this machine, to which nothing is encrypted.
    pub fn parse(url: &str) -> Result<Self, BadPostgresUrl> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest =
            rest.ok_or(BadPostgresUrl::new("expected a URL such as `postgres://keyward@db.example.com/keyward`"))?;
        if rest.contains('#') {
            return Err(BadPostgresUrl::new("a `#` in the URL is written as `%23`"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let query = Query::parse(query)?;
        let port = query.port.unwrap_or(PORT);
        let mut hosts: Vec<PostgresHost> = match hosts {
            "" => Vec::new(),
            hosts => hosts.split(',').map(|text| host(text, port)).collect::<Result<_, _>>()?,
        };
        if let Some(directory) = query.directory {
            if !hosts.is_empty() {
                return Err(BadPostgresUrl::new("the host is named twice: before the database and by `host`"));
            }
            hosts.push(PostgresHost::Unix { directory, port });
        }
        if hosts.is_empty() {
            return Err(BadPostgresUrl::new("the URL names no host").help("for a Unix socket: `?host=/run/postgresql`"));
        }
        let tls = match query.tls {
            Some(tls) => tls,
            None if hosts.iter().all(PostgresHost::is_here) => PostgresTls::Off,
            None => PostgresTls::Verified(None),
        };
        if tls != PostgresTls::Off && hosts.iter().any(|host| matches!(host, PostgresHost::Unix { .. })) {
            return Err(
                BadPostgresUrl::new("PostgreSQL speaks no TLS over a Unix socket").help("write `sslmode=disable`")
            );
        }
        Ok(Self {
            hosts,
            user: name(user, "the URL names no user")?,
            database: name(database, "the URL names no database")?,
            password: password.map(|password| decoded(password).map(SecretString::new)).transpose()?,
            tls,
        })
    }
}

impl PostgresHost {
    /// Whether nobody listens on the way there.
    fn is_here(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// The parameters behind the `?`.
#[derive(Default)]
struct Query {
    tls: Option<PostgresTls>,
    directory: Option<PathBuf>,
    port: Option<u16>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, BadPostgresUrl> {
        let mut query = Self::default();
        for (key, value) in
            text.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
        {
            let value = decoded(value)?;
            let was_there = match key {
                "sslmode" => query.tls.replace(tls(&value)?).is_some(),
                "port" => query.port.replace(port(&value)?).is_some(),
                "host" if value.starts_with('/') => query.directory.replace(value.into()).is_some(),
                "host" => {
                    return Err(BadPostgresUrl::new("`host` is for the directory of a Unix socket, an absolute path")
                        .help("write another host before the database: `postgres://USER@HOST/DATABASE`"));
                }
                "password" => {
                    return Err(BadPostgresUrl::new("a password is no parameter here")
                        .help("write `password: {file: PATH}` or `password: {env: NAME}` beside `url`"));
                }
                "sslrootcert" => {
                    return Err(BadPostgresUrl::new("`sslrootcert` is no parameter here")
                        .help("write `ca: {file: PATH}` beside `url`"));
                }
                _ => {
                    return Err(BadPostgresUrl::new("the URL has a parameter that is not supported")
                        .help("supported are `sslmode`, `host` (of a Unix socket) and `port`"));
                }
            };
            if was_there {
                return Err(BadPostgresUrl::new("the URL has a parameter twice"));
            }
        }
        Ok(query)
    }
}

fn tls(mode: &str) -> Result<PostgresTls, BadPostgresUrl> {
    const MODES: &str = "write `verify-full`, or `require` to encrypt without checking who answers, or `disable`";
    match mode {
        "disable" => Ok(PostgresTls::Off),
        "require" => Ok(PostgresTls::Unverified),
        "verify-full" => Ok(PostgresTls::Verified(None)),
        "allow" | "prefer" => Err(BadPostgresUrl::new(
            "this `sslmode` lets anybody on the way turn encryption off, so it is not supported",
        )
        .help(MODES)),
        "verify-ca" => {
            Err(BadPostgresUrl::new("`sslmode=verify-ca` is not supported: it does not check the host's name")
                .help(MODES))
        }
        _ => Err(BadPostgresUrl::new("unknown `sslmode`").help(MODES)),
    }
}

fn port(text: &str) -> Result<u16, BadPostgresUrl> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(BadPostgresUrl::new("the port is no number from 1 to 65535").help(
            "reserved characters in a password are written as `%`-escapes: `@` as `%40`, `:` as `%3A`, `/` as `%2F`",
        )),
    }
}

fn host(text: &str, usual: u16) -> Result<PostgresHost, BadPostgresUrl> {
    const BAD: BadPostgresUrl = BadPostgresUrl { message: "a host is no name and no address", help: None };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(BAD)?;
            let is_v6 = matches!(address.parse(), Ok(IpAddr::V6(_)));
            let port = match rest.strip_prefix(':') {
                Some(text) => port(text)?,
                None if rest.is_empty() => usual,
                None => return Err(BAD),
            };
            return if is_v6 { Ok(PostgresHost::Tcp { host: address.to_owned(), port }) } else { Err(BAD) };
        }
        None => match text.split_once(':') {
            Some((host, text)) => (decoded(host)?, port(text)?),
            None => (decoded(text)?, usual),
        },
    };
    if host.starts_with('/') {
        return Ok(PostgresHost::Unix { directory: host.into(), port });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(plain) { Err(BAD) } else { Ok(PostgresHost::Tcp { host, port }) }
}

/// A role's or a database's name.
fn name(text: &str, missing: &'static str) -> Result<String, BadPostgresUrl> {
    let name = decoded(text)?;
    if name.is_empty() {
        return Err(BadPostgresUrl::new(missing).help("write `postgres://USER@HOST/DATABASE`"));
    }
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) || name.contains('/') {
        return Err(BadPostgresUrl::new("the user or the database is no name that PostgreSQL has"));
    }
    Ok(name)
}

/// Resolves `%`-escapes (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<String, BadPostgresUrl> {
    const BAD: BadPostgresUrl = BadPostgresUrl {
        message: "the URL has a `%` that begins no escape, or an escape that is no text",
        help: Some("write a plain `%` as `%25`"),
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit().ok_or(BAD)?, digit().ok_or(BAD)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BAD)?);
    }
    let text = String::from_utf8(bytes).map_err(|_| BAD)?;
    if text.contains('\0') { Err(BAD) } else { Ok(text) }
}

impl PartialEq for PostgresSpec {
    /// Compares two configurations of one operator, never a caller's guess: constant time is not needed here.
    fn eq(&self, other: &Self) -> bool {
        let parts = |spec: &Self| (spec.hosts.clone(), spec.user.clone(), spec.database.clone(), spec.tls.clone());
        let password = |spec: &Self| spec.password.as_ref().map(|password| password.expose().to_owned());
        parts(self) == parts(other) && password(self) == password(other)
    }
}

impl Eq for PostgresSpec {}

impl fmt::Display for PostgresHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
    }
}

impl fmt::Display for PostgresSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(PostgresHost::to_string).collect();
        write!(f, "postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

impl fmt::Debug for PostgresSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresSpec").field(&self.to_string()).finish()
    }
}

#[cfg(test)]
mod tests;
