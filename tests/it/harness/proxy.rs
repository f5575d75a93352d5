//! The real server, in this process, on a port of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::client::Request;
use super::origin::Origin;
use super::secrets::Home;
use keyward::config::{self, Compiled, Mistakes, Overrides};
use keyward::keys::{KeyPrefix, NewKey, Peppers, PostgresSpec, Store, StorePlace, SystemRandom};
use keyward::server::{Server, Stopped};
use keyward::time::Clock;
use keyward::upstream::{Resolve, SystemResolver};

/// What every test configuration begins with.
const BASE: &str = "
listen: {address: '127.0.0.1:0', timeouts: {body: 20s}}
health: {address: '127.0.0.1:0', exposed: ignore}
usage: {file: usage.jsonl}
upstreams: {ai: {endpoints: ['http://127.0.0.1:1'], timeouts: {connect: 10s, first_byte: 10s, idle: 10s}}}
keys: {store: {url: 'sqlite://keys.db'}}
";

/// Routes, limits and defaults of a test that does not care about them: one route for everything, uninspected.
const OPEN_ROUTES: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, scopes: []}]
";

/// A proxy in the making.
pub struct ProxyBuilder {
    /// What takes the place of the endpoints in the configuration; `None` leaves them.
    origin: Option<SocketAddr>,
    resolver: Arc<dyn Resolve>,
    base: String,
    rest: String,
    files: Vec<(String, String)>,
    clock: Clock,
    workers: usize,
    /// A database instead of a file of its own.
    postgres: Option<StorePlace>,
}

/// A running proxy with a store of its own. It is cut off when the test ends.
pub struct Proxy {
    pub address: SocketAddr,
    pub health: SocketAddr,
    pub clock: Clock,
    /// Of `org_customer_abc`, with every scope that tests use.
    pub org_key: String,
    /// Of `kp_1234567890`, with every scope that tests use.
    pub user_key: String,
    server: Server,
    dir: Home,
    place: StorePlace,
    base: String,
    origin: Option<SocketAddr>,
}

/// The scopes of the keys that every proxy has.
const SCOPES: [&str; 5] = ["read:support", "read:ai_analytics", "write:ai_workflows", "write:ai_chat", "read:ai_chats"];

impl Proxy {
    /// A proxy with one open route before `origin`.
    pub async fn before(origin: &Origin) -> Self {
        Self::builder(origin).start().await
    }

    pub fn builder(origin: &Origin) -> ProxyBuilder {
        Self::builder_to(origin.address)
    }

    /// A proxy before a service that is no [`Origin`].
    pub fn builder_to(origin: SocketAddr) -> ProxyBuilder {
        ProxyBuilder {
            origin: Some(origin),
            resolver: Arc::new(SystemResolver),
            files: Vec::new(),
            base: BASE.to_owned(),
            rest: OPEN_ROUTES.to_owned(),
            clock: Clock::system(),
            workers: 1,
            postgres: None,
        }
    }

    pub fn get(&self, target: &str) -> Request {
        Request::new(self.address, "GET", target)
    }

    pub fn post(&self, target: &str) -> Request {
        Request::new(self.address, "POST", target)
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("keys.db")
    }

    /// Makes another key in the running proxy's store, and returns its id and text.
    pub fn create_key(&self, org: Option<&str>, user: Option<&str>, scopes: &[&str]) -> (String, String) {
        create_key(&self.place, &self.clock, org, user, scopes)
    }

    /// A request to the admin listener, where the configuration has one.
    pub fn admin(&self, method: &str, path: &str) -> Request {
        Request::new(self.server.addresses().admin.expect("an admin listener"), method, path)
    }

    /// A request to the key service, where the configuration has one.
    pub fn keys(&self, method: &str, path: &str) -> Request {
        Request::new(self.server.addresses().keys.expect("a key service"), method, path)
    }

    /// Reads another configuration, as SIGHUP does.
    pub fn reload(&self, rest: &str) {
        self.server.reload(compile(&format!("{}{rest}", self.base), self.dir.path(), self.origin));
    }

    /// As [`Proxy::reload`], with a part of the base configuration replaced.
    pub fn reload_base(&self, from: &str, to: &str, rest: &str) {
        assert!(self.base.contains(from), "{from} is not in the base configuration");
        self.server.reload(compile(&format!("{}{rest}", self.base.replace(from, to)), self.dir.path(), self.origin));
    }

    /// The value of one line of `/metrics`, or 0 if there is none.
    pub async fn metric(&self, line: &str) -> f64 {
        let text = Request::new(self.health, "GET", "/metrics").send().await.text();
        let found = text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until nothing is held for inspection any more.
    pub async fn until_nothing_is_held(&self) {
        super::within("what was held to be given back", async {
            while self.metric("keyward_held_bytes").await > 0.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub async fn health(&self, path: &str) -> super::Answer {
        Request::new(self.health, "GET", path).send().await
    }

    /// Says that the end is near, as SIGUSR1 does.
    pub fn leave(&self) {
        self.server.leave();
    }

    /// Stops the proxy and returns its usage records.
    pub async fn stop(self) -> (Stopped, Vec<serde_json::Value>) {
        let stopped = super::within("the stop", self.server.stop()).await;
        let text = std::fs::read_to_string(self.dir.path().join("usage.jsonl")).expect("the usage file");
        (stopped, text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect())
    }
}

impl ProxyBuilder {
    /// Replaces the routes and everything else but the base.
    pub fn config(mut self, rest: &str) -> Self {
        self.rest = rest.to_owned();
        self
    }

    /// Replaces a part of the base configuration.
    pub fn base(mut self, from: &str, to: &str) -> Self {
        assert!(self.base.contains(from), "{from} is not in the base configuration");
        self.base = self.base.replace(from, to);
        self
    }

    /// An upstream with these options, endpoints included, instead of an [`Origin`].
    pub fn upstream(mut self, options: &str) -> Self {
        self.origin = None;
        self.base("endpoints: ['http://127.0.0.1:1']", options)
    }

    /// Who answers for the names of endpoints.
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// A file beside the configuration, such as a secret.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A clock that only the test moves.
    pub fn manual_clock(mut self) -> Self {
        self.clock = Clock::manual();
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Keeps the keys in the PostgreSQL database that `url` names, with its password.
    pub fn postgres(mut self, url: &str) -> Self {
        self.postgres = Some(PostgresSpec::parse(url).expect("a good URL").into());
        self.file("url", url).base("{url: 'sqlite://keys.db'}", "{url: {file: url}}")
    }

    pub async fn start(self) -> Proxy {
        let dir = Home::new();
        for (name, text) in &self.files {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let text = format!("{}{}", self.base, self.rest);
        let compiled = compile(&text, dir.path(), self.origin).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let place = self.postgres.unwrap_or_else(|| StorePlace::File(dir.path().join("keys.db")));
        let (_, org_key) = create_key(&place, &self.clock, Some("org_customer_abc"), None, &SCOPES);
        let (_, user_key) = create_key(&place, &self.clock, None, Some("kp_1234567890"), &SCOPES);
        let server = Server::start_with(compiled, self.workers, self.clock.clone(), self.resolver).await;
        let server = server.expect("the server starts");
        let addresses = server.addresses().clone();
        Proxy {
            address: addresses.proxy[0],
            health: addresses.health.expect("a health listener"),
            clock: self.clock,
            org_key,
            user_key,
            server,
            dir,
            place,
            base: self.base,
            origin: self.origin,
        }
    }
}

fn compile(text: &str, dir: &std::path::Path, origin: Option<SocketAddr>) -> Result<Compiled, Mistakes> {
    let overrides = Overrides { endpoint: origin.map(|origin| format!("http://{origin}")) };
    config::compile_text("test.yaml", text, dir, &|_| None, &overrides)
}

fn create_key(
    place: &StorePlace,
    clock: &Clock,
    org: Option<&str>,
    user: Option<&str>,
    scopes: &[&str],
) -> (String, String) {
    let prefix = KeyPrefix::new("kw_live").expect("a prefix");
    let key = NewKey::new("test key", org, user, scopes).expect("a valid key");
    let mut store = Store::open(place, Peppers::default()).expect("the store opens");
    let created = store.create(&key, &prefix, clock.now().wall, &mut SystemRandom).expect("the key is made");
    (created.id.as_str().to_owned(), created.secret.expose().to_owned())
}
