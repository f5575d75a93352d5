//! `assertion`: keys under names that mean one key each, and what is left out.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::assertion::{Assertion, Key, Signer, key_set};
use crate::config::field::{At, Field};
use crate::config::mistake::{Findings, quoted};
use crate::config::written::{self, NamedKey};

const HEADER: HeaderName = HeaderName::from_static("x-key-assertion");
const TTL: Duration = Duration::from_secs(60);
const ISSUER: &str = "keyward";

/// Every key of the file by its name: a service that looks one up must find the right one.
pub(super) struct KeyIds<'a> {
    findings: &'a Findings,
    known: RefCell<Vec<(At<String>, Key)>>,
}

impl<'a> KeyIds<'a> {
    pub fn new(findings: &'a Findings) -> Self {
        Self { findings, known: RefCell::default() }
    }

    /// Compiles a section; the audience is the upstream's name unless it says another.
    pub fn assertion(&self, written: &written::Assertion, upstream: &str) -> Option<Arc<Assertion>> {
        let (id, key) = self.add(&written.key);
        if let Some(previous) = &written.previous {
            self.add(previous);
            if let (Some(key), Field::Given(old)) = (&key, &previous.key)
                && key.is(&old.value)
            {
                let message = "is the key that `key` names already: nothing was rotated";
                self.findings.add(old.spot.mistake(message).help("remove `previous`"));
            }
        }
        Some(Arc::new(Assertion {
            header: written.header.clone().or(HEADER),
            signer: Signer::new(&id?, key?),
            ttl: written.ttl.clone().or(TTL),
            issuer: written.issuer.clone().or(ISSUER.to_owned()).into(),
            audience: written.audience.clone().or(upstream.to_owned()).into(),
        }))
    }

    fn add(&self, written: &NamedKey) -> (Option<String>, Option<Key>) {
        let key = written.key.clone().given();
        if let (Field::Given(id), Some(key)) = (&written.id, &key) {
            let mut known = self.known.borrow_mut();
            match known.iter().find(|(other, _)| other.value == id.value) {
                Some((_, same)) if same.is(key) => {}
                Some((first, _)) => {
                    let line = first.spot.position.line;
                    let message = format!("{} already names another key, on line {line}", quoted(&id.value));
                    self.findings.add(id.spot.mistake(message));
                }
                None => known.push((id.clone(), key.clone())),
            }
        }
        (written.id.clone().given(), key)
    }

    /// The public keys, for `/jwks.json`.
    pub fn key_set(&self) -> String {
        key_set(self.known.borrow().iter().map(|(id, key)| (id.value.as_str(), key)))
    }
}
