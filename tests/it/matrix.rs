//! Every way in times every way out: the same request has the same answer, and nothing is left open.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, channel::Channel};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::harness::{Authority, Kind, Proxy, Service, shake, within};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http1,
    Http1Tls,
    Http2Tls,
    PriorKnowledge,
}

impl Way {
    const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::Http2Tls, Self::PriorKnowledge];

    fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }
}

type Sent = BoxBody<Bytes, Infallible>;

/// One client connection. Dropping it closes the connection.
enum Client {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

impl Client {
    async fn to(proxy: &Proxy, way: Way, authority: &Authority) -> Self {
        let connector = |protocol| authority.connector(&[protocol], None);
        match way {
            Way::Http1 => Self::http1(TcpStream::connect(proxy.address).await.expect("a connection")).await,
            Way::PriorKnowledge => Self::http2(TcpStream::connect(proxy.address).await.expect("a connection")).await,
            Way::Http1Tls => {
                Self::http1(shake(&connector("http/1.1"), proxy.address, "localhost").await.expect("TLS")).await
            }
            Way::Http2Tls => Self::http2(shake(&connector("h2"), proxy.address, "localhost").await.expect("TLS")).await,
        }
    }

    async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let io = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("a connection");
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    async fn send(&mut self, request: Request<Sent>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => within("the answer", sender.send_request(request)).await,
            Self::Http2(sender) => within("the answer", sender.send_request(request)).await,
        }
    }
}

fn request(way: Way, method: &str, path: &str, body: Sent) -> Request<Sent> {
    let uri = match way {
        Way::Http1 | Way::Http1Tls => path.to_owned(),
        Way::Http2Tls | Way::PriorKnowledge => format!("http://service.example{path}"),
    };
    let request = Request::builder().method(method).uri(uri).header("content-type", "text/plain");
    let request = match way {
        Way::Http1 | Way::Http1Tls => request.header("host", "service.example"),
        Way::Http2Tls | Way::PriorKnowledge => request,
    };
    request.body(body).expect("a request")
}

fn nothing() -> Sent {
    Empty::new().boxed()
}

/// A body whose length nobody is told.
fn chunks(count: usize) -> Sent {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        for _ in 0..count {
            if sender.send_data(Bytes::from_static(&[b'x'; 1000])).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

/// A body that never ends, until the sender is dropped.
fn endless() -> (http_body_util::channel::Sender<Bytes, Infallible>, Sent) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

async fn text(response: Response<Incoming>) -> String {
    let body = within("the body", response.into_body().collect()).await.expect("a whole body");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

/// One exchange, and how it is to end.
#[derive(Clone, Copy, Debug)]
enum Case {
    Whole { method: &'static str, path: &'static str, body: Content, status: u16, answer: &'static str },
    EarlyAnswer,
    ClientAbortsBeforeTheHead,
    ClientAbortsInTheBody,
    ServiceAbortsBeforeTheHead,
    ServiceAbortsInTheBody { path: &'static str },
}

#[derive(Clone, Copy, Debug)]
enum Content {
    None,
    Length,
    Chunked,
}

const CASES: [Case; 11] = [
    Case::Whole { method: "GET", path: "/a?b=c", body: Content::None, status: 200, answer: "GET /a 0" },
    Case::Whole { method: "POST", path: "/a", body: Content::Length, status: 200, answer: "POST /a 100000" },
    Case::Whole { method: "POST", path: "/a", body: Content::Chunked, status: 200, answer: "POST /a 70000" },
    Case::Whole { method: "HEAD", path: "/a", body: Content::None, status: 200, answer: "" },
    Case::Whole {
        method: "GET",
        path: "/events",
        body: Content::None,
        status: 200,
        answer: "data: 1\n\ndata: 2\n\ndata: 3\n\n",
    },
    Case::EarlyAnswer,
    Case::ClientAbortsBeforeTheHead,
    Case::ClientAbortsInTheBody,
    Case::ServiceAbortsBeforeTheHead,
    Case::ServiceAbortsInTheBody { path: "/half" },
    Case::ServiceAbortsInTheBody { path: "/half/length" },
];

/// What one service has been through: its counts go on from case to case.
struct Run<'a> {
    service: &'a Service,
    proxy: &'a Proxy,
    authority: &'a Authority,
    waited: usize,
}

impl Run<'_> {
    async fn case(&mut self, way: Way, case: Case) {
        let mut client = Client::to(self.proxy, way, self.authority).await;
        match case {
            Case::Whole { method, path, body, status, answer } => {
                let body = match body {
                    Content::None => nothing(),
                    Content::Length => Full::from(vec![b'x'; 100_000]).boxed(),
                    Content::Chunked => chunks(70),
                };
                let response = client.send(request(way, method, path, body)).await.expect("an answer");
                assert_eq!(response.status(), status);
                assert_eq!(text(response).await, answer);
                let seen = self.service.seen().pop().expect("a request");
                assert_eq!((seen.method.as_str(), seen.version), (method, self.service.kind.version()));
                let host = seen.headers.get("host").map(|host| host.to_str().expect("text").to_owned());
                let host = host.or(seen.uri.authority().map(ToString::to_string));
                assert_eq!(host.as_deref(), Some("service.example"));
                assert_eq!(seen.uri.path_and_query().map(|path| path.as_str()), Some(path));
                assert_eq!(
                    seen.headers.get("content-length").is_some(),
                    matches!(case, Case::Whole { body: Content::Length, .. })
                );
            }
            Case::EarlyAnswer => {
                let (_open, body) = endless();
                let response = client.send(request(way, "POST", "/early", body)).await.expect("an answer");
                assert_eq!(response.status(), 413);
                assert_eq!(text(response).await, "early");
            }
            Case::ClientAbortsBeforeTheHead => {
                self.waited += 1;
                let service = self.service;
                tokio::select! {
                    _ = client.send(request(way, "GET", "/silent", nothing())) => panic!("an answer"),
                    () = service.waiting(self.waited) => {}
                }
                drop(client);
                service.abandoned(self.waited).await;
            }
            Case::ClientAbortsInTheBody => {
                self.waited += 1;
                let mut response = client.send(request(way, "GET", "/half", nothing())).await.expect("an answer");
                let piece = within("a piece", response.body_mut().frame()).await.expect("a piece").expect("whole");
                assert_eq!(piece.into_data().expect("data"), "data: 1\n\n");
                drop((response, client));
                self.service.abandoned(self.waited).await;
            }
            Case::ServiceAbortsBeforeTheHead => {
                self.waited += 1;
                let service = self.service;
                let waited = self.waited;
                // Not idempotent, and on a connection that may have been used before: nobody asks again.
                let post = Full::from(vec![b'x'; 10]).boxed();
                let (response, ()) = tokio::join!(client.send(request(way, "POST", "/silent", post)), async {
                    service.waiting(waited).await;
                    service.cut();
                });
                let response = response.expect("an answer");
                assert_eq!(response.status(), 502);
                assert!(text(response).await.contains("UPSTREAM_BROKEN"));
                service.abandoned(waited).await;
            }
            Case::ServiceAbortsInTheBody { path } => {
                self.waited += 1;
                let mut response = client.send(request(way, "GET", path, nothing())).await.expect("an answer");
                assert_eq!(response.status(), 200);
                within("a piece", response.body_mut().frame()).await.expect("a piece").expect("whole");
                self.service.cut();
                let rest = within("the end", response.body_mut().collect()).await;
                assert!(rest.is_err(), "half an answer must not look whole");
                self.service.abandoned(self.waited).await;
            }
        }
    }
}

const LISTEN: &str = "listen: {address: '127.0.0.1:0'";

async fn all(kind: Kind) {
    let service = Service::start(kind).await;
    let authority = Authority::new();
    let certified = authority.certify(&["localhost"]);
    let mut waited = 0;
    for tls in [false, true] {
        let builder = service.proxy().config(
            "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}]
",
        );
        let builder = builder.base("endpoints: [", "keepalive: 100ms, endpoints: [");
        let proxy = match tls {
            false => builder.start().await,
            true => {
                let listen = format!("{LISTEN}, tls: {{cert: {{file: a.crt}}, key: {{file: a.key}}}}");
                let builder = builder.base(LISTEN, &listen);
                builder.file("a.crt", &certified.cert).file("a.key", &certified.key).start().await
            }
        };
        let mut run = Run { service: &service, proxy: &proxy, authority: &authority, waited };
        for way in Way::ALL.into_iter().filter(|way| way.is_tls() == tls) {
            for case in CASES {
                println!("{way:?} to {kind:?}: {case:?}");
                run.case(way, case).await;
            }
        }
        waited = run.waited;
        for gauge in [
            "keyward_requests_in_flight",
            "keyward_connections",
            r#"keyward_upstream_connections{upstream="ai"}"#,
            "keyward_held_bytes",
        ] {
            within(&format!("{gauge} to be 0"), async {
                while proxy.metric(gauge).await > 0.0 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn to_http1() {
    all(Kind::Http1).await;
}

#[tokio::test]
async fn to_https() {
    all(Kind::Https).await;
}

#[tokio::test]
async fn to_http2() {
    all(Kind::Http2).await;
}

#[tokio::test]
async fn to_http2_by_prior_knowledge() {
    all(Kind::H2c).await;
}

#[tokio::test]
async fn to_a_unix_socket() {
    all(Kind::Unix).await;
}
