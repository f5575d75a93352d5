//! Conditions on who connects, before anything is said.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Who may use a route, whatever key they have.
#[derive(Clone, Debug, Default)]
pub struct Gatekeeper {
    /// Networks that clients connect from; `None` takes any.
    pub addresses: Option<Arc<[IpNet]>>,
    /// Names of which the client's certificate has one; `None` asks for no certificate.
    pub certificates: Option<Arc<[CertificateName]>>,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    Address,
    Certificate,
}

impl Gatekeeper {
    /// Decides about a client; `certificate` are the names in the certificate that it showed.
    pub fn check(&self, client: IpAddr, certificate: &[Box<str>]) -> Result<(), TurnedAway> {
        if self.addresses.as_ref().is_some_and(|list| !list.iter().any(|net| net.contains(&client))) {
            return Err(TurnedAway::Address);
        }
        let named = |known: &CertificateName| certificate.iter().any(|name| known.matches(name));
        match &self.certificates {
            Some(list) if !list.iter().any(named) => Err(TurnedAway::Certificate),
            _ => Ok(()),
        }
    }
}

/// A subject alternative name of a certificate: a DNS name, of which `*.` stands for one label, or a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    Dns(Box<str>),
    /// What follows the first label, with its dot.
    Below(Box<str>),
    Uri(Box<str>),
}

impl CertificateName {
    /// Reads `client.example.com`, `*.example.com` or `spiffe://example.com/service`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains("://") {
            return match text.contains('*') {
                true => Err("is a URI with a `*`: URIs are compared as a whole"),
                false => Ok(Self::Uri(text.into())),
            };
        }
        let is_name = |name: &str| {
            let label = |label: &str| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            };
            name.split('.').all(label)
        };
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix('*') {
            Some(rest) if rest.strip_prefix('.').is_some_and(is_name) => Ok(Self::Below(rest.into())),
            None if is_name(&lower) => Ok(Self::Dns(lower.into())),
            _ => Err("is neither a DNS name, such as `client.example.com`, nor a URI"),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Dns(known) => known.eq_ignore_ascii_case(name),
            Self::Below(rest) => name.find('.').is_some_and(|dot| dot > 0 && name[dot..].eq_ignore_ascii_case(rest)),
            Self::Uri(known) => **known == *name,
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
            Self::Below(rest) => write!(f, "*{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(addresses: Option<&[&str]>, names: Option<&[&str]>) -> Gatekeeper {
        Gatekeeper {
            addresses: addresses.map(|list| list.iter().map(|net| net.parse().expect("a network")).collect()),
            certificates: names
                .map(|list| list.iter().map(|name| CertificateName::parse(name).expect("a name")).collect()),
        }
    }

    fn asked(keeper: &Gatekeeper, client: &str, names: &[&str]) -> Result<(), TurnedAway> {
        let names: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
        keeper.check(client.parse().expect("an address"), &names)
    }

    #[test]
    fn both_conditions_have_to_hold() {
        assert_eq!(asked(&Gatekeeper::default(), "192.0.2.1", &[]), Ok(()));
        let keeper = keeper(Some(&["10.0.0.0/8", "2001:db8::/32"]), Some(&["a.test", "*.b.test", "spiffe://x/y"]));
        assert_eq!(asked(&keeper, "11.0.0.1", &["a.test"]), Err(TurnedAway::Address));
        for names in [&[][..], &["b.test"], &["c.a.test"], &["a.c.b.test"], &[".b.test"], &["spiffe://x/Y"]] {
            assert_eq!(asked(&keeper, "10.0.0.1", names), Err(TurnedAway::Certificate), "{names:?}");
        }
        for names in [&["A.test"][..], &["x", "c.B.test"], &["spiffe://x/y"]] {
            assert_eq!(asked(&keeper, "2001:db8::1", names), Ok(()), "{names:?}");
        }
        for text in ["", "*", "*.", "a..b", "a b", "*b.test", "a.*", "spiffe://x/*"] {
            assert!(CertificateName::parse(text).is_err(), "{text}");
        }
    }
}
