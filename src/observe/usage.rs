//! The usage record: exactly one JSON line per request.
//!
//! A request reserves its place in the queue when it begins, so a record is never dropped for want of room: when
//! nobody can write, new requests are refused instead. The writer is a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

use super::Metrics;

/// Requests in flight and records not yet written, together.
const QUEUE: usize = 65_536;

/// Larger than any line: the path is cut before it gets here, and everything else is short.
const BUFFER: usize = 64 * 1024;

/// How long the writer gathers records after it has written some. To wake a thread and to write a line costs more than
/// to make one: under load it is done fifty times a second instead of for every request.
const GATHER: Duration = Duration::from_millis(20);

/// How long the writer waits before it tries again what could not be written.
const RETRY: Duration = Duration::from_millis(500);

/// Where usage records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOutput {
    Stdout,
    Off,
    /// Appended to; opened anew on reload, so that it can be rotated by moving it away.
    File(PathBuf),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The response was delivered to its end.
    Complete,
    /// Keyward answered instead of the service.
    Refused,
    /// Keyward ended the response before the service did; `refusal` says why.
    Aborted,
    /// The client went away before the end.
    #[default]
    ClientClosed,
    /// The service broke off in the middle of its response.
    UpstreamAborted,
}

/// Hits of one rule in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct RuleHits {
    pub rule: Arc<str>,
    pub direction: &'static str,
    pub action: &'static str,
    pub count: u64,
}

/// Who did what, and what was really delivered. Lengths of text are UTF-16 code units and `null` where the text
/// was not looked at.
#[derive(Debug, Serialize)]
pub struct UsageRecord {
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    pub request_id: String,
    pub key_id: Option<Arc<str>>,
    pub org_code: Option<Arc<str>>,
    pub user_id: Option<Arc<str>>,
    pub route: Option<Arc<str>>,
    pub method: String,
    pub path: String,
    pub client: std::net::IpAddr,
    /// The status that was sent; 499 when the client left before there was one.
    pub status: u16,
    pub outcome: Outcome,
    /// Code of the refusal, if Keyward answered.
    pub refusal: Option<&'static str>,
    pub input_length: Option<u64>,
    pub response_length: Option<u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Messages of a WebSocket, each way; other requests have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_messages: Option<u64>,
    pub first_byte_ms: Option<f64>,
    pub duration_ms: f64,
    pub rules: Vec<RuleHits>,
    pub upstream: Option<Arc<str>>,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// Takes records. Cheap to clone; the writer ends when every clone and slot is gone.
#[derive(Clone, Debug)]
pub struct UsageSink {
    queue: Option<mpsc::Sender<UsageRecord>>,
    reopen: Arc<AtomicBool>,
}

/// A place in the queue, held by one request from its first stage to its record.
#[derive(Debug)]
pub struct UsageSlot(Option<mpsc::OwnedPermit<UsageRecord>>);

impl UsageSlot {
    /// Hands the record to the writer; never waits.
    pub fn send(self, record: UsageRecord) {
        if let Some(permit) = self.0 {
            permit.send(record);
        }
    }
}

impl UsageSink {
    /// Opens the output and starts the writer. Returns its thread, to be joined after the last clone is dropped.
    pub fn start(output: &UsageOutput, metrics: Arc<Metrics>) -> io::Result<(Self, Option<JoinHandle<()>>)> {
        let reopen = Arc::new(AtomicBool::new(false));
        if *output == UsageOutput::Off {
            return Ok((Self { queue: None, reopen }, None));
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let writer = Writer { out: open(output)?, output: output.clone(), reopen: Arc::clone(&reopen), metrics };
        let thread = std::thread::Builder::new().name("usage".to_owned()).spawn(move || writer.run(queue))?;
        Ok((Self { queue: Some(sender), reopen }, Some(thread)))
    }

    /// Reserves a place, or `None` when records cannot be written fast enough to accept more requests.
    pub fn reserve(&self) -> Option<UsageSlot> {
        match &self.queue {
            None => Some(UsageSlot(None)),
            Some(queue) => queue.clone().try_reserve_owned().ok().map(|permit| UsageSlot(Some(permit))),
        }
    }

    /// Opens the file anew before the next record.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

fn open(output: &UsageOutput) -> io::Result<BufWriter<Box<dyn Write + Send>>> {
    let out: Box<dyn Write + Send> = match output {
        UsageOutput::File(path) => Box::new(open_file(path)?),
        UsageOutput::Stdout | UsageOutput::Off => Box::new(io::stdout()),
    };
    Ok(BufWriter::with_capacity(BUFFER, out))
}

fn open_file(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        // Who asked what, from where: nobody else's business.
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open the usage file {}: {error}", path.display()))
        })
}

struct Writer {
    out: BufWriter<Box<dyn Write + Send>>,
    output: UsageOutput,
    reopen: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<UsageRecord>) {
        let mut line = Vec::new();
        while let Some(record) = queue.blocking_recv() {
            if self.reopen.swap(false, Ordering::Relaxed) {
                self.reopen_output();
            }
            line.clear();
            // A record holds numbers and strings only; it always serializes.
            if serde_json::to_writer(&mut line, &record).is_err() {
                continue;
            }
            line.push(b'\n');
            self.insist(|out| out.write_all(&line));
            if queue.is_empty() {
                self.insist(Write::flush);
                // Who sends meanwhile wakes nobody. A record that comes alone has left by now.
                if !queue.is_closed() {
                    std::thread::sleep(GATHER);
                }
            }
        }
        self.insist_once_more();
    }

    /// Tries until it works. `BufWriter` keeps what it could not write, so a line is neither lost nor doubled:
    /// `write_all` of a line larger than its buffer is the exception, and no line is that large.
    fn insist(&mut self, mut step: impl FnMut(&mut BufWriter<Box<dyn Write + Send>>) -> io::Result<()>) {
        while let Err(error) = step(&mut self.out) {
            self.metrics.usage_write_errors.inc();
            tracing::error!(%error, "cannot write usage records; they are kept and tried again");
            std::thread::sleep(RETRY);
        }
    }

    /// At the end nobody waits for a reader that never comes.
    fn insist_once_more(&mut self) {
        if let Err(error) = self.out.flush() {
            tracing::error!(%error, "usage records could not be written before the end");
        }
    }

    fn reopen_output(&mut self) {
        self.insist(Write::flush);
        match open(&self.output) {
            Ok(out) => self.out = out,
            Err(error) => tracing::error!(%error, "cannot open the usage output anew; the old one is kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> UsageRecord {
        UsageRecord {
            time: SystemTime::UNIX_EPOCH,
            request_id: id.to_owned(),
            key_id: None,
            org_code: None,
            user_id: None,
            route: None,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            client: std::net::IpAddr::from([127, 0, 0, 1]),
            status: 200,
            outcome: Outcome::Complete,
            refusal: None,
            input_length: None,
            response_length: Some(3),
            request_bytes: 0,
            response_bytes: 3,
            request_messages: None,
            response_messages: None,
            first_byte_ms: None,
            duration_ms: 1.5,
            rules: Vec::new(),
            upstream: None,
        }
    }

    #[test]
    fn every_record_is_one_line_and_survives_rotation() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("usage.jsonl");
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (sink, thread) = UsageSink::start(&UsageOutput::File(path.clone()), metrics).expect("starts");
        for n in 0..100 {
            sink.reserve().expect("room").send(record(&n.to_string()));
        }
        drop(sink);
        thread.expect("a thread").join().expect("the writer ends");
        let text = std::fs::read_to_string(&path).expect("the file");
        let ids: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|value| value["request_id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(ids, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(text.starts_with(r#"{"time":"1970-01-01T00:00:00.000Z""#), "{text}");
    }

    #[test]
    fn without_room_there_is_no_slot() {
        let (sender, _queue) = mpsc::channel(2);
        let sink = UsageSink { queue: Some(sender), reopen: Arc::default() };
        let held = (sink.reserve(), sink.reserve());
        assert!(held.0.is_some() && held.1.is_some());
        assert!(sink.reserve().is_none());
        drop(held);
        assert!(sink.reserve().is_some());
    }
}
