//! A header value with parameters, as `Content-Type` and `Content-Disposition` have them.
//!
//! Bytes of a value enter; what stands before the first semicolon, and the parameters behind it, leave. The grammar is
//! that of RFC 9110 §5.6.6 without leniency: where readers differ on what a value says, there is no answer.

/// What stands before the parameters, and the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// In lower case, such as `multipart/form-data`.
    pub value: String,
    list: Vec<Parameter<'a>>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// In lower case.
    pub name: String,
    /// As it is written, without the quotes around it.
    pub written: &'a [u8],
    /// What it means: a backslash is taken away where it escapes.
    pub value: Vec<u8>,
}

impl<'a> Parameters<'a> {
    /// Reads a value. `None` if it does not keep to the grammar, or has a parameter twice.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let value = bytes[..end].trim_ascii();
        if value.is_empty() || !value.iter().all(|&byte| is_token_byte(byte) || byte == b'/') {
            return None;
        }
        let value = String::from_utf8(value.to_ascii_lowercase()).ok()?;
        let mut list: Vec<Parameter<'_>> = Vec::new();
        let mut rest = &bytes[end..];
        while let Some(behind) = rest.strip_prefix(b";") {
            let behind = spaces(behind);
            if behind.is_empty() || behind[0] == b';' {
                rest = behind;
                continue;
            }
            let (parameter, behind) = parameter(behind)?;
            if list.iter().any(|known| known.name == parameter.name) {
                return None;
            }
            list.push(parameter);
            rest = spaces(behind);
        }
        rest.is_empty().then_some(Self { value, list })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter<'a>> {
        self.list.iter()
    }

    /// The value of one of them.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.list.iter().find(|parameter| parameter.name == name).map(|parameter| &parameter.value[..])
    }
}

fn parameter(bytes: &[u8]) -> Option<(Parameter<'_>, &[u8])> {
    let equals = bytes.iter().position(|&byte| !is_token_byte(byte)).filter(|&at| at > 0 && bytes[at] == b'=')?;
    let name = String::from_utf8(bytes[..equals].to_ascii_lowercase()).ok()?;
    let bytes = &bytes[equals + 1..];
    if let Some(quoted) = bytes.strip_prefix(b"\"") {
        let mut value = Vec::new();
        let mut at = 0;
        loop {
            match (quoted.get(at)?, quoted.get(at + 1)) {
                (b'"', _) => break,
                (b'\\', Some(&escaped)) => {
                    value.push(escaped);
                    at += 2;
                }
                (&byte, _) => {
                    value.push(byte);
                    at += 1;
                }
            }
        }
        return Some((Parameter { name, written: &quoted[..at], value }, &quoted[at + 1..]));
    }
    let end = bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len());
    let (written, rest) = bytes.split_at(end);
    (end > 0).then(|| (Parameter { name, written, value: written.to_vec() }, rest))
}

fn spaces(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    &bytes[end..]
}

/// Whether a media type, in lower case, is that of one JSON document.
pub fn is_json(essence: &str) -> bool {
    matches!(essence, "application/json" | "application/x-json" | "text/json" | "text/x-json")
        || essence.ends_with("+json")
}

/// A byte of a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_parameters() {
        let parsed = Parameters::parse(b"Multipart/Form-Data ; Boundary=\"a b\";charset=utf-8;").unwrap();
        assert_eq!(parsed.value, "multipart/form-data");
        assert_eq!((parsed.get("boundary"), parsed.get("charset")), (Some(&b"a b"[..]), Some(&b"utf-8"[..])));
        let parsed = Parameters::parse(br#"form-data; name="a\"b\\"; filename="C:\x; y=z""#).unwrap();
        assert_eq!((parsed.get("name"), parsed.get("filename")), (Some(&br#"a"b\"#[..]), Some(&b"C:x; y=z"[..])));
        let filename = parsed.iter().find(|parameter| parameter.name == "filename").unwrap();
        assert_eq!(filename.written, br"C:\x; y=z");
        assert_eq!(Parameters::parse(b"form-data").unwrap().iter().count(), 0);
    }

    #[test]
    fn what_readers_differ_on_is_not_read() {
        for value in [
            "",
            ";a=b",
            "x; a",
            "x; a=",
            "x; a=b; A=c",
            "x; a=\"b",
            "x; a=\"b\\",
            "x; a=\"b\"c",
            "x; a=b c",
            "x; a = b",
            "x y; a=b",
            "x; =b",
            "x; a=b=c",
            "x; a='b,c'",
        ] {
            assert_eq!(Parameters::parse(value.as_bytes()), None, "{value}");
        }
    }
}
