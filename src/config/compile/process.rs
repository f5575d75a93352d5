//! Everything that needs a restart.

use std::path::Path;
use std::time::Duration;

use crate::admin::Exposed;
use crate::config::field::{At, Field, Spot};
use crate::config::mistake::Findings;
use crate::config::process::{
    Address, AdminSpec, CacheSpec, Credentials, HealthSpec, KindeSpec, ListenAddress, PostgresSpec, PostgresTls,
    Process, ServeSpec, StorePlace, StoreSpec, UsageOutput, VerifierSpec,
};
use crate::config::units::show_duration;
use crate::config::written::{KeysSection, Kinde, KindeAuth, ProcessSection, Serve, Store, Verifier};
use crate::key_service::{AdminToken, Tokens};

/// One budget for all held bodies.
pub(super) const MEMORY: u64 = 48 << 20;

/// Loopback: what is not said to be public is not.
const LISTEN: (&str, u16) = ("127.0.0.1", 8080);
const MAX_CONNECTIONS: u64 = 10_000;
const MAX_HEADER_BYTES: u64 = 64 << 10;
const MAX_STREAMS: u64 = 100;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the 30 seconds after which Kubernetes kills.
const GRACE: Duration = Duration::from_secs(25);
/// Each sidecar needs a few.
const SERVE_CONNECTIONS: u64 = 4096;
const STORE_FILE: &str = "keyward.db";
const STORE_PREFIX: &str = "kw_live";
const CACHE_TTL: Duration = Duration::from_secs(60);
const CACHE_NEGATIVE_TTL: Duration = Duration::from_secs(5);
const CACHE_ENTRIES: u64 = 10_000;
/// A caller waits no longer for Kinde, on a key that is not cached.
const KINDE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Proxy,
    /// `keys.serve`, and no route: nothing is proxied.
    KeyService,
}

/// `None` when a section that may be left out as a whole is there and broken.
pub(super) fn compile(
    written: ProcessSection,
    mut keys: KeysSection,
    role: Role,
    base_dir: &Path,
    findings: &Findings,
) -> Option<Process> {
    let serve_address = keys.serve.as_ref().map(|serve| &serve.address);
    check_addresses(&written, serve_address, findings);
    let listen = written.listen;
    let addresses = listen.addresses.given().map(|list| list.into_iter().map(|address| address.value).collect());
    let serve = match (keys.serve.take(), &keys.serve_spot) {
        (Some(serve), Some(spot)) => {
            if let Some(Verifier::Kinde(_)) = keys.verifier.as_ref().given() {
                let help = "remove `serve`, or write `verifier: store`";
                findings.add(spot.mistake("the keys live in Kinde, so there are none to serve").help(help));
            }
            Some(self::serve(serve, findings)?)
        }
        (None, Some(_)) => return None,
        _ => None,
    };
    let delay_spot = written.delay.spot().cloned();
    let (delay, grace) = (written.delay.or(Duration::ZERO), written.grace.or(GRACE));
    if let Some(spot) = delay_spot.filter(|_| delay >= grace) {
        let message = "the delay is a part of `grace`, which must be longer";
        findings.add(spot.mistake(message).help(format!("`grace` is {}", show_duration(grace))));
    }
    let cache = &keys.cache;
    let default_address = || match role {
        Role::Proxy => vec![ListenAddress::Tcp(Address { host: LISTEN.0.into(), port: LISTEN.1 })],
        Role::KeyService => Vec::new(),
    };
    Some(Process {
        serve,
        listen: addresses.unwrap_or_else(default_address),
        tls: listen.tls.given(),
        proxy_protocol: listen.proxy_protocol.given().unwrap_or_default().into_iter().map(|net| net.value).collect(),
        max_streams: u32::try_from(listen.max_streams.or(MAX_STREAMS)).unwrap_or(u32::MAX),
        handshake_timeout: listen.handshake_timeout.or(HANDSHAKE_TIMEOUT),
        max_connections: count(listen.max_connections, MAX_CONNECTIONS),
        max_header_bytes: count(listen.max_header_bytes, MAX_HEADER_BYTES),
        header_timeout: listen.header_timeout.or(HEADER_TIMEOUT),
        body_timeout: listen.body_timeout.or(BODY_TIMEOUT),
        write_timeout: listen.write_timeout.or(WRITE_TIMEOUT),
        delay,
        grace,
        admin: match written.admin {
            Some(admin) => Some(AdminSpec { address: admin.address.given()?, token: admin.token.given()? }),
            None => None,
        },
        exposed: written.health.as_ref().map_or(Field::Missing, |health| health.exposed.clone()).or(Exposed::Warn),
        health: match written.health {
            Some(health) => Some(HealthSpec { address: health.address.given()? }),
            None => None,
        },
        memory: count(written.memory, MEMORY),
        cache: CacheSpec {
            ttl: cache.ttl.clone().or(CACHE_TTL),
            negative_ttl: cache.negative_ttl.clone().or(CACHE_NEGATIVE_TTL),
            max_entries: count(cache.max_entries.clone(), CACHE_ENTRIES),
            refresh_ahead: cache.refresh_ahead.clone().or(true),
            stale_if_error: cache.stale_if_error.clone().or(Duration::ZERO),
        },
        verifier: verifier(keys, base_dir, findings)?,
        usage: written.usage.or(UsageOutput::Stdout),
    })
}

/// `None` when what Kinde needs is missing or broken.
fn verifier(keys: KeysSection, base_dir: &Path, findings: &Findings) -> Option<VerifierSpec> {
    match keys.verifier.or(Verifier::Store) {
        Verifier::Store => {
            if let Some(spot) = &keys.kinde_spot {
                let help = "write `verifier: kinde`, or remove `kinde`";
                findings.add(spot.mistake("the verifier is the store, so `kinde` would mean nothing").help(help));
            }
            let store = keys.store;
            Some(VerifierSpec::Store(StoreSpec {
                place: place(&store, base_dir, findings)?,
                prefix: store.prefix.or(STORE_PREFIX.to_owned()),
                peppers: match store.pepper {
                    Field::Given(peppers) => peppers.value,
                    Field::Missing => Vec::new(),
                    Field::Broken => return None,
                },
            }))
        }
        Verifier::Kinde(spot) => {
            if let Some(spot) = &keys.store_spot {
                let help = "remove `store`, or write `verifier: store`";
                findings.add(spot.mistake("the verifier is Kinde, so `store` would mean nothing").help(help));
            }
            if keys.kinde_spot.is_none() {
                let help = "add `kinde: {url: https://NAME.kinde.com, client_id: …, client_secret: {env: …}}`";
                findings.add(spot.mistake("the verifier `kinde` needs the section `kinde`").help(help));
            }
            kinde(keys.kinde?, findings).map(VerifierSpec::Kinde)
        }
    }
}

/// `None` when the URL or what belongs to it is broken.
fn place(store: &Store, base_dir: &Path, findings: &Findings) -> Option<StorePlace> {
    let place = match store.place.clone() {
        Field::Given(place) => place.value,
        Field::Missing => StorePlace::File(base_dir.join(STORE_FILE)),
        Field::Broken => return None,
    };
    match place {
        StorePlace::Postgres(spec) => postgres(*spec, store, findings).map(StorePlace::from),
        StorePlace::File(_) => {
            for (spot, name) in [(store.password.spot(), "password"), (store.ca.spot(), "ca")] {
                if let Some(spot) = spot {
                    findings.add(spot.mistake(format!("a SQLite file has no `{name}`")));
                }
            }
            Some(place)
        }
    }
}

fn postgres(mut spec: PostgresSpec, store: &Store, findings: &Findings) -> Option<PostgresSpec> {
    match store.password.clone() {
        Field::Given(password) if spec.password.is_some() => {
            findings.add(password.spot.mistake("the URL holds a password already"));
        }
        Field::Given(password) => spec.password = Some(password.value),
        Field::Missing => {}
        Field::Broken => return None,
    }
    match store.ca.clone() {
        Field::Given(ca) if matches!(spec.tls, PostgresTls::Verified(_)) => {
            spec.tls = PostgresTls::Verified(Some(ca.value));
        }
        Field::Given(ca) => {
            let message = "without `sslmode=verify-full` no certificate is checked, so `ca` would mean nothing";
            findings.add(ca.spot.mistake(message).help("add `?sslmode=verify-full` to the URL, or remove `ca`"));
        }
        Field::Missing => {}
        Field::Broken => return None,
    }
    Some(spec)
}

fn kinde(written: Kinde, findings: &Findings) -> Option<KindeSpec> {
    let unused = |field: Option<&Spot>, name: &str| {
        if let Some(spot) = field {
            let message = format!("only `auth: m2m` asks for a token, so `{name}` would mean nothing");
            findings.add(spot.mistake(message));
        }
    };
    let origin = written.url.given();
    let auth = match written.auth {
        Field::Given(auth) => auth.value,
        Field::Missing => KindeAuth::M2m,
        // What it meant decides what may be missing.
        Field::Broken => return None,
    };
    let credentials = match auth {
        KindeAuth::M2m => {
            let missing = |is_missing: bool, name: &str| {
                if is_missing {
                    let help = "or say what Kinde is shown instead: `auth: none` or `auth: {token: …}`";
                    findings.add(written.spot.mistake(format!("`{name}` is missing")).help(help));
                }
            };
            missing(written.client_id.is_missing(), "client_id");
            missing(written.client_secret.is_missing(), "client_secret");
            let audience = written.audience.given().or_else(|| Some(format!("{}/api", origin.as_ref()?)));
            let (id, secret) = (written.client_id.given(), written.client_secret.given());
            Credentials::Client { id: id?, secret: secret?, audience: audience? }
        }
        other => {
            unused(written.client_id.spot(), "client_id");
            unused(written.client_secret.spot(), "client_secret");
            unused(written.audience.spot(), "audience");
            if let (KindeAuth::Nothing, Some(spot)) = (&other, written.poll.spot()) {
                let help = "remove `poll`, or give `auth` a token";
                findings.add(spot.mistake("Kinde lists keys to nobody without a token").help(help));
            }
            match other {
                KindeAuth::Token(token) => Credentials::Token(token),
                KindeAuth::Nothing | KindeAuth::M2m => Credentials::Nothing,
            }
        }
    };
    if let (Some(origin), Some(spot)) = (&origin, written.ca.spot())
        && !origin.tls
    {
        findings.add(spot.mistake("an `http://` URL has no certificate to check"));
    }
    Some(KindeSpec {
        origin: origin?,
        credentials,
        api_id: written.api_id.given(),
        ca: written.ca.given(),
        timeout: written.timeout.or(KINDE_TIMEOUT),
        poll: written.poll.given(),
        proxy: written.proxy.given(),
        follow: written.revocations.or(false),
    })
}

fn serve(written: Serve, findings: &Findings) -> Option<ServeSpec> {
    let mut tokens: Vec<AdminToken> = Vec::new();
    let mut is_whole = true;
    for (spot, token) in written.tokens.given().unwrap_or_default() {
        let Some(token) = token else {
            is_whole = false;
            continue;
        };
        match tokens.iter().find(|other| other.is_same_as(&token)) {
            Some(other) => {
                let message =
                    format!("is the same secret as the token `{}`: nobody could tell them apart", other.name());
                findings.add(spot.mistake(message));
            }
            None => tokens.push(token),
        }
    }
    let tls = match written.tls {
        Field::Given(tls) => Some(tls.value),
        Field::Missing => None,
        Field::Broken => return None,
    };
    let address = written.address.given()?;
    let max_connections = count(written.max_connections, SERVE_CONNECTIONS);
    is_whole.then(|| ServeSpec { address, tls, tokens: Tokens::new(tokens), max_connections })
}

/// The reader's bounds keep every count far below `usize`'s end on a 64-bit machine.
fn count(written: Field<u64>, default: u64) -> usize {
    usize::try_from(written.or(default)).unwrap_or(usize::MAX)
}

/// Two listeners on one port: the second could not start.
fn check_addresses(written: &ProcessSection, serve: Option<&Field<Address>>, findings: &Findings) {
    let listen = written.listen.addresses.as_ref().given().into_iter().flatten().cloned();
    let admin = written.admin.as_ref().map(|admin| &admin.address);
    let others = [admin, written.health.as_ref().map(|health| &health.address), serve].into_iter().flatten();
    let others = others.filter_map(|field| match field {
        Field::Given(address) => {
            Some(At { value: ListenAddress::Tcp(address.value.clone()), spot: address.spot.clone() })
        }
        Field::Missing | Field::Broken => None,
    });
    let mut taken: Vec<At<ListenAddress>> = Vec::new();
    for address in listen.chain(others) {
        match taken.iter().find(|other| other.value.collides(&address.value)) {
            Some(first) => findings.add(
                address
                    .spot
                    .mistake(format!("`{}` is already taken by `{}`, {}", address.value, first.value, first.spot.path)),
            ),
            None => taken.push(address),
        }
    }
}
