use super::*;

fn read(query: &str) -> Vec<(Part, String)> {
    let mut texts_read = Vec::new();
    texts(query.as_bytes(), |part, text| texts_read.push((part, String::from_utf8_lossy(text).into_owned())));
    texts_read
}

#[test]
fn fields_are_decoded() {
    use Part::{Name, Value};
    let field = |part, text: &str| (part, text.to_string());
    assert_eq!(
        read("a=1+2&b.c[]=%3Cscript%3e&&d&=e&f="),
        [
            field(Name, "a"),
            field(Value, "1 2"),
            field(Name, "b.c[]"),
            field(Value, "<script>"),
            field(Name, "d"),
            field(Value, "e"),
            field(Name, "f"),
        ]
    );
    assert_eq!(read(""), []);
    assert_eq!(read("a=b=c%26d"), [field(Name, "a"), field(Value, "b=c&d")]);
}

#[test]
fn a_query_that_may_be_read_raw_is_one_text_too() {
    assert_eq!(read("java&script:").last(), Some(&(Part::Whole, "java&script:".into())));
    assert_eq!(read("a+b=c%3d").last(), Some(&(Part::Whole, "a b=c=".into())));
    assert_eq!(read("x%3D1").last(), Some(&(Part::Whole, "x=1".into())));
    assert_eq!(read("%C3%A9=1").last(), Some(&(Part::Whole, "é=1".into())));
}

#[test]
fn invalid_escapes_are_kept() {
    for (raw, decoded) in [
        ("100%", "100%"),
        ("%4", "%4"),
        ("%zz%41", "%zzA"),
        ("%%41", "%A"),
        ("%4%41", "%4A"),
        ("%+1", "% 1"),
        ("%2541", "%41"),
        ("plain", "plain"),
    ] {
        assert_eq!(&*decode(raw.as_bytes()), decoded.as_bytes(), "{raw}");
    }
    assert_eq!(&*decode(b"%ff%00"), b"\xFF\0");
}
