//! How keys are shown: to people as text, to programs as one line of JSON with Kinde's field names.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use crate::keys::{CreatedKey, KeyId, KeyRecord, KeyStatus, NewKey, rfc3339};

/// The new key as JSON. Written piece by piece: a serializer's buffer would be a copy of the key that nobody wipes.
/// Neither part has a character that JSON escapes.
pub(super) fn created_json(key: &CreatedKey, out: &mut dyn Write) -> io::Result<()> {
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

/// All keys as an array.
pub(super) fn list_json(records: &[KeyRecord], out: &mut dyn Write) -> io::Result<()> {
    /// Kinde's `get` fields, as far as we have them, and ours behind.
    #[derive(Serialize)]
    struct Key<'a> {
        id: &'a str,
        name: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
        status: &'a str,
        key_prefix: &'a str,
        key_suffix: &'a str,
        created_on: String,
        scopes: &'a [String],
        organization_id: Option<&'a str>,
        user_id: Option<&'a str>,
        revoked_on: Option<String>,
        expires_on: Option<String>,
    }

    let keys: Vec<Key<'_>> = records
        .iter()
        .map(|record| Key {
            id: record.id.as_str(),
            name: &record.name,
            kind: record.kind.as_str(),
            status: record.status.as_str(),
            key_prefix: &record.prefix,
            key_suffix: &record.suffix,
            created_on: rfc3339(record.created_on),
            scopes: &record.scopes,
            organization_id: record.org_code.as_deref(),
            user_id: record.user_id.as_deref(),
            revoked_on: record.revoked_on.map(rfc3339),
            expires_on: record.expires_on.map(rfc3339),
        })
        .collect();
    write_json(&keys, out)
}

/// All keys as a table.
pub(super) fn list(records: &[KeyRecord], now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    if records.is_empty() {
        return writeln!(out, "There are no keys yet.");
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
    let status = match record.status {
        KeyStatus::Active if !record.is_usable(now) => "expired",
        status => status.as_str(),
    };
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
