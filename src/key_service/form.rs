//! `application/x-www-form-urlencoded`, in queries and in bodies.

use zeroize::Zeroizing;

/// The pairs of a query or a form; `None` where it is none. Values are wiped: a form may hold a secret.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, Zeroizing<String>)>> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((std::mem::take(&mut *decode(name)?), decode(value)?))
        })
        .collect()
}

/// Undoes `+` and `%XX`; `None` for a broken escape, or where the result is no text.
pub(super) fn decode(text: &str) -> Option<Zeroizing<String>> {
    // Never longer than what it came from, so it never grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| char::from(digit?).to_digit(16).and_then(|value| u8::try_from(value).ok());
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next())? << 4 | hex(rest.next())?,
            byte => byte,
        });
    }
    String::from_utf8(std::mem::take(&mut *bytes)).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let read = |text: &str| {
            pairs(text).map(|pairs| pairs.into_iter().map(|(n, v)| (n, v.to_string())).collect::<Vec<_>>())
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("a=1&b=x+y%26%C3%a9&&c"), Some(vec![pair("a", "1"), pair("b", "x y&é"), pair("c", "")]));
        assert_eq!(read(""), Some(Vec::new()));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%+1=a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
