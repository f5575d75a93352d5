//! From what is written to what is enforced: names looked up, defaults filled in, contradictions found.
//!
//! Enters: a [`Config`] as written. Leaves: a [`Compiled`], or findings. Pure: no file, no environment, no clock.
//!
//! Compiling goes on after a mistake, with stand-ins in place of what is broken, so that every other mistake is
//! found too. A stand-in is never enforced: one finding, and nothing leaves.

mod assertion;
mod inspect;
mod limits;
mod names;
mod peers;
mod process;
mod resilience;
mod routes;
mod rules;
mod upstreams;
mod warnings;

use std::path::Path;
use std::sync::Arc;

use crate::policy::{Limit, Methods, Place, Policy, RouteTable, Unmatched, Upstream};
use crate::scan::Direction;

use super::field::{At, Field, Spot};
use super::mistake::Findings;
use super::written::{Config, Defaults};
use super::{Compiled, InspectDefaults, Overrides};
use assertion::KeyIds;
use names::Names;
use process::Role;
use rules::RuleBook;

/// Everything that a route can name, and what it takes where it says nothing.
struct Compiler<'a> {
    findings: &'a Findings,
    upstreams: Names<Upstream>,
    limits: Names<Limit>,
    rules: RuleBook<'a>,
    credentials: Arc<[Place]>,
    key_ids: KeyIds<'a>,
    defaults: Defaults,
    memory: Field<u64>,
    /// Whether `listen.tls` has a `client_ca`, or is broken and might have had.
    asks_for_certificates: bool,
}

/// Compiles the file; `None` when it made a finding.
pub(super) fn compile(
    config: Config,
    root: &Spot,
    base_dir: &Path,
    overrides: &Overrides,
    findings: &Findings,
) -> Option<Compiled> {
    let endpoint = upstreams::endpoint_override(overrides, findings);
    let upstreams = config.upstreams.spot().unwrap_or(root).clone();
    let key_ids = KeyIds::new(findings);
    let compiler = Compiler {
        findings,
        upstreams: upstreams::compile(config.upstreams, endpoint.as_ref(), &key_ids, findings),
        key_ids,
        limits: limits::compile(config.limits, findings),
        rules: RuleBook::new(config.rules, findings),
        credentials: places(config.keys.credentials.clone().given()),
        defaults: config.defaults,
        memory: config.process.memory.clone(),
        asks_for_certificates: match &config.process.listen.tls {
            Field::Given(tls) => tls.value.client_ca.is_some(),
            Field::Broken => true,
            Field::Missing => false,
        },
    };
    if !config.routes.is_missing() {
        compiler.check_upstreams(&upstreams);
    }
    compiler.check_defaults();
    let no_routes = matches!(&config.routes, Field::Missing)
        || matches!(&config.routes, Field::Given(list) if list.value.is_empty());
    let role = if no_routes && config.keys.serve_spot.is_some() { Role::KeyService } else { Role::Proxy };
    let routes = match role {
        Role::Proxy => compiler.routes(config.routes, root),
        Role::KeyService => {
            if let Some(spot) = &config.process.listen.spot {
                let help = "add `routes`, or remove `listen`: `keys.serve` has an address of its own";
                findings.add(spot.mistake("without a route there is nothing to listen for").help(help));
            }
            RouteTable::default()
        }
    };
    let policy = Policy {
        routes,
        unmatched: Unmatched {
            credentials: Arc::clone(&compiler.credentials),
            limits: compiler.limit_list(&compiler.defaults.limits),
            gatekeeper: compiler.gatekeeper(&Defaults::default()),
            cors: compiler.cors(&Defaults::default(), &Methods::Any, &compiler.credentials),
        },
        trusted_proxies: config
            .process
            .trusted_proxies
            .as_ref()
            .given()
            .map(|list| list.iter().map(|network| network.value).collect())
            .unwrap_or_default(),
        auth_failures: limits::auth_failures(&config.keys.auth_failures),
        key_set: compiler.key_ids.key_set(),
    };
    let process = process::compile(config.process, config.keys, role, base_dir, findings);
    let mut warnings = warnings::all(&compiler, &policy);
    let process = process.filter(|_| findings.is_empty())?;
    let defaults = InspectDefaults {
        request: compiler.inspect_written(&compiler.defaults.request, Direction::Request),
        response: compiler.inspect_written(&compiler.defaults.response, Direction::Response),
        own_rules: compiler.rules.own().collect(),
    };
    warnings.extend(warnings::proxy_protocol(&process.proxy_protocol));
    warnings.extend(warnings::verifier(&process.verifier));
    warnings.extend(process.serve.as_ref().and_then(warnings::serve));
    Some(Compiled { process, policy, defaults, warnings })
}

/// Where a key may stand; with `Authorization` and the header that most APIs use, when the file says nothing.
fn places(written: Option<Vec<At<Place>>>) -> Arc<[Place]> {
    match written {
        Some(places) => places.into_iter().map(|place| place.value).collect(),
        None => Arc::new([Place::Bearer, Place::Header(http::HeaderName::from_static("x-api-key"))]),
    }
}

impl Compiler<'_> {
    /// Tells once, and not at every route, that there is nothing to send requests to.
    fn check_upstreams(&self, spot: &Spot) {
        if self.upstreams.is_known_empty() {
            let help = "add `upstreams: {ai: {endpoints: [http://127.0.0.1:8000]}}`";
            self.findings.add(spot.mistake("no upstream is defined: requests would have nowhere to go").help(help));
        }
    }

    /// Looks up what the defaults name, also when every route says otherwise.
    fn check_defaults(&self) {
        if let Field::Given(upstream) = &self.defaults.upstream {
            self.upstreams.find(upstream, self.findings);
        }
        self.limit_list(&self.defaults.limits);
        self.inspect_written(&self.defaults.request, Direction::Request);
        self.inspect_written(&self.defaults.response, Direction::Response);
    }
}
