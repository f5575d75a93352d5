//! Names that only Keyward may set, dropped on entry and written on exit.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::policy::Principal;

/// The names that Keyward stamps.
pub mod names {
    use http::HeaderName;

    pub const ORG_CODE: HeaderName = HeaderName::from_static("x-org-code");
    pub const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
    pub const KEY_ID: HeaderName = HeaderName::from_static("x-key-id");
    pub const KEY_SCOPES: HeaderName = HeaderName::from_static("x-key-scopes");
    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
}

/// What a header name means to a service behind us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameClass {
    /// Who the caller is.
    Identity,
    /// What a gateway interface or framework would take as its own variable.
    Interpreter,
    /// Where the request came from.
    Provenance,
    /// Everything else.
    Ordinary,
}

/// Classifies a name in any spelling: case, and `-` or any other punctuation, make no difference.
pub fn classify(name: &str) -> NameClass {
    let mut folded = [0_u8; LONGEST];
    let name = name.as_bytes();
    let Some(buffer) = folded.get_mut(..name.len()) else {
        // No trusted name is this long; the prefixes below still are.
        let prefix: Vec<u8> = name[..LONGEST].iter().map(fold).collect();
        return classify_prefix(&prefix);
    };
    for (to, from) in buffer.iter_mut().zip(name) {
        *to = fold(from);
    }
    match &*buffer {
        b"x-org-code" | b"x-user-id" => NameClass::Identity,
        // What proxies that end TLS say of a client's certificate (RFC 9440, and before it each its own way).
        b"client-cert" | b"client-cert-chain" | b"x-arr-clientcert" | b"x-client-verify" | b"x-client-dn" => {
            NameClass::Identity
        }
        b"auth-type"
        | b"document-root"
        | b"document-uri"
        | b"gateway-interface"
        | b"https"
        | b"path-info"
        | b"path-translated"
        | b"proxy"
        | b"query-string"
        | b"raw-uri"
        | b"remote-addr"
        | b"remote-host"
        | b"remote-ident"
        | b"remote-port"
        | b"remote-user"
        | b"request-method"
        | b"request-scheme"
        | b"request-uri"
        | b"script-filename"
        | b"script-name"
        | b"script-uri"
        | b"script-url"
        | b"server-addr"
        | b"server-name"
        | b"server-port"
        | b"server-protocol"
        | b"server-software"
        | b"x-http-method"
        | b"x-http-method-override"
        | b"x-method-override"
        | b"x-original-method"
        | b"x-original-uri"
        | b"x-original-url"
        | b"x-remote-user"
        | b"x-original-host"
        | b"x-rewrite-uri"
        | b"x-rewrite-url"
        | b"x-script-name"
        | b"x-accel-mapping"
        | b"x-sendfile-type" => NameClass::Interpreter,
        b"forwarded" | b"true-client-ip" | b"x-client-ip" | b"x-forwarded" | b"x-real-ip" | b"x-request-id" => {
            NameClass::Provenance
        }
        other => classify_prefix(other),
    }
}

/// Longer than every name and prefix in [`classify`].
const LONGEST: usize = 32;

/// Gateway interfaces make one variable of every character that is no letter or digit: WSGI of `-` and `_`, others of
/// `.` and the rest too.
fn fold(byte: &u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

fn classify_prefix(folded: &[u8]) -> NameClass {
    const IDENTITY: [&[u8]; 9] = [
        b"x-key-",
        b"x-keyward-",
        b"ssl-client-",
        b"x-ssl-client-",
        b"x-client-cert",
        b"x-forwarded-client-cert",
        b"x-forwarded-tls-client-cert",
        b"x-forwarded-ssl-client-",
        b"x-amzn-mtls-clientcert",
    ];
    if IDENTITY.iter().any(|prefix| folded.starts_with(prefix)) {
        NameClass::Identity
    } else if folded.starts_with(b"wsgi-") {
        NameClass::Interpreter
    } else if folded.starts_with(b"x-forwarded-") {
        NameClass::Provenance
    } else {
        NameClass::Ordinary
    }
}

/// Drops the identity, interpreter and provenance classes in every spelling and repetition.
///
/// Whoever needs the provenance of a trusted peer reads it before ([`super::Provenance::read`]).
pub fn remove_trusted(headers: &mut HeaderMap) {
    remove_where(headers, |name| classify(name) != NameClass::Ordinary);
}

/// Drops every name with an underscore that is not in `allowed`.
pub fn remove_underscored(headers: &mut HeaderMap, allowed: &[HeaderName]) {
    remove_where(headers, |name| name.contains('_') && !allowed.iter().any(|kept| kept.as_str() == name));
}

/// Takes from a response what a client would take for Keyward's word.
pub fn strip_response(headers: &mut HeaderMap) {
    let is_request_id = |name: &str| {
        let folded = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        folded.eq(names::REQUEST_ID.as_str().bytes())
    };
    remove_where(headers, |name| classify(name) == NameClass::Identity || is_request_id(name));
}

pub(super) fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Writes who the caller is; what the key does not have stays absent, never empty.
pub fn stamp_identity(headers: &mut HeaderMap, principal: &Principal) {
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    set(names::ORG_CODE, principal.org_header());
    set(names::USER_ID, principal.user_header());
    set(names::KEY_ID, principal.key_header());
    set(names::KEY_SCOPES, principal.scopes_header());
}

/// Tells a client whose key it used. The service's own values of these names are gone ([`strip_response`]).
pub fn echo_identity(headers: &mut HeaderMap, principal: &Principal) {
    for (name, value) in [(names::ORG_CODE, principal.org_header()), (names::USER_ID, principal.user_header())] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_classes() {
        for (name, class) in [
            ("X-Org-Code", NameClass::Identity),
            ("x_org_code", NameClass::Identity),
            ("X_User-ID", NameClass::Identity),
            ("x-key-anything-at-all-that-is-longer-than-any-name", NameClass::Identity),
            ("X_KEY_ID", NameClass::Identity),
            ("SCRIPT_NAME", NameClass::Interpreter),
            ("script-name", NameClass::Interpreter),
            ("Proxy", NameClass::Interpreter),
            ("X-HTTP-Method_Override", NameClass::Interpreter),
            ("X_Forwarded_For", NameClass::Provenance),
            ("x-forwarded-prefix", NameClass::Provenance),
            ("X-Forwarded-Client-Cert", NameClass::Identity),
            ("X_Forwarded_Tls_Client_Cert_Info", NameClass::Identity),
            ("Client-Cert", NameClass::Identity),
            ("X-SSL-Client-Subject-DN", NameClass::Identity),
            ("X-Amzn-Mtls-Clientcert-Leaf", NameClass::Identity),
            ("x-client-ip", NameClass::Provenance),
            ("Forwarded", NameClass::Provenance),
            ("X-Forwarded", NameClass::Provenance),
            ("x.org.code", NameClass::Identity),
            ("wsgi.input", NameClass::Interpreter),
            ("x-api-key", NameClass::Ordinary),
            ("authorization", NameClass::Ordinary),
            ("x-org", NameClass::Ordinary),
            ("", NameClass::Ordinary),
        ] {
            assert_eq!(classify(name), class, "{name}");
        }
    }

    proptest! {
        #[test]
        fn spelling_never_matters(name in "(x-org-code|x-user-id|script-name|x-key-id|remote-user|x-original-url)", bits in any::<u32>()) {
            let spelled: String = name.char_indices().map(|(at, c)| match (bits >> (at % 32)) & 1 {
                0 => c,
                _ if c == '-' => '_',
                _ => c.to_ascii_uppercase(),
            }).collect();
            prop_assert_eq!(classify(&spelled), classify(&name));
            prop_assert_ne!(classify(&spelled), NameClass::Ordinary);
        }
    }
}
