//! The statements that every engine runs.
//!
//! Invariant: each but [`FIND_ALL`] is SQL that SQLite and PostgreSQL read alike. Parameters are `$1`, `$2`, … in the order of their
//! first mention, because SQLite takes them for names and numbers them by it; a test checks.

use super::instant::to_millis;
use super::record::{KeyId, KeyKind, KeyStatus};
use super::store::KeyFilter;

/// The columns of a [`KeyRecord`](super::KeyRecord), once for every statement that reads one.
macro_rules! select {
    ($($more:literal),*) => {
        concat!(
            "SELECT id, name, org_code, user_id, scopes, api_ids, allow_from, metadata, limit_requests, limit_per, \
             prefix, suffix, created_on, created_by, expires_on, rotated_on, grace_until, revoked_on, revoked_reason, \
             last_used_on, use_count",
            $($more),*
        )
    };
}

/// Changes nothing where there is a key of this id.
pub(super) const ADD_RECORD: &str = "INSERT INTO key_records \
    (id, name, org_code, user_id, scopes, api_ids, allow_from, metadata, limit_requests, limit_per, prefix, suffix, \
     created_on, created_by, expires_on) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (id) DO NOTHING";
/// Changes nothing where this digest opens a key already.
pub(super) const ADD_SECRET: &str =
    "INSERT INTO key_secrets (digest, scheme, key_id) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING";
pub(super) const GET: &str = select!(" FROM key_records WHERE id = $1");
pub(super) const FIND: &str =
    select!(", digest, valid_until FROM key_secrets JOIN key_records ON id = key_id WHERE digest = $1 AND scheme = $2");
/// Whose digest this is.
pub(super) const OWNER: &str = "SELECT key_id FROM key_secrets WHERE digest = $1 AND scheme = $2";
/// As [`FIND`], for several digests of whatever scheme. PostgreSQL's alone: SQLite has no arrays, and no journeys.
pub(super) const FIND_ALL: &str =
    select!(", digest, scheme, valid_until FROM key_secrets JOIN key_records ON id = key_id WHERE digest = ANY($1)");
/// The next scheme in use behind `$1`, so that all of them are found without reading every key.
pub(super) const NEXT_SCHEME: &str = "SELECT min(scheme) FROM key_secrets WHERE scheme > $1";
pub(super) const COUNT_SCHEMES: &str =
    "SELECT scheme, count(DISTINCT key_id) FROM key_secrets GROUP BY scheme ORDER BY scheme";
pub(super) const REVOKE: &str =
    "UPDATE key_records SET revoked_on = $1, revoked_reason = $2 WHERE id = $3 AND revoked_on IS NULL";
/// Ends what opened the key so far at `$1`, unless it ends before.
pub(super) const END_SECRETS: &str =
    "UPDATE key_secrets SET valid_until = $1 WHERE key_id = $2 AND (valid_until IS NULL OR valid_until > $1)";
pub(super) const DROP_ENDED: &str = "DELETE FROM key_secrets WHERE valid_until <= $1 AND key_id = $2";
pub(super) const COUNT_SECRETS: &str = "SELECT count(*) FROM key_secrets WHERE key_id = $1";
pub(super) const ROTATED: &str =
    "UPDATE key_records SET prefix = $1, suffix = $2, rotated_on = $3, grace_until = $4 WHERE id = $5";
/// Uses are added: several processes write them. The moment is the latest of all.
pub(super) const ADD_USES: &str = "UPDATE key_records SET use_count = use_count + $1, \
    last_used_on = CASE WHEN last_used_on > $2 THEN last_used_on ELSE $2 END WHERE id = $3";
/// Another digest of the same text, unless it is there already.
pub(super) const RESTATE: &str = "UPDATE key_secrets SET digest = $1, scheme = $2 WHERE digest = $3 \
    AND NOT EXISTS (SELECT 1 FROM key_secrets AS other WHERE other.digest = $1)";
pub(super) const DELETE_OLD: &str = "DELETE FROM key_records WHERE revoked_on <= $1 OR expires_on <= $1";

/// A value of a statement that is put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SqlValue {
    Text(String),
    Integer(i64),
}

/// One page of keys: the statement and its parameters in order.
pub(super) fn page(filter: &KeyFilter, after: Option<&KeyId>, count: usize) -> (String, Vec<SqlValue>) {
    let mut values: Vec<SqlValue> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut condition = |before: &str, value: SqlValue, behind: &str| {
        values.push(value);
        conditions.push(format!("{before}${}{behind}", values.len()));
    };
    let text = |text: &str| SqlValue::Text(text.to_owned());
    if let Some(after) = after {
        condition("id > ", text(after.as_str()), "");
    }
    if let Some(org) = &filter.org_code {
        condition("org_code = ", text(org), "");
    }
    if let Some(user) = &filter.user_id {
        condition("user_id = ", text(user), "");
    }
    if let Some(start) = &filter.name_prefix {
        let length = i64::try_from(start.chars().count()).unwrap_or(i64::MAX);
        condition(&format!("substr(name, 1, {length}) = "), text(start), "");
    }
    match filter.status {
        None => {}
        Some((KeyStatus::Revoked, _)) => conditions.push("revoked_on IS NOT NULL".to_owned()),
        Some((status, now)) => {
            // A clock before 1970 or past 9999 sees nothing, or everything, expire; no key of ours has such a date.
            let now = SqlValue::Integer(to_millis(now).unwrap_or(0));
            if status == KeyStatus::Active {
                condition("revoked_on IS NULL AND (expires_on IS NULL OR expires_on > ", now, ")");
            } else {
                condition("revoked_on IS NULL AND expires_on <= ", now, "");
            }
        }
    }
    match filter.kind {
        None => {}
        Some(KeyKind::User) => conditions.push("user_id IS NOT NULL".to_owned()),
        Some(KeyKind::Organization) => conditions.push("user_id IS NULL".to_owned()),
    }
    let filtered = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    values.push(SqlValue::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
    let limit = values.len();
    (format!("{} FROM key_records{filtered} ORDER BY id LIMIT ${limit}", select!()), values)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn parameters_come_in_order() {
        let all = KeyFilter {
            org_code: Some("o".into()),
            user_id: Some("u".into()),
            name_prefix: Some("n".into()),
            kind: Some(KeyKind::User),
            status: Some((KeyStatus::Active, UNIX_EPOCH)),
        };
        let id = KeyId::parse("api_key_0195ac80a14e8d71f42b98e75d3c61ad").expect("an id");
        let page = page(&all, Some(&id), 10).0;
        for statement in [
            ADD_RECORD,
            ADD_SECRET,
            GET,
            FIND,
            OWNER,
            NEXT_SCHEME,
            REVOKE,
            END_SECRETS,
            DROP_ENDED,
            COUNT_SECRETS,
            ROTATED,
            ADD_USES,
            RESTATE,
            DELETE_OLD,
            &page,
        ] {
            let mut seen = 0;
            for part in statement.split('$').skip(1) {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                let number: usize = digits.parse().expect("a number");
                assert!(number <= seen + 1, "{statement}");
                seen = seen.max(number);
            }
            assert!(seen > 0, "{statement}");
        }
    }
}
