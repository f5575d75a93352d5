//! Whom a chain of proxies is believed to name, whatever its first part says.

use super::*;
use proptest::prelude::*;

fn read(lines: &[(&'static str, &str)], trusted: &[&str]) -> Provenance {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("a header value"));
    }
    let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().expect("a network")).collect();
    Provenance::read(&headers, "10.0.0.9".parse().expect("an address"), Scheme::Http, &trusted)
}

fn client(lines: &[(&'static str, &str)], trusted: &[&str]) -> String {
    read(lines, trusted).client.to_string()
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_says() {
    let lines = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=5.6.7.8"), ("x-request-id", "mine")];
    let provenance = read(&lines, &[]);
    assert_eq!(provenance.client.to_string(), "10.0.0.9");
    assert_eq!(provenance.request_id, None);
}

#[test]
fn the_rightmost_untrusted_address_is_the_client() {
    let trusted = ["10.0.0.0/8", "fd00::/8"];
    assert_eq!(client(&[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.1.1.1")], &trusted), "1.2.3.4");
    assert_eq!(client(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")], &trusted), "1.2.3.4");
    assert_eq!(client(&[("x-forwarded-for", "6.6.6.6, junk, 10.1.1.1")], &trusted), "10.1.1.1");
    assert_eq!(client(&[("forwarded", "for=\"[2001:db8::1]:99\";proto=https, for=10.1.1.1")], &trusted), "2001:db8::1");
    assert_eq!(client(&[("x-forwarded-for", "::ffff:1.2.3.4")], &trusted), "1.2.3.4");
    assert_eq!(client(&[], &trusted), "10.0.0.9");
    let both = |listed| [("x-forwarded-for", listed), ("forwarded", "for=1.2.3.4, for=10.1.1.1")];
    assert_eq!(client(&both("1.2.3.4, 10.1.1.1"), &trusted), "1.2.3.4");
    assert_eq!(client(&both("6.6.6.6"), &trusted), "10.0.0.9", "one of them is the client's own");
}

#[test]
fn every_address_of_the_chain_is_told() {
    let trusted = ["10.0.0.0/8", "2001:db8::/32"];
    let provenance = read(&[("x-forwarded-for", "100.20.3.0, 2001:db8::7")], &trusted);
    let mut out = HeaderMap::new();
    provenance.stamp(&mut out);
    assert_eq!(out[FORWARDED_FOR], "100.20.3.0, 2001:db8::7, 10.0.0.9");
    assert_eq!(out[header::FORWARDED], "for=100.20.3.0, for=\"[2001:db8::7]\", for=10.0.0.9;proto=http");
    assert_eq!(out[REAL_IP], "100.20.3.0");
}

#[test]
fn stamps_replace_what_was_there() {
    let provenance = read(&[("host", "api.example"), ("x-forwarded-for", "6.6.6.6")], &[]);
    let mut out = HeaderMap::new();
    out.insert(header::HOST, HeaderValue::from_static("settled.example"));
    out.append(FORWARDED_FOR, HeaderValue::from_static("6.6.6.6"));
    provenance.stamp(&mut out);
    assert_eq!(out[FORWARDED_FOR], "10.0.0.9");
    assert_eq!(out[header::FORWARDED], "for=10.0.0.9;proto=http");
    assert_eq!(out[FORWARDED_HOST], "settled.example");
    assert_eq!(out[REAL_IP], "10.0.0.9");
}

const ADDRESSES: &str = "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}";

/// What a client may write into a header that it should not write.
fn forged() -> impl Strategy<Value = String> {
    prop_oneof![
        ADDRESSES.prop_map(|address| address),
        ADDRESSES.prop_map(|address| format!("for={address};by=10.0.0.1")),
        Just("for=\"[2001:db8::1]:99\"".to_owned()),
        Just("for=_hidden, for=unknown".to_owned()),
        Just("for=\"".to_owned()),
        Just("\"10.0.0.1, ".to_owned()),
        Just("10.0.0.1".to_owned()),
        Just(",".to_owned()),
        "[ -~]{0,40}",
    ]
}

/// An address that no configuration here trusts.
fn client_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([203, 0, a, b])),
        any::<u64>().prop_map(|low| Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(low)).into()),
    ]
}

/// A trusted proxy between the client and the peer.
fn proxy_address() -> impl Strategy<Value = IpAddr> {
    any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c]))
}

/// One address as an honest proxy may write it into `X-Forwarded-For`.
fn listed(address: IpAddr, style: u8) -> String {
    match (address, style % 3) {
        (_, 0) => address.to_string(),
        (IpAddr::V4(address), 1) => format!("{address}:8080"),
        (IpAddr::V4(address), _) => format!("::ffff:{address}"),
        (IpAddr::V6(address), 1) => format!("[{address}]:8080"),
        (IpAddr::V6(address), _) => format!("[{address}]"),
    }
}

/// One address as an honest proxy may write it into `Forwarded`.
fn element(address: IpAddr, style: u8) -> String {
    let node = match (address, style % 3) {
        (IpAddr::V4(address), 0) => address.to_string(),
        (IpAddr::V4(address), 1) => format!("\"{address}:_port-1\""),
        (IpAddr::V4(address), _) => format!("\"{address}:80\""),
        (IpAddr::V6(address), 0) => format!("\"[{address}]\""),
        (IpAddr::V6(address), 1) => format!("\"[{address}]:_p\""),
        (IpAddr::V6(address), _) => format!("\"[{address}]:80\""),
    };
    match style % 4 {
        0 => format!("for={node}"),
        1 => format!("For={node};proto=https"),
        2 => format!("proto=http; FOR={node} ;by=_x"),
        _ => format!("by=\"[fd00::1]\";for={node}"),
    }
}

/// The lines of a header in which each sender appended to what it got, either to the last line or as a new one.
fn lines(forged: &[String], honest: &[String], split: u8) -> Vec<String> {
    let mut lines = forged.to_vec();
    for (index, text) in honest.iter().enumerate() {
        match lines.last_mut() {
            Some(last) if (split >> (index % 8)) & 1 == 0 => *last = format!("{last}, {text}"),
            _ => lines.push(text.clone()),
        }
    }
    lines
}

fn resolved(name: &'static str, lines: &[String], trusted: &[&str]) -> Provenance {
    let lines: Vec<(&'static str, &str)> = lines.iter().map(|line| (name, line.trim())).collect();
    read(&lines, trusted)
}

const TRUSTED: [&str; 1] = ["10.0.0.0/8"];

proptest! {
    #[test]
    fn without_trusted_peers_no_header_changes_anything(
        forwarded in prop::collection::vec(forged(), 0..4),
        listed in prop::collection::vec(forged(), 0..4),
        others in prop::collection::vec(("x-(real-ip|client-ip|forwarded-host|forwarded-proto|request-id)", forged()), 0..4),
    ) {
        let mut headers = HeaderMap::new();
        let named = |name: &'static str| move |text: String| (name.to_owned(), text);
        let all = forwarded.into_iter().map(named("forwarded")).chain(listed.into_iter().map(named("x-forwarded-for")));
        for (name, text) in all.chain(others) {
            let name = HeaderName::try_from(name).expect("a name");
            headers.append(name, HeaderValue::try_from(text.trim()).expect("a value"));
        }
        let peer = IpAddr::from([10, 0, 0, 9]);
        let read = Provenance::read(&headers, peer, Scheme::Https, &[]);
        prop_assert_eq!((read.client, read.chain, read.request_id, read.host), (peer, vec![peer], None, None));
        prop_assert_eq!(read.scheme, Scheme::Https);
    }

    #[test]
    fn a_forged_chain_resolves_to_the_rightmost_address_that_is_not_trusted(
        junk in prop::collection::vec(forged(), 0..4),
        client in client_address(),
        proxies in prop::collection::vec(proxy_address(), 0..3),
        styles in any::<[u8; 4]>(),
        split: u8,
    ) {
        let honest: Vec<IpAddr> = std::iter::once(client).chain(proxies).collect();
        let write = |form: fn(IpAddr, u8) -> String| -> Vec<String> {
            honest.iter().zip(styles).map(|(address, style)| form(*address, style)).collect()
        };
        let by_list = resolved("x-forwarded-for", &lines(&junk, &write(listed), split), &TRUSTED);
        prop_assert_eq!(by_list.client, client);
        let by_element = resolved("forwarded", &lines(&junk, &write(element), split), &TRUSTED);
        prop_assert_eq!(by_element.client, client);
    }

    #[test]
    fn behind_a_hidden_client_nothing_is_believed(
        junk in prop::collection::vec(forged(), 0..4),
        proxy in proxy_address(),
        hidden in "(_[a-z0-9]{1,8}|unknown|[a-z]{1,8}|999\\.1\\.1\\.1|10\\.1|)",
        split: u8,
    ) {
        // The first of ours did not say who came to it: the client is nobody before it.
        let list = lines(&junk, &[hidden.clone(), proxy.to_string()], split);
        prop_assert_eq!(resolved("x-forwarded-for", &list, &TRUSTED).client, proxy);
        let elements = lines(&junk, &[format!("for={hidden}"), format!("for={proxy}")], split);
        prop_assert_eq!(resolved("forwarded", &elements, &TRUSTED).client, proxy);
    }
}
