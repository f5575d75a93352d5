use std::time::{Duration, UNIX_EPOCH};

use super::super::random::testing::Seeded;
use super::*;

fn new_key(name: &str, org: Option<&str>, user: Option<&str>, scopes: &[&str]) -> Result<NewKey, InvalidKey> {
    NewKey::new(name, org, user, scopes)
}

#[test]
fn names() {
    for good in ["n", "Größe ☂ 日本語", "שלום", &"é".repeat(200), " padded "] {
        assert!(new_key(good, Some("o"), None, &[]).is_ok(), "{good:?}");
    }
    let long = "é".repeat(201);
    for bad in
        ["", " ", "\u{3000}", "a\nb", "a\u{0}", "a\u{7f}", "a\u{85}", "a\u{1b}[2J", "a\u{2028}", "a\u{202e}b", &long]
    {
        assert_eq!(new_key(bad, Some("o"), None, &[]).err(), Some(InvalidKey::Name), "{bad:?}");
    }
}

#[test]
fn owners() {
    for good in ["o", "org_1ccfb819462", "a b", "~!", &"o".repeat(256)] {
        assert!(new_key("n", Some(good), None, &[]).is_ok(), "{good:?}");
        assert!(new_key("n", None, Some(good), &[]).is_ok(), "{good:?}");
    }
    for bad in ["", " o", "o ", "ö", "o\r\nX-User-Id: 1", "o\t1", "\u{7f}", &"o".repeat(257)] {
        assert_eq!(new_key("n", Some(bad), Some("u"), &[]).err(), Some(InvalidKey::OrgCode), "{bad:?}");
        assert_eq!(new_key("n", Some("o"), Some(bad), &[]).err(), Some(InvalidKey::UserId), "{bad:?}");
    }
    assert_eq!(new_key("n", None, None, &[]).err(), Some(InvalidKey::NoOwner));
}

#[test]
fn the_kind_follows_the_owner() {
    let kind = |org, user| new_key("n", org, user, &[]).expect("good owners").kind();
    assert_eq!(kind(Some("o"), None), KeyKind::Organization);
    assert_eq!(kind(None, Some("u")), KeyKind::User);
    assert_eq!(kind(Some("o"), Some("u")), KeyKind::User);
}

#[test]
fn scopes() {
    let made = new_key("n", Some("o"), None, &["write:ai_chat", "b", "write:ai_chat", "a", "b"]).expect("good scopes");
    assert_eq!(made.scopes, ["write:ai_chat", "b", "a"]);
    for bad in ["", "a b", "a\"", "a\\", "ä", "a\n", &"s".repeat(257)] {
        assert_eq!(new_key("n", Some("o"), None, &["good", bad]).err(), Some(InvalidKey::Scope), "{bad:?}");
    }
    let many: Vec<String> = (0..=100).map(|n| format!("s{n}")).collect();
    assert!(NewKey::new("n", Some("o"), None, many[..100].iter().chain(&many[..5])).is_ok());
    assert_eq!(NewKey::new("n", Some("o"), None, &many).err(), Some(InvalidKey::TooManyScopes));
}

#[test]
fn ids_are_made_sorted_and_read_exactly() {
    let id = |millis, seed| KeyId::generate(millis, &mut Seeded(seed)).expect("a working source");
    assert!(id(1_700_000_000_000, 9) < id(1_700_000_000_001, 1));
    assert_ne!(id(5, 1), id(5, 2));
    let made = id(1_700_000_000_000, 1);
    assert_eq!(KeyId::parse(made.as_str()).as_ref(), Ok(&made));
    assert_eq!(&made.as_str()[..20], "api_key_018bcfe56800", "the first 48 bits are the milliseconds");
    assert_eq!(&made.as_str()[20..21], "7", "the version of the UUID");
    let good = "api_key_0195ac80a14e8d71f42b98e75d3c61ad";
    assert!(KeyId::parse(good).is_ok());
    for bad in [
        "",
        "api_key_",
        &good[8..],
        &good[..39],
        &format!("{good}0"),
        &good.to_uppercase(),
        &good.replace('f', "F"),
        &good.replace('f', "g"),
    ] {
        assert_eq!(KeyId::parse(bad), Err(NotAKeyId), "{bad}");
    }
}

#[test]
fn usable_until_revoked_or_expired() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let record = KeyRecord {
        id: KeyId::generate(0, &mut Seeded(1)).expect("a working source"),
        name: "n".into(),
        kind: KeyKind::Organization,
        org_code: Some("o".into()),
        user_id: None,
        scopes: Vec::new(),
        prefix: "kw_live".into(),
        suffix: "abcd".into(),
        status: KeyStatus::Active,
        created_on: at(0),
        revoked_on: None,
        revoked_reason: None,
        expires_on: None,
    };
    assert!(record.is_usable(at(0)));
    assert_eq!(record.hint(), "kw_live…abcd");
    let expiring = KeyRecord { expires_on: Some(at(10)), ..record.clone() };
    assert!(expiring.is_usable(at(9)));
    assert!(!expiring.is_usable(at(10)), "the moment itself is too late");
    assert!(!KeyRecord { status: KeyStatus::Revoked, revoked_on: Some(at(1)), ..record }.is_usable(at(0)));
}
