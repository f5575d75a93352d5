//! Which websites' scripts may use a route: CORS, as the Fetch standard has it.

use std::fmt;

use http::HeaderValue;

/// What browsers are told about a route.
#[derive(Clone, Debug)]
pub struct Cors {
    pub origins: Origins,
    /// `Access-Control-Allow-Methods`; `None` on a route that takes any method.
    pub methods: Option<HeaderValue>,
    /// `Access-Control-Allow-Headers`.
    pub headers: HeaderValue,
    /// `Access-Control-Expose-Headers`.
    pub expose: Option<HeaderValue>,
    /// Whether scripts may send cookies and client certificates along; never with [`Origins::Any`].
    pub credentials: bool,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: HeaderValue,
}

/// Whose scripts may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's, without credentials.
    Any,
    Listed(Vec<OriginPattern>),
}

/// One origin as browsers write it, or the origins one label below a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    Exact(Box<str>),
    /// Of `https://*.example.com:8443` the parts around the `*`.
    OneLabel {
        scheme: Box<str>,
        rest: Box<str>,
    },
}

impl Origins {
    /// Whether scripts of `origin` may. Browsers write origins in lower case and without a default port (RFC 6454 §6).
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        match (self, origin.to_str()) {
            (Self::Any, _) => true,
            (Self::Listed(list), Ok(origin)) => list.iter().any(|pattern| pattern.matches(origin)),
            (Self::Listed(_), Err(_)) => false,
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("every website"),
            Self::Listed(list) => {
                let list: Vec<String> = list.iter().map(OriginPattern::to_string).collect();
                f.write_str(&list.join(", "))
            }
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(origin) => f.write_str(origin),
            Self::OneLabel { scheme, rest } => write!(f, "{scheme}*{rest}"),
        }
    }
}

impl OriginPattern {
    /// Reads `https://app.example.com`, `http://localhost:3000` or `https://*.example.com`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is no origin: write scheme and host, such as `https://app.example.com`, and nothing behind";
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://").ok_or(FORM)?;
        let default_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return Err("has a scheme that is neither `https` nor `http`"),
        };
        let (label, host) = match authority.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, authority),
        };
        if host.contains('*') {
            return Err("has a `*` that does not stand for the first label, as in `https://*.example.com`");
        }
        let known = http::uri::Authority::try_from(host).map_err(|_| FORM)?;
        if known.host().is_empty() || host.contains('@') || (host.ends_with(':')) {
            return Err(FORM);
        }
        if label && !known.host().contains('.') {
            return Err("would let a whole top-level domain in");
        }
        let host = host.strip_suffix(default_port).unwrap_or(host);
        Ok(if label {
            Self::OneLabel { scheme: format!("{scheme}://").into(), rest: format!(".{host}").into() }
        } else {
            Self::Exact(format!("{scheme}://{host}").into())
        })
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(known) => **known == *origin,
            Self::OneLabel { scheme, rest } => {
                let label = origin.strip_prefix(&**scheme).and_then(|origin| origin.strip_suffix(&**rest));
                label.is_some_and(|label| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, origin: &'static str) -> bool {
        let list = Origins::Listed(vec![OriginPattern::parse(pattern).expect("an origin")]);
        list.allow(&HeaderValue::from_static(origin))
    }

    #[test]
    fn origins_are_compared_as_a_whole() {
        assert!(allows("https://App.example.com", "https://app.example.com"));
        assert!(allows("https://app.example.com:443", "https://app.example.com"));
        assert!(allows("http://localhost:3000", "http://localhost:3000"));
        for other in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://evil.test/https://app.example.com",
            "https://xapp.example.com",
            "null",
        ] {
            assert!(!allows("https://app.example.com", other), "{other}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(allows("https://*.example.com", "https://a-1.example.com"));
        assert!(allows("https://*.example.com:8443", "https://a.example.com:8443"));
        for other in [
            "https://example.com",
            "https://.example.com",
            "https://a.b.example.com",
            "https://evil.test/.example.com",
            "https://a@b.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
        ] {
            assert!(!allows("https://*.example.com", other), "{other}");
        }
    }

    #[test]
    fn what_is_no_origin() {
        for text in
            ["app.example.com", "https://", "https://a/", "https://a/b", "ftp://a", "https://*", "https://*.com"]
        {
            assert!(OriginPattern::parse(text).is_err(), "{text}");
        }
        for text in ["https://a.*.com", "https://u@a.com", "https://a:", "null", "https://*.*.com"] {
            assert!(OriginPattern::parse(text).is_err(), "{text}");
        }
    }
}
