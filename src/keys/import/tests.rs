use super::super::testing::{at, create, on_each_engine};
use super::*;

fn read(list: &str) -> Result<Vec<ImportedKey>, ImportError> {
    read_import(&mut list.as_bytes(), at(100))
}

/// The lines that are wrong.
fn mistakes(list: &str) -> Vec<(usize, String)> {
    match read(list) {
        Err(ImportError::Mistakes(mistakes)) => mistakes.into_iter().map(|m| (m.line, m.message)).collect(),
        other => panic!("{other:?}"),
    }
}

fn hash(key: &str) -> String {
    Digest::sha256(key).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_imported_key_opens_by_its_own_text_and_can_be_imported_again() {
    on_each_engine(|home| {
        let mut store = home.open();
        assert!(!store.has_imported().expect("a good store"));
        let list = format!(
            "{}\n\n{}\n",
            serde_json::json!({"sha256": hash("sk-legacy-1"), "name": "one", "org_code": "o", "scopes": ["a"],
                "limit": {"requests": 5, "per_ms": 1000}, "allow_from": ["10.0.0.0/8"], "key_suffix": "cy-1"}),
            serde_json::json!({"sha256": hash("sk-legacy-2").to_uppercase(), "name": "two", "user_id": "u",
                "id": "api_key_0195ac80a14e8d71f42b98e75d3c61ad", "expires_on": "2027-01-31T00:00:00Z"}),
        );
        let keys = read(&list).expect("a good list");
        assert_eq!(store.import(&keys, at(100)).expect("a good store"), Imported { added: 2, known: 0 });
        assert!(store.has_imported().expect("a good store"));
        let found = store.find_key("sk-legacy-1").expect("a good store").expect("it was imported");
        assert_eq!((found.record.name.as_str(), found.record.suffix.as_str()), ("one", "cy-1"));
        assert_eq!(found.record.limit.map(|limit| limit.requests()), Some(5));
        let two = store.find_key("sk-legacy-2").expect("a good store").expect("it was imported").record;
        assert_eq!(two.id.as_str(), "api_key_0195ac80a14e8d71f42b98e75d3c61ad");
        assert!(two.expires_on.is_some());
        assert!(store.find_key("sk-legacy-3").expect("a good store").is_none());

        // Its first use gives it a digest like any other, and the list is still known.
        let uses =
            [crate::keys::UseRow { id: found.record.id.clone(), count: 1, last: at(101), restated: found.restated }];
        store.note_uses(&uses).expect("a good store");
        assert!(store.find_key("sk-legacy-1").expect("a good store").expect("still").restated.is_none());
        assert_eq!(store.import(&keys, at(200)).expect("a good store"), Imported { added: 0, known: 2 });
        assert_eq!(store.list().expect("a good store").len(), 2);
    });
}

#[test]
fn all_or_nothing() {
    on_each_engine(|home| {
        let mut store = home.open();
        create(&mut store, "n");
        let taken = format!(
            "sha256,name,org_code,id\n{h},one,o,\n{h},two,o,api_key_0195ac80a14e8d71f42b98e75d3c61ad\n",
            h = hash("k")
        );
        let keys = read(&taken).expect("each line is good");
        let error = store.import(&keys, at(100)).expect_err("one hash cannot be two keys");
        assert_eq!(error.to_string(), "nothing was imported:\n  line 3: this hash is another key's already");
        assert_eq!(store.list().expect("a good store").len(), 1);
        assert!(store.find_key("k").expect("a good store").is_none());
    });
}

#[test]
fn csv_is_read_with_its_quotes() {
    let list = format!("\u{feff}name,sha256,scopes,user_id\r\n\"a \"\"b\"\", c\",{},x y,u\r\n", hash("k"));
    let keys = read(&list).expect("a good list");
    assert_eq!((keys[0].new.name(), keys[0].new.scopes().len(), keys[0].line), ("a \"b\", c", 2, 2));
}

#[test]
fn every_bad_line_is_told_by_its_number_and_never_by_its_content() {
    let good = format!(r#"{{"sha256": "{}", "name": "n", "org_code": "o"}}"#, hash("k"));
    let list = [
        good.as_str(),
        r#"{"sha256": "sk-secret-key", "name": "n", "org_code": "o"}"#,
        r#"{"name": "n", "org_code": "o"}"#,
        r#"{"sk-secret-key": 1}"#,
        "sk-secret-key",
        &good,
        &good.replace(r#""o""#, r#""""#),
        &good.replace(r#""n""#, r#""n", "expires_on": "1970-01-01T00:00:05Z""#).replace(&hash("k"), &hash("l")),
        &good.replace(r#""n""#, r#""n", "expires_on": "tomorrow sk-secret-key""#).replace(&hash("k"), &hash("m")),
    ]
    .join("\n");
    let found = mistakes(&list);
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(found[4].1.contains("line 1"), "{found:?}");
    assert!(found.iter().all(|(_, message)| !message.contains("sk-secret")), "{found:?}");

    let csv = |line: &str| mistakes(&format!("sha256,name,org_code\n{line}\n"));
    assert!(csv("a,b").iter().any(|(line, message)| *line == 2 && message.contains("3 fields")));
    assert!(csv("\"a,b,c").iter().any(|(line, message)| *line == 2 && message.contains("quote")));
    for head in ["sk-secret-key", "name,org_code", "sha256,sha256", "sha256,color"] {
        let found = mistakes(&format!("{head}\nx\ny\n"));
        assert_eq!((found.len(), found[0].0), (1, 1));
        assert!(!found[0].1.contains("sk-secret"), "{found:?}");
    }
    assert_eq!(mistakes(&"x".repeat(70_000)).len(), 1);
    assert_eq!(mistakes(&format!("{good}\n{}", "{\n".repeat(500))).len(), MAX_MISTAKES + 1);
    assert_eq!(read("").map(|keys| keys.len()).ok(), Some(0));
}
