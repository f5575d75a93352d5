//! One connection to PostgreSQL: driven by a thread of its own, used by whoever blocks on it.
//!
//! Enters: a [`PostgresSpec`], later statements. Leaves: rows; how often somebody has changed a key; and whether the
//! connection is lost.
//!
//! The same connection reads and listens. So it cannot be that reading works and changes are no longer heard: once
//! either fails the session is lost, for good, and another one has to be opened.
//!
//! Invariants: every wait is bounded, also for a server that accepts and never answers. A session whose transaction may
//! still be open is lost.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Row, Socket, Statement};

use super::spec::{PostgresHost, PostgresSpec, PostgresTls};
use super::tls::Tls;
use crate::keys::error::{Cause, Fault};

/// Until a connection is open and the server has let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One statement that reads a key, or asks whether the connection lives. A caller waits for it.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// One statement of a change, which may wait for the lock of another.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One statement over many keys, or a migration.
pub(super) const LONG_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the connection is tried while nothing else uses it.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long the end of a session waits to tell the server so.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often a change is tried that another one made impossible.
const ATTEMPTS: usize = 5;

/// The statements of lists are put together; there are some dozens.
const MAX_STATEMENTS: usize = 128;

/// On a new connection. The server gives up a statement when we do, so that a slow one does not pile up there; and a
/// change is on disk when it is acknowledged, however the database is set.
const SET_UP: &str = "SET statement_timeout = 2000; SET idle_in_transaction_session_timeout = 30000; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
    LISTEN keyward_keys";

/// Whether this very connection listens: a pooler may have given us another one since.
const BEAT: &str = "SELECT version, EXISTS (SELECT 1 FROM pg_listening_channels() AS channel \
    WHERE channel = 'keyward_keys') FROM keyward_store";

pub(super) struct Session {
    client: Client,
    runtime: Handle,
    state: Arc<State>,
    /// Held through an operation: nothing gets between the statements of a transaction.
    statements: Mutex<HashMap<String, Statement>>,
    /// Dropped last, after which the thread may end its runtime: no call waits on its timers then.
    _end: oneshot::Sender<Infallible>,
}

#[derive(Default)]
struct State {
    changes: AtomicU64,
    is_beat_due: AtomicBool,
    is_lost: AtomicBool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_lost", &self.is_lost()).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, and listens from then on.
    pub fn open(spec: &PostgresSpec) -> Result<Self, Fault> {
        let unusable = |message: String| Fault::Unreachable(Cause::Postgres(message));
        let tls = Tls::new(&spec.tls).map_err(unusable)?;
        let config = config(spec);
        let state = Arc::<State>::default();
        let (ready, connected) = sync_channel(1);
        let (end, ended) = oneshot::channel();
        let driver = Driver { config, tls, state: Arc::clone(&state), ended };
        thread::Builder::new().name("key-store-db".to_owned()).spawn(move || driver.run(&ready))?;
        let (client, runtime) = connected.recv().map_err(|_| Fault::Lost)??;
        let session = Self { client, runtime, state, statements: Mutex::default(), _end: end };
        session.read(async |call| call.batch(SET_UP).await)?;
        Ok(session)
    }

    /// How often somebody has changed a key since the session was opened.
    pub fn changes(&self) -> u64 {
        self.state.changes.load(Ordering::SeqCst)
    }

    pub fn is_lost(&self) -> bool {
        self.state.is_lost.load(Ordering::SeqCst)
    }

    /// Whether it was a while ago that the connection was tried. Says so once.
    pub fn take_beat(&self) -> bool {
        self.state.is_beat_due.swap(false, Ordering::SeqCst)
    }

    /// The schema's version, from a connection that lives and listens.
    pub fn beat(&self) -> Result<i64, Fault> {
        let beaten = self.read(async |call| {
            let rows = call.rows(BEAT, &[]).await?;
            let row = rows.first().ok_or(Fault::Foreign)?;
            let (version, listens): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
            if listens { Ok(version) } else { Err(Fault::Deaf) }
        });
        if beaten.is_err() {
            self.lose();
        }
        beaten
    }

    /// Runs statements that read; each sees what is committed when it begins.
    pub fn read<T>(&self, work: impl AsyncFnOnce(&mut Call<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.call(READ_TIMEOUT, work)
    }

    /// As [`Session::read`], over many keys.
    pub fn read_long<T>(&self, work: impl AsyncFnOnce(&mut Call<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.call(LONG_TIMEOUT, async |call| {
            call.begin().await?;
            match work(call).await {
                Ok(done) => call.batch("COMMIT").await.map(|()| done),
                Err(fault) => Err(call.roll_back(fault).await),
            }
        })
    }

    /// Makes one change, all or nothing. Each statement has `limit`. Begins anew when another change was in the way.
    pub fn write<T>(
        &self,
        limit: Duration,
        change: impl AsyncFn(&mut Call<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let done = self.call(limit, async |call| {
                call.begin().await?;
                match change(call).await {
                    Ok(changed) => call.batch("COMMIT").await.map(|()| changed),
                    Err(fault) => Err(call.roll_back(fault).await),
                }
            });
            match done {
                Err(Fault::Conflict) if attempts > 0 => {}
                done => return done,
            }
        }
    }

    fn call<T>(&self, limit: Duration, work: impl AsyncFnOnce(&mut Call<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut statements = self.lock();
        if self.is_lost() {
            return Err(Fault::Lost);
        }
        // For the timers; they are those of the thread that drives the connection.
        let _entered = self.runtime.enter();
        let mut call = Call { client: &self.client, statements: &mut statements, limit };
        let done = wait(work(&mut call));
        if done.as_ref().is_err_and(Fault::ends_session) {
            self.lose();
        }
        done
    }

    fn lose(&self) {
        self.state.is_lost.store(true, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Statements, one after the other.
pub(super) struct Call<'a> {
    client: &'a Client,
    statements: &'a mut HashMap<String, Statement>,
    limit: Duration,
}

/// The values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Call<'_> {
    pub async fn rows(&mut self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(sql).await?;
        bounded(self.limit, self.client.query(&statement, values)).await
    }

    /// How many rows that changed.
    pub async fn execute(&mut self, sql: &str, values: Values<'_>) -> Result<u64, Fault> {
        let statement = self.prepared(sql).await?;
        bounded(self.limit, self.client.execute(&statement, values)).await
    }

    /// Statements without values or rows.
    pub async fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        bounded(self.limit, self.client.batch_execute(sql)).await
    }

    async fn begin(&mut self) -> Result<(), Fault> {
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", self.limit.as_millis());
        self.batch(&begin).await
    }

    /// Ends a transaction that failed. If that fails too, it may still be open.
    async fn roll_back(&mut self, fault: Fault) -> Fault {
        if fault.ends_session() || self.batch("ROLLBACK").await.is_ok() { fault } else { Fault::Lost }
    }

    async fn prepared(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = bounded(self.limit, self.client.prepare(sql)).await?;
        if self.statements.len() >= MAX_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Fault> {
    Ok(timeout(limit, work).await.map_err(|_| Fault::TimedOut)??)
}

/// Blocks this thread until `work` is done. A runtime's own way would panic on a thread that runs another runtime.
fn wait<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn config(spec: &PostgresSpec) -> Config {
    let mut config = Config::new();
    for host in &spec.hosts {
        match host {
            PostgresHost::Tcp { host, port } => config.host(host).port(*port),
            PostgresHost::Unix { directory, port } => config.host_path(directory).port(*port),
        };
    }
    if let Some(password) = &spec.password {
        config.password(password.expose());
    }
    config
        .user(&spec.user)
        .dbname(&spec.database)
        .application_name("keyward")
        .ssl_mode(if spec.tls == PostgresTls::Off { SslMode::Disable } else { SslMode::Require })
        // A standby takes no change and tells of none.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        // Each host has its share, so that one that is silent does not keep us from the next.
        .connect_timeout(CONNECT_TIMEOUT / 2 / u32::try_from(spec.hosts.len().max(1)).unwrap_or(u32::MAX))
        .keepalives_idle(Duration::from_secs(15));
    config
}

/// The thread of a connection.
struct Driver {
    config: Config,
    tls: Option<Tls>,
    state: Arc<State>,
    /// Fails when the session is dropped.
    ended: oneshot::Receiver<Infallible>,
}

type Ready = SyncSender<Result<(Client, Handle), Fault>>;

impl Driver {
    fn run(self, ready: &Ready) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error.into()))),
        };
        runtime.block_on(self.connect(ready));
        // A name that is still being resolved is not waited for.
        runtime.shutdown_background();
    }

    async fn connect(mut self, ready: &Ready) {
        match self.tls.take() {
            Some(tls) => match timeout(CONNECT_TIMEOUT, self.config.connect(tls)).await {
                Ok(connected) => self.drive(connected, ready).await,
                Err(_) => drop(ready.send(Err(Fault::TimedOut))),
            },
            None => match timeout(CONNECT_TIMEOUT, self.config.connect(NoTls)).await {
                Ok(connected) => self.drive(connected, ready).await,
                Err(_) => drop(ready.send(Err(Fault::TimedOut))),
            },
        }
    }

    async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        connected: Result<(Client, Connection<Socket, S>), tokio_postgres::Error>,
        ready: &Ready,
    ) {
        let mut connection = match connected {
            Ok((client, connection)) => {
                // Nobody takes it if the thread that opened the session is gone.
                drop(ready.send(Ok((client, Handle::current()))));
                connection
            }
            Err(error) => return drop(ready.send(Err(Fault::connecting(&error)))),
        };
        let state = Arc::clone(&self.state);
        let mut driven = pin!(poll_fn(move |context| {
            loop {
                match connection.poll_message(context) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notification(_)))) => {
                        state.changes.fetch_add(1, Ordering::SeqCst);
                    }
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        let mut beats = interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let is_over = loop {
            tokio::select! {
                () = &mut driven => break false,
                _ = &mut self.ended => break true,
                _ = beats.tick() => self.state.is_beat_due.store(true, Ordering::SeqCst),
            }
        };
        self.state.is_lost.store(true, Ordering::SeqCst);
        if is_over {
            let _ = timeout(FAREWELL, driven).await;
        } else {
            // Calls may still wait on a timer of this runtime.
            let _ = self.ended.await;
        }
    }
}
