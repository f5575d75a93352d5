//! Load for the comparison of proxies, and a service behind them.
//!
//! Enters: a subcommand and its options. Leaves: one line of JSON with what was seen. Measures nothing of the proxy
//! itself: its CPU time and memory are read by whoever runs this.
//!
//! One thread per connection, blocking: the machine's clock decides when a thread wakes, not an event loop that is
//! busy with another connection.

mod http;
mod options;
mod rate;
mod service;
mod streams;

use std::io::{self, Write};
use std::process::ExitCode;

use options::Options;

const USAGE: &str = "usage:
  keyward-load service                                  a service; prints its port, ends with its standard input
  keyward-load sequence --to PORT --path PATH [--body FILE] --keys FILE [--count N]
                                                        requests one after another, one for each key unless told
  keyward-load rate ... --rate N --seconds N --connections N
                                                        requests at fixed times, and how long they took from then on
  keyward-load streams ... --connections N              one event stream a connection, all at once
  keyward-load stepped ... --steps PORT --count N       streams one after another; an event comes when the one before
                                                        has been read
  keyward-load hold ... --connections N                 one request a connection, then held until standard input ends";

fn main() -> ExitCode {
    // Linux lets a sleeping thread wake up to 50 µs late to save power; threads begin with what their parent has.
    // Where it cannot be changed, `rate` reports how late it was.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let result = Options::parse(arguments).and_then(|options| match command.as_str() {
        "service" => service::serve(),
        "sequence" => rate::sequence(&options),
        "rate" => rate::run(&options),
        "streams" => streams::run(&options),
        "stepped" => streams::stepped(&options),
        "hold" => rate::hold(&options),
        _ => Err(io::Error::other(USAGE)),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "keyward-load: {error}");
            ExitCode::FAILURE
        }
    }
}
