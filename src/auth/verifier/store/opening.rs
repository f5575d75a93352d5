//! Opening a lost PostgreSQL store again, beside the thread that answers.
//!
//! Enters: where the store is, and why it was lost. Leaves: the open store, or why there is none yet. The pauses between
//! attempts grow and are drawn by lot, so that a fleet does not fall upon a server that has just come back.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::VerifierError;
use crate::auth::chance::Lots;
use crate::keys::{ChangeWatch, Peppers, Store, StoreError, StorePlace};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// An open store, and what is to be known of it at once.
#[derive(Debug)]
pub(super) struct Opened {
    pub store: Store,
    pub watch: ChangeWatch,
    pub has_imported: bool,
}

/// A thread that tries until it succeeds, or until this is dropped.
#[derive(Debug)]
pub(super) struct Opening {
    attempts: Receiver<Result<Opened, VerifierError>>,
    /// Of the last attempt.
    why: VerifierError,
}

impl Opening {
    pub fn start(place: &StorePlace, peppers: &Peppers, why: VerifierError) -> Result<Self, VerifierError> {
        // Without room: an attempt waits until the last one was looked at, and nothing piles up.
        let (told, attempts) = sync_channel(0);
        let (place, peppers) = (place.clone(), peppers.clone());
        let work = move || {
            let (lots, mut longest) = (Lots::default(), FIRST_PAUSE);
            loop {
                thread::sleep(lots.draw().anywhere_in(longest));
                longest = (longest * 2).min(LONGEST_PAUSE);
                let attempt = open(&place, &peppers).map_err(VerifierError::from);
                let is_done = attempt.is_ok();
                if told.send(attempt).is_err() || is_done {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("key-store-open".to_owned())
            .spawn(work)
            .map_err(|error| VerifierError::new(format!("cannot start a thread that opens the key store: {error}")))?;
        Ok(Self { attempts, why })
    }

    /// The store, once it is open. Does not wait for it.
    pub fn opened(&mut self) -> Result<Opened, VerifierError> {
        match self.attempts.try_recv() {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(why)) => {
                tracing::debug!(%why, "the key store cannot be opened yet");
                self.why = why;
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        Err(self.why.clone())
    }
}

/// Opens a store that has to be there, and watches it from before anything is read.
pub(super) fn open(place: &StorePlace, peppers: &Peppers) -> Result<Opened, StoreError> {
    let store = Store::open_existing(place, peppers.clone())?;
    let watch = store.watch()?;
    store.check_peppers()?;
    let has_imported = store.has_imported()?;
    Ok(Opened { store, watch, has_imported })
}
