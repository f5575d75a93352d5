//! How keys are shown: to people as text, to programs as one line of JSON with Kinde's field names.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use crate::key_service::record_json as record_json_of;
use crate::keys::{CreatedKey, KeyId, KeyRecord, KeyStatus, NewKey, SchemeCount, Standing, rfc3339};

/// A new key, or a new text of one, as JSON. Written piece by piece: a serializer's buffer would be a copy of the key that nobody wipes.
/// Neither part has a character that JSON escapes.
pub(super) fn secret_json(key: &CreatedKey, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, r#"{{"id": "{}", "key": "{}"}}"#, key.id, key.secret.expose())
}

/// The new key for a person.
pub(super) fn created(key: &CreatedKey, new: &NewKey, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "id      {}", key.id)?;
    writeln!(out, "owner   {}", owner(new.org_code(), new.user_id()))?;
    writeln!(out, "scopes  {}", scopes(new.scopes()))?;
    writeln!(out, "key     {}", key.secret.expose())?;
    writeln!(out)?;
    writeln!(out, "Keep the key in a safe place now: it is not stored and will not be shown again.")
}

/// A key's new text for a person.
pub(super) fn rotated(key: &CreatedKey, grace_until: Option<SystemTime>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "id      {}", key.id)?;
    writeln!(out, "key     {}", key.secret.expose())?;
    writeln!(out)?;
    writeln!(out, "Keep the key in a safe place now: it is not stored and will not be shown again.")?;
    match grace_until {
        Some(until) => writeln!(out, "The former key opens the same until {}.", rfc3339(until)),
        None => writeln!(out, "The former key opens nothing any more."),
    }
}

/// As the key service shows it, but for its word for a key whose time is over.
fn json(record: &KeyRecord, now: SystemTime) -> Value {
    let mut json = record_json_of(record, now);
    json["status"] = record.status(now).as_str().into();
    json
}

/// Keys as an array.
pub(super) fn list_json(records: &[KeyRecord], now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    write_json(&records.iter().map(|record| json(record, now)).collect::<Vec<_>>(), out)
}

/// One key as an object.
pub(super) fn record_json(record: &KeyRecord, now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    write_json(&json(record, now), out)
}

/// Everything about one key, a fact a line; what it does not have is left out.
pub(super) fn record(record: &KeyRecord, now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:9} {value}");
    line("id", record.id.as_str())?;
    line("name", &record.name)?;
    line("owner", &owner(record.org_code.as_deref(), record.user_id.as_deref()))?;
    line("scopes", &scopes(&record.scopes))?;
    line("status", record.status(now).as_str())?;
    line("key", &record.hint())?;
    let by = record.created_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    line("created", &format!("{}{by}", rfc3339(record.created_on)))?;
    if let Some(on) = record.expires_on {
        line("expires", &rfc3339(on))?;
    }
    if let Some(on) = record.rotated_on {
        let until = record.grace(now).map(|until| format!(", the former key opens until {}", rfc3339(until)));
        line("rotated", &format!("{}{}", rfc3339(on), until.unwrap_or_default()))?;
    }
    if let Some(on) = record.revoked_on {
        let reason = record.revoked_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        line("revoked", &format!("{}{reason}", rfc3339(on)))?;
    }
    let used = record.last_used_on.map(|on| format!(", last on {}", rfc3339(on))).unwrap_or_default();
    line("used", &format!("{} times{used}", record.use_count))?;
    if !record.allow_from.is_empty() {
        let ranges: Vec<String> = record.allow_from.iter().map(ToString::to_string).collect();
        line("from", &ranges.join(" "))?;
    }
    if let Some(limit) = record.limit {
        line("limit", &format!("{} per {}", limit.requests(), humantime::format_duration(limit.per())))?;
    }
    for (name, value) in &record.metadata {
        line("meta", &format!("{name}={value}"))?;
    }
    Ok(())
}

/// Numbers by name.
pub(super) fn counts_json(counts: &[(&str, u64)], out: &mut dyn Write) -> io::Result<()> {
    let counts: serde_json::Map<String, Value> =
        counts.iter().map(|&(name, count)| (name.to_owned(), count.into())).collect();
    write_json(&counts, out)
}

/// Which keys hang on which pepper, as an array.
pub(super) fn schemes_json(counts: &[SchemeCount], out: &mut dyn Write) -> io::Result<()> {
    let row = |count: &SchemeCount| json!({"scheme": count.scheme.as_str(), "keys": count.keys, "standing": standing(count.standing)});
    write_json(&counts.iter().map(row).collect::<Vec<_>>(), out)
}

/// Which keys hang on which pepper, for a person.
pub(super) fn schemes(counts: &[SchemeCount], out: &mut dyn Write) -> io::Result<()> {
    if counts.is_empty() {
        return writeln!(out, "There are no keys yet.");
    }
    counts.iter().try_for_each(|count| {
        writeln!(out, "{:30} {:8}  {} keys", count.scheme.as_str(), standing(count.standing), count.keys)
    })
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Current => "current",
        Standing::Former => "former",
        Standing::Unknown => "unknown",
    }
}

/// Keys as a table.
pub(super) fn list(records: &[KeyRecord], is_filtered: bool, now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    if records.is_empty() {
        let none = if is_filtered { "There are no such keys." } else { "There are no keys yet." };
        return writeln!(out, "{none}");
    }
    let header = ["ID", "NAME", "OWNER", "SCOPES", "STATUS", "CREATED", "KEY"].map(String::from);
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(records.iter().map(|record| row(record, now))).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn row(record: &KeyRecord, now: SystemTime) -> [String; 7] {
    let status = record.status(now).as_str();
    [
        record.id.to_string(),
        record.name.clone(),
        owner(record.org_code.as_deref(), record.user_id.as_deref()),
        scopes(&record.scopes),
        status.to_owned(),
        rfc3339(record.created_on),
        record.hint(),
    ]
}

/// What a revocation did, as JSON.
pub(super) fn revoked_json(id: &KeyId, on: SystemTime, already: bool, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Revoked<'a> {
        id: &'a str,
        status: &'static str,
        revoked_on: String,
        already_revoked: bool,
    }

    let status = KeyStatus::Revoked.as_str();
    write_json(&Revoked { id: id.as_str(), status, revoked_on: rfc3339(on), already_revoked: already }, out)
}

/// What a revocation did, for a person.
pub(super) fn revoked(id: &KeyId, on: SystemTime, already: bool, out: &mut dyn Write) -> io::Result<()> {
    if already {
        writeln!(out, "The key {id} was revoked already, on {}; nothing changed.", rfc3339(on))
    } else {
        writeln!(out, "Revoked the key {id}. It opens nothing any more.")
    }
}

fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

fn owner(org_code: Option<&str>, user_id: Option<&str>) -> String {
    let parts = [org_code.map(|code| format!("org:{code}")), user_id.map(|id| format!("user:{id}"))];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Separated by spaces, as RFC 6749 writes them; a dash for none, so that no column looks forgotten.
fn scopes(scopes: &[String]) -> String {
    if scopes.is_empty() { "-".to_owned() } else { scopes.join(" ") }
}
