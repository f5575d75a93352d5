//! What the verifier bounds.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::keys::{NewKey, SystemRandom};

/// A store whose thread can be held up: it calls this when somebody has changed a key, and does not go on before the
/// test lets it.
struct Held {
    verifier: StoreVerifier,
    keys: Vec<String>,
    holding: Receiver<()>,
    go_on: Sender<()>,
    place: StorePlace,
    _dir: tempfile::TempDir,
}

impl Held {
    fn with_keys(count: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let place = StorePlace::File(dir.path().join("keys.db"));
        let keys = (0..count).map(|_| create(&place)).collect();
        let (told, holding) = channel();
        let (go_on, released) = channel();
        let gate = Mutex::new((told, released));
        let on_change = Arc::new(move || {
            let (told, released) = &*gate.lock().expect("no panic");
            // At the end of the test nobody listens or releases any more.
            let _ = told.send(());
            let _ = released.recv();
        });
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let verifier =
            StoreVerifier::start(&place, KeyPrefix::default(), Peppers::default(), Clock::system(), metrics, on_change);
        Self { verifier: verifier.expect("a good store"), keys, holding, go_on, place, _dir: dir }
    }
}

fn create(place: &StorePlace) -> String {
    let mut store = Store::open(place, Peppers::default()).expect("a good store");
    let new = NewKey::new("n", Some("o"), None, [""; 0]).expect("a good key");
    let made = store.create(&new, &KeyPrefix::default(), Clock::system().now().wall, &mut SystemRandom);
    made.expect("a good store").secret.expose().to_owned()
}

#[tokio::test]
async fn a_store_that_is_stuck_is_waited_for_by_so_many_and_no_more() {
    let held = Held::with_keys(1);
    let ask = || held.verifier.look_up(&held.keys[0]);
    assert!(ask().await.expect("an answer").is_some());
    // A change makes the store's thread call us, and there it stays.
    create(&held.place);
    held.holding.recv().expect("the thread sees the change");
    let mut waiting: Vec<_> = (0..QUEUE).map(|_| Box::pin(ask())).collect();
    let mut context = Context::from_waker(Waker::noop());
    for wait in &mut waiting {
        assert!(matches!(wait.as_mut().poll(&mut context), Poll::Pending), "there is room");
    }
    let refused = ask().await.expect_err("there is no more room");
    assert_eq!(refused.to_string(), "too many verifications are waiting for the key store");
    // Whoever has left is not asked for; the others are answered, and then there is room again.
    let rest = waiting.split_off(QUEUE / 2);
    drop(rest);
    held.go_on.send(()).expect("the thread waits");
    for wait in waiting {
        let answer = wait.await;
        assert!(
            answer.as_ref().is_ok_and(Option::is_some)
                || answer.is_err_and(|error| error.to_string().contains("too long"))
        );
    }
    assert!(ask().await.expect("an answer").is_some());
}
