//! What requests ask for, read strictly: what is not known is refused, because a limit or an expiry that was
//! misspelled would be none.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::form;
use super::problem::Problem;
use crate::keys::{InvalidKey, KeyFilter, KeyId, KeyKind, KeyLimit, KeyOptions, KeyStatus, MAX_GRACE, NewKey, Reason};
use crate::policy::SecretString;

/// As Kinde.
const PAGE: usize = 50;
pub(super) const LARGEST_PAGE: usize = 500;

/// Which part of the keys is asked for.
#[derive(Debug)]
pub(super) struct ListRequest {
    pub filter: KeyFilter,
    pub after: Option<KeyId>,
    pub count: usize,
}

fn parameters(query: Option<&str>, known: &[&str]) -> Result<BTreeMap<String, String>, Problem> {
    let bad = |message: String| Problem::bad("INVALID_PARAMETER", message);
    let pairs =
        form::pairs(query.unwrap_or_default()).ok_or_else(|| bad("the query is not well encoded".to_owned()))?;
    let mut given = BTreeMap::new();
    for (name, value) in pairs {
        if !known.contains(&name.as_str()) {
            return Err(bad(format!("an unknown parameter; known here: {}", known.join(", "))));
        }
        // SDKs send what nobody has set as an empty value.
        if !value.is_empty() && given.insert(name.clone(), value.as_str().to_owned()).is_some() {
            return Err(bad(format!("`{name}` stands there twice")));
        }
    }
    Ok(given)
}

impl ListRequest {
    pub fn read(query: Option<&str>, now: SystemTime) -> Result<Self, Problem> {
        let bad = |message: String| Problem::bad("INVALID_PARAMETER", message);
        let known =
            ["page_size", "starting_after", "next_token", "key_type", "status", "user_id", "org_code", "name_prefix"];
        let mut given = parameters(query, &known)?;
        let count = match given.get("page_size").map(|size| size.parse::<usize>()) {
            None => PAGE,
            Some(Ok(size)) if (1..=LARGEST_PAGE).contains(&size) => size,
            Some(_) => return Err(bad(format!("`page_size` must be a number from 1 to {LARGEST_PAGE}"))),
        };
        let after = match (given.get("starting_after"), given.get("next_token")) {
            (Some(_), Some(_)) => return Err(bad("give either `starting_after` or `next_token`".to_owned())),
            (after, token) => after.or(token),
        };
        let after = after.map(|id| KeyId::parse(id)).transpose();
        let after = after.map_err(|error| bad(format!("`starting_after` is no id: {error}")))?;
        let kind = match given.get("key_type").map(String::as_str) {
            None => None,
            Some("organization") => Some(KeyKind::Organization),
            Some("user") => Some(KeyKind::User),
            Some(_) => return Err(bad("`key_type` must be `organization` or `user`".to_owned())),
        };
        let status = match given.get("status").map(String::as_str) {
            None => None,
            Some("active") => Some(KeyStatus::Active),
            Some("inactive") => Some(KeyStatus::Expired),
            Some("revoked") => Some(KeyStatus::Revoked),
            Some(_) => return Err(bad("`status` must be `active`, `inactive` or `revoked`".to_owned())),
        };
        let filter = KeyFilter {
            org_code: given.remove("org_code"),
            user_id: given.remove("user_id"),
            name_prefix: given.remove("name_prefix"),
            kind,
            status: status.map(|status| (status, now)),
        };
        Ok(Self { filter, after, count })
    }
}

/// Why a key is deleted: ours, beside Kinde's request.
pub(super) fn delete_reason(query: Option<&str>) -> Result<Option<Reason>, Problem> {
    let reason = parameters(query, &["reason"])?.remove("reason");
    reason.map(|text| Reason::new(&text)).transpose().map_err(invalid)
}

/// Refuses every parameter.
pub(super) fn no_parameters(query: Option<&str>) -> Result<(), Problem> {
    match query {
        None | Some("") => Ok(()),
        Some(_) => Err(Problem::bad("INVALID_PARAMETER", "there are no parameters here")),
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Type {
    User,
    Organization,
    Environment,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(rename = "type")]
    kind: Option<Type>,
    api_id: Option<String>,
    scope_ids: Option<Vec<String>>,
    user_id: Option<String>,
    org_code: Option<String>,
    expires_on: Option<String>,
    allow_from: Option<Vec<String>>,
    limit: Option<Rate>,
    metadata: Option<BTreeMap<String, String>>,
    created_by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    requests: u64,
    per_ms: u64,
}

/// Reads what key shall be made. `caller` has made it, unless it says on whose behalf.
pub(super) fn create(body: &[u8], caller: &str, now: SystemTime) -> Result<NewKey, Problem> {
    let asked: Create = json(body)?;
    let bad = |message: String| Problem::bad("INVALID_FIELD", message);
    match (asked.kind, &asked.user_id, &asked.org_code) {
        (Some(Type::Environment), ..) => {
            return Err(bad("keys of the `type` `environment` are Kinde's own; there are none here".to_owned()));
        }
        (Some(Type::User), None, _) => return Err(bad("a key of the `type` `user` needs a `user_id`".to_owned())),
        (Some(Type::Organization), _, None) => {
            return Err(bad("a key of the `type` `organization` needs an `org_code`".to_owned()));
        }
        (Some(Type::Organization), Some(_), _) => {
            let message = "a key with a `user_id` is of the `type` `user`, within its organization or not";
            return Err(bad(message.to_owned()));
        }
        _ => {}
    }
    let expires_on = match asked.expires_on.as_deref().map(humantime::parse_rfc3339) {
        None => None,
        Some(Ok(moment)) => Some(moment),
        Some(Err(_)) => return Err(bad("`expires_on` must be a date such as 2030-01-31T12:00:00Z".to_owned())),
    };
    let range = |text: &String| {
        IpNet::from_str(text).map_err(|_| bad("`allow_from` must list networks such as 10.0.0.0/8".to_owned()))
    };
    let limit = asked.limit.map(|limit| KeyLimit::new(limit.requests, Duration::from_millis(limit.per_ms)));
    let options = KeyOptions {
        expires_on,
        metadata: asked.metadata.unwrap_or_default(),
        allow_from: asked.allow_from.iter().flatten().map(range).collect::<Result<_, _>>()?,
        limit: limit.transpose().map_err(invalid)?,
        created_by: Some(asked.created_by.unwrap_or_else(|| caller.to_owned())),
        api_ids: asked.api_id.into_iter().collect(),
    };
    let scopes = asked.scope_ids.unwrap_or_default();
    NewKey::new(&asked.name, asked.org_code.as_deref(), asked.user_id.as_deref(), &scopes)
        .and_then(|key| key.with(options, now))
        .map_err(invalid)
}

fn invalid(error: InvalidKey) -> Problem {
    Problem::bad("INVALID_FIELD", error.to_string())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    grace_period_seconds: Option<u64>,
}

/// How long the former text still opens the key. Kinde's request has no body, and then it does not.
pub(super) fn grace(body: &[u8]) -> Result<Duration, Problem> {
    let asked: Rotate = if body.is_empty() { Rotate::default() } else { json(body)? };
    let grace = Duration::from_secs(asked.grace_period_seconds.unwrap_or_default());
    if grace > MAX_GRACE {
        let message = format!("`grace_period_seconds` is at most {}", MAX_GRACE.as_secs());
        return Err(Problem::bad("INVALID_FIELD", message));
    }
    Ok(grace)
}

/// Reads the key that is to be verified. An error shows nothing of the body.
pub(super) fn presented(body: &[u8]) -> Result<SecretString, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Verify {
        api_key: String,
    }
    let read: Result<Verify, _> = serde_json::from_slice(body);
    let expected = || Problem::bad("INVALID_JSON", r#"expected {"api_key": "…"}, a JSON object with this one text"#);
    Ok(SecretString::new(read.map_err(|_| expected())?.api_key))
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let code = if error.is_data() { "INVALID_FIELD" } else { "INVALID_JSON" };
        Problem::bad(
            code,
            format!(
                "the body is not as documented (line {} column {}); /openapi.json tells how it is",
                error.line(),
                error.column()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    #[test]
    fn a_list_is_asked_for_by_what_kinde_knows() {
        let id = "api_key_0195ac80a14e8d71f42b98e75d3c61ad";
        let query = format!("page_size=500&starting_after={id}&key_type=user&status=inactive&user_id=&org_code=a%20b");
        let list = ListRequest::read(Some(&query), at()).unwrap();
        assert_eq!((list.count, list.after.unwrap().as_str()), (500, id));
        assert_eq!((list.filter.kind, list.filter.user_id), (Some(KeyKind::User), None));
        assert_eq!(list.filter.org_code.as_deref(), Some("a b"));
        assert!(matches!(list.filter.status, Some((KeyStatus::Expired, _))));
        assert_eq!(ListRequest::read(None, at()).unwrap().count, 50);
        for bad in [
            "page_size=0",
            "page_size=501",
            "page_size=-1",
            "page_size=x",
            "starting_after=x",
            "next_token=k_live_1",
            "starting_after=a&next_token=b",
            "key_type=environment",
            "status=expired",
            "org=acme",
            "org_code=a&org_code=b",
            "org_code=%ff",
        ] {
            assert_eq!(ListRequest::read(Some(bad), at()).map(|_| ()).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_new_key_is_what_was_asked_for_and_nothing_else() {
        let body = r#"{"name": "né", "type": "user", "api_id": "a", "scope_ids": ["read:x"], "user_id": "u",
            "org_code": "o", "expires_on": "2030-01-31T12:00:00Z", "allow_from": ["10.0.0.0/8"],
            "limit": {"requests": 5, "per_ms": 1000}, "metadata": {"plan": "gold"}}"#;
        let key = create(body.as_bytes(), "ci", at()).unwrap();
        let options = key.options();
        assert_eq!((key.name(), key.user_id(), key.org_code()), ("né", Some("u"), Some("o")));
        assert_eq!((options.created_by.as_deref(), options.api_ids.len()), (Some("ci"), 1));
        assert_eq!(options.limit.map(|limit| (limit.requests(), limit.per())), Some((5, Duration::from_secs(1))));
        assert!(options.expires_on.is_some() && options.allow_from.len() == 1 && options.metadata.len() == 1);
        for bad in [
            "",
            "{",
            "[]",
            r#"{"name": "n"}"#,
            r#"{"org_code": "o"}"#,
            r#"{"name": "", "org_code": "o"}"#,
            r#"{"name": 7, "org_code": "o"}"#,
            r#"{"name": "n", "org_code": "o", "expires_at": "2030-01-31T12:00:00Z"}"#,
            r#"{"name": "n", "org_code": "o", "expires_on": "2020-01-31T12:00:00Z"}"#,
            r#"{"name": "n", "org_code": "o", "expires_on": "soon"}"#,
            r#"{"name": "n", "org_code": "o", "type": "user"}"#,
            r#"{"name": "n", "org_code": "o", "type": "environment"}"#,
            r#"{"name": "n", "org_code": "o", "user_id": "u", "type": "organization"}"#,
            r#"{"name": "n", "org_code": "o", "allow_from": ["10.0.0.0/33"]}"#,
            r#"{"name": "n", "org_code": "o", "limit": {"requests": 0, "per_ms": 1}}"#,
            r#"{"name": "n", "org_code": "o", "scope_ids": ["a b"]}"#,
        ] {
            assert_eq!(create(bad.as_bytes(), "ci", at()).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_refused_body_is_not_quoted_where_it_may_hold_a_key() {
        for bad in [r#""k_live_secret""#, r#"{"api_key": ["k_live_secret"]}"#, r#"{"k_live_secret": 1}"#, ""] {
            let problem = presented(bad.as_bytes()).unwrap_err();
            assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
        }
        assert_eq!(presented(br#"{"api_key": "k\u005flive"}"#).unwrap().expose(), "k_live");
    }

    #[test]
    fn a_rotation_has_a_grace_time_when_it_asks_for_one() {
        assert_eq!(grace(b"").unwrap(), Duration::ZERO);
        assert_eq!(grace(b"{}").unwrap(), Duration::ZERO);
        assert_eq!(grace(br#"{"grace_period_seconds": 60}"#).unwrap(), Duration::from_secs(60));
        for bad in ["x", r#"{"grace": 1}"#, r#"{"grace_period_seconds": 99999999}"#, r#"{"grace_period_seconds": -1}"#]
        {
            assert!(grace(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
