//! `--url`: the same commands, on the store of a key service.
//!
//! Enters: what a command asks for. Leaves: what the store itself would have answered, so that it is shown in the same
//! way. One connection per request; nothing is sent twice, because a key that was made twice is one too many.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::{AdminArgs, PurgeWhat, RemoteArgs};
use super::{KeysError, purge};
use crate::auth::ServiceClient;
use crate::config;
use crate::key_service::MAX_LIST;
use crate::keys::{
    CreatedKey, ImportError, ImportMistake, Imported, KeyFilter, KeyId, KeyLimit, KeyPage, KeyRecord, KeySecret,
    KeyStatus, NewKey, Reason, Revocation, Rotation, read_import, rfc3339,
};
use crate::policy::SecretString;
use crate::time::Clock;
use crate::trust::TrustedCertificates;

/// A service that takes longer is stuck.
const TIMEOUT: Duration = Duration::from_secs(30);

/// As long as a database may take for one statement over many keys, and the way there and back.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(300);

/// Keys that are asked for at once, and more than they can take.
const PAGE: usize = 100;
const MAX_ANSWER: usize = 16 << 20;

/// More than any token or bundle of certificates; a wrong path must not fill the memory.
const MAX_FILE: u64 = 4 << 20;

const ALL: &str = "/api/v1/api_keys";

/// A key service, and what it is shown.
pub(super) struct Remote {
    client: ServiceClient,
    bearer: HeaderValue,
    url: String,
    runtime: tokio::runtime::Runtime,
}

/// An answer of the service.
struct Told {
    status: StatusCode,
    body: Value,
}

impl Remote {
    /// Reads the files; asks nothing yet. The `Err` is for the operator.
    pub fn service(args: &RemoteArgs) -> Result<Self, String> {
        Self::new(args.url.as_deref(), args.token_file.as_deref(), args.ca_file.as_deref())
    }

    /// As [`Remote::service`], for the admin API of a proxy.
    pub fn admin(args: &AdminArgs) -> Result<Self, String> {
        Self::new(args.url.as_deref(), args.token_file.as_deref(), args.ca_file.as_deref())
    }

    fn new(url: Option<&str>, token: Option<&Path>, ca: Option<&Path>) -> Result<Self, String> {
        let origin = config::parse_origin(url.unwrap_or_default()).map_err(|why| format!("--url: {why}"))?;
        let token = token.ok_or("--url needs --token-file")?;
        let token = SecretString::new(String::from_utf8(read(token)?).map_err(|_| unusable(token, "is no text"))?);
        let text = Zeroizing::new(format!("Bearer {}", token.expose().trim_end_matches(['\n', '\r'])));
        let bearer = HeaderValue::from_str(&text);
        let mut bearer = bearer.map_err(|_| "--token-file: the token is not one line of printable ASCII".to_owned())?;
        bearer.set_sensitive(true);
        let ca = ca.map(|file| TrustedCertificates::from_pem(&read(file)?).map_err(|why| unusable(file, &why)));
        let client = ServiceClient::new(origin.clone(), ca.transpose()?.as_ref(), None, Clock::system());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            bearer,
            url: origin.to_string(),
            runtime: runtime.map_err(|error| error.to_string())?,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn create(&self, new: &NewKey) -> Result<CreatedKey, String> {
        let options = new.options();
        let ranges: Vec<String> = options.allow_from.iter().map(ToString::to_string).collect();
        let mut body = json!({
            "name": new.name(),
            "type": new.kind().as_str(),
            "scope_ids": new.scopes(),
            "user_id": new.user_id(),
            "org_code": new.org_code(),
            "expires_on": options.expires_on.map(rfc3339),
            "allow_from": ranges,
            "metadata": options.metadata,
        });
        if let Some(limit) = options.limit {
            let per = u64::try_from(limit.per().as_millis()).unwrap_or(u64::MAX);
            body["limit"] = json!({"requests": limit.requests(), "per_ms": per});
        }
        if let Some(by) = &options.created_by {
            body["created_by"] = by.as_str().into();
        }
        let told = self.ask(Method::POST, ALL, Some(body))?;
        match told.status {
            StatusCode::CREATED => secret(&told.body),
            _ => Err(self.refused(&told)),
        }
    }

    /// Sends a list of keys. It is read here first: what is wrong in it may be keys in place of their hashes, and they
    /// stay here.
    pub fn import(&self, file: &Path, now: SystemTime) -> Result<Imported, KeysError> {
        let mut list = Zeroizing::new(Vec::new());
        let most = MAX_LIST as u64 + 1;
        File::open(file).and_then(|file| file.take(most).read_to_end(&mut list)).map_err(ImportError::Read)?;
        if list.len() > MAX_LIST {
            return Err(KeysError::Service(format!(
                "{} is larger than a key service takes at once ({} MiB); split it, with a head line for each part of a CSV",
                file.display(),
                MAX_LIST >> 20
            )));
        }
        read_import(&mut &list[..], now)?;
        let text = list.trim_ascii_start();
        let is_json = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).trim_ascii_start().starts_with(b"{");
        let kind = if is_json { "application/x-ndjson" } else { "text/csv" };
        let body = Some((kind, Bytes::from(std::mem::take(&mut *list))));
        let told = self.send(Method::POST, &format!("{ALL}/import"), body, IMPORT_TIMEOUT);
        let told = told.and_then(|reply| self.told(reply)).map_err(KeysError::Service)?;
        let count = |field: &str| told.body[field].as_u64().and_then(|count| usize::try_from(count).ok());
        match (told.status, count("added"), count("known"), told.mistakes()) {
            (StatusCode::OK, Some(added), Some(known), _) => Ok(Imported { added, known }),
            (StatusCode::BAD_REQUEST, _, _, Some(mistakes)) => Err(ImportError::Mistakes(mistakes).into()),
            (StatusCode::OK, ..) => Err(KeysError::Service(self.nonsense())),
            _ => Err(KeysError::Service(self.refused(&told))),
        }
    }

    /// Has a proxy forget keys.
    pub fn purge(&self, what: &PurgeWhat) -> Result<(), String> {
        let body = ("application/json", Bytes::from(purge::wanted(what).to_string()));
        let (status, _) = self.send(Method::POST, "/cache/purge", Some(body), TIMEOUT)?;
        match status {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED => Err(format!("the admin API at {} refuses the token", self.url)),
            status => Err(format!("what listens at {} answers with status {status}: it is no admin API", self.url)),
        }
    }

    /// Asks page by page, so that no answer is larger than it may be.
    pub fn page(&self, filter: &KeyFilter, after: Option<&KeyId>, count: usize) -> Result<KeyPage, String> {
        #[derive(Deserialize)]
        struct Page {
            has_more: bool,
            api_keys: Vec<Record>,
        }
        let mut page = KeyPage { keys: Vec::new(), next: after.cloned() };
        loop {
            let size = (count - page.keys.len()).min(PAGE);
            let told = self.ask(Method::GET, &list_path(filter, page.next.as_ref(), size), None)?;
            if told.status != StatusCode::OK {
                return Err(self.refused(&told));
            }
            let part: Page = serde_json::from_value(told.body).map_err(|_| self.nonsense())?;
            let read = part.api_keys.into_iter().map(Record::believe).collect::<Option<Vec<_>>>();
            let read = read.ok_or_else(|| self.nonsense())?;
            // A service that promises more and gives nothing would be asked for ever.
            let has_more = part.has_more && !read.is_empty();
            page.keys.extend(read);
            page.next = page.keys.last().map(|last| last.id.clone()).filter(|_| has_more);
            if page.next.is_none() || page.keys.len() >= count {
                return Ok(page);
            }
        }
    }

    pub fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, String> {
        let told = self.ask(Method::GET, &format!("{ALL}/{id}"), None)?;
        match told.status {
            StatusCode::OK => {
                let record: Record =
                    serde_json::from_value(told.body["api_key"].clone()).map_err(|_| self.nonsense())?;
                record.believe().map(Some).ok_or_else(|| self.nonsense())
            }
            _ if told.is_unknown_key() => Ok(None),
            _ => Err(self.refused(&told)),
        }
    }

    pub fn rotate(&self, id: &KeyId, grace: Duration) -> Result<Rotation, String> {
        let body = json!({"grace_period_seconds": grace.as_secs()});
        let told = self.ask(Method::PUT, &format!("{ALL}/{id}"), Some(body))?;
        match (told.status, told.code()) {
            (StatusCode::CREATED, _) => {
                Ok(Rotation::Rotated { key: secret(&told.body)?, grace_until: moment(&told.body["grace_until"]) })
            }
            _ if told.is_unknown_key() => Ok(Rotation::NotFound),
            (_, Some("TOO_MANY_ROTATIONS")) => Ok(Rotation::TooMany),
            (_, Some(code @ ("API_KEY_REVOKED" | "API_KEY_EXPIRED"))) => {
                // When that was, only the record says.
                let is_revoked = code == "API_KEY_REVOKED";
                let record = self.get(id)?.ok_or_else(|| self.nonsense())?;
                let on = if is_revoked { record.revoked_on } else { record.expires_on };
                let on = on.ok_or_else(|| self.nonsense())?;
                Ok(if is_revoked { Rotation::Revoked { on } } else { Rotation::Expired { on } })
            }
            _ => Err(self.refused(&told)),
        }
    }

    pub fn revoke(&self, id: &KeyId, reason: Option<&Reason>) -> Result<Revocation, String> {
        let query = reason.map(|reason| format!("?reason={}", encoded(reason.as_str()))).unwrap_or_default();
        let told = self.ask(Method::DELETE, &format!("{ALL}/{id}{query}"), None)?;
        match told.status {
            StatusCode::OK => {
                let on = moment(&told.body["revoked_on"]).ok_or_else(|| self.nonsense())?;
                let already = told.body["already_revoked"] == json!(true);
                Ok(if already { Revocation::AlreadyRevoked { on } } else { Revocation::Revoked { on } })
            }
            _ if told.is_unknown_key() => Ok(Revocation::NotFound),
            _ => Err(self.refused(&told)),
        }
    }

    fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Told, String> {
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        self.told(self.send(method, path, body, TIMEOUT)?)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        time: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, self.bearer.clone());
        let request = match body {
            Some((kind, body)) => request.header(header::CONTENT_TYPE, kind).body(Full::new(body)),
            None => request.body(Full::default()),
        };
        let request = request.map_err(|error| error.to_string())?;
        let asked = async { tokio::time::timeout(time, self.client.send_once(request, MAX_ANSWER)).await };
        let reply = self.runtime.block_on(asked).map_err(|_| format!("{} did not answer in time", self.url))??;
        Ok((reply.status, reply.body))
    }

    fn told(&self, (status, body): (StatusCode, Bytes)) -> Result<Told, String> {
        let body = serde_json::from_slice(&body).map_err(|_| self.nonsense())?;
        Ok(Told { status, body })
    }

    fn refused(&self, told: &Told) -> String {
        let message = told.error()["message"].as_str().unwrap_or("no reason given");
        let message = harmless(message);
        format!("{} answers {}: {message}", self.url, told.status)
    }

    fn nonsense(&self) -> String {
        format!("what answers at {} is no key service", self.url)
    }
}

impl Told {
    fn error(&self) -> &Value {
        let errors = &self.body["errors"];
        if errors.is_array() { &errors[0] } else { errors }
    }

    fn code(&self) -> Option<&str> {
        self.error()["code"].as_str()
    }

    /// What is wrong with the lines of a list, if that is what the answer tells.
    fn mistakes(&self) -> Option<Vec<ImportMistake>> {
        let mistake = |error: &Value| {
            let line = usize::try_from(error["line"].as_u64()?).ok()?;
            Some(ImportMistake { line, message: harmless(error["message"].as_str()?) })
        };
        self.body["errors"].as_array()?.iter().map(mistake).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
    }

    fn is_unknown_key(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code() == Some("API_KEY_NOT_FOUND")
    }
}

/// Another machine's text: it must not move a terminal's cursor.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn list_path(filter: &KeyFilter, after: Option<&KeyId>, size: usize) -> String {
    let mut path = format!("{ALL}?page_size={size}");
    let status = filter.status.map(|(status, _)| match status {
        KeyStatus::Active => "active",
        KeyStatus::Expired => "inactive",
        KeyStatus::Revoked => "revoked",
    });
    for (name, value) in [
        ("starting_after", after.map(KeyId::as_str)),
        ("org_code", filter.org_code.as_deref()),
        ("user_id", filter.user_id.as_deref()),
        ("name_prefix", filter.name_prefix.as_deref()),
        ("key_type", filter.kind.map(|kind| kind.as_str())),
        ("status", status),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    path
}

/// Percent-encodes everything that is not unreserved (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn secret(body: &Value) -> Result<CreatedKey, String> {
    let key = &body["api_key"];
    let id = key["id"].as_str().and_then(|id| KeyId::parse(id).ok());
    let secret = key["key"].as_str().and_then(KeySecret::read);
    let (id, secret) =
        id.zip(secret).ok_or("the key was made, but the answer does not show it; rotate or revoke it")?;
    Ok(CreatedKey { id, secret })
}

fn moment(value: &Value) -> Option<SystemTime> {
    humantime::parse_rfc3339(value.as_str()?).ok()
}

/// A key as the service shows it.
#[derive(Deserialize)]
struct Record {
    id: String,
    name: String,
    organization_id: Option<String>,
    user_id: Option<String>,
    scopes: Vec<String>,
    key_prefix: String,
    key_suffix: Option<String>,
    api_ids: Vec<String>,
    metadata: BTreeMap<String, String>,
    allow_from: Vec<String>,
    limit: Option<Limit>,
    created_on: String,
    created_by: Option<String>,
    rotated_on: Option<String>,
    grace_until: Option<String>,
    revoked_on: Option<String>,
    revoked_reason: Option<String>,
    expires_on: Option<String>,
    last_verified_on: Option<String>,
    verification_count: u64,
}

#[derive(Deserialize)]
struct Limit {
    requests: u64,
    per_ms: u64,
}

impl Record {
    /// The record, unless something in it makes no sense.
    fn believe(self) -> Option<KeyRecord> {
        let moment = |text: &str| humantime::parse_rfc3339(text).ok();
        let maybe = |text: Option<String>| match text {
            None => Some(None),
            Some(text) => moment(&text).map(Some),
        };
        let limit = match self.limit {
            None => None,
            Some(limit) => Some(KeyLimit::new(limit.requests, Duration::from_millis(limit.per_ms)).ok()?),
        };
        Some(KeyRecord {
            id: KeyId::parse(&self.id).ok()?,
            name: self.name,
            org_code: self.organization_id,
            user_id: self.user_id,
            scopes: self.scopes,
            prefix: self.key_prefix,
            suffix: self.key_suffix.unwrap_or_default(),
            api_ids: self.api_ids,
            metadata: self.metadata,
            allow_from: self.allow_from.iter().map(|range| range.parse::<IpNet>().ok()).collect::<Option<_>>()?,
            limit,
            created_on: moment(&self.created_on)?,
            created_by: self.created_by,
            rotated_on: maybe(self.rotated_on)?,
            grace_until: maybe(self.grace_until)?,
            revoked_on: maybe(self.revoked_on)?,
            revoked_reason: self.revoked_reason,
            expires_on: maybe(self.expires_on)?,
            last_used_on: maybe(self.last_verified_on)?,
            use_count: self.verification_count,
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn unusable(file: &Path, why: &str) -> String {
    format!("{} {why}", file.display())
}
