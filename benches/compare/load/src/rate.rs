//! Requests on plain connections: each key once, at fixed times, or one a connection.

use std::io::{self, Read};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::options::Options;

/// Asks one request after another on one connection: so many, or one for each key.
pub fn sequence(options: &Options) -> io::Result<()> {
    let mut connection = Connection::open(options.target()?)?;
    let mut refused = 0_u32;
    let requests = options.requests();
    let count = options.count.unwrap_or(requests.len());
    for request in requests.iter().cycle().take(count) {
        refused += u32::from(connection.ask(request)? != 200);
    }
    println!("{{\"requests\": {count}, \"refused\": {refused}}}");
    Ok(())
}

/// Holds connections that have had one answer each.
pub fn hold(options: &Options) -> io::Result<()> {
    let requests = options.requests();
    let mut held = Vec::new();
    let mut refused = 0_u32;
    for request in requests.iter().cycle().take(options.connections as usize) {
        let mut connection = Connection::open(options.target()?)?;
        refused += u32::from(connection.ask(request)? != 200);
        held.push(connection);
    }
    println!("{{\"held\": {}, \"refused\": {refused}}}", held.len());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    /// From when a request was due to the end of its answer.
    latencies: Vec<Duration>,
    /// From when a request was due to when it was sent.
    lags: Vec<Duration>,
    refused: u32,
}

/// An open loop: every request has its time, whatever became of those before it. One that has to wait, because its
/// connection still waits for an answer, waits on the proxy's account: its latency counts from when it was due.
pub fn run(options: &Options) -> io::Result<()> {
    let requests = options.requests();
    let target = options.target()?;
    let connections = options.connections;
    let all = options.rate * options.seconds;
    let opened = Barrier::new(connections as usize);
    let begun = Instant::now() + Duration::from_millis(100);
    let seen = thread::scope(|scope| {
        let one = |number: u32| {
            let (requests, opened) = (&requests, &opened);
            scope.spawn(move || -> io::Result<Seen> {
                let connection = Connection::open(target);
                opened.wait();
                let mut connection = connection?;
                let mut seen = Seen::default();
                for n in (number..all).step_by(connections as usize) {
                    let due = begun + Duration::from_secs(1) * n / options.rate;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    seen.lags.push(due.elapsed());
                    let status = connection.ask(&requests[n as usize % requests.len()])?;
                    seen.latencies.push(due.elapsed());
                    seen.refused += u32::from(status != 200);
                }
                Ok(seen)
            })
        };
        let threads: Vec<_> = (0..connections).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))).collect()
    });
    let seen: io::Result<Vec<Seen>> = seen;
    let (mut latencies, mut lags, mut refused) = (Vec::new(), Vec::new(), 0);
    for one in seen? {
        latencies.extend(one.latencies);
        lags.extend(one.lags);
        refused += one.refused;
    }
    latencies.sort_unstable();
    lags.sort_unstable();
    println!(
        "{{\"requests\": {}, \"refused\": {refused}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"max_us\": {:.1}, \
         \"lag_p50_us\": {:.1}, \"lag_p99_us\": {:.1}}}",
        latencies.len(),
        percentile(&latencies, 50),
        percentile(&latencies, 99),
        percentile(&latencies, 100),
        percentile(&lags, 50),
        percentile(&lags, 99),
    );
    Ok(())
}

/// Of sorted times, in microseconds: the smallest that at least so many percent do not exceed.
pub fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        for (percent, expected) in [(50, 100.0), (99, 198.0), (100, 200.0)] {
            assert!((percentile(&times, percent) - expected).abs() < 1e-6, "{percent}");
        }
        assert!((percentile(&times[..1], 99) - 1.0).abs() < 1e-6);
        assert!(percentile(&[], 50).abs() < 1e-6);
    }
}
