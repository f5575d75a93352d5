//! Reading the list of active keys.
//!
//! Enters: where to go on. Leaves: a page. What is done with it is the caller's: a list makes no key valid.

use std::time::Duration;

use http::{Method, StatusCode};

use super::answer::{self, Listed, Next};
use super::{Failure, KindeVerifier, escape, not_accepted, refused, request};

/// Keys on a page: the most that Kinde gives.
const PAGE: &str = "/api/v1/api_keys?status=active&page_size=500";

/// The largest page that is read: 500 keys with 8 KB each.
const MAX_PAGE: usize = 4 << 20;

impl KindeVerifier {
    /// How often the list is to be read.
    pub(in crate::auth) fn poll(&self) -> Option<Duration> {
        self.poll
    }

    /// Notes how the last reading ended.
    pub(in crate::auth) fn listed(&self, ended: Result<(), &Failure>) {
        match ended {
            Ok(()) => self.trouble.list(None),
            Err(failure @ Failure::Misconfigured(_)) => self.trouble.list(Some(failure.to_string())),
            Err(Failure::Away(_) | Failure::Paused(_)) => {}
        }
    }

    /// A page of active keys, and where the next one begins.
    pub(in crate::auth) async fn page(&self, from: Option<&Next>) -> Result<(Vec<Listed>, Option<Next>), Failure> {
        match tokio::time::timeout(self.timeout, self.read_page(&path(from))).await {
            Ok(page) => page,
            Err(_) => Err(Failure::Away(format!("no list of keys within {:?}", self.timeout))),
        }
    }

    async fn read_page(&self, path: &str) -> Result<(Vec<Listed>, Option<Next>), Failure> {
        let mut token = self.token().await?;
        let mut renewed = false;
        loop {
            let reply = self.link.send(request(Method::GET, path, token.as_deref(), None), MAX_PAGE).await?;
            match reply.status {
                StatusCode::OK => {
                    self.accepted(token.as_deref());
                    let unclear = |why| Failure::Away(format!("its list of keys is unclear: {why}"));
                    return answer::page(&reply.body).map_err(unclear);
                }
                // No key is at fault here.
                StatusCode::UNAUTHORIZED if answer::is_object(&reply.body) => {
                    let Some(old) = token.filter(|_| !renewed) else { return Err(not_accepted()) };
                    token = Some(self.renew(&old).await?);
                    renewed = true;
                }
                status => return Err(refused(status, "list keys")),
            }
        }
    }
}

fn path(from: Option<&Next>) -> String {
    let (name, value) = match from {
        None => return PAGE.to_owned(),
        Some(Next::Token(token)) => ("next_token", token),
        Some(Next::After(id)) => ("starting_after", id),
    };
    let mut path = format!("{PAGE}&{name}=").into_bytes();
    escape(value.as_bytes(), &mut path);
    // Only ASCII was added.
    String::from_utf8(path).unwrap_or_default()
}
