//! Whether a service can be reached past this proxy.
//!
//! Enters: the upstreams in force. Leaves: those on loopback whose port answers on another address of this machine or
//! Pod as well, to the log, a metric and readiness. An attempt to connect, and nothing is sent.
//!
//! It finds the usual mistake, a service that listens on 0.0.0.0. It is no proof: it asks from inside, where no firewall
//! and no network policy is in the way, and knows nothing of other ways around.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpStream;

use super::Readiness;
use crate::observe::Metrics;
use crate::pipeline::Pipeline;
use crate::policy::Endpoint;

/// A service may come up long after its sidecar, and be restarted with another address.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// One's own addresses answer at once.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What readiness makes of an exposed service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// It tells of it.
    Warn,
    /// It fails.
    Refuse,
    /// Nobody looks.
    Ignore,
}

/// Looks again and again, until the pipeline is gone. `own_ports` are those that we listen on ourselves.
pub async fn watch(pipeline: Weak<Pipeline>, own_ports: Vec<u16>, readiness: Readiness, metrics: Arc<Metrics>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut known = BTreeSet::new();
    loop {
        looks.tick().await;
        let Some(upstreams) = pipeline.upgrade().map(|pipeline| pipeline.upstreams()) else { return };
        let addresses = tokio::task::spawn_blocking(own_addresses).await.unwrap_or_default();
        let mut exposed = BTreeSet::new();
        for (name, endpoints) in upstreams {
            let found = answering(&endpoints, &addresses, &own_ports).await;
            metrics.upstream_exposed.with_label_values(&[&name]).set(i64::from(found.is_some()));
            let Some(address) = found else { continue };
            if !known.contains(&name) {
                tracing::warn!(
                    upstream = &*name, %address,
                    "the service answers there too, where its callers need no key: let it listen on 127.0.0.1"
                );
            }
            exposed.insert(name);
        }
        readiness.exposed(exposed.iter().map(|name| name.to_string()).collect());
        known = exposed;
    }
}

/// Where else than on loopback an endpoint of this machine answers. A Unix socket is reached by nobody else.
async fn answering(endpoints: &[Endpoint], addresses: &[IpAddr], own_ports: &[u16]) -> Option<SocketAddr> {
    for endpoint in endpoints {
        let Endpoint::Tcp { host, port, .. } = endpoint else { continue };
        let loopback = host.parse::<IpAddr>().map_or(&**host == "localhost", |host| host.is_loopback());
        if !loopback || own_ports.contains(port) {
            continue;
        }
        for address in addresses {
            let address = SocketAddr::new(*address, *port);
            if let Ok(Ok(_)) = tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await {
                return Some(address);
            }
        }
    }
    None
}

/// The addresses by which this machine or Pod can be reached from elsewhere.
fn own_addresses() -> Vec<IpAddr> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let found: BTreeSet<IpAddr> = local_v4(&v4).map(IpAddr::V4).chain(global_v6(&v6).map(IpAddr::V6)).collect();
    found.into_iter().collect()
}

/// `/proc/net/fib_trie` has an address on one line and what it is for on those below it.
fn local_v4(trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut last = None;
    trie.lines().filter_map(move |line| match line.trim().strip_prefix("|-- ") {
        Some(address) => {
            last = address.parse::<Ipv4Addr>().ok();
            None
        }
        None if line.trim() == "/32 host LOCAL" => last.filter(|address| !address.is_loopback()),
        None => None,
    })
}

/// `/proc/net/if_inet6`: the address in hex, and in the fourth column its scope, which is 00 where it is global.
fn global_v6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let (address, scope) = (columns.next()?, columns.nth(2)?);
        (scope == "00").then(|| u128::from_str_radix(address, 16).ok().map(Ipv6Addr::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn own_addresses_are_read_from_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.1.0.0/16 2 0 2\n        \
                    |-- 10.1.0.0\n           /16 link UNICAST\n        |-- 10.1.2.3\n           /32 host LOCAL\n        \
                    |-- 10.1.255.255\n           /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie).collect::<Vec<_>>(), [Ipv4Addr::new(10, 1, 2, 3)]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\n\
                     20010db8000000000000000000000007 02 40 00 80     eth0\n";
        assert_eq!(global_v6(table).collect::<Vec<_>>(), ["2001:db8::7".parse::<Ipv6Addr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_service_on_every_address_is_found_and_one_on_loopback_is_not() {
        // Another address of this machine that no service of 127.0.0.1 answers on.
        let other = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))];
        let endpoint = |listener: &TcpListener, host: &str| {
            let port = listener.local_addr().unwrap().port();
            [Endpoint::Unix("/service".into()), Endpoint::Tcp { tls: false, host: host.into(), port }]
        };
        let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let loopback = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = everywhere.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let found = answering(&endpoint(&everywhere, host), &other, &[]).await;
            assert_eq!(found, Some(SocketAddr::new(other[0], port)), "{host}");
            assert_eq!(answering(&endpoint(&loopback, host), &other, &[]).await, None, "{host}");
        }
        assert_eq!(answering(&endpoint(&everywhere, "service.example"), &other, &[]).await, None, "it is elsewhere");
        assert_eq!(answering(&endpoint(&everywhere, "127.0.0.1"), &other, &[port]).await, None, "it is ourselves");
    }
}
