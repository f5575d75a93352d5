//! Readers of event streams.

use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::options::Options;
use crate::rate::percentile;

/// Readers begin one after another within this time, or the events of all streams would come at the same moments and be
/// cheaper for everybody.
const SPREAD: Duration = Duration::from_millis(10);

/// Long enough for a proxy under valgrind to be idle again.
const REST: Duration = Duration::from_millis(5);

struct Seen {
    events: usize,
    first: Duration,
    whole: Duration,
    status: u16,
}

pub fn run(options: &Options) -> io::Result<()> {
    let requests = options.requests();
    let target = options.target()?;
    let begun = Instant::now() + Duration::from_millis(50);
    let seen: io::Result<Vec<Seen>> = thread::scope(|scope| {
        let one = |n: u32| {
            let request = &requests[n as usize % requests.len()];
            scope.spawn(move || -> io::Result<Seen> {
                let mut connection = Connection::open(target)?;
                let due = begun + SPREAD * n / options.connections;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                connection.send(request)?;
                let head = connection.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let mut first = None;
                let mut ends = Ends::default();
                connection.body(&head, |piece| {
                    first.get_or_insert_with(|| due.elapsed());
                    ends.read(piece);
                })?;
                let first = first.unwrap_or_default();
                Ok(Seen { events: ends.events, first, whole: due.elapsed(), status: head.status() })
            })
        };
        let threads: Vec<_> = (0..options.connections).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))).collect()
    });
    let seen = seen?;
    let refused = seen.iter().filter(|one| one.status != 200).count();
    let events: usize = seen.iter().map(|one| one.events).sum();
    let mut firsts: Vec<Duration> = seen.iter().map(|one| one.first).collect();
    firsts.sort_unstable();
    let slowest = seen.iter().map(|one| one.whole).max().unwrap_or_default();
    println!(
        "{{\"streams\": {}, \"refused\": {refused}, \"events\": {events}, \"first_p50_us\": {:.1}, \
         \"first_p99_us\": {:.1}, \"slowest_ms\": {:.1}}}",
        seen.len(),
        percentile(&firsts, 50),
        percentile(&firsts, 99),
        slowest.as_secs_f64() * 1e3,
    );
    Ok(())
}

/// Reads streams whose events wait for their reader: however slow the proxy, it never finds two events at once, and does
/// the same each time.
pub fn stepped(options: &Options) -> io::Result<()> {
    let steps = options.steps.ok_or_else(|| io::Error::other("--steps PORT is missing"))?;
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(("127.0.0.1", steps))?;
    let mut connection = Connection::open(options.target()?)?;
    let requests = options.requests();
    let mut ends = Ends::default();
    for request in requests.iter().cycle().take(options.count.unwrap_or(1)) {
        connection.send(request)?;
        let head = connection.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut told = ends.events;
        connection.body(&head, |piece| {
            ends.read(piece);
            while told < ends.events {
                told += 1;
                // The proxy looks once more whether there is more, and is to find nothing.
                thread::sleep(REST);
                // One that is lost is missed by the service, which gives up after a while.
                let _ = socket.send(&[]);
            }
        })?;
    }
    println!("{{\"events\": {}}}", ends.events);
    Ok(())
}

/// Counts the empty lines that end events, however the bytes come.
#[derive(Default)]
struct Ends {
    events: usize,
    after_line_end: bool,
}

impl Ends {
    fn read(&mut self, piece: &[u8]) {
        for &byte in piece {
            self.events += usize::from(byte == b'\n' && self.after_line_end);
            self.after_line_end = byte == b'\n';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_across_pieces() {
        for size in 1..9 {
            let mut ends = Ends::default();
            for piece in b"data: a\n\ndata: b\n\n".chunks(size) {
                ends.read(piece);
            }
            assert_eq!(ends.events, 2);
        }
    }
}
