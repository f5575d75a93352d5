use std::time::{Duration, UNIX_EPOCH};

use super::super::random::testing::Seeded;
use super::*;

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
        org_code: Some("o".into()),
        user_id: None,
        scopes: Vec::new(),
        prefix: "kw_live".into(),
        suffix: "abcd".into(),
        api_ids: Vec::new(),
        metadata: BTreeMap::new(),
        allow_from: Vec::new(),
        limit: None,
        created_on: at(0),
        created_by: None,
        rotated_on: None,
        grace_until: Some(at(5)),
        revoked_on: None,
        revoked_reason: None,
        expires_on: None,
        last_used_on: None,
        use_count: 0,
    };
    assert!(record.is_usable(at(0)));
    assert_eq!(record.hint(), "kw_live…abcd");
    let expiring = KeyRecord { expires_on: Some(at(10)), ..record.clone() };
    assert!(expiring.is_usable(at(9)));
    assert!(!expiring.is_usable(at(10)), "the moment itself is too late");
    assert_eq!(expiring.status(at(10)), KeyStatus::Expired);
    assert_eq!((record.grace(at(4)), record.grace(at(5))), (Some(at(5)), None));
    let revoked = KeyRecord { revoked_on: Some(at(1)), ..record };
    assert_eq!((revoked.status(at(0)), revoked.grace(at(0))), (KeyStatus::Revoked, None));
}
