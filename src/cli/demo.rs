//! `keyward demo`: the real proxy on the repository's own `proxy.yaml`, in front of the built-in sample service.

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::run::{stop_signal, workers};
use super::{Failure, environment, log};
use crate::config::{self, Address, Compiled, HealthSpec, ListenAddress, Overrides, VerifierSpec};
use crate::keys::{KeyPrefix, KeySecret, NewKey, Peppers, Store, SystemRandom};
use crate::observe::UsageOutput;
use crate::sample;
use crate::server::Server;
use crate::time::Clock;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where the proxy listens; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Address,
    /// Where health and metrics listen; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9902")]
    admin: Address,
    /// Print one JSON line when ready, instead of the guide
    #[arg(long)]
    json: bool,
}

/// The configuration that users start from; built in, so that the binary shows it wherever it is.
const PROXY_YAML: &str = include_str!("../../proxy.yaml");

/// Scopes of both keys: what the guide needs, and one scope of `history` short.
const SCOPES: [&str; 4] = ["read:support", "read:ai_analytics", "write:ai_workflows", "write:ai_chat"];

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    log::start(environment("KEYWARD_LOG").as_deref(), "warn");
    let dir = tempfile::Builder::new().prefix("keyward-demo-").tempdir().map_err(Failure::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::other)?;
    runtime.block_on(serve(args, &dir))
}

async fn serve(args: &DemoArgs, dir: &TempDir) -> Result<(), Failure> {
    let clock = Clock::system();
    let service = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::other)?;
    let endpoint = format!("http://{}", service.local_addr().map_err(Failure::other)?);
    let (end_service, ended) = oneshot::channel::<()>();
    let sample = tokio::spawn(sample::serve(service, clock.clone(), async {
        let _ = ended.await;
    }));

    let compiled = compile(args, dir.path(), endpoint)?;
    let keys = create_keys(&compiled, &clock)?;
    let server = Server::start(compiled, workers(), clock).await.map_err(|error| {
        Failure::Other(format!("{error}\ntry `keyward demo --listen 127.0.0.1:0 --admin 127.0.0.1:0`"))
    })?;
    let addresses = server.addresses();
    let (Some(proxy), Some(admin)) = (addresses.proxy.first(), addresses.health) else {
        return Err(Failure::Other("the demo has no address to listen on".to_owned()));
    };
    let guide = Guide { proxy: format!("http://{proxy}"), admin: format!("http://{admin}"), keys };
    let text = if args.json { guide.json() } else { guide.text(dir.path()) };
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::other)?;

    stop_signal().await?;
    server.stop().await;
    let _ = end_service.send(());
    sample.await.map_err(Failure::other)?.map_err(Failure::other)
}

fn compile(args: &DemoArgs, dir: &Path, endpoint: String) -> Result<Compiled, Failure> {
    let overrides = Overrides { endpoint: Some(endpoint) };
    let mut compiled =
        config::compile_text("proxy.yaml", PROXY_YAML, dir, &environment, &overrides).map_err(Failure::Config)?;
    let process = &mut compiled.process;
    process.listen = vec![ListenAddress::Tcp(args.listen.clone())];
    process.health = Some(HealthSpec { address: args.admin.clone() });
    process.usage = UsageOutput::File(dir.join("usage.jsonl"));
    Ok(compiled)
}

struct Keys {
    organization: KeySecret,
    user: KeySecret,
}

fn create_keys(compiled: &Compiled, clock: &Clock) -> Result<Keys, Failure> {
    let VerifierSpec::Store(spec) = &compiled.process.verifier else {
        return Err(Failure::Other("the demo makes keys in a store".to_owned()));
    };
    let prefix = KeyPrefix::new(&spec.prefix).map_err(Failure::other)?;
    let mut store = Store::open(&spec.place, Peppers::default()).map_err(Failure::other)?;
    let mut create = |name: &str, org_code: Option<&str>, user_id: Option<&str>| {
        let scopes = SCOPES.map(str::to_owned).to_vec();
        let key = NewKey::new(name, org_code, user_id, &scopes).map_err(Failure::other)?;
        store.create(&key, &prefix, clock.now().wall, &mut SystemRandom).map(|key| key.secret).map_err(Failure::other)
    };
    Ok(Keys {
        organization: create("AI Assistant for Customer ABC", Some("org_customer_abc"), None)?,
        user: create("Personal AI Assistant for Jane Doe", None, Some("kp_1234567890"))?,
    })
}

/// What the demo prints.
struct Guide {
    proxy: String,
    admin: String,
    keys: Keys,
}

/// One thing to see: a heading, a command, and what its output contains.
struct Step {
    title: &'static str,
    command: String,
    shows: &'static str,
}

impl Guide {
    fn json(&self) -> String {
        let keys = json!({"organization": self.keys.organization.expose(), "user": self.keys.user.expose()});
        format!("{}\n", json!({"proxy": self.proxy, "admin": self.admin, "keys": keys}))
    }

    fn text(&self, dir: &Path) -> String {
        let mut text = format!(
            "Keyward demo: {} guards a sample AI service that knows nothing of keys.\n\
             Each command shows one thing; its output contains what stands behind `# shows`.\n\n\
             ORG_KEY={}\nUSER_KEY={}\n",
            self.proxy,
            self.keys.organization.expose(),
            self.keys.user.expose(),
        );
        for Step { title, command, shows } in self.steps() {
            text.push_str(&format!("\n# {title}\n{command}\n# shows {shows}\n"));
        }
        text.push_str(&format!("\nUsage records: {}\nCtrl-C ends the demo.\n", dir.join("usage.jsonl").display()));
        text
    }

    fn steps(&self) -> Vec<Step> {
        let Self { proxy, admin, .. } = self;
        let post = |options: &str, path: &str, body: &str| {
            format!("curl -s {options} {proxy}{path} -H 'Content-Type: application/json' -d '{body}'")
        };
        let (org, user) = (r#"-H "Authorization: Bearer $ORG_KEY""#, r#"-H "Authorization: Bearer $USER_KEY""#);
        let support = r#"{"message": "Where is my order?"}"#;
        let step = |title, command, shows| Step { title, command, shows };
        vec![
            step(
                "A key of an organization is allowed, and the service knows whose it is",
                post(org, "/ai/support", support),
                r#""organization":"org_customer_abc""#,
            ),
            step("Without a key nothing gets through", post("", "/ai/support", support), r#""code":"MISSING_KEY""#),
            step(
                "A key without the scope is refused",
                format!("curl -s {user} {proxy}/ai/chats/42"),
                r#""error":"Insufficient scope: one of read:ai_chats, admin:ai""#,
            ),
            step(
                "A forged owner does not reach the service, in any spelling",
                post(&format!("{user} -H 'X-Org-Code: org_evil' -H 'X_Org_Code: org_evil'"), "/ai/support", support),
                r#""organization":null"#,
            ),
            step(
                "Harmful input is removed where the route says `sanitize`",
                post(org, "/ai/process", r#"{"input": "Hello <script>alert(1)</script>world"}"#),
                "Hello world",
            ),
            step(
                "Harmful input is refused where the route says `block`",
                post(org, "/ai/chat", r#"{"message": "<script>alert(1)</script>"}"#),
                r#""code":"AI_INPUT_BLOCKED""#,
            ),
            step(
                "A harmful answer does not leave (the sample model gives one when asked for `unsafe-demo`)",
                post(org, "/ai/chat", r#"{"message": "unsafe-demo"}"#),
                r#""code":"AI_RESPONSE_BLOCKED""#,
            ),
            step(
                "A stream arrives event by event, scanned on its way",
                post(
                    &format!("-N {org}"),
                    "/v1/chat/completions",
                    r#"{"model": "sample", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}"#,
                ),
                "data: [DONE]",
            ),
            step(
                "A harmful pattern in a streamed answer is cut out, although it is spread over several events",
                post(
                    &format!("-N {org}"),
                    "/v1/chat/completions",
                    r#"{"stream": true, "messages": [{"role": "user", "content": "unsafe-demo"}]}"#,
                ),
                "[removed]",
            ),
            step(
                "More than fifty requests within a moment are refused, and told when to come back",
                format!(
                    "for n in $(seq 51); do {}; done",
                    post(
                        &format!("-o /dev/null -w '%{{http_code}} %header{{retry-after}}\\n' {user}"),
                        "/ai/chat",
                        support
                    )
                ),
                "429",
            ),
            step(
                "Metrics count it all",
                format!("curl -s {admin}/metrics | grep keyward_requests_total"),
                r#"refusal="AI_RATE_LIMITED""#,
            ),
        ]
    }
}
