//! The proof that a request may go to the service.

use std::sync::Arc;

use crate::policy::{Access, MissingScope, Principal, Route};

/// Who the caller turned out to be.
#[derive(Clone, Debug)]
pub enum Authenticated {
    Key(Arc<Principal>),
    /// Nobody, on a route where that is allowed.
    Nobody,
}

/// Proof that authorization said yes. Only this module can make one.
#[derive(Clone, Debug)]
pub struct Permit(Granted);

#[derive(Clone, Debug)]
enum Granted {
    /// A key with an owner and the route's scopes.
    Key(Arc<Principal>),
    /// A public route: nothing was verified, nothing is stamped.
    Public,
    /// A route that only observes, and a caller without a key.
    Keyless,
}

/// Why authorization said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The route wants a key.
    KeyRequired,
    /// The key belongs to no organization and no user.
    NoOwner,
    Scope(MissingScope),
}

impl Permit {
    /// Evaluates the route's demands, per request: a verdict is never cached.
    pub fn authorize(caller: &Authenticated, route: &Route) -> Result<Self, Denied> {
        let scopes = match (&route.access, caller) {
            (Access::Public, _) => return Ok(Self(Granted::Public)),
            (Access::Observe(_), Authenticated::Nobody) => return Ok(Self(Granted::Keyless)),
            (Access::Key(_), Authenticated::Nobody) => return Err(Denied::KeyRequired),
            (Access::Key(scopes) | Access::Observe(scopes), Authenticated::Key(_)) => scopes,
        };
        let Authenticated::Key(principal) = caller else { return Err(Denied::KeyRequired) };
        if principal.org_code.is_none() && principal.user_id.is_none() {
            return Err(Denied::NoOwner);
        }
        scopes.check(principal).map_err(Denied::Scope)?;
        Ok(Self(Granted::Key(Arc::clone(principal))))
    }

    /// The owner to stamp, if there is one.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        match &self.0 {
            Granted::Key(principal) => Some(principal),
            Granted::Public | Granted::Keyless => None,
        }
    }

    /// Whether a route that only observes let a caller without a key pass.
    pub fn is_keyless(&self) -> bool {
        matches!(self.0, Granted::Keyless)
    }
}
