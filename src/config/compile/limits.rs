//! `limits` and `keys.auth_failures`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::field::{At, Field};
use crate::config::mistake::Findings;
use crate::config::written::{self, AuthFailures, Named};
use crate::policy::{Limit, Rate, Subject};

use super::Compiler;
use super::names::Names;

/// The limit of failed verifications. Buckets are told apart by their limit, so no other limit has this name.
const AUTH_FAILURES: &str = "auth_failures";
const AUTH_FAILURES_REQUESTS: u64 = 100;
const AUTH_FAILURES_PER: Duration = Duration::from_secs(15 * 60);

pub(super) fn compile(written: Field<Vec<Named<written::Limit>>>, findings: &Findings) -> Names<Limit> {
    let mut names = Names::new("limit", !matches!(written, Field::Broken));
    for Named { name, body } in written.given().unwrap_or_default() {
        if name.value == AUTH_FAILURES {
            findings.add(name.spot.mistake("this name is Keyward's own").help("its numbers are `keys.auth_failures`"));
        }
        let limit = body.and_then(|body| limit(&name.value, body));
        names.add(name, limit);
    }
    names
}

fn limit(name: &str, written: written::Limit) -> Option<Limit> {
    let requests = written.requests.given()?;
    let rate = Rate { requests, per: written.per.given()?, capacity: written.burst.or(requests) };
    Some(Limit { name: name.into(), rate, by: written.by.or(Subject::Key) })
}

/// What verifications are charged to: always limited, because each failure costs the verifier work.
pub(super) fn auth_failures(written: &AuthFailures) -> Arc<Limit> {
    let requests = written.requests.clone().or(AUTH_FAILURES_REQUESTS);
    let rate = Rate { requests, per: written.per.clone().or(AUTH_FAILURES_PER), capacity: requests };
    Arc::new(Limit { name: AUTH_FAILURES.into(), rate, by: Subject::Address })
}

impl Compiler<'_> {
    /// Looks up a list of limits; a list that is left out is empty.
    pub(super) fn limit_list(&self, written: &Field<Vec<At<String>>>) -> Arc<[Arc<Limit>]> {
        let names = written.as_ref().given();
        names.into_iter().flatten().filter_map(|name| self.limits.find(name, self.findings)).collect()
    }
}
