//! Requests to answers: who asks, for what, and whether they may.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};

use super::body::{self, of_json};
use super::changes::{Changes, Source};
use super::problem::Problem;
use super::request::{self, ListRequest};
use super::token::{Caller, Scope, Tokens};
use super::{oauth, openapi, shape};
use crate::auth::{StoreVerifier, VerifierError};
use crate::keys::{ImportError, KeyId, KeyPrefix, Revocation, Rotation, Store, StoreError, SystemRandom, read_import};
use crate::limit::{BucketOwner, Charge, Limiter};
use crate::listener::{Answer, Phase};
use crate::observe::Metrics;
use crate::policy::Limit;
use crate::time::{Clock, Now};

/// Lists and records that are read at once, each on a connection of its own.
const MAX_READERS: usize = 4;

/// How long a change waits for those before it, and a list for a connection.
const TURN: Duration = Duration::from_secs(10);

/// How long a list may take.
const READING: Duration = Duration::from_secs(30);

/// Opens the store for one change, one list or one record.
pub type Open = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// What the service is made of.
pub struct Parts {
    /// Verifies, on its own thread, and counts uses.
    pub store: Arc<StoreVerifier>,
    /// Not kept open between changes: a file that was replaced must not be held.
    pub open: Open,
    /// Of new keys.
    pub prefix: KeyPrefix,
    pub tokens: watch::Receiver<Arc<Tokens>>,
    /// Moves on whenever what was read before may be wrong.
    pub revisions: watch::Receiver<u64>,
    pub phase: watch::Receiver<Phase>,
    /// Streams of changes that may be open at once: one per sidecar.
    pub max_followers: usize,
    pub limiter: Arc<Limiter>,
    /// What an address pays from for each request without a good token.
    pub failures: Arc<Limit>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

/// The service. Copies share everything.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// One change at a time: the database lets no two of them happen at once.
    turn: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    /// One list at a time: it may fill some dozen MiB.
    lists: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

type Body = Either<Full<Bytes>, Changes>;

/// What can be asked for.
enum Operation {
    Document,
    Token,
    List,
    Create,
    Import,
    Verify,
    Follow,
    Get(KeyId),
    Rotate(KeyId),
    Delete(KeyId),
}

impl Operation {
    /// Reads method and path.
    fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let one = |only: &Method, allowed, operation| {
            if method == only { Ok(operation) } else { Err(Problem::method(allowed)) }
        };
        match path {
            "/openapi.json" | "/api/v1/openapi.json" => return one(&Method::GET, "GET", Self::Document),
            "/oauth2/token" => return one(&Method::POST, "POST", Self::Token),
            "/api/v1/api_keys/verify" => return one(&Method::POST, "POST", Self::Verify),
            "/api/v1/api_keys/import" => return one(&Method::POST, "POST", Self::Import),
            "/api/v1/api_keys/revocations" => return one(&Method::GET, "GET", Self::Follow),
            "/api/v1/api_keys" => {
                return match *method {
                    Method::GET => Ok(Self::List),
                    Method::POST => Ok(Self::Create),
                    _ => Err(Problem::method("GET, POST")),
                };
            }
            _ => {}
        }
        let id = path.strip_prefix("/api/v1/api_keys/").filter(|id| !id.is_empty() && !id.contains('/'));
        let id = id.ok_or_else(Problem::no_route)?;
        if ![Method::GET, Method::PUT, Method::DELETE].contains(method) {
            return Err(Problem::method("GET, PUT, DELETE"));
        }
        // What cannot be an id is the id of no key. It is not repeated: people paste keys where ids belong.
        let id = KeyId::parse(id).map_err(|_| Problem::no_key())?;
        Ok(match *method {
            Method::GET => Self::Get(id),
            Method::PUT => Self::Rotate(id),
            _ => Self::Delete(id),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Document => "openapi",
            Self::Token => "token",
            Self::List => "list",
            Self::Create => "create",
            Self::Import => "import",
            Self::Verify => "verify",
            Self::Follow => "revocations",
            Self::Get(_) => "get",
            Self::Rotate(_) => "rotate",
            Self::Delete(_) => "delete",
        }
    }

    /// The scopes of which one is enough; `None` where nobody has to show anything, or shows it in another way.
    fn scopes(&self) -> Option<&'static [Scope]> {
        match self {
            Self::Document | Self::Token => None,
            Self::List | Self::Get(_) => Some(&[Scope::Read]),
            Self::Create | Self::Import => Some(&[Scope::Create]),
            Self::Rotate(_) => Some(&[Scope::Update]),
            Self::Delete(_) => Some(&[Scope::Delete]),
            Self::Verify | Self::Follow => Some(&[Scope::Read, Scope::Verify]),
        }
    }
}

impl Answer for Service {
    type Body = Body;

    async fn answer(&self, request: Request<Incoming>, client: IpAddr) -> Response<Body> {
        let operation = Operation::of(request.method(), request.uri().path());
        let name = operation.as_ref().map_or("none", Operation::name);
        let answered = match operation {
            Ok(operation) => self.0.answer(operation, request, client).await,
            Err(problem) => Err(problem),
        };
        let response = answered.unwrap_or_else(|problem| problem.into_response().map(Either::Left));
        self.0.parts.metrics.keys_api.with_label_values(&[name, response.status().as_str()]).inc();
        response
    }
}

impl Service {
    pub fn new(parts: Parts) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let (turn, readers, lists) = (semaphore(1), semaphore(MAX_READERS), semaphore(1));
        let places = semaphore(parts.max_followers);
        Self(Arc::new(Inner { parts, turn, readers, lists, places }))
    }
}

impl Inner {
    async fn answer(
        &self,
        operation: Operation,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let now = self.parts.clock.now();
        let mut tokens = self.parts.tokens.clone();
        // Of this very state of the tokens the stream of changes is told when it is over.
        let current = Arc::clone(&tokens.borrow_and_update());
        let (head, body) = request.into_parts();
        let query = head.uri.query();
        let Some(scopes) = operation.scopes() else {
            return match operation {
                Operation::Token => self.token(&current, &head.headers, body, client, now).await,
                _ => Ok(of_json(StatusCode::OK, openapi::document())),
            }
            .map(|response| response.map(Either::Left));
        };
        let caller = self.caller(&current, &head.headers, client, now)?;
        if !caller.may(scopes) {
            let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
            return Err(Problem::scope(&names.join(" or ")));
        }
        let response = match operation {
            Operation::List => self.list(query, now).await?,
            Operation::Get(id) => {
                request::no_parameters(query)?;
                let record = self.read(move |store| store.get(&id)).await?;
                shape::one(&record.ok_or_else(Problem::no_key)?, now.wall)
            }
            Operation::Create => {
                request::no_parameters(query)?;
                let body = body::read(&head.headers, body, "application/json").await?;
                self.create(&body, caller, now).await?
            }
            Operation::Import => {
                request::no_parameters(query)?;
                self.import(&head.headers, body, caller, now).await?
            }
            Operation::Rotate(id) => {
                request::no_parameters(query)?;
                self.rotate(id, &head.headers, body, caller, now).await?
            }
            Operation::Delete(id) => self.delete(id, query, caller, now).await?,
            Operation::Verify => {
                request::no_parameters(query)?;
                let body = body::read(&head.headers, body, "application/json").await?;
                self.verify(&body, now).await?
            }
            Operation::Follow => {
                request::no_parameters(query)?;
                return self.follow(tokens).map(|response| response.map(Either::Right));
            }
            Operation::Document | Operation::Token => return Err(Problem::no_route()),
        };
        Ok(response.map(Either::Left))
    }

    /// Who asks. A good token is never refused for what others from its address have tried.
    fn caller(&self, tokens: &Tokens, headers: &HeaderMap, client: IpAddr, now: Now) -> Result<Caller, Problem> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(caller) = token.and_then(|token| tokens.caller(token, now.wall)) else {
            self.failed(client, now)?;
            return Err(Problem::unauthorized());
        };
        let seconds = now.wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let used = self.parts.metrics.keys_api_token_used.with_label_values(&[&*caller.name]);
        used.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        Ok(caller)
    }

    /// Notes a token that is none.
    fn failed(&self, client: IpAddr, now: Now) -> Result<(), Problem> {
        let charge = Charge { limit: Arc::clone(&self.parts.failures), owner: BucketOwner::address(client) };
        let admitted = self.parts.limiter.admit(&[charge], now.monotonic);
        admitted.map(drop).map_err(|refused| Problem::too_many(refused.retry_after))
    }

    async fn token(
        &self,
        tokens: &Tokens,
        headers: &HeaderMap,
        body: Incoming,
        client: IpAddr,
        now: Now,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let form = body::read(headers, body, "application/x-www-form-urlencoded").await?;
        match oauth::issue(tokens, headers, &form, now.wall) {
            Ok(response) => Ok(response),
            Err(refused) => {
                if refused.is_guess {
                    self.failed(client, now)?;
                }
                Ok(refused.into_response())
            }
        }
    }

    async fn list(&self, query: Option<&str>, now: Now) -> Result<Response<Full<Bytes>>, Problem> {
        let ListRequest { filter, after, count } = ListRequest::read(query, now.wall)?;
        let page = self.read(move |store| store.page(&filter, after.as_ref(), count)).await?;
        Ok(shape::list(&page, now.wall))
    }

    async fn verify(&self, body: &[u8], now: Now) -> Result<Response<Full<Bytes>>, Problem> {
        let key = request::presented(body)?;
        let known = self.parts.store.look_up(key.expose()).await.map_err(away)?;
        let answer = shape::verified(known.as_ref(), now.wall);
        if let Some(uses) = known.and_then(|known| known.uses) {
            uses.note(now.wall);
        }
        Ok(answer)
    }

    async fn create(&self, body: &[u8], caller: Caller, now: Now) -> Result<Response<Full<Bytes>>, Problem> {
        let new = request::create(body, &caller.name, now.wall)?;
        let prefix = self.parts.prefix.clone();
        let made = self.change(move |store| {
            let key = store.create(&new, &prefix, now.wall, &mut SystemRandom)?;
            tracing::info!(token = &*caller.name, key_id = key.id.as_str(), change = "create", "a key was changed");
            Ok(key)
        });
        Ok(shape::created(&made.await?))
    }

    /// Adds keys by their hashes, all of a list or none.
    async fn import(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        caller: Caller,
        now: Now,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let place = Arc::clone(&self.lists).try_acquire_owned();
        let _place = place.map_err(|_| Problem::unavailable("another list is being imported; try again"))?;
        let list = body::read_list(headers, body).await?;
        // Off this thread: thousands of lines take their time.
        let read = tokio::task::spawn_blocking(move || read_import(&mut &list[..], now.wall));
        let keys = read.await.map_err(|error| away(VerifierError::new(error.to_string())))?.map_err(not_imported)?;
        let verifier = Arc::clone(&self.parts.store);
        let imported = self.change(move |store| match store.import(&keys, now.wall) {
            Ok(imported) => {
                verifier.imported();
                let (token, added, known) = (&*caller.name, imported.added, imported.known);
                tracing::info!(token, added, known, change = "import", "keys were imported");
                Ok(Ok(imported))
            }
            Err(ImportError::Store(error)) => Err(error),
            Err(error) => Ok(Err(error)),
        });
        imported.await?.map(shape::imported).map_err(not_imported)
    }

    async fn rotate(
        &self,
        id: KeyId,
        headers: &HeaderMap,
        body: Incoming,
        caller: Caller,
        now: Now,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        // Kinde's own request has neither a body nor a type.
        let body = match headers.get(header::CONTENT_TYPE) {
            Some(_) => body::read(headers, body, "application/json").await?,
            None => body::read_any(body).await?,
        };
        let grace = request::grace(&body)?;
        let prefix = self.parts.prefix.clone();
        let rotation = self.change(move |store| {
            let rotation = store.rotate(&id, &prefix, grace, now.wall, &mut SystemRandom)?;
            if let Rotation::Rotated { key, .. } = &rotation {
                tracing::info!(token = &*caller.name, key_id = key.id.as_str(), change = "rotate", "a key was changed");
            }
            Ok(rotation)
        });
        match rotation.await? {
            Rotation::Rotated { key, grace_until } => Ok(shape::rotated(&key, grace_until)),
            Rotation::NotFound => Err(Problem::no_key()),
            Rotation::Revoked { .. } => Err(Problem::bad("API_KEY_REVOKED", "a revoked key gets no other text")),
            Rotation::Expired { .. } => Err(Problem::bad("API_KEY_EXPIRED", "an expired key gets no other text")),
            Rotation::TooMany => Err(Problem::bad(
                "TOO_MANY_ROTATIONS",
                "too many former texts are in their grace time; a rotation without one ends them",
            )),
        }
    }

    async fn delete(
        &self,
        id: KeyId,
        query: Option<&str>,
        caller: Caller,
        now: Now,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let reason = request::delete_reason(query)?;
        let revocation = self.change(move |store| {
            let revocation = store.revoke(&id, reason.as_ref(), now.wall)?;
            if let Revocation::Revoked { .. } = revocation {
                tracing::info!(token = &*caller.name, key_id = id.as_str(), change = "revoke", "a key was changed");
            }
            Ok(revocation)
        });
        match revocation.await? {
            Revocation::Revoked { on } => Ok(shape::revoked(on, false)),
            Revocation::AlreadyRevoked { on } => Ok(shape::revoked(on, true)),
            Revocation::NotFound => Err(Problem::no_key()),
        }
    }

    fn follow(&self, tokens: watch::Receiver<Arc<Tokens>>) -> Result<Response<Changes>, Problem> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Problem::unavailable("too many follow the changes already"))?;
        let source = Source { revisions: self.parts.revisions.clone(), tokens, phase: self.parts.phase.clone() };
        let changes = Changes::new(source, place, self.parts.metrics.keys_api_followers.clone());
        let mut response = Response::new(changes);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Reads on a connection of its own, off this thread: a list may take long, and no verification shall wait with it.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || Problem::unavailable("too many lists are being read");
        let reader = tokio::time::timeout(TURN, Arc::clone(&self.readers).acquire_owned()).await;
        let reader = reader.ok().and_then(Result::ok).ok_or_else(busy)?;
        let open = Arc::clone(&self.parts.open);
        let read = tokio::task::spawn_blocking(move || {
            let read = open().and_then(|store| work(&store));
            drop(reader);
            read
        });
        let slow = || VerifierError::new("it takes too long");
        let read = tokio::time::timeout(READING, read).await.map_err(|_| away(slow()))?;
        read.map_err(|error| away(VerifierError::new(error.to_string())))?.map_err(|error| away(error.into()))
    }

    /// Makes one change, off this thread. It is made even if whoever asked for it has gone.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || Problem::unavailable("too many changes are waiting");
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turn).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(busy)?;
        let (open, store) = (Arc::clone(&self.parts.open), Arc::clone(&self.parts.store));
        let changed = tokio::task::spawn_blocking(move || {
            let changed = open().and_then(|mut store| work(&mut store));
            if changed.is_ok() {
                store.changed();
            }
            drop(turn);
            changed
        });
        match changed.await {
            Ok(Ok(changed)) => Ok(changed),
            Ok(Err(error)) => {
                tracing::error!(%error, "a key could not be changed");
                Err(Problem::unavailable("the key store cannot be changed now; the log says why"))
            }
            Err(error) => {
                tracing::error!(%error, "a change of a key ended in a panic");
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "internal error; the log says more"))
            }
        }
    }
}

fn not_imported(error: ImportError) -> Problem {
    match error {
        ImportError::Mistakes(mistakes) => Problem::list(mistakes),
        ImportError::Store(error) => away(error.into()),
        // It was read from memory.
        ImportError::Read(error) => away(VerifierError::new(error.to_string())),
    }
}

/// The store could not be read; the caller's key is not to blame.
fn away(error: VerifierError) -> Problem {
    tracing::error!(%error, "the key store could not be read");
    Problem::unavailable("the key store cannot be read now; the log says why")
}
