//! A Kinde without sockets, for simulations: it answers at once, by an injected clock, and counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};

use super::link::{Answering, Exchange, Reply};
use super::{Credentials, Failure, KindeSpec, KindeVerifier, Origin, Trouble};
use crate::auth::chance::Lots;
use crate::observe::Metrics;
use crate::policy::SecretString;
use crate::time::{Clock, Now};

/// Copies count together.
#[derive(Clone, Debug)]
pub(in crate::auth) struct MemoryKinde {
    clock: Clock,
    start: Now,
    lifetime: u64,
    counted: Arc<Mutex<Counted>>,
}

/// The second of each call.
#[derive(Debug, Default)]
struct Counted {
    tokens: Vec<u64>,
    verified: Vec<u64>,
}

impl MemoryKinde {
    /// Issues tokens that live for so many seconds.
    pub(in crate::auth) fn new(clock: &Clock, lifetime: u64) -> Self {
        Self { clock: clock.clone(), start: clock.now(), lifetime, counted: Arc::default() }
    }

    /// What a proxy asks this Kinde with: everything but the network.
    pub(in crate::auth) fn verifier(&self, metrics: &Arc<Metrics>, lots: Lots) -> KindeVerifier {
        let spec = KindeSpec {
            origin: Origin { tls: true, host: "kinde.test".into(), port: 443 },
            credentials: Credentials::Client {
                id: "client".to_owned(),
                secret: SecretString::new("secret".to_owned()),
                audience: "https://kinde.test/api".to_owned(),
            },
            api_id: None,
            ca: None,
            timeout: std::time::Duration::from_secs(5),
            poll: None,
            proxy: None,
            follow: false,
        };
        let exchange = Box::new(self.clone());
        KindeVerifier::over(exchange, &spec, Arc::clone(metrics), self.clock.clone(), Trouble::default(), lots)
            .expect("a verifier")
    }

    /// The seconds in which tokens were asked for.
    pub(in crate::auth) fn tokens(&self) -> Vec<u64> {
        self.lock().tokens.clone()
    }

    /// How many keys were verified in each of `seconds`.
    pub(in crate::auth) fn verified(&self, seconds: usize) -> Vec<u32> {
        let mut counts = vec![0; seconds];
        for second in &self.lock().verified {
            counts[*second as usize] += 1;
        }
        counts
    }

    /// What each verification does first.
    pub(in crate::auth) async fn use_token(verifier: &KindeVerifier) {
        verifier.token().await.expect("a token");
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        let second = self.clock.now().monotonic.saturating_duration_since(self.start.monotonic).as_secs();
        let (head, body) = request.into_parts();
        let asked = body.collect().await.expect("a body that is there").to_bytes();
        let body = match head.uri.path() {
            "/oauth2/token" => {
                self.lock().tokens.push(second);
                Bytes::from(format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{}}}"#, self.lifetime))
            }
            "/api/v1/api_keys/verify" => {
                assert!(head.headers.contains_key("authorization"), "a call without a token");
                if asked.windows(7).any(|window| window == b"_canary") {
                    Bytes::from_static(br#"{"is_valid":false}"#)
                } else {
                    self.lock().verified.push(second);
                    Bytes::from_static(br#"{"is_valid":true,"status":"active","key_id":"api_key_1","org_code":"o"}"#)
                }
            }
            path => panic!("{path}"),
        };
        Ok(Reply { status: StatusCode::OK, reset: None, body })
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange for MemoryKinde {
    fn exchange(&self, request: Request<Full<Bytes>>, _: usize) -> Answering<'_> {
        Box::pin(self.answer(request))
    }
}
