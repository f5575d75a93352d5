//! Idle connections of one worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::client::conn::http1::SendRequest;

use super::RequestBody;
use super::connect::Socket;
use crate::policy::{Endpoint, Upstream};
use crate::time::Clock;

/// Most idle connections that are kept for one endpoint. More were needed at once only in a burst.
const MAX_IDLE: usize = 256;

/// A connection that is ready for a request, or will be when its last response has been read.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) socket: Arc<Socket>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

/// The lock is held for a push or a pop, by one worker: it is there for `Send`, not for contention.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Endpoint, Vec<Idle>>>,
}

/// Where a connection returns when its response has ended.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) pool: Arc<Pool>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) clock: Clock,
}

impl Home {
    pub(super) fn put(&self, connection: Connection) {
        if !connection.sender.is_closed() {
            let until = self.clock.now().monotonic + self.upstream.keepalive;
            self.pool.put(&self.upstream.endpoint, Idle { connection, until });
        }
    }
}

impl Pool {
    /// The connection that was used last, if one is open, ready and young enough.
    pub(super) fn checkout(&self, upstream: &Upstream, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(&upstream.endpoint)?;
        list.retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
        // One that is open and not ready is still busy with the end of its last exchange.
        while let Some(ready) = list.iter().rposition(|idle| idle.connection.sender.is_ready()) {
            let connection = list.remove(ready).connection;
            if connection.socket.is_silent() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, endpoint: &Endpoint, idle: Idle) {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(endpoint) {
            Some(list) if list.len() >= MAX_IDLE => {}
            Some(list) => list.push(idle),
            None => {
                all.insert(endpoint.clone(), vec![idle]);
            }
        }
    }

    /// Drops what is too old or closed, and endpoints without connections.
    pub(super) fn reap(&self, now: Instant) {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, list| {
            list.retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
            !list.is_empty()
        });
    }
}
