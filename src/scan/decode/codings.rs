//! `Content-Encoding`, as RFC 9110 §8.4 reads it.

/// A coding that can be taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, and `x-gzip`, which is the same (RFC 9110 §8.4.1.3).
    Gzip,
    /// `deflate`.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

/// The codings of a body in the order in which they were applied; at most two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codings {
    first: Option<Coding>,
    second: Option<Coding>,
}

impl Codings {
    /// Reads the lines of a `Content-Encoding` field, which together are one list (RFC 9110 §5.3). Empty members are
    /// no members (§5.6.1.2), names ignore case, and `identity` is no coding. A name with parameters is another name:
    /// codings have none.
    ///
    /// # Errors
    /// If a coding is unknown, or if there are more than two.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, &'static str> {
        let mut codings = Self::default();
        let members = lines.into_iter().flat_map(|line| line.split(|&byte| byte == b','));
        for member in members.map(trimmed).filter(|member| !member.is_empty()) {
            if member.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            let coding = coding(member).ok_or("the content coding is not known")?;
            match (codings.first, codings.second) {
                (None, _) => codings.first = Some(coding),
                (_, None) => codings.second = Some(coding),
                _ => return Err("the content has more than two codings"),
            }
        }
        Ok(codings)
    }

    /// Whether the bytes are the content itself.
    pub fn is_empty(self) -> bool {
        self.first.is_none()
    }

    pub(super) fn applied(self) -> Option<(Coding, Option<Coding>)> {
        self.first.map(|first| (first, self.second))
    }
}

fn coding(name: &[u8]) -> Option<Coding> {
    const NAMES: [(&[u8], Coding); 5] = [
        (b"gzip", Coding::Gzip),
        (b"x-gzip", Coding::Gzip),
        (b"deflate", Coding::Deflate),
        (b"br", Coding::Brotli),
        (b"zstd", Coding::Zstd),
    ];
    NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| *coding)
}

/// Without optional whitespace, which is spaces and tabs (RFC 9110 §5.6.3).
fn trimmed(mut member: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
        member = rest;
    }
    member
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Vec<Coding>, &'static str> {
        let codings = Codings::parse(lines.iter().map(|line| line.as_bytes()))?;
        assert_eq!(codings.is_empty(), codings.first.is_none());
        Ok(codings.first.into_iter().chain(codings.second).collect())
    }

    #[test]
    fn lists_over_lines_with_gaps_in_any_case() {
        use Coding::{Brotli, Deflate, Gzip, Zstd};
        for (lines, codings) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["identity"], &[]),
            (&["gzip"], &[Gzip]),
            (&["X-GZip"], &[Gzip]),
            (&["\tBr , "], &[Brotli]),
            (&[",, identity,deflate\t,,IDENTITY"], &[Deflate]),
            (&["gzip, zstd"], &[Gzip, Zstd]),
            (&["zstd", "", "br"], &[Zstd, Brotli]),
            (&["gzip", "gzip"], &[Gzip, Gzip]),
        ] {
            assert_eq!(parse(lines).as_deref(), Ok(codings), "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        for lines in
            [&["compress"][..], &["gzip;q=1"], &["gzip deflate"], &["gzip", "zip"], &["\"gzip\""], &["b\u{e9}r"]]
        {
            assert_eq!(parse(lines), Err("the content coding is not known"), "{lines:?}");
        }
        for lines in [&["gzip, br, zstd"][..], &["gzip", "gzip", "identity, gzip"]] {
            assert_eq!(parse(lines), Err("the content has more than two codings"), "{lines:?}");
        }
    }
}
