//! The sample service on a socket: connections, body reading, and the pace of a stream.
//!
//! Enters: a bound listener, a clock, and a future that ends the service. Leaves: nothing after it returns: every
//! connection has finished its request or was cut after [`DRAIN`]. What is answered is decided in `service`.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::service::{Content, Fault, answer};
use crate::time::Clock;

/// The largest request body that the service reads.
const MAX_BODY: usize = 1024 * 1024;

/// The pause between two events of a stream: short enough to flow, long enough for a person to see it flow.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a stopping service waits for the requests that it has begun.
const DRAIN: Duration = Duration::from_secs(5);

/// How long to wait after an accept that failed, for example for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves the listener's connections until `shutdown` ends, then finishes the requests in flight.
///
/// # Errors
/// Only if the listener can never accept again; a connection's errors end that connection.
pub async fn serve(listener: TcpListener, clock: Clock, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connection(stream, clock.clone(), stopping.clone())),
                // EINVAL: the socket does not listen, and waiting will not change that.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // New connections are refused from here on, not left waiting in the backlog.
    drop(listener);
    drop(stop);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is left after the wait is cut when the set is dropped.
    _ = tokio::time::timeout(DRAIN, drained).await;
    Ok(())
}

async fn connection(stream: TcpStream, clock: Clock, mut stopping: watch::Receiver<()>) {
    // Without it, a small event could wait for the acknowledgement of the one before.
    _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, &clock));
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A broken connection is the client's affair: there is nobody left to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    _ = connection.await;
}

async fn respond(request: Request<Incoming>, clock: &Clock) -> Result<Response<ReplyBody>, Infallible> {
    let (head, body) = request.into_parts();
    let response = match read(body).await {
        Ok(body) => answer(&Request::from_parts(head, body), clock.now().wall),
        Err(fault) => fault.response(head.uri.path()),
    };
    Ok(response.map(|content| match content {
        Content::Whole(bytes) => Either::Left(Full::new(bytes)),
        Content::Events(events) => Either::Right(Paced { events: events.into_iter(), pause: None }),
    }))
}

async fn read(body: Incoming) -> Result<Bytes, Fault> {
    // A body that says it is too large is refused before it is sent; one that does not say is cut while it is read.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Fault::TooLarge);
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Fault::TooLarge),
        Err(_) => Err(Fault::Request("The body could not be read")),
    }
}

type ReplyBody = Either<Full<Bytes>, Paced>;

/// A body that sends one event, pauses, and sends the next: hyper flushes whenever a body makes it wait.
struct Paced {
    events: std::vec::IntoIter<Bytes>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        let event = self.events.next();
        self.pause = (!self.events.as_slice().is_empty()).then(|| Box::pin(tokio::time::sleep(PAUSE)));
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}
