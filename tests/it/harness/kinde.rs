//! A double of Kinde: a real HTTP server that answers in all the ways of which its documents speak, and counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::time::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::origin::Reply;
use super::wire::{Framing, Head, Reader, io_ok};

/// How Kinde answers for a key that it does not call valid. Which one a tenant does is not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    NotValid,
    Status(u16),
}

/// How the list goes on: Kinde's documents know two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// `has_more` and `starting_after`.
    After,
    /// `next_token`.
    Token,
}

/// What the keys begin with that the proxy itself verifies, to see whether it can.
const CANARY: &str = "keyward_canary_";

/// A running double; ends with the test's runtime.
#[derive(Clone)]
pub struct Kinde {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// A gate for verifications: none passes while it is closed.
    gate: watch::Sender<bool>,
    verified: AtomicUsize,
    listed: AtomicUsize,
    looked_at: AtomicUsize,
    polled: AtomicUsize,
    canaries: AtomicUsize,
    tokens: AtomicUsize,
    arrived: Notify,
    /// Makes each token another one.
    serial: AtomicU64,
}

struct State {
    keys: HashMap<String, Value>,
    bad_key: BadKey,
    /// Tokens that are accepted; `None` accepts a call without one.
    accepted: Option<Vec<String>>,
    token_answer: Option<Reply>,
    verify_answer: Option<Reply>,
    list_answer: Option<Reply>,
    /// Whether tokens get the scope that verifying needs, and those that did not get it.
    grants: bool,
    scopeless: Vec<String>,
    /// Keys on a page of the list, and how the next one is named.
    pages: (usize, Paging),
    polls: Vec<String>,
    apis: HashMap<String, Vec<String>>,
    lifetime: Option<u64>,
    forms: Vec<String>,
    heads: Vec<Head>,
}

/// How long a call may take to come that must come.
const PATIENCE: Duration = Duration::from_secs(30);

pub const CLIENT_SECRET: &str = "kinde-client-secret-&=%+";

impl Kinde {
    /// Speaks plain HTTP.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// Speaks TLS with a certificate of its own.
    pub async fn with_tls(acceptor: TlsAcceptor) -> Self {
        Self::serve(Some(acceptor)).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = io_ok(TcpListener::bind("127.0.0.1:0").await);
        let address = io_ok(listener.local_addr());
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                keys: HashMap::new(),
                bad_key: BadKey::NotValid,
                accepted: Some(Vec::new()),
                token_answer: None,
                verify_answer: None,
                list_answer: None,
                grants: true,
                scopeless: Vec::new(),
                pages: (500, Paging::After),
                polls: Vec::new(),
                apis: HashMap::new(),
                lifetime: Some(3600),
                forms: Vec::new(),
                heads: Vec::new(),
            }),
            gate: watch::Sender::new(true),
            verified: AtomicUsize::new(0),
            listed: AtomicUsize::new(0),
            looked_at: AtomicUsize::new(0),
            polled: AtomicUsize::new(0),
            canaries: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
            arrived: Notify::new(),
            serial: AtomicU64::new(0),
        });
        let kinde = Self { address, shared };
        let server = kinde.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                io_ok(stream.set_nodelay(true));
                let (server, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => server.connection(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.connection(stream).await;
                            }
                        }
                    }
                });
            }
        });
        kinde
    }

    async fn connection<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        let mut reader = Reader::new(stream);
        while let Some(head) = reader.head().await {
            let framing = match head.field("content-length") {
                Some(length) => Framing::Length(length.parse().expect("a length")),
                None => Framing::Empty,
            };
            let (body, _) = reader.body(framing).await;
            let reply = self.answer(head, String::from_utf8(body).expect("text")).await;
            if reply.0.is_empty() || reader.stream().write_all(&reply.0).await.is_err() {
                return;
            }
            let _ = reader.stream().flush().await;
        }
    }

    async fn answer(&self, head: Head, body: String) -> Reply {
        let line = head.first_line.clone();
        let bearer = head.field("authorization").map(str::to_owned);
        if !body.contains(CANARY) {
            self.lock().heads.push(head);
        }
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["POST", "/oauth2/token", _] => {
                self.shared.tokens.fetch_add(1, Ordering::SeqCst);
                self.shared.arrived.notify_waiters();
                self.token(body)
            }
            ["POST", "/api/v1/api_keys/verify", _] if body.contains(CANARY) => {
                let reply = self.verify(bearer.as_deref(), &body);
                self.shared.canaries.fetch_add(1, Ordering::SeqCst);
                self.shared.arrived.notify_waiters();
                reply
            }
            ["POST", "/api/v1/api_keys/verify", _] => {
                self.shared.verified.fetch_add(1, Ordering::SeqCst);
                self.shared.arrived.notify_waiters();
                // The answer is made before the gate: what happens meanwhile, it does not know of.
                let reply = self.verify(bearer.as_deref(), &body);
                let _ = self.shared.gate.subscribe().wait_for(|open| *open).await;
                reply
            }
            ["GET", "/api/v1/api_keys?page_size=1", _] => {
                self.shared.listed.fetch_add(1, Ordering::SeqCst);
                if self.is_accepted(bearer.as_deref()) {
                    Reply::json(r#"{"code":"OK","api_keys":[],"has_more":false}"#)
                } else {
                    unauthorized()
                }
            }
            ["GET", path, _] if path.starts_with("/api/v1/api_keys?") => {
                let reply = self.list(bearer.as_deref(), path);
                self.shared.polled.fetch_add(1, Ordering::SeqCst);
                self.shared.arrived.notify_waiters();
                reply
            }
            ["GET", path, _] => {
                self.shared.looked_at.fetch_add(1, Ordering::SeqCst);
                let id = path.rsplit('/').next().expect("a path").to_owned();
                match self.lock().apis.get(&id) {
                    Some(apis) => Reply::json(
                        json!({"code": "OK", "api_key": {"id": id, "api_ids": apis, "organization_id": null}})
                            .to_string(),
                    ),
                    None => {
                        Reply::new(404, "application/json", r#"{"errors":{"code":"ROUTE_NOT_FOUND","message":"x"}}"#)
                    }
                }
            }
            _ => panic!("unexpected call {line}"),
        }
    }

    fn token(&self, form: String) -> Reply {
        let mut state = self.lock();
        state.forms.push(form);
        if let Some(reply) = &state.token_answer {
            return reply.clone();
        }
        let token = format!("secret-token-{}", self.shared.serial.fetch_add(1, Ordering::SeqCst));
        if let Some(accepted) = &mut state.accepted {
            accepted.push(token.clone());
        }
        if !state.grants {
            state.scopeless.push(format!("Bearer {token}"));
        }
        let mut answer = json!({"access_token": token, "token_type": "Bearer"});
        if let Some(lifetime) = state.lifetime {
            answer["expires_in"] = lifetime.into();
        }
        Reply::json(answer.to_string())
    }

    fn verify(&self, bearer: Option<&str>, body: &str) -> Reply {
        if let Some(reply) = &self.lock().verify_answer {
            return reply.clone();
        }
        if !self.is_accepted(bearer) {
            return unauthorized();
        }
        if bearer.is_some_and(|bearer| self.lock().scopeless.iter().any(|known| known == bearer)) {
            return forbidden();
        }
        let request: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(request.as_object().map(|fields| fields.len()), Some(1), "{body}");
        let state = self.lock();
        match (state.keys.get(request["api_key"].as_str().expect("a key")), state.bad_key) {
            (Some(answer), _) => Reply::json(answer.to_string()),
            (None, BadKey::NotValid) => Reply::json(r#"{"code":"API_KEY_INVALID","message":"x","is_valid":false}"#),
            (None, BadKey::Status(status)) => {
                Reply::new(status, "application/json", r#"{"errors":[{"code":"INVALID_KEY","message":"x"}]}"#)
            }
        }
    }

    fn list(&self, bearer: Option<&str>, path: &str) -> Reply {
        let accepted = self.is_accepted(bearer);
        let mut state = self.lock();
        state.polls.push(path.to_owned());
        if let Some(reply) = &state.list_answer {
            return reply.clone();
        }
        if !accepted {
            return unauthorized();
        }
        let query = path.split_once('?').expect("a query").1;
        let field = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        assert_eq!((field("status").as_deref(), field("page_size").as_deref()), (Some("active"), Some("500")));
        let active = |answer: &Value| answer["is_valid"] == true && answer["status"] == "active";
        let mut rows: Vec<Value> = (state.keys.iter().filter(|(_, answer)| active(answer)))
            .map(|(key, answer)| {
                let suffix = &key[key.len() - 4..];
                json!({"id": answer["key_id"], "status": "active", "key_prefix": "k_live", "key_suffix": suffix})
            })
            .collect();
        rows.sort_by_key(|row| row["id"].to_string());
        let (size, paging) = state.pages;
        let from = match (field("starting_after"), field("next_token")) {
            (Some(id), None) => rows.iter().position(|row| row["id"] == id.as_str()).map_or(rows.len(), |at| at + 1),
            (None, Some(token)) => token.strip_prefix("from%20").expect("our token").parse().expect("a number"),
            (None, None) => 0,
            both => panic!("{both:?}"),
        };
        let page: Vec<Value> = rows.iter().skip(from).take(size).cloned().collect();
        let more = from + page.len() < rows.len();
        let mut answer = json!({"code": "OK", "message": "Success", "api_keys": page});
        match paging {
            Paging::After => answer["has_more"] = more.into(),
            Paging::Token => {
                answer["next_token"] = if more { format!("from {}", from + size).into() } else { Value::Null }
            }
        }
        Reply::json(answer.to_string())
    }

    fn is_accepted(&self, bearer: Option<&str>) -> bool {
        match &self.lock().accepted {
            None => bearer.is_none(),
            Some(tokens) => bearer
                .and_then(|bearer| bearer.strip_prefix("Bearer "))
                .is_some_and(|token| tokens.iter().any(|known| known == token)),
        }
    }

    /// Calls `key` valid, and answers with its documented fields, changed by `change`.
    pub fn know(&self, key: &str, change: impl FnOnce(&mut Value)) {
        let mut answer = json!({
            "code": "API_KEY_VERIFIED",
            "message": "API key verified",
            "is_valid": true,
            "key_id": format!("api_key_{}", key.rsplit('_').next().expect("a part")),
            "status": "active",
            "scopes": ["write:ai_chat"],
            "org_code": "org_123",
            "user_id": null,
            "last_verified_on": "2024-11-18T13:32:03+11",
            "verification_count": 42,
        });
        change(&mut answer);
        self.lock().keys.insert(key.to_owned(), answer);
    }

    /// Answers for `key` as for any it never made.
    pub fn forget(&self, key: &str) {
        self.lock().keys.remove(key);
    }

    pub fn bad_keys_get(&self, bad_key: BadKey) {
        self.lock().bad_key = bad_key;
    }

    /// Answers every verification with this; `None` ends it. An empty reply closes the connection.
    pub fn verify_answers(&self, reply: impl Into<Option<Reply>>) {
        self.lock().verify_answer = reply.into();
    }

    /// Answers every reading of the list with this; `None` ends it.
    pub fn list_answers(&self, reply: impl Into<Option<Reply>>) {
        self.lock().list_answer = reply.into();
    }

    /// Whether tokens to come get the scope that verifying needs.
    pub fn grants(&self, scope: bool) {
        self.lock().grants = scope;
    }

    pub fn pages_have(&self, keys: usize, paging: Paging) {
        self.lock().pages = (keys, paging);
    }

    /// Pages of the list that were asked for.
    pub fn polled(&self) -> usize {
        self.shared.polled.load(Ordering::SeqCst)
    }

    pub fn polls(&self) -> Vec<String> {
        self.lock().polls.clone()
    }

    /// Keys that the proxy has verified of its own.
    pub fn canaries(&self) -> usize {
        self.shared.canaries.load(Ordering::SeqCst)
    }

    pub async fn canaries_at_least(&self, count: usize) {
        self.wait(|kinde| kinde.canaries() >= count).await;
    }

    pub fn token_answers(&self, reply: impl Into<Option<Reply>>) {
        self.lock().token_answer = reply.into();
    }

    /// The `expires_in` of tokens to come.
    pub fn tokens_live(&self, seconds: Option<u64>) {
        self.lock().lifetime = seconds;
    }

    /// Rejects every token that was issued so far.
    pub fn reject_tokens(&self) {
        self.lock().accepted = Some(Vec::new());
    }

    pub fn accept_token(&self, token: &str) {
        self.lock().accepted = Some(vec![token.to_owned()]);
    }

    /// Wants no token, as the description of the operation says.
    pub fn want_nothing(&self) {
        self.lock().accepted = None;
    }

    pub fn key_is_for(&self, id: &str, apis: &[&str]) {
        self.lock().apis.insert(id.to_owned(), apis.iter().map(|api| (*api).to_owned()).collect());
    }

    /// Lets verifications arrive, and none be answered.
    pub fn close_gate(&self) {
        self.shared.gate.send_replace(false);
    }

    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Verifications that have arrived.
    pub fn verified(&self) -> usize {
        self.shared.verified.load(Ordering::SeqCst)
    }

    pub fn tokens(&self) -> usize {
        self.shared.tokens.load(Ordering::SeqCst)
    }

    pub fn listed(&self) -> usize {
        self.shared.listed.load(Ordering::SeqCst)
    }

    pub fn looked_at(&self) -> usize {
        self.shared.looked_at.load(Ordering::SeqCst)
    }

    pub fn calls(&self) -> usize {
        self.lock().heads.len()
    }

    /// The bodies of all token requests.
    pub fn forms(&self) -> Vec<String> {
        self.lock().forms.clone()
    }

    pub fn heads(&self) -> Vec<Head> {
        self.lock().heads.clone()
    }

    /// Waits until `count` verifications have arrived.
    pub async fn verified_at_least(&self, count: usize) {
        self.wait(|kinde| kinde.verified() >= count).await;
    }

    pub async fn tokens_at_least(&self, count: usize) {
        self.wait(|kinde| kinde.tokens() >= count).await;
    }

    async fn wait(&self, done: impl Fn(&Self) -> bool) {
        let arrival = async {
            loop {
                let arrived = self.shared.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if done(self) {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(PATIENCE, arrival).await.expect("the call that the test waits for never came");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().expect("no test panics here")
    }
}

fn unauthorized() -> Reply {
    Reply::new(401, "application/json", r#"{"errors":[{"code":"UNAUTHORIZED","message":"x"}]}"#)
}

/// What is said to a token without the scope.
pub fn forbidden() -> Reply {
    Reply::new(403, "application/json", r#"{"errors":[{"code":"FORBIDDEN","message":"Scope missing"}]}"#)
}

/// A JWT that ends `seconds` from now.
pub fn jwt(clock: &Clock, seconds: u64) -> String {
    let now = clock.now().wall.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({"iss": "https://acme.kinde.com?>~", "exp": now + seconds}).to_string();
    format!("e30.{}.c2ln", base64url(claims.as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(LETTERS[(group >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}
