//! HTTP/2 from clients: by prior knowledge here, over TLS in `tls`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::harness::{Origin, Proxy, Reader, Reply, within};

/// A client connection, and how it ends.
pub struct Client {
    sender: SendRequest<UnsyncBoxBody<Bytes, Infallible>>,
    pub ended: JoinHandle<hyper::Result<()>>,
}

impl Client {
    pub async fn to(proxy: &Proxy) -> Self {
        Self::over(TcpStream::connect(proxy.address).await.expect("a connection")).await
    }

    pub async fn over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
        Self { sender, ended: tokio::spawn(connection) }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.send_body(request.map(BodyExt::boxed_unsync)).await
    }

    /// Sends a `POST` with a body of one piece and what follows it.
    pub async fn send_with_trailers(
        &mut self,
        path: &str,
        body: &'static [u8],
        trailers: HeaderMap,
    ) -> hyper::Result<Response<Incoming>> {
        // Without a length: over HTTP/1.1 there are no trailers behind one.
        let (mut sender, whole) = Channel::new(2);
        sender.send_data(Bytes::from_static(body)).await.expect("room");
        sender.send_trailers(trailers).await.expect("room");
        drop(sender);
        self.send_body(get(path).method("POST").body(whole.boxed_unsync()).expect("a request")).await
    }

    async fn send_body(
        &mut self,
        request: Request<UnsyncBoxBody<Bytes, Infallible>>,
    ) -> hyper::Result<Response<Incoming>> {
        within("the connection", self.sender.ready()).await?;
        within("the answer", self.sender.send_request(request)).await
    }
}

pub fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://service.example{path}"))
}

async fn text(response: Response<Incoming>) -> String {
    let body = within("the body", response.into_body().collect()).await.expect("a whole body");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

#[tokio::test]
async fn a_request_is_the_same_whatever_it_came_by() {
    let origin = Origin::json(r#"{"a":1}"#).await;
    let proxy = Proxy::before(&origin).await;
    let mut client = Client::to(&proxy).await;
    let request = get("/a?b=c")
        .method("POST")
        .header("authorization", format!("Bearer {}", proxy.org_key))
        .header("content-type", "application/json")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-org-code", "forged")
        .header("x_user_id", "forged")
        .header("x-forwarded-proto", "https")
        .header("te", "trailers")
        .body(Full::from(r#"{"n":1}"#))
        .expect("a request");
    let answer = client.send(request).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert_eq!(answer.headers()["content-length"], "7");
    assert_eq!(text(answer).await, r#"{"a":1}"#);
    let received = origin.only();
    assert_eq!(received.head.first_line, "POST /a?b=c HTTP/1.1");
    let field = |name: &str| received.head.field(name).map(str::to_owned);
    for (name, value) in [
        ("host", Some("service.example")),
        ("x-org-code", Some("org_customer_abc")),
        ("x_user_id", None),
        ("x-user-id", None),
        ("authorization", None),
        ("cookie", Some("a=1; b=2")),
        ("content-length", Some("7")),
        ("te", None),
        ("x-forwarded-proto", Some("http")),
    ] {
        assert_eq!(field(name).as_deref(), value, "{name}");
    }
    assert_eq!(received.body, br#"{"n":1}"#);
    let (_, records) = proxy.stop().await;
    assert_eq!((&records[0]["status"], &records[0]["outcome"]), (&200.into(), &"complete".into()));
}

#[tokio::test]
async fn refusals_heads_and_empty_bodies() {
    let origin = Origin::answering(|request| match request.head.first_line.split(' ').next() {
        Some("HEAD") => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
    })
    .await;
    let proxy = Proxy::before(&origin).await;
    let mut client = Client::to(&proxy).await;
    let refused = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().get("connection").is_none());
    assert!(text(refused).await.contains("MISSING_KEY"));
    let long = get("/").header("long", "x".repeat(70_000)).body(Full::default()).expect("a request");
    match client.send(long).await {
        Ok(refused) => assert_eq!(refused.status(), 431),
        // The client library may know the limit already, and not ask.
        Err(error) => assert!(error.is_user() || !error.is_closed(), "{error:?}"),
    }
    let mut client = Client::to(&proxy).await;
    for (method, status, length) in [("HEAD", 200, Some("5")), ("GET", 204, None)] {
        let request = get("/").method(method).header("x-api-key", &proxy.org_key);
        let answer = client.send(request.body(Full::default()).expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().get("content-length").map(|value| value.to_str().expect("text")), length);
        assert_eq!(text(answer).await, "");
    }
}

/// A service that writes one event whenever the test says so, and tells when its connection was closed.
async fn streaming(gone: Arc<Notify>) -> (Origin, mpsc::UnboundedSender<&'static str>) {
    let (events, queue) = mpsc::unbounded_channel::<&'static str>();
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let origin = Origin::raw(move |stream| {
        let (queue, gone) = (Arc::clone(&queue), Arc::clone(&gone));
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = reader.stream().write_all(head.as_bytes()).await;
            let mut queue = queue.lock().await;
            loop {
                tokio::select! {
                    event = queue.recv() => match event {
                        Some(event) => {
                            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                            let _ = reader.stream().write_all(chunk.as_bytes()).await;
                        }
                        None => return,
                    },
                    _ = reader.at_end() => {
                        gone.notify_one();
                        return;
                    }
                }
            }
        }
    })
    .await;
    (origin, events)
}

const PUBLIC: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}]
";

#[tokio::test]
async fn events_come_one_by_one_and_both_ends_are_told_of_the_other() {
    let gone = Arc::new(Notify::new());
    let (origin, events) = streaming(Arc::clone(&gone)).await;
    let proxy = Proxy::builder(&origin).config(PUBLIC).start().await;
    let mut client = Client::to(&proxy).await;
    let answer = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    let mut body = answer.into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        events.send(event).expect("the service listens");
        let frame = within("an event", body.frame()).await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), event);
    }
    // The client resets its stream, and keeps the connection.
    drop(body);
    within("the service to be told", gone.notified()).await;
    // The service breaks off, and only this stream is reset.
    let answer = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    drop(events);
    let broken = within("the end", answer.into_body().collect()).await;
    assert!(broken.is_err(), "a torso must not look whole");
    assert!(!client.ended.is_finished());
    let (_, records) = proxy.stop().await;
    let ends: Vec<_> = records.iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(ends, ["client_closed", "upstream_aborted"]);
}

#[tokio::test]
async fn a_hundred_streams_share_a_connection() {
    let origin = Origin::answering(|request| Reply::json(&request.body)).await;
    let proxy = Proxy::builder(&origin).config(PUBLIC).start().await;
    let client = Client::to(&proxy).await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..100 {
        let mut sender = client.sender.clone();
        all.spawn(async move {
            // Larger than a stream's first window, both ways.
            let body = format!("[{n},\"{}\"]", "x".repeat(100_000));
            let request = get("/").method("POST").body(Full::from(body.clone())).expect("a request");
            sender.ready().await.expect("ready");
            let answer = sender.send_request(request.map(BodyExt::boxed_unsync)).await.expect("an answer");
            assert!(text(answer).await == body, "{n}");
        });
    }
    within("all of them", async { while all.join_next().await.transpose().expect("no panic").is_some() {} }).await;
    assert_eq!(proxy.metric("keyward_connections").await, 1.0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_stream_is_cut_off() {
    let origin = Origin::answering(|_| Reply::json("x".repeat(16 << 20))).await;
    let proxy = Proxy::builder(&origin).config(PUBLIC).base("body: 20s", "body: 20s, write: 200ms").start().await;
    let mut client = Client::to(&proxy).await;
    let answer = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    let _ = within("the end of the connection", client.ended).await;
    assert!(proxy.metric("keyward_client_timeouts_total{wait=\"write\"}").await >= 1.0);
    let (_, records) = proxy.stop().await;
    assert_eq!(records[0]["outcome"], "client_closed");
    drop(answer);
}

#[tokio::test]
async fn a_connection_without_streams_does_not_last() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(PUBLIC).base("body: 20s", "body: 20s, header: 300ms").start().await;
    let mut client = Client::to(&proxy).await;
    let answer = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(text(answer).await, "{}");
    within("the end of the connection", client.ended).await.expect("its task").expect("an orderly end");
    // Neither does one that never says anything, nor half of a preface.
    for said in ["", "PRI * HT"] {
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        stream.write_all(said.as_bytes()).await.expect("written");
        assert!(Reader::new(stream).at_end().await, "{said}");
    }
}

#[tokio::test]
async fn a_stop_lets_streams_end_and_takes_no_new_ones() {
    let (origin, begun, finish) = Origin::held().await;
    let proxy = Proxy::builder(&origin).config(PUBLIC).start().await;
    let mut idle = Client::to(&proxy).await;
    assert_eq!(idle.send(get("//").body(Full::default()).expect("a request")).await.expect("an answer").status(), 400);
    let mut busy = Client::to(&proxy).await;
    let mut sender = busy.sender.clone();
    let answer = tokio::spawn(async move { busy.send(get("/").body(Full::default()).expect("a request")).await });
    within("the request's way", begun.notified()).await;
    let stop = tokio::spawn(proxy.stop());
    within("the end of the idle one", idle.ended).await.expect("its task").expect("an orderly end");
    // A client that was told so sends nothing more on this connection. What it sends before must not wait for the
    // service, which is busy with the first request until this is over.
    let late = async {
        while sender.ready().await.is_ok()
            && sender.send_request(get("//").body(Full::default().boxed_unsync()).expect("a request")).await.is_ok()
        {
        }
    };
    within("the goodbye", late).await;
    finish.notify_one();
    let answer = within("the answer", answer).await.expect("its task").expect("an answer");
    assert_eq!(text(answer).await, "done");
    let (stopped, records) = within("the stop", stop).await.expect("its task");
    assert_eq!(stopped, keyward::server::Stopped::Drained);
    assert_eq!(records.iter().filter(|record| record["status"] == 200).count(), 1);
}

#[tokio::test]
async fn unix_sockets_speak_both() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config(PUBLIC)
        .base("address: '127.0.0.1:0', timeouts", "address: ['127.0.0.1:0', 'unix:keyward.sock'], timeouts")
        .start()
        .await;
    let path = proxy.store().with_file_name("keyward.sock");
    let connect = || tokio::net::UnixStream::connect(&path);
    let mut client = Client::over(connect().await.expect("a connection")).await;
    let answer = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(text(answer).await, "{}");
    let mut reader = Reader::new(connect().await.expect("a connection"));
    reader.stream().write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("written");
    assert!(reader.head().await.expect("a head").first_line.starts_with("HTTP/1.1 200 "));
    assert_eq!(origin.received()[1].head.field("x-forwarded-for"), Some("127.0.0.1"));
    drop((client, reader));
    proxy.stop().await;
    assert!(!path.exists(), "the file goes with the process");
}
