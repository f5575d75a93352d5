//! `routes`: each route on its own, then all of them as a table.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::assertion::Assertion;
use crate::config::field::{At, Field, Spot};
use crate::config::header_name::folded;
use crate::config::mistake::quoted;
use crate::config::written::{self, Auth, PromptContext, RouteAssertion};
use crate::context::Context;
use crate::policy::{
    Access, ErrorFormat, Http2, Inspect, Methods, PathPattern, Place, Route, RouteTable, Scopes, Timeouts, Upstream,
    UpstreamTls,
};
use crate::scan::{Action, Direction};

use super::{Compiler, places};

/// A person who waits for longer wonders what happened.
const SLOW: Duration = Duration::from_secs(5);

impl Compiler<'_> {
    /// Compiles all routes into a table; `root` is where a file that has none is told so.
    pub(super) fn routes(&self, written: Field<Vec<Option<written::Route>>>, root: &Spot) -> RouteTable {
        if written.is_missing() || matches!(&written, Field::Given(list) if list.value.is_empty()) {
            let mistake = written.spot().unwrap_or(root).mistake("there is no route: every request would be refused");
            self.findings.add(mistake.help("add at least one under `routes`"));
        }
        let written: Vec<written::Route> = written.given().unwrap_or_default().into_iter().flatten().collect();
        self.check_ids(&written);
        let mut spots = Vec::new();
        let mut routes = Vec::new();
        for route in written {
            let spot = route.path.spot().unwrap_or(&route.spot).clone();
            if let Some(route) = self.route(&route) {
                spots.push(spot);
                routes.push(Arc::new(route));
            }
        }
        RouteTable::new(routes.clone()).unwrap_or_else(|ties| {
            for tie in ties {
                // The table answers with indices into the list that it was given.
                let line = spots[tie.first].position.line;
                let first = quoted(&routes[tie.first].id);
                let message = format!("takes the same requests as the route {first} on line {line}");
                self.findings.add(spots[tie.second].mistake(message));
            }
            RouteTable::default()
        })
    }

    fn check_ids(&self, routes: &[written::Route]) {
        let mut known: Vec<&At<String>> = Vec::new();
        for route in routes {
            let Field::Given(id) = &route.id else { continue };
            match known.iter().find(|other| other.value == id.value) {
                Some(first) => {
                    let line = first.spot.position.line;
                    let message = format!("the id {} is already taken on line {line}", quoted(&id.value));
                    self.findings.add(id.spot.mistake(message));
                }
                None => known.push(id),
            }
        }
    }

    /// Compiles a route. `None` when nobody knows which requests it takes, so that it cannot be compared with the
    /// others; anything else that is broken has a stand-in. Everything is compiled before that decides.
    fn route(&self, written: &written::Route) -> Option<Route> {
        let (own, defaults) = (&written.own, &self.defaults);
        let access = self.access(written);
        let limits = self.limit_list(&own.limits.over(&defaults.limits));
        let request = self.inspect(&own.request, &defaults.request, Direction::Request);
        let response = self.inspect(&own.response, &defaults.response, Direction::Response);
        let upstream = self.upstream(&own.upstream.over(&defaults.upstream), &written.spot);
        let credentials = match own.credentials.over(&defaults.credentials).given() {
            Some(list) => places(Some(list)),
            None => Arc::clone(&self.credentials),
        };
        let assertion = self.route_assertion(&written.assertion, &upstream);
        let context = self.context(&written.context, &access);
        let underscore_headers = self.underscore_headers(&written.underscore_headers, &credentials, &upstream);
        let websocket = self.websocket(written, &request, &response);
        let gatekeeper = self.gatekeeper(own);
        let methods = written.methods.clone().given().unwrap_or_default();
        let methods = Methods::new(methods.into_iter().map(|method| method.value).collect());
        let cors = self.cors(own, &methods, &credentials);
        let (host, path, methods) = requests(written)?;
        Some(Route {
            gatekeeper,
            cors,
            id: written.id.as_ref().given().map_or("-", String::as_str).into(),
            host,
            path,
            methods,
            access,
            credentials,
            limits,
            request,
            response,
            upstream,
            assertion,
            context,
            format: own.format.over(&defaults.format).or(ErrorFormat::Keyward),
            echo_identity: own.echo_identity.over(&defaults.echo_identity).or(false),
            underscore_headers,
            trailers: names(own.trailers.over(&defaults.trailers)),
            websocket,
            slow: own.slow.over(&defaults.slow).or(SLOW),
        })
    }

    fn route_assertion(&self, written: &Field<RouteAssertion>, upstream: &Upstream) -> Option<Arc<Assertion>> {
        match written {
            Field::Missing => upstream.assertion.clone(),
            Field::Broken => None,
            Field::Given(At { value: RouteAssertion::Off, .. }) => None,
            Field::Given(At { value: RouteAssertion::Own(own), .. }) => self.key_ids.assertion(own, &upstream.name),
        }
    }

    /// What a route puts into its prompts. It needs somebody to name.
    fn context(&self, written: &Field<PromptContext>, access: &Access) -> Option<Arc<Context>> {
        let PromptContext { spot, format, template, values } = written.as_ref().given()?;
        if matches!(access, Access::Observe(_)) {
            let message = "a caller without a key has no owner that a prompt could name";
            self.findings.add(spot.mistake(message).help("remove `context`, or `auth: observe`"));
        }
        Some(Arc::new(Context {
            format: format.clone()?,
            template: template.clone()?,
            values: values.iter().map(|(name, source)| (name.clone(), source.value.clone())).collect(),
            imitations: self.rules.preset_set("context"),
        }))
    }

    /// Whether a connection may become a WebSocket, and what such a route cannot have beside it: each would be ignored.
    fn websocket(&self, written: &written::Route, request: &Inspect, response: &Inspect) -> bool {
        let Field::Given(At { value: list, spot }) = &written.upgrade else { return false };
        if list.is_empty() {
            return false;
        }
        if let Field::Given(methods) = &written.methods
            && !methods.value.iter().any(|method| method.value == Method::GET)
        {
            let message = "a WebSocket begins with a GET, which is not among the `methods`";
            self.findings.add(spot.mistake(message).help("add `GET` to `methods`, or leave `methods` out"));
        }
        if let Some(context) = written.context.spot() {
            let message = "messages of a WebSocket get no context, so `context` would mean nothing to them";
            self.findings.add(context.mistake(message).help("remove `context`, or `upgrade`"));
        }
        for (key, rules) in [("request", request), ("response", response)] {
            if rules.needs_text() && rules.action == Action::Sanitize {
                let message = format!("`sanitize` needs a body whole, and a WebSocket has none: see `{key}`");
                self.findings.add(spot.mistake(message).help(format!("use `redact` or `block` in `{key}`")));
            }
        }
        true
    }

    fn access(&self, route: &written::Route) -> Access {
        if matches!(&route.public, Field::Given(public) if public.value) {
            self.check_public(route);
            return Access::Public;
        }
        let scopes = match route.scopes.as_ref().given() {
            None => Scopes::All(Vec::new()),
            Some(written::Scopes::All(list)) => Scopes::All(list.clone()),
            Some(written::Scopes::Any(list)) => Scopes::Any(list.clone()),
        };
        match route.auth.as_ref().given() {
            None | Some(Auth::Key) => Access::Key(scopes),
            Some(Auth::Observe) => Access::Observe(scopes),
        }
    }

    /// What a public route cannot have: each would be ignored, and somebody believed in it.
    fn check_public(&self, route: &written::Route) {
        let spots = [
            ("scopes", route.scopes.spot()),
            ("auth", route.auth.spot()),
            ("credentials", route.own.credentials.spot()),
            ("echo_identity", asked(&route.own.echo_identity)),
            ("assertion", own_assertion(&route.assertion)),
            ("context", route.context.spot()),
        ];
        for (key, spot) in spots {
            if let Some(spot) = spot {
                let message = format!("a public route looks at no key, so `{key}` would mean nothing");
                self.findings.add(spot.mistake(message).help(format!("remove `{key}`, or `public: true`")));
            }
        }
    }

    /// The upstream of a route; the only one there is when neither the route nor the defaults name one.
    fn upstream(&self, written: &Field<String>, route: &Spot) -> Arc<Upstream> {
        let found = match written {
            Field::Given(name) => self.upstreams.find(name, self.findings),
            Field::Broken => None,
            Field::Missing => {
                if self.upstreams.is_ambiguous() {
                    let help = format!("defined: {}", self.upstreams.names().collect::<Vec<_>>().join(", "));
                    let message = "names no `upstream`, nor does `defaults`, and there are several";
                    self.findings.add(route.mistake(message).help(help));
                }
                self.upstreams.only().and_then(|name| self.upstreams.find(name, self.findings))
            }
        };
        found.unwrap_or_else(|| Arc::new(stand_in()))
    }

    /// Names that pass although they have an underscore, unless that would forge what the service trusts.
    fn underscore_headers(
        &self,
        written: &Field<Vec<At<HeaderName>>>,
        credentials: &[Place],
        upstream: &Upstream,
    ) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for name in written.as_ref().given().into_iter().flatten() {
            let spelled = folded(&name.value);
            let key =
                credentials.iter().any(|place| matches!(place, Place::Header(header) if header.as_str() == spelled));
            let set = upstream.set_headers.iter().any(|(header, _)| folded(header) == spelled);
            if key || set {
                let owner = if key { "a key stands in" } else { "the upstream is given" };
                let message = format!("a service may take `{}` for `{spelled}`, which {owner}", name.value);
                self.findings.add(name.spot.mistake(message));
            }
            names.push(name.value.clone());
        }
        names
    }
}

fn names(list: Field<Vec<At<HeaderName>>>) -> Arc<[HeaderName]> {
    list.given().unwrap_or_default().into_iter().map(|name| name.value).collect()
}

/// Where an option stands that is switched on; one that is switched off contradicts nothing.
fn asked(field: &Field<bool>) -> Option<&Spot> {
    field.spot().filter(|_| matches!(field, Field::Given(on) if on.value))
}

fn own_assertion(field: &Field<RouteAssertion>) -> Option<&Spot> {
    match field {
        Field::Given(At { value: RouteAssertion::Own(own), .. }) => Some(&own.spot),
        _ => None,
    }
}

/// Which requests a route takes, unless a part of that is broken.
fn requests(written: &written::Route) -> Option<(Option<Box<str>>, PathPattern, Methods)> {
    let host = match &written.host {
        Field::Missing => None,
        Field::Broken => return None,
        Field::Given(host) => Some(host.value.clone()),
    };
    let methods = match &written.methods {
        Field::Missing => Vec::new(),
        Field::Broken => return None,
        Field::Given(list) => list.value.iter().map(|method| method.value.clone()).collect(),
    };
    Some((host, written.path.clone().given()?, Methods::new(methods)))
}

/// Takes the place of an upstream that could not be compiled; never enforced.
fn stand_in() -> Upstream {
    Upstream {
        name: "-".into(),
        endpoints: Vec::new(),
        tls: UpstreamTls::default(),
        http2: Http2::Auto,
        timeouts: Timeouts { connect: Duration::ZERO, first_byte: Duration::ZERO, idle: Duration::ZERO, total: None },
        keepalive: Duration::ZERO,
        warm: 0,
        resolve: Duration::ZERO,
        max_concurrent: None,
        eject: None,
        breaker: None,
        retries: None,
        health: None,
        set_headers: Vec::new(),
        assertion: None,
    }
}
