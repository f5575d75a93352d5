//! A policy as `keyward check` prints it.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::key_service::Scope;
use crate::policy::{Access, ErrorFormat, Gatekeeper, Inspect, Limit, Policy, Route, Upstream};
use crate::scan::{Action, RuleSet, preset, presets};

use super::Compiled;
use super::process::ServeSpec;
use super::units::show_duration;

/// The route table, the rules, and the warnings.
pub fn summary(compiled: &Compiled) -> String {
    let mut text = String::new();
    if !compiled.policy.routes.routes().is_empty() {
        text.push_str(&route_table(&compiled.policy));
    }
    if let Some(serve) = &compiled.process.serve {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&key_service(serve));
    }
    if !compiled.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &compiled.warnings {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// Where the key service listens, and what each token may do.
fn key_service(serve: &ServeSpec) -> String {
    let scheme = if serve.tls.is_some() { "https" } else { "http" };
    let mut rows = vec![["TOKEN".to_owned(), "SCOPES".to_owned()]];
    let scopes = |scopes: &[Scope]| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
    rows.extend(serve.tokens.names().map(|(name, granted)| [name.to_owned(), scopes(granted)]));
    format!("key service {scheme}://{}\n{}", serve.address, aligned(&rows))
}

/// Every route in the file's order, then every list of rules that one of them applies.
pub fn route_table(policy: &Policy) -> String {
    let mut rows =
        vec![["ROUTE", "METHOD", "PATH", "SCOPES", "LIMITS", "REQUEST", "RESPONSE", "UPSTREAM"].map(String::from)];
    rows.extend(policy.routes.routes().iter().map(|route| row(route)));
    let mut text = aligned(&rows);
    let rules = rules(policy);
    if rules.len() > 1 {
        text.push('\n');
        text.push_str(&aligned(&rules));
    }
    text
}

fn row(route: &Route) -> [String; 8] {
    let path = match &route.host {
        Some(host) => format!("{host}{}", route.path),
        None => route.path.to_string(),
    };
    let path = if route.websocket { format!("{path} (websocket)") } else { path };
    [
        match route.format {
            ErrorFormat::Keyward => route.id.to_string(),
            ErrorFormat::OpenAi => format!("{} (openai)", route.id),
            ErrorFormat::Anthropic => format!("{} (anthropic)", route.id),
        },
        route.methods.to_string(),
        path,
        access(route),
        limits(&route.limits),
        inspect(&route.request),
        inspect(&route.response),
        upstream(&route.upstream),
    ]
}

fn upstream(upstream: &Upstream) -> String {
    let endpoints: Vec<String> = upstream.endpoints.iter().map(ToString::to_string).collect();
    format!("{} {}", upstream.name, endpoints.join(", "))
}

fn access(route: &Route) -> String {
    let mut text = match &route.access {
        Access::Public => "public".to_owned(),
        Access::Key(scopes) => scopes.to_string(),
        Access::Observe(scopes) => format!("{scopes} (observe)"),
    };
    let Gatekeeper { addresses, certificates } = &route.gatekeeper;
    if let Some(addresses) = addresses {
        let _ = write!(text, ", from {}", list(addresses));
    }
    if let Some(certificates) = certificates {
        let _ = write!(text, ", certified as {}", list(certificates));
    }
    if let Some(cors) = &route.cors {
        let _ = write!(text, ", scripts of {}", cors.origins);
    }
    text
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn limits(limits: &[Arc<Limit>]) -> String {
    let one = |limit: &Arc<Limit>| {
        let rate = limit.rate;
        let burst = if rate.capacity == rate.requests { String::new() } else { format!(" burst {}", rate.capacity) };
        format!("{} {}/{}{burst} by {}", limit.name, rate.requests, show_duration(rate.per), limit.by)
    };
    if limits.is_empty() { "-".to_owned() } else { limits.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn inspect(inspect: &Inspect) -> String {
    let mut parts = Vec::new();
    if !inspect.rules.is_empty() {
        parts.push(rule_list(&inspect.rules, inspect.action));
    }
    parts.extend(inspect.max_chars.map(|chars| format!("{chars} chars")));
    parts.extend(inspect.max_body_chars.map(|chars| format!("{chars} chars in all")));
    if parts.is_empty() {
        return "-".to_owned();
    }
    parts.extend(inspect.house.as_ref().map(|house| {
        let places: Vec<_> = house.join.iter().map(|path| path.as_str()).collect();
        format!("joins {}", places.join(", "))
    }));
    format!("{}: {}", action_of(inspect), parts.join(", "))
}

/// The action of all rules, or that each has its own.
fn action_of(inspect: &Inspect) -> &'static str {
    if inspect.rules.is_mixed() { "by rule" } else { action(inspect.action) }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Block => "block",
        Action::Redact => "redact",
        Action::Sanitize => "sanitize",
        Action::Observe => "observe",
    }
}

/// The rules as the file names them, and the views that they read through: where only some of them do, how many.
fn rule_list(rules: &RuleSet, mode: Action) -> String {
    let all = rules.rule_ids().len();
    let view = |(view, some)| if some == all { format!("{view}") } else { format!("{view} ({some} of {all})") };
    let views: Vec<String> = rules.views().into_iter().map(view).collect();
    let mut first = 0;
    let name = |(name, count): (String, usize)| {
        let own = action(rules.action_of(first, mode));
        first += count;
        if rules.is_mixed() { format!("{name} ({own})") } else { name }
    };
    let names = rule_names(rules.rule_ids()).into_iter().map(name).collect::<Vec<_>>().join(", ");
    if views.is_empty() { names } else { format!("{names} through {}", views.join(", ")) }
}

/// Rule ids as the file names them, the rules of a preset by its name; with how many rules each is.
fn rule_names(mut ids: &[Arc<str>]) -> Vec<(String, usize)> {
    let mut names = Vec::new();
    while let [first, rest @ ..] = ids {
        let whole = presets::NAMES.into_iter().find_map(|name| {
            let rules = preset(name)?;
            let here = ids.get(..rules.len())?;
            rules.iter().zip(here).all(|(rule, id)| rule.id == *id).then_some((name, rules.len()))
        });
        match whole {
            Some((name, length)) => {
                names.push((name.to_owned(), length));
                ids = &ids[length..];
            }
            None => {
                names.push((first.to_string(), 1));
                ids = rest;
            }
        }
    }
    names
}

/// How much of a stream each list of rules holds back, once per list and action.
fn rules(policy: &Policy) -> Vec<[String; 3]> {
    let mut rows = vec![["RULES", "ACTION", "HOLDS BACK"].map(String::from)];
    let inspects = policy.routes.routes().iter().flat_map(|route| [&route.request, &route.response]);
    for inspect in inspects.filter(|inspect| !inspect.rules.is_empty()) {
        let hold = match inspect.rules.max_hold(inspect.action) {
            Some(bytes) => format!("{bytes} bytes"),
            None => "unbounded".to_owned(),
        };
        let row = [rule_list(&inspect.rules, inspect.action), action_of(inspect).to_owned(), hold];
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
