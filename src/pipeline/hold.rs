//! Reading a body whole, within bounds of size, time and memory.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;

use tokio::time::Instant;

use super::memory::Lease;

/// Bytes per second that a held body has to keep up on average: memory is not lent to whoever drips.
const SLOWEST: u64 = 1024;

/// Why a body was not held.
#[derive(Debug)]
pub(super) enum HoldError<E> {
    TooLarge,
    TooSlow,
    NoMemory,
    Broken(E),
}

/// Until when a body that has sent `length` bytes since `started` may go on.
pub(super) fn slowest(started: Instant, timeout: Duration, length: u64) -> Instant {
    started + timeout + Duration::from_secs(length / SLOWEST)
}

/// Reads `body` to its end. At most `max` bytes, each piece within `timeout` (`None`: the body keeps its own); every
/// byte is paid from `lease`. Trailers are dropped.
pub(super) async fn hold<B>(
    body: B,
    max: u64,
    timeout: Option<Duration>,
    lease: &mut Lease,
) -> Result<Bytes, HoldError<B::Error>>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let hint = body.size_hint();
    if hint.lower() > max {
        return Err(HoldError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0_u64;
    let started = Instant::now();
    loop {
        let Some(data) = next_data(body.as_mut(), timeout, started, length).await? else { break };
        length += data.len() as u64;
        if length > max {
            return Err(HoldError::TooLarge);
        }
        lease.grow(data.len()).map_err(|_| HoldError::NoMemory)?;
        if first.is_empty() && rest.is_empty() {
            // A body in one piece is the normal case, and is not copied.
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(first.len() + data.len());
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// The next piece of a body that has sent `length` bytes since `started`. Trailers are dropped.
pub(super) async fn next_data<B>(
    mut body: Pin<&mut B>,
    timeout: Option<Duration>,
    started: Instant,
    length: u64,
) -> Result<Option<Bytes>, HoldError<B::Error>>
where
    B: Body<Data = Bytes>,
{
    loop {
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx));
        let next = match timeout {
            Some(timeout) => {
                let deadline = (Instant::now() + timeout).min(slowest(started, timeout, length));
                tokio::time::timeout_at(deadline, frame).await.map_err(|_| HoldError::TooSlow)?
            }
            None => frame.await,
        };
        let Some(frame) = next else { return Ok(None) };
        if let Ok(data) = frame.map_err(HoldError::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::memory::MemoryBudget;
    use http_body_util::channel::Channel;
    use prometheus::IntGauge;

    /// Sends `pieces` of 100 bytes, one every `pause`, and says how holding them ends.
    async fn dripped(pieces: usize, pause: Duration) -> Result<usize, &'static str> {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let feed = tokio::spawn(async move {
            for _ in 0..pieces {
                tokio::time::sleep(pause).await;
                if sender.send_data(Bytes::from_static(&[b'x'; 100])).await.is_err() {
                    return;
                }
            }
        });
        let budget = MemoryBudget::new(1 << 20, IntGauge::new("held", "held").expect("a name"));
        let held = hold(body, 1 << 20, Some(Duration::from_secs(30)), &mut budget.lease()).await;
        feed.abort();
        match held {
            Ok(bytes) => Ok(bytes.len()),
            Err(HoldError::TooSlow) => Err("too slow"),
            Err(_) => Err("another error"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_a_body_and_so_does_dripping_for_long() {
        assert_eq!(dripped(10, Duration::from_secs(1)).await, Ok(1000));
        assert_eq!(dripped(2, Duration::from_secs(31)).await, Err("too slow"));
        // Each pause is short enough; together they keep memory for hours.
        assert_eq!(dripped(1000, Duration::from_secs(20)).await, Err("too slow"));
        // A slow line that keeps going is served: 100 bytes in 50 ms are 2,000 in a second.
        assert_eq!(dripped(1000, Duration::from_millis(50)).await, Ok(100_000));
    }
}
