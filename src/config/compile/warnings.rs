//! What is allowed, and worth knowing before it is relied on.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::process::{Credentials, KindeSpec, ServeSpec, VerifierSpec};
use crate::policy::{BodyClass, Policy, Route};
use crate::scan::Action;

use super::Compiler;

/// All warnings of a policy, each one line.
pub(super) fn all(compiler: &Compiler<'_>, policy: &Policy) -> Vec<String> {
    let mut warnings: Vec<String> = streams(policy).into_iter().collect();
    if policy.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        warnings.push("trusted_proxies trusts every address: any client can say where it comes from".to_owned());
    }
    warnings.extend(compiler.upstreams.unused());
    warnings.extend(compiler.limits.unused());
    warnings.extend(compiler.rules.unused());
    warnings
}

/// Whose word is taken for where connections come from.
pub(super) fn proxy_protocol(peers: &[IpNet]) -> Option<String> {
    peers.iter().any(|network| network.prefix_len() == 0).then(|| {
        "listen.proxy_protocol takes every peer's word: any client that reaches it can say where it comes from"
            .to_owned()
    })
}

/// What a way to Kinde is not protected by, or cannot do.
pub(super) fn verifier(verifier: &VerifierSpec) -> Vec<String> {
    let VerifierSpec::Kinde(KindeSpec { origin, credentials, .. }) = verifier else { return Vec::new() };
    let mut warnings = Vec::new();
    if !origin.tls {
        warnings.push(format!("keys.kinde.url: keys and tokens go to {origin} without TLS, within this machine"));
    } else if matches!(credentials, Credentials::Client { .. }) && !origin.host.ends_with(".kinde.com") {
        warnings.push(format!(
            "keys.kinde.url: {origin} is not under kinde.com; Kinde issues no token for its API on custom domains"
        ));
    }
    warnings
}

/// What the way to the key service is not protected by.
pub(super) fn serve(serve: &ServeSpec) -> Option<String> {
    let host = &*serve.address.host;
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    (serve.tls.is_none() && !loopback).then(|| {
        format!(
            "keys.serve: keys and tokens come to {} unencrypted; add `tls`, unless something on the way encrypts",
            serve.address
        )
    })
}

/// Where responses that arrive in pieces meet an action that needs them whole.
fn streams(policy: &Policy) -> Option<String> {
    let refused = |route: &&Route| {
        let kinds = &route.response.content_types;
        route.response.needs_text()
            && route.response.action == Action::Sanitize
            && (kinds.contains(&BodyClass::EventStream) || kinds.contains(&BodyClass::Ndjson))
    };
    let routes = policy.routes.routes().iter().map(|route| &**route).filter(refused);
    let ids: Vec<&str> = routes.map(|route| &*route.id).collect();
    let refused = on_routes(&ids);
    (!ids.is_empty()).then(|| {
        format!("streamed responses are refused on {refused}: `sanitize` needs a body whole, `redact` does not")
    })
}

fn on_routes(ids: &[&str]) -> String {
    format!("{} {}", if ids.len() == 1 { "route" } else { "routes" }, ids.join(", "))
}
