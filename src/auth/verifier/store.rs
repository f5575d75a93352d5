//! Asking the embedded store about a key.
//!
//! The store blocks, so it lives on a thread of its own. That thread also watches the store's file: before every
//! answer and many times a second, so that a change made by anyone is seen long before a cache entry ends.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::VerifierError;
use crate::auth::KeyText;
use crate::keys::{Change, ChangeWatch, Digest, KeyPrefix, KeyRecord, Store, StoreError, looks_valid};
use crate::policy::Principal;
use crate::time::Clock;

/// How often the file is looked at while nobody asks.
const WATCH_EVERY: Duration = Duration::from_millis(25);

/// Verifications that may wait. One takes some 20 µs, so a full queue is a flood or a stuck disk.
pub(super) const QUEUE: usize = 1024;

impl From<StoreError> for VerifierError {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

type Answer = Result<Option<Principal>, VerifierError>;

struct Job {
    digest: Digest,
    answer: oneshot::Sender<Answer>,
}

/// Verifies keys against the embedded store. Dropping it ends its thread.
#[derive(Debug)]
pub struct StoreVerifier {
    jobs: SyncSender<Job>,
    prefix: KeyPrefix,
}

impl StoreVerifier {
    /// Opens (and, the first time, makes) the store. `on_change` is called whenever what was read before may be wrong.
    pub fn start(
        path: &Path,
        prefix: KeyPrefix,
        clock: Clock,
        on_change: Box<dyn Fn() + Send>,
    ) -> Result<Self, VerifierError> {
        if !path.exists() {
            tracing::warn!(path = %path.display(), "the key store is new: no key is valid until one is made");
        }
        let store = Store::open(path)?;
        let watch = store.watch()?;
        let (jobs, queue) = sync_channel(QUEUE);
        let keeper = Keeper { path: path.to_owned(), open: Some((store, watch)), clock, on_change };
        thread::Builder::new()
            .name("key-store".to_owned())
            .spawn(move || keeper.run(&queue))
            .map_err(|error| VerifierError::new(format!("cannot start the key store's thread: {error}")))?;
        Ok(Self { jobs, prefix })
    }

    /// Whether the text has the shape and the checksum of this store's keys. Costs no lookup.
    pub(in crate::auth) fn could_be_key(&self, key: &KeyText) -> bool {
        looks_valid(key.expose(), &self.prefix)
    }

    /// The key's owner, or `None` for a key that is unknown, revoked or expired.
    pub(super) async fn verify(&self, key: &KeyText) -> Answer {
        let (answer, wait) = oneshot::channel();
        self.jobs
            .try_send(Job { digest: Digest::of(key.expose()), answer })
            .map_err(|_| VerifierError::new("too many verifications are waiting for the key store"))?;
        wait.await.map_err(|_| VerifierError::new("the key store's thread has ended"))?
    }
}

/// The store's thread.
struct Keeper {
    path: PathBuf,
    /// `None` while the store cannot be used: nothing is verified then, and every round tries to open it again.
    open: Option<(Store, ChangeWatch)>,
    clock: Clock,
    on_change: Box<dyn Fn() + Send>,
}

impl Keeper {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let job = match queue.recv_timeout(WATCH_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let watched = self.watch();
            if let Some(job) = job {
                // Whoever asked may be gone; then nobody misses the answer.
                let _ = job.answer.send(watched.and_then(|()| self.find(&job.digest)));
            }
        }
    }

    fn watch(&mut self) -> Result<(), VerifierError> {
        let Some((_, watch)) = &mut self.open else { return self.reopen() };
        match watch.poll() {
            Ok(Change::Unchanged) => Ok(()),
            Ok(Change::Changed) => {
                (self.on_change)();
                Ok(())
            }
            Ok(Change::Replaced) => {
                tracing::warn!(path = %self.path.display(), "the key store's file was replaced; opening the new one");
                self.close();
                self.reopen()
            }
            Err(error) => {
                tracing::error!(%error, "the key store cannot be read; keys are refused until it can");
                self.close();
                Err(error.into())
            }
        }
    }

    /// Nothing that was read before is believed any longer.
    fn close(&mut self) {
        self.open = None;
        (self.on_change)();
    }

    /// Never makes a new file: an empty store in place of a lost one would answer "invalid" to every key.
    fn reopen(&mut self) -> Result<(), VerifierError> {
        let store = Store::open_existing(&self.path)?;
        let watch = store.watch()?;
        tracing::info!(path = %self.path.display(), "the key store is open again");
        self.open = Some((store, watch));
        (self.on_change)();
        Ok(())
    }

    fn find(&self, digest: &Digest) -> Answer {
        let Some((store, _)) = &self.open else { return Err(VerifierError::new("the key store is not open")) };
        match store.find(digest)? {
            Some(record) if record.is_usable(self.clock.now().wall) => principal(&record).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

fn principal(record: &KeyRecord) -> Result<Principal, VerifierError> {
    let (org, user) = (record.org_code.as_deref(), record.user_id.as_deref());
    Principal::new(record.id.as_str(), org, user, &record.scopes, record.expires_on)
        .map_err(|error| VerifierError::new(format!("key {} cannot be stamped: {error}", record.id.as_str())))
}
