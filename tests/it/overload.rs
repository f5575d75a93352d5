//! More clients than there is room for, and clients that keep others waiting.

use crate::harness::{Connection, Origin, Proxy};

const LISTEN: &str = "listen: {address: '127.0.0.1:0'";

#[tokio::test]
async fn whoever_comes_when_all_places_are_taken_waits_for_one() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).base(LISTEN, &format!("{LISTEN}, max_connections: 1")).start().await;
    let request = proxy.get("/").key(&proxy.org_key);
    let mut first = Connection::to(proxy.address).await;
    assert_eq!(first.request(&request).await.status, 200);
    let mut second = Connection::to(proxy.address).await;
    second.send(&request).await;
    assert_eq!(first.request(&request).await.status, 200);
    assert_eq!(proxy.metric("keyward_connections").await, 1.0);
    assert_eq!(origin.received().len(), 2);
    drop(first);
    assert_eq!(second.answer("GET").await.status, 200);
}

#[tokio::test]
async fn clients_that_say_nothing_or_half_of_it_are_counted() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).base("body: 20s", "header: 300ms").start().await;
    let header = "keyward_client_timeouts_total{wait=\"header\"}";
    for (seen, said) in ["", "PRI * HT", "GET / HTTP/1.1\r\nHo"].iter().enumerate() {
        assert_eq!(proxy.metric(header).await, seen as f64);
        let mut connection = Connection::to(proxy.address).await;
        connection.write(said).await;
        // Some get an answer that says why.
        while connection.0.line().await.is_some() {}
    }
    assert_eq!(proxy.metric(header).await, 3.0);
    assert!(origin.received().is_empty());
}
