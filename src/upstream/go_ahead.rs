//! A body that waits until the service asks for it (RFC 9110 §10.1.1).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// Between the one who sends a body and the ones who decide whether it is sent. A body that was not sent when the
/// service had answered is never sent: its client keeps it.
#[derive(Debug, Default)]
pub struct GoAhead(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    Waiting(Waker),
    Open,
    /// The service has answered without the body. Its answer is still being read, on the same connection.
    Answered(Option<Waker>),
    /// The answer has been read, so the connection may end.
    Over,
}

/// What to do with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Send,
    /// Nobody has asked for it so far.
    Wait,
    /// Nobody will, and nothing is to be done about it.
    Rest,
    Drop,
}

impl GoAhead {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is kept is valid at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service asks for the body.
    pub fn open(&self) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Open) {
            State::Waiting(waker) => waker.wake(),
            State::New | State::Open => {}
            late => *state = late,
        }
    }

    /// The service has answered. Returns whether it did so without having asked for the body.
    pub fn answered(&self) -> bool {
        let mut state = self.lock();
        let waker = match std::mem::take(&mut *state) {
            State::New => None,
            State::Waiting(waker) => Some(waker),
            other => {
                let unsent = !matches!(other, State::Open);
                *state = other;
                return unsent;
            }
        };
        *state = State::Answered(waker);
        true
    }

    /// The answer has been read, or nobody reads it any more.
    pub fn over(&self) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Waiting(waker) | State::Answered(Some(waker)) => waker.wake(),
            State::New | State::Answered(None) | State::Over => {}
            // The body is on its way, and ends by itself.
            State::Open => *state = State::Open,
        }
    }

    /// What is known now; whoever is to be told of a change is `cx`.
    pub(super) fn word(&self, cx: &mut Context<'_>) -> Word {
        let mut state = self.lock();
        match &mut *state {
            State::Open => Word::Send,
            State::Over => Word::Drop,
            State::Answered(waker) => {
                *waker = Some(cx.waker().clone());
                Word::Rest
            }
            State::New | State::Waiting(_) => {
                *state = State::Waiting(cx.waker().clone());
                Word::Wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(go_ahead: &GoAhead) -> Word {
        go_ahead.word(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_is_sent_when_it_is_asked_for_and_never_after_an_answer() {
        let go_ahead = GoAhead::default();
        assert_eq!(word(&go_ahead), Word::Wait);
        go_ahead.open();
        assert_eq!(word(&go_ahead), Word::Send);
        assert!(!go_ahead.answered());
        go_ahead.over();
        assert_eq!(word(&go_ahead), Word::Send);

        let go_ahead = GoAhead::default();
        assert_eq!(word(&go_ahead), Word::Wait);
        assert!(go_ahead.answered());
        go_ahead.open();
        assert_eq!(word(&go_ahead), Word::Rest);
        go_ahead.over();
        assert_eq!(word(&go_ahead), Word::Drop);
    }
}
