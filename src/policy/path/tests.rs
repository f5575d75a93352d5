use super::*;
use proptest::prelude::*;

#[test]
fn canonical_paths_are_borrowed() {
    for path in ["/", "/ai/chat", "/ai/chat/", "/v1/models:predict", "/a.b/c..d", "/~user/x@y;z=1,2"] {
        assert!(matches!(canonical_path(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
    }
}

#[test]
fn spellings_of_one_path_become_one() {
    for (path, canonical) in [
        ("/%61i/chat", "/ai/chat"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/../a", "/a"),
        ("/a%3ab", "/a:b"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/a%252eb", "/a%252eb"),
        ("/{x}", "/%7Bx%7D"),
        ("/.well-known/x", "/.well-known/x"),
    ] {
        assert_eq!(canonical_path(path).as_deref(), Ok(canonical), "{path}");
    }
}

#[test]
fn spellings_that_servers_disagree_on_are_refused() {
    for (path, why) in [
        ("ai/chat", BadPath::NotAbsolute),
        ("*", BadPath::NotAbsolute),
        ("//ai", BadPath::EmptySegment),
        ("/ai//chat", BadPath::EmptySegment),
        ("/ai/%2e%2e/x", BadPath::RefusedEscape),
        ("/ai%2Fchat", BadPath::RefusedEscape),
        ("/ai%5cchat", BadPath::RefusedEscape),
        ("/ai%00", BadPath::RefusedEscape),
        ("/ai%0a", BadPath::RefusedEscape),
        ("/ai\\chat", BadPath::Backslash),
        ("/ai/%zz", BadPath::InvalidEscape),
        ("/ai/%2", BadPath::InvalidEscape),
        ("/ai/%", BadPath::InvalidEscape),
        ("/%+1", BadPath::InvalidEscape),
        ("/a/..;/b", BadPath::DotSegmentParameter),
        ("/.;x", BadPath::DotSegmentParameter),
    ] {
        assert_eq!(canonical_path(path), Err(why), "{path}");
    }
}

#[test]
fn patterns_say_why_they_are_refused() {
    assert!(PathPattern::parse("/ai/chats/{id}").is_ok());
    assert!(PathPattern::parse("/**").is_ok());
    assert!(PathPattern::parse("/legacy/**").is_ok());
    assert_eq!(PathPattern::parse("ai"), Err(PatternError::NotAbsolute));
    assert_eq!(PathPattern::parse("/a/**/b"), Err(PatternError::WildcardNotLast));
    assert_eq!(PathPattern::parse("/a**"), Err(PatternError::WildcardNotLast));
    assert!(matches!(PathPattern::parse("/a/x{id}"), Err(PatternError::BadParameter(_))));
    assert!(matches!(PathPattern::parse("/a/{}"), Err(PatternError::BadParameter(_))));
    assert!(
        matches!(PathPattern::parse("/a/../b"), Err(PatternError::Unreachable { canonical: Some(path) }) if path == "/b")
    );
    assert!(matches!(PathPattern::parse("/a//b"), Err(PatternError::Unreachable { canonical: None })));
}

/// What a WSGI server makes of a path: every escape decoded.
fn service_view(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&path[at + 1..at + 3], 16).expect("canonical escapes are valid"));
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

proptest! {
    /// Canonicalizing twice changes nothing, and equal service views have equal canonical forms.
    #[test]
    fn canonical_form_is_stable_and_unique(path in "/([a-c./%\\\\]|%[0-9a-fA-F]{2}|[^\\x00-\\x7f]){0,12}") {
        if let Ok(canonical) = canonical_path(&path) {
            prop_assert_eq!(canonical_path(&canonical), Ok(Cow::Borrowed(canonical.as_ref())));
            let seen = service_view(&canonical);
            prop_assert!(!seen.windows(2).any(|pair| pair == b"//"));
            prop_assert!(!seen.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b".."));
            let mut respelled = String::new();
            for byte in &seen {
                if matches!(byte, b'/' | b'.') { respelled.push(char::from(*byte)) } else { respelled.push_str(&format!("%{byte:02x}")) }
            }
            prop_assert_eq!(canonical_path(&respelled), Ok(Cow::Borrowed(canonical.as_ref())));
        }
    }
}
