//! Kinde's answers, with what we know beside it behind Kinde's fields.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::body::{of_json, of_secret_json};
use crate::auth::LookedUp;
use crate::keys::{CreatedKey, Imported, KeyLimit, KeyPage, KeyRecord, KeyStatus, rfc3339};

/// Kinde's word for what a key is: one whose time is over is `inactive`, and `expires_on` says why.
fn status(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Active => "active",
        KeyStatus::Expired => "inactive",
        KeyStatus::Revoked => "revoked",
    }
}

fn moment(moment: Option<SystemTime>) -> Option<String> {
    moment.map(rfc3339)
}

fn limit(limit: KeyLimit) -> Value {
    json!({"requests": limit.requests(), "per_ms": u64::try_from(limit.per().as_millis()).unwrap_or(u64::MAX)})
}

fn ranges(record: &KeyRecord) -> Vec<String> {
    record.allow_from.iter().map(ToString::to_string).collect()
}

/// Everything that is known of a key: Kinde's fields, and ours behind.
pub fn record_json(record: &KeyRecord, now: SystemTime) -> Value {
    json!({
        "id": record.id.as_str(),
        "name": record.name,
        "type": record.kind().as_str(),
        "status": status(record.status(now)),
        "key_prefix": record.prefix,
        "key_suffix": record.suffix,
        "created_on": rfc3339(record.created_on),
        "created_by": record.created_by,
        "last_verified_on": moment(record.last_used_on),
        // Whoever verifies is a sidecar; its address would say nothing.
        "last_verified_ip": null,
        "verification_count": record.use_count,
        "api_ids": record.api_ids,
        "scopes": record.scopes,
        "organization_id": record.org_code,
        "user_id": record.user_id,
        "expires_on": moment(record.expires_on),
        "rotated_on": moment(record.rotated_on),
        "grace_until": moment(record.grace(now)),
        "revoked_on": moment(record.revoked_on),
        "revoked_reason": record.revoked_reason,
        "allow_from": ranges(record),
        "limit": record.limit.map(limit),
        "metadata": record.metadata,
    })
}

pub(super) fn list(page: &KeyPage, now: SystemTime) -> Response<Full<Bytes>> {
    let keys: Vec<Value> = page.keys.iter().map(|record| record_json(record, now)).collect();
    let next = page.next.as_ref().map(ToString::to_string);
    let body = json!({
        "code": "OK",
        "message": "Success",
        "has_more": next.is_some(),
        "next_token": next,
        "api_keys": keys,
    });
    of_json(StatusCode::OK, &body)
}

pub(super) fn one(record: &KeyRecord, now: SystemTime) -> Response<Full<Bytes>> {
    of_json(StatusCode::OK, &json!({"code": "OK", "message": "Success", "api_key": record_json(record, now)}))
}

pub(super) fn created(key: &CreatedKey) -> Response<Full<Bytes>> {
    let end = r#"}"#;
    with_secret(r#"{"message":"API key created","code":"API_KEY_CREATED","api_key":{"id":""#, key, end)
}

pub(super) fn rotated(key: &CreatedKey, grace_until: Option<SystemTime>) -> Response<Full<Bytes>> {
    let start = r#"{"code":"API_KEY_ROTATED","message":"API key rotated successfully","api_key":{"id":""#;
    with_secret(start, key, &format!(r#","grace_until":{}}}"#, json!(moment(grace_until))))
}

/// Put together by hand: a serializer's buffer would be a copy of the key that nobody wipes. No part of it has a
/// character that JSON escapes.
fn with_secret(start: &str, key: &CreatedKey, end: &str) -> Response<Full<Bytes>> {
    let parts = [start, key.id.as_str(), r#"","key":""#, key.secret.expose(), r#""}"#, end];
    let mut body = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        body.extend_from_slice(part.as_bytes());
    }
    of_secret_json(StatusCode::CREATED, body)
}

pub(super) fn imported(imported: Imported) -> Response<Full<Bytes>> {
    let Imported { added, known } = imported;
    of_json(StatusCode::OK, &json!({"code": "OK", "message": "Success", "added": added, "known": known}))
}

pub(super) fn revoked(on: SystemTime, already: bool) -> Response<Full<Bytes>> {
    let body = json!({"message": "Success", "code": "OK", "revoked_on": rfc3339(on), "already_revoked": already});
    of_json(StatusCode::OK, &body)
}

/// What a text opens. Of a text that is unknown nothing is told but that; of one that opens nothing any more, why.
pub(super) fn verified(known: Option<&LookedUp>, now: SystemTime) -> Response<Full<Bytes>> {
    let usable = known.is_some_and(|known| known.found.is_usable(now));
    let record = known.map(|known| &known.found.record);
    let mut body = Map::new();
    let (code, message) =
        if usable { ("API_KEY_VERIFIED", "API key verified") } else { ("API_KEY_INVALID", "API key is not valid") };
    body.insert("code".to_owned(), code.into());
    body.insert("message".to_owned(), message.into());
    body.insert("is_valid".to_owned(), usable.into());
    if let Some((known, record)) = known.zip(record) {
        // A former text in its grace time ends with it; afterwards it is as inactive as an expired key.
        let word = match (record.status(now), usable) {
            (KeyStatus::Active, false) => "inactive",
            (is, _) => status(is),
        };
        let facts = json!({
            "key_id": record.id.as_str(),
            "status": word,
            "scopes": record.scopes,
            "org_code": record.org_code,
            "user_id": record.user_id,
            "last_verified_on": moment(record.last_used_on),
            "verification_count": record.use_count,
            "expires_on": moment(known.found.expires_on()),
            "api_ids": record.api_ids,
            "allow_from": ranges(record),
            "limit": record.limit.map(limit),
        });
        body.extend(facts.as_object().cloned().unwrap_or_default());
    }
    of_json(StatusCode::OK, &Value::Object(body))
}
