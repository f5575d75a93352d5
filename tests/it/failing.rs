//! Services that fail, each in its way: what can be saved is saved, and the rest is told at once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::upstream::{Resolve, Resolving};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{Connection, Origin, Proxy, Reader, Reply, within};

const PUBLIC: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}]
";

/// How a service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nobody listens.
    Killed,
    /// Connections are taken, and nothing is ever answered.
    Paused,
    /// Connections are reset once a request has come.
    Resetting,
    /// Connections end once a request has come.
    Closing,
    /// Answers are not HTTP.
    Garbage,
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn respond(stream: TcpStream, fault: Option<Fault>, count: Arc<AtomicUsize>) {
    let mut reader = Reader::new(stream);
    while let Some(head) = reader.head().await {
        if let Some(length) = head.field("content-length") {
            reader.exactly(length.parse().expect("a length")).await;
        }
        count.fetch_add(1, Ordering::SeqCst);
        match fault {
            None => {
                if reader.stream().write_all(OK).await.is_err() {
                    return;
                }
            }
            Some(Fault::Paused | Fault::Killed) => std::future::pending::<()>().await,
            Some(Fault::Resetting) => {
                // Closing without lingering sends a reset instead of an end.
                let _ = socket2::SockRef::from(&*reader.stream()).set_linger(Some(Duration::ZERO));
                return;
            }
            Some(Fault::Closing) => return,
            Some(Fault::Garbage) => {
                let _ = reader.stream().write_all(b"ELEPHANT\r\n\r\n").await;
                return;
            }
        }
    }
}

async fn member(fault: Option<Fault>) -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = match fault {
        Some(Fault::Killed) => Origin::nowhere(),
        fault => Origin::raw(move |stream| respond(stream, fault, Arc::clone(&counted))).await,
    };
    (origin, count)
}

fn endpoints(origins: &[&Origin]) -> String {
    let list: Vec<String> = origins.iter().map(|origin| format!("'http://{}'", origin.address)).collect();
    format!("endpoints: [{}]", list.join(", "))
}

const RETRIES: &str = "retries: {attempts: 2, budget: 100}, eject: {failures: 3, for: 60s}, breaker: {failures: 20}";

async fn before(origins: &[&Origin], options: &str) -> Proxy {
    let options = format!("{}, {options}", endpoints(origins));
    let builder = Proxy::builder_to(origins[0].address).upstream(&options).config(PUBLIC);
    builder.base("first_byte: 10s", "first_byte: 500ms").start().await
}

#[tokio::test]
async fn one_bad_endpoint_of_three_costs_no_request_that_can_be_saved() {
    println!("fault      sent  ok  GET  POST  attempts at the bad one");
    for fault in [Fault::Killed, Fault::Paused, Fault::Resetting, Fault::Closing, Fault::Garbage] {
        let (bad, tries) = member(Some(fault)).await;
        let ((one, _), (two, _)) = (member(None).await, member(None).await);
        let proxy = before(&[&bad, &one, &two], RETRIES).await;
        let mut ok = [0, 0];
        for turn in 0..60 {
            let is_post = turn % 3 == 2;
            let request = if is_post { proxy.post("/a").json("{}") } else { proxy.get("/a") };
            let answer = request.send().await;
            ok[usize::from(is_post)] += usize::from(answer.status == 200);
        }
        let [gets, posts] = ok;
        println!(
            "{:<10} 60    {:<3} {gets:<4} {posts:<5} {}",
            format!("{fault:?}"),
            gets + posts,
            tries.load(Ordering::SeqCst)
        );
        let saved = match fault {
            // What was not sent is saved whatever it is.
            Fault::Killed => (40, 20),
            // An answer that has begun, even a broken one, is not asked for again; three of them eject the endpoint.
            Fault::Garbage => (gets.clamp(37, 40), posts.clamp(17, 20)),
            // A POST may have been worked on.
            Fault::Paused | Fault::Resetting | Fault::Closing => (40, posts.clamp(17, 20)),
        };
        assert_eq!((gets, posts), saved, "{fault:?}");
        assert!(tries.load(Ordering::SeqCst) <= 3, "{fault:?}: it is left out after three failures");
        let gauge = format!(r#"keyward_upstream_endpoint_up{{endpoint="http://{}",upstream="ai"}}"#, bad.address);
        within("the gauge", async { while proxy.metric(&gauge).await != 0.0 {} }).await;
    }
}

#[tokio::test]
async fn a_service_that_comes_back_is_found_by_who_waits_for_it() {
    let (failing, requests) = (Arc::new(AtomicUsize::new(2)), Arc::new(AtomicUsize::new(0)));
    let (left, count) = (Arc::clone(&failing), Arc::clone(&requests));
    let origin = Origin::raw(move |stream| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        respond(stream, fails.then_some(Fault::Closing), Arc::clone(&count))
    })
    .await;
    let proxy = before(&[&origin], RETRIES).await;
    assert_eq!(proxy.get("/a").send().await.status, 200);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    assert_eq!(proxy.metric(r#"keyward_upstream_retries_total{reason="closed",upstream="ai"}"#).await, 2.0);
    // Without `retries` nothing is asked twice.
    failing.store(1, Ordering::SeqCst);
    let proxy = before(&[&origin], "eject: off").await;
    assert_eq!(proxy.get("/a").send().await.code(), "UPSTREAM_BROKEN");
}

#[tokio::test]
async fn retries_have_a_budget_and_a_post_has_none() {
    let (bad, tries) = member(Some(Fault::Closing)).await;
    let proxy = before(&[&bad], "retries: {attempts: 1, budget: 10, backoff: 1ms}").await;
    for _ in 0..40 {
        assert_eq!(proxy.get("/a").send().await.code(), "UPSTREAM_BROKEN");
    }
    let tries = tries.load(Ordering::SeqCst);
    // Ten that were saved up, and one for ten requests.
    assert!((40 + 10..=40 + 14).contains(&tries), "{tries}");
    assert!(proxy.metric(r#"keyward_upstream_retries_denied_total{upstream="ai"}"#).await >= 26.0);
    let (bad, tries) = member(Some(Fault::Closing)).await;
    let proxy = before(&[&bad], RETRIES).await;
    assert_eq!(proxy.post("/a").json("{}").send().await.code(), "UPSTREAM_BROKEN");
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_breaker_opens_and_one_request_closes_it() {
    let broken = Arc::new(AtomicBool::new(true));
    let count = Arc::new(AtomicUsize::new(0));
    let (is_broken, counted) = (Arc::clone(&broken), Arc::clone(&count));
    let origin = Origin::raw(move |stream| {
        let fault = is_broken.load(Ordering::SeqCst).then_some(Fault::Closing);
        respond(stream, fault, Arc::clone(&counted))
    })
    .await;
    let options = format!("{}, breaker: {{failures: 3, for: 5s}}", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(PUBLIC).manual_clock().start().await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/a").send().await.code(), "UPSTREAM_BROKEN");
    }
    let refused = proxy.get("/a").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "UPSTREAM_UNAVAILABLE"));
    assert_eq!(refused.head.field("retry-after"), Some("5"));
    assert_eq!(count.load(Ordering::SeqCst), 3, "nobody was asked");
    let state = r#"keyward_upstream_breaker_state{upstream="ai"}"#;
    assert_eq!(proxy.metric(state).await, 2.0);
    assert_eq!(proxy.metric(r#"keyward_upstream_refused_total{reason="breaker",upstream="ai"}"#).await, 1.0);
    proxy.clock.advance(Duration::from_secs(5));
    assert_eq!(proxy.get("/a").send().await.code(), "UPSTREAM_BROKEN", "the one that tries");
    assert_eq!(proxy.get("/a").send().await.head.field("retry-after"), Some("10"));
    // A reload does not close it.
    proxy.reload(PUBLIC);
    assert_eq!(proxy.get("/a").send().await.code(), "UPSTREAM_UNAVAILABLE");
    broken.store(false, Ordering::SeqCst);
    proxy.clock.advance(Duration::from_secs(10));
    assert_eq!(proxy.get("/a").send().await.status, 200);
    assert_eq!(proxy.metric(state).await, 0.0);
}

#[tokio::test]
async fn requests_wait_in_line_and_not_for_long() {
    let (origin, begun, finish) = Origin::held().await;
    let options = format!("{}, max_concurrent: 1, queue: {{max: 1, wait: 30s}}", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(PUBLIC).start().await;
    let request = proxy.get("/a");
    let first = tokio::spawn({
        let request = request.clone();
        async move { request.send().await }
    });
    within("the first", begun.notified()).await;
    let second = tokio::spawn({
        let request = request.clone();
        async move { request.send().await }
    });
    let queue = r#"keyward_upstream_queue{upstream="ai"}"#;
    within("the second to wait", async { while proxy.metric(queue).await != 1.0 {} }).await;
    let third = request.send().await;
    assert_eq!((third.status, third.code().as_str(), third.head.field("retry-after")), (503, "OVERLOADED", Some("1")));
    assert_eq!(proxy.metric(r#"keyward_upstream_refused_total{reason="queue_full",upstream="ai"}"#).await, 1.0);
    finish.notify_one();
    assert_eq!(first.await.expect("the first").status, 200);
    within("the second", begun.notified()).await;
    assert_eq!(proxy.metric(queue).await, 0.0);
    finish.notify_one();
    assert_eq!(second.await.expect("the second").status, 200);
    // Whoever gives up leaves the line, and the slot of who gives up is free.
    let mut open = Connection::to(proxy.address).await;
    open.send(&request).await;
    within("the slot to be taken", begun.notified()).await;
    drop(open);
    let last = tokio::spawn(async move { request.send().await });
    within("the slot to be free", begun.notified()).await;
    // The first word is for the one that nobody waits for any more.
    finish.notify_one();
    finish.notify_one();
    assert_eq!(last.await.expect("the last").status, 200);
}

#[tokio::test]
async fn a_turn_that_does_not_come_and_a_request_that_takes_too_long() {
    let (origin, begun, _finish) = Origin::held().await;
    let options = format!("{}, max_concurrent: 1, queue: {{wait: 50ms}}", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(PUBLIC).start().await;
    let mut open = Connection::to(proxy.address).await;
    open.send(&proxy.get("/a")).await;
    within("the first", begun.notified()).await;
    assert_eq!(proxy.get("/a").send().await.code(), "OVERLOADED");
    assert_eq!(proxy.metric(r#"keyward_upstream_refused_total{reason="queue_wait",upstream="ai"}"#).await, 1.0);

    // Each piece comes in time, and all of them do not.
    let origin = Origin::raw(|stream| async move {
        let mut reader = Reader::new(stream);
        reader.head().await;
        let _ = reader.stream().write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while reader.stream().write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let proxy = Proxy::builder_to(origin.address).upstream(&endpoints(&[&origin])).config(PUBLIC);
    let proxy = proxy.base("idle: 10s", "idle: 10s, total: 300ms").start().await;
    let answer = proxy.get("/a").send().await;
    assert!(answer.status == 200 && !answer.complete, "{answer:?}");
    assert_eq!(proxy.metric(r#"keyward_upstream_timeouts_total{upstream="ai",wait="total"}"#).await, 1.0);

    // The wait before another attempt counts: the endpoint is not there, and would be asked again much later.
    let again = "endpoints: unix:nobody.sock, retries: {attempts: 1, budget: 100, backoff: 10s}";
    let proxy = Proxy::builder_to(origin.address).upstream(again).config(PUBLIC);
    let proxy = proxy.base("idle: 10s", "idle: 10s, total: 300ms").start().await;
    assert_eq!(proxy.get("/a").send().await.status, 504);
}

#[tokio::test]
async fn requests_go_where_the_fewest_are() {
    let (busy, begun, finish) = Origin::held().await;
    let (free, served) = member(None).await;
    let proxy = before(&[&busy, &free], "eject: off").await;
    // Turns decide who is first; the second one goes to the other.
    let mut held = None;
    while held.is_none() {
        let request = proxy.get("/a");
        let answer = tokio::spawn(async move { request.send().await });
        tokio::select! {
            () = begun.notified() => held = Some(answer),
            () = async { while served.load(Ordering::SeqCst) == 0 { tokio::task::yield_now().await } } => served.store(0, Ordering::SeqCst),
        }
    }
    for _ in 0..10 {
        assert_eq!(proxy.get("/a").send().await.status, 200);
    }
    assert_eq!(served.load(Ordering::SeqCst), 10);
    finish.notify_one();
}

#[tokio::test]
async fn checks_take_an_endpoint_out_and_bring_it_back() {
    let (well, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_well, count) = (Arc::clone(&well), Arc::clone(&asked));
    let origin = Origin::answering(move |request| {
        if request.head.first_line.starts_with("GET /healthz ") {
            count.fetch_add(1, Ordering::SeqCst);
            return Reply::new(if is_well.load(Ordering::SeqCst) { 204 } else { 500 }, "text/plain", "");
        }
        Reply::json("{}")
    })
    .await;
    let health = "health: {path: /healthz, interval: 100ms, healthy: 2, unhealthy: 2}";
    let options = format!("{}, {health}", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(PUBLIC).workers(2).start().await;
    let ready = async |wanted: u16| {
        within("the readiness to change", async {
            loop {
                let answer = proxy.health("/readyz").await;
                if answer.status == wanted {
                    return answer.text();
                }
            }
        })
        .await
    };
    assert!(ready(503).await.contains(r#""failing_upstreams":["ai"]"#));
    // There is no other: a refusal would help nobody.
    assert_eq!(proxy.get("/a").send().await.status, 200);
    well.store(true, Ordering::SeqCst);
    assert!(!ready(200).await.contains("failing"));
    // Nobody checks any more.
    well.store(false, Ordering::SeqCst);
    proxy.reload_base(health, "warm: 0", PUBLIC);
    assert_eq!(proxy.health("/readyz").await.status, 200);
}

/// Names that a test changes.
#[derive(Debug)]
struct Names(Mutex<Vec<SocketAddr>>);

impl Resolve for Names {
    fn resolve(&self, host: &str, _: u16) -> Resolving {
        assert_eq!(host, "model.test");
        let list = self.0.lock().expect("no test panics here").clone();
        Box::pin(async move { Ok(list) })
    }
}

#[tokio::test]
async fn a_name_that_moves_is_followed() {
    let say = |word: &'static str| Origin::json(word);
    let (old, new) = (say("\"old\"").await, say("\"new\"").await);
    let names = Arc::new(Names(Mutex::new(vec![old.address])));
    let set = |addresses: Vec<SocketAddr>| *names.0.lock().expect("no test panics here") = addresses;
    let proxy = Proxy::builder_to(old.address).upstream("endpoints: ['http://model.test:80'], keepalive: 1h");
    let proxy = proxy.resolver(Arc::clone(&names) as Arc<dyn Resolve>).config(PUBLIC).manual_clock().start().await;
    let ask = async || proxy.get("/a").send().await.text();
    assert_eq!((ask().await.as_str(), old.connections()), ("\"old\"", 1));
    set(vec![new.address]);
    assert_eq!((ask().await.as_str(), old.connections()), ("\"old\"", 1), "its time has not come");
    proxy.clock.advance(Duration::from_secs(30));
    within("the name to be asked for", async { while ask().await != "\"new\"" {} }).await;
    assert_eq!((old.connections(), new.connections()), (1, 1), "the old connection takes no more");
    // The first address does not answer, the second one does.
    set(vec![Origin::nowhere().address, old.address]);
    proxy.clock.advance(Duration::from_secs(30));
    within("the name to be asked for", async { while ask().await != "\"old\"" {} }).await;
    assert_eq!(new.connections(), 1);
}

#[tokio::test]
async fn connections_are_ready_before_anybody_asks() {
    let opened = Arc::new(Notify::new());
    let tell = Arc::clone(&opened);
    let origin = Origin::raw(move |stream| {
        tell.notify_one();
        respond(stream, None, Arc::default())
    })
    .await;
    let options = format!("{}, warm: 2, keepalive: 1h", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(PUBLIC).start().await;
    within("the connections", async {
        while origin.connections() < 2 {
            opened.notified().await;
        }
    })
    .await;
    let gauge = r#"keyward_upstream_connections{upstream="ai"}"#;
    within("the gauge", async { while proxy.metric(gauge).await != 2.0 {} }).await;
    assert_eq!(proxy.get("/a").send().await.status, 200);
    assert_eq!(origin.connections(), 2);
    assert_eq!(proxy.metric(r#"keyward_upstream_requests_total{connection="reused",upstream="ai"}"#).await, 1.0);
}

/// A service in HTTP/2 that refuses the first `refusals` requests, and says goodbye after each one that it answers.
async fn http2_service(refusals: usize, says_goodbye: bool) -> (Origin, Arc<AtomicUsize>) {
    let (left, answered) = (Arc::new(AtomicUsize::new(refusals)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&answered);
    let origin = Origin::raw(move |stream| {
        let (left, count) = (Arc::clone(&left), Arc::clone(&count));
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let head = http::Response::builder().header("content-length", 2).body(()).expect("a response");
                let mut body = respond.send_response(head, false).expect("the client is there");
                body.send_data(bytes::Bytes::from_static(b"ok"), true).expect("the client is there");
                if says_goodbye {
                    connection.graceful_shutdown();
                }
            }
        }
    })
    .await;
    (origin, answered)
}

#[tokio::test]
async fn what_a_service_has_not_begun_with_is_sent_again_whatever_it_is() {
    let (origin, answered) = http2_service(2, false).await;
    let proxy = before(&[&origin], "http2: true").await;
    assert_eq!(proxy.get("/a").send().await.status, 200);
    assert_eq!(proxy.metric(r#"keyward_upstream_requests_total{connection="resent",upstream="ai"}"#).await, 2.0);
    assert_eq!((answered.load(Ordering::SeqCst), origin.connections()), (1, 1));

    // A service that says goodbye after each answer: requests that come at the same moment are lost by nobody.
    let (origin, answered) = http2_service(0, true).await;
    let held = "
defaults: {upstream: ai}
routes: [{id: all, path: /**, public: true}]
";
    let options = format!("{}, http2: true", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(held).start().await;
    for _ in 0..10 {
        let posts: Vec<_> = (0..4)
            .map(|_| {
                let post = proxy.post("/a").json("{}");
                tokio::spawn(async move { post.send().await.status })
            })
            .collect();
        for post in posts {
            assert_eq!(post.await.expect("a client"), 200);
        }
    }
    assert_eq!(answered.load(Ordering::SeqCst), 40, "each was answered once");
}

#[tokio::test]
async fn a_goodbye_for_an_error_is_a_broken_connection() {
    let broken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&broken);
    let origin = Origin::raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let mut unanswered = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.method() == "POST" || count.load(Ordering::SeqCst) == 0 {
                    count.fetch_add(1, Ordering::SeqCst);
                    unanswered.push(respond);
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                } else {
                    // Its client may have gone.
                    let _ = respond.send_response(http::Response::new(()), true);
                }
            }
        }
    })
    .await;
    let proxy = before(&[&origin], &format!("http2: true, {RETRIES}")).await;
    assert_eq!(proxy.get("/a").send().await.status, 200, "what is idempotent is sent again");
    assert_eq!((broken.load(Ordering::SeqCst), origin.connections()), (1, 2));
    assert_eq!(proxy.post("/a").json("{}").send().await.status, 502);
    assert_eq!(broken.load(Ordering::SeqCst), 2, "once");
}

#[tokio::test]
async fn requests_share_a_connection_in_http2_as_far_as_the_service_allows() {
    let held = Arc::new(tokio::sync::Semaphore::new(0));
    let (arrived, waiting) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&held));
    let count = Arc::clone(&arrived);
    let origin = Origin::raw(move |stream| {
        let (count, waiting) = (Arc::clone(&count), Arc::clone(&waiting));
        async move {
            let mut server = h2::server::Builder::new();
            let shaken = server.max_concurrent_streams(2).handshake::<_, bytes::Bytes>(stream).await;
            let mut connection = shaken.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let waiting = Arc::clone(&waiting);
                tokio::spawn(async move {
                    waiting.acquire().await.expect("open").forget();
                    // Its client may have gone.
                    let _ = respond.send_response(http::Response::new(()), true);
                });
            }
        }
    })
    .await;
    let options = format!("{}, http2: true", endpoints(&[&origin]));
    let proxy = Proxy::builder_to(origin.address).upstream(&options).config(PUBLIC).start().await;
    let ask = || {
        let get = proxy.get("/a");
        tokio::spawn(async move { get.send().await.status })
    };
    held.add_permits(1);
    assert_eq!(ask().await.expect("a client"), 200);
    let open: Vec<_> = (0..6).map(|_| ask()).collect();
    within("six requests at once", async {
        while arrived.load(Ordering::SeqCst) < 7 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(origin.connections(), 3, "two on each");
    held.add_permits(6);
    for request in open {
        assert_eq!(request.await.expect("a client"), 200);
    }
}
