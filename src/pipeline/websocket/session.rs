//! The sockets of a WebSocket, and its account.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::relay::{End, Relay};
use super::way::Exit;
use crate::observe::{Metrics, UnscannedReason};
use crate::pipeline::exchange::Exchange;
use crate::policy::{Inspect, Route};
use crate::scan::Direction;
use crate::upstream::UpgradedStream;

/// What is read at once.
const PIECE: usize = 16 << 10;

/// How long a side may take to answer a close.
const CLOSING: Duration = Duration::from_secs(10);

/// How long the last words may take to be written and heard.
const FAREWELL: Duration = Duration::from_secs(1);

/// A WebSocket whose client has not been answered yet.
#[derive(Debug)]
pub(in crate::pipeline) struct Tunnel {
    relay: Relay,
    service: UpgradedStream,
    route: Arc<Route>,
    metrics: Arc<Metrics>,
}

impl Tunnel {
    pub(super) fn new(relay: Relay, service: UpgradedStream, route: Arc<Route>, metrics: Arc<Metrics>) -> Self {
        Self { relay, service, route, metrics }
    }

    /// The session, which closes the account of its request when it ends, begun or not.
    pub(in crate::pipeline) fn begin(self, exchange: Box<Exchange>) -> Session {
        let Self { relay, service, route, metrics } = self;
        metrics.websockets.with_label_values(&[&route.id]).inc();
        Session { service, account: Account { relay, route, metrics, exchange } }
    }
}

/// A WebSocket, to be run on its client's connection. Dropped before its end, it cuts both sides off.
#[derive(Debug)]
pub struct Session {
    service: UpgradedStream,
    account: Account,
}

#[derive(Debug)]
struct Account {
    relay: Relay,
    route: Arc<Route>,
    metrics: Arc<Metrics>,
    exchange: Box<Exchange>,
}

impl Session {
    /// Relays until either side ends it. `early` is what the client sent behind its handshake; `going_away` completes
    /// when the process ends. Returns the client's connection, written to its end.
    pub async fn run<C>(self, client: C, early: Bytes, going_away: impl Future<Output = ()>) -> C
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { service, mut account } = self;
        let idle = account.route.upstream.timeouts.idle;
        let relay = &mut account.relay;
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_service, mut to_service) = tokio::io::split(service);
        let (mut client_piece, mut service_piece) = (vec![0; PIECE], vec![0; PIECE]);
        let mut timer = pin!(sleep(idle));
        let mut going_away = pin!(going_away);
        let mut closing = false;
        relay.client(&mut Vec::from(early));
        while !relay.is_over() {
            if relay.is_closing() && !std::mem::replace(&mut closing, true) {
                timer.as_mut().reset(Instant::now() + CLOSING.min(idle));
            }
            let heard = tokio::select! {
                read = from_client.read(&mut client_piece), if relay.hears_client() => {
                    match read {
                        Ok(length @ 1..) => relay.client(&mut client_piece[..length]),
                        Ok(0) | Err(_) => relay.client_gone(),
                    }
                    true
                }
                read = from_service.read(&mut service_piece), if relay.hears_service() => {
                    match read {
                        Ok(length @ 1..) => relay.service(&mut service_piece[..length]),
                        Ok(0) | Err(_) => relay.service_gone(),
                    }
                    true
                }
                wrote = to_client.write(relay.to_client()), if !relay.to_client().is_empty() => {
                    match wrote {
                        Ok(length @ 1..) => relay.wrote_to_client(length),
                        Ok(0) | Err(_) => relay.client_gone(),
                    }
                    false
                }
                wrote = to_service.write(relay.to_service()), if !relay.to_service().is_empty() => {
                    match wrote {
                        Ok(length @ 1..) => relay.wrote_to_service(length),
                        Ok(0) | Err(_) => relay.service_gone(),
                    }
                    false
                }
                () = &mut timer => {
                    relay.idle();
                    false
                }
                () = &mut going_away => {
                    relay.going_away();
                    false
                }
            };
            if heard && !closing {
                timer.as_mut().reset(Instant::now() + idle);
            }
        }
        let last_words = async {
            let to_client = to_client.write_all(relay.to_client());
            let to_service = to_service.write_all(relay.to_service());
            tokio::join!(to_client, to_service)
        };
        // Who does not listen any more misses them.
        let _ = timeout(FAREWELL, last_words).await;
        // Whoever sees the end of the connection finds the account closed.
        drop(account);
        let end = async {
            let _ = tokio::join!(to_client.shutdown(), to_service.shutdown());
            // A socket closed with unread bytes is reset, and a reset can destroy what was written last.
            while let Ok(1..) = from_service.read(&mut service_piece).await {}
        };
        let _ = timeout(FAREWELL, end).await;
        from_client.unsplit(to_client)
    }
}

impl Account {
    fn direction(&mut self, direction: Direction) {
        let Self { relay, route, metrics, exchange } = self;
        let (exit, rules, name): (&Exit, &Inspect, _) = match direction {
            Direction::Request => (relay.up(), &route.request, "request"),
            Direction::Response => (relay.down(), &route.response, "response"),
        };
        metrics.websocket_messages.with_label_values(&[&route.id, name]).inc_by(exit.messages);
        let length = exit.inspected.as_ref().map(|inspected| {
            exchange.inspected(&rules.rules, rules.action, direction, &inspected.scanner.hits());
            let unread = inspected.scanner.unread();
            for (reason, bytes) in
                [(UnscannedReason::Opaque, unread.opaque), (UnscannedReason::Unscannable, unread.unscannable)]
            {
                if bytes > 0 {
                    exchange.unscanned(direction, reason, bytes);
                }
            }
            inspected.scanner.chars()
        });
        match direction {
            Direction::Request => {
                exchange.request_bytes.store(exit.bytes, Ordering::Relaxed);
                exchange.input_length = length.or(exchange.input_length);
                exchange.request_messages = Some(exit.messages);
            }
            Direction::Response => {
                exchange.response_bytes = exit.bytes;
                exchange.response_length = length;
                exchange.response_messages = Some(exit.messages);
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.metrics.websockets.with_label_values(&[&self.route.id]).dec();
        self.direction(Direction::Request);
        self.direction(Direction::Response);
        let exchange = &mut self.exchange;
        match self.relay.end() {
            Some(End::Closed) => exchange.completed(),
            Some(End::ServiceGone) => exchange.broken_off(),
            Some(End::Refused(refusal)) => {
                refusal.log(exchange.request_id(), exchange.route_id());
                exchange.aborted(refusal);
            }
            Some(End::Idle) => exchange.cut("WEBSOCKET_IDLE"),
            Some(End::Draining) => exchange.cut("DRAINING"),
            // The client left, which its account says already.
            Some(End::ClientGone) | None => {}
        }
    }
}

/// Where the pipeline leaves the WebSocket that a connection is to become, for whoever owns the connection.
#[derive(Debug, Default)]
pub struct Switch(Mutex<Option<Box<Session>>>);

impl Switch {
    pub(in crate::pipeline) fn put(&self, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(session));
    }

    /// The session, once its client has been answered.
    pub fn take(&self) -> Option<Box<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
