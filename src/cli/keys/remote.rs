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

use super::args::RemoteArgs;
use crate::auth::ServiceClient;
use crate::config;
use crate::keys::{
    CreatedKey, KeyFilter, KeyId, KeyLimit, KeyPage, KeyRecord, KeySecret, KeyStatus, NewKey, Reason, Revocation,
    Rotation, rfc3339,
};
use crate::policy::SecretString;
use crate::time::Clock;
use crate::trust::TrustedCertificates;

/// A service that takes longer is stuck.
const TIMEOUT: Duration = Duration::from_secs(30);

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
    pub fn new(url: &str, args: &RemoteArgs) -> Result<Self, String> {
        let origin = config::parse_origin(url).map_err(|why| format!("--url: {why}"))?;
        let token = args.token_file.as_deref().ok_or("--url needs --token-file")?;
        let token = SecretString::new(String::from_utf8(read(token)?).map_err(|_| unusable(token, "is no text"))?);
        let text = Zeroizing::new(format!("Bearer {}", token.expose().trim_end_matches(['\n', '\r'])));
        let bearer = HeaderValue::from_str(&text);
        let mut bearer = bearer.map_err(|_| "--token-file: the token is not one line of printable ASCII".to_owned())?;
        bearer.set_sensitive(true);
        let ca = args
            .ca_file
            .as_deref()
            .map(|file| TrustedCertificates::from_pem(&read(file)?).map_err(|why| unusable(file, &why)));
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
        let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, self.bearer.clone());
        let request = match body {
            Some(body) => {
                request.header(header::CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body.to_string())))
            }
            None => request.body(Full::default()),
        };
        let request = request.map_err(|error| error.to_string())?;
        let asked = async { tokio::time::timeout(TIMEOUT, self.client.send_once(request, MAX_ANSWER)).await };
        let reply = self.runtime.block_on(asked).map_err(|_| format!("{} did not answer in time", self.url))??;
        let body = serde_json::from_slice(&reply.body).map_err(|_| self.nonsense())?;
        Ok(Told { status: reply.status, body })
    }

    fn refused(&self, told: &Told) -> String {
        let message = told.error()["message"].as_str().unwrap_or("no reason given");
        // The text is another machine's: it must not move a terminal's cursor.
        let message: String = message.chars().filter(|c| !c.is_control()).collect();
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

    fn is_unknown_key(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code() == Some("API_KEY_NOT_FOUND")
    }
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
