use std::time::UNIX_EPOCH;

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
fn options_are_bounded() {
    let now = UNIX_EPOCH + Duration::from_secs(100);
    let check = |options| new_key("n", Some("o"), None, &[]).expect("a good key").with(options, now).err();
    let metadata = |key: &str, value: &str| KeyOptions {
        metadata: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..KeyOptions::default()
    };
    assert_eq!(check(metadata("plan.name-1_a", "größer")), None);
    for (key, value) in [("", "v"), ("a b", "v"), (&"k".repeat(65), "v"), ("k", "a\nb"), ("k", &"v".repeat(501))] {
        assert_eq!(check(metadata(key, value)), Some(InvalidKey::Metadata), "{key} {value}");
    }
    let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
    assert_eq!(check(KeyOptions { metadata: many, ..KeyOptions::default() }), Some(InvalidKey::Metadata));
    let expires =
        |seconds| KeyOptions { expires_on: Some(UNIX_EPOCH + Duration::from_secs(seconds)), ..KeyOptions::default() };
    assert_eq!(check(expires(101)), None);
    assert_eq!(check(expires(100)), Some(InvalidKey::Expiry));
    assert_eq!(check(expires(300_000_000_000)), Some(InvalidKey::Expiry), "no year that can be stored");
    let ranges = vec!["10.0.0.0/8".parse().expect("a range"); 65];
    assert_eq!(check(KeyOptions { allow_from: ranges, ..KeyOptions::default() }), Some(InvalidKey::TooManyRanges));
    for (requests, per) in
        [(0, Duration::from_secs(1)), (1, Duration::ZERO), (1, YEAR * 2), (1, Duration::from_nanos(1))]
    {
        assert_eq!(KeyLimit::new(requests, per).err(), Some(InvalidKey::Limit));
    }
    assert_eq!(Reason::new("").err(), Some(InvalidKey::Reason));
}
