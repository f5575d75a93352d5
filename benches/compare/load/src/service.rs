//! A service for what nginx's `return` cannot be: event streams in real time, and large bodies that are read before they
//! are answered.
//!
//! Its CPU time is not measured. It has a core with the load, so it only has to keep pace.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Connection;

/// Of one stream, with the one that says that it is over.
const EVENTS: usize = 200;
const EVERY: Duration = Duration::from_millis(10);
const LARGE: usize = 64 << 10;

/// What proxies that inspect streams must not let through; each of its characters comes in an event of its own.
const HARMFUL: &str = "<SCRIPT src=x>alert(1)</script>";

/// Tokens of ordinary prose; an answer of a model is made of such.
const TEXT: &str = "The lighthouse keeper walked down the steps, counted the boats in the harbour, and wrote the number \
    into a small blue book that nobody else had ever read. ";

pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let steps = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
    steps.set_read_timeout(Some(Duration::from_secs(30)))?;
    println!("{} {}", listener.local_addr()?.port(), steps.local_addr()?.port());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let steps = Arc::clone(&steps);
            let _ = thread::Builder::new().stack_size(64 << 10).spawn(move || answer(stream, &steps));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(stream: TcpStream, steps: &UdpSocket) -> io::Result<()> {
    let mut connection = Connection::over(stream)?;
    let large = large();
    while let Some(head) = connection.head()? {
        connection.body(&head, |_| ())?;
        let prose = TEXT.split_inclusive(' ').cycle().take(EVENTS - 1);
        let begun = Instant::now();
        if head.first_line.contains("/harmful-stream") {
            events(&mut connection, HARMFUL.split_inclusive(|_| true), |_| Ok(()))?;
        } else if head.first_line.contains("/stepped-stream") {
            events(&mut connection, prose, |_| steps.recv(&mut [0]).map(drop))?;
        } else if head.first_line.contains("/stream") {
            events(&mut connection, prose, |n| {
                thread::sleep((begun + EVERY * n).saturating_duration_since(Instant::now()));
                Ok(())
            })?;
        } else {
            connection.send(&large)?;
        }
    }
    Ok(())
}

/// A JSON document of 64 KiB with its head.
fn large() -> Vec<u8> {
    let mut text = TEXT.repeat(LARGE / TEXT.len() + 1);
    text.truncate(LARGE - r#"{"text":""}"#.len());
    let body = format!(r#"{{"text":"{text}"}}"#);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    [head, body].concat().into_bytes()
}

/// One event for each token. `wait` is told how many have left.
fn events<'a>(
    connection: &mut Connection,
    tokens: impl Iterator<Item = &'a str>,
    wait: impl Fn(u32) -> io::Result<()>,
) -> io::Result<()> {
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut chunk = Vec::new();
    for (n, token) in (0..).zip(tokens.map(Some).chain([None])) {
        let event = match token {
            Some(token) => format!(
                "data: {{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012\",\"object\":\"chat.completion.chunk\",\
                 \"created\":1764100000,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"index\":0,\
                 \"delta\":{{\"content\":\"{token}\"}},\"finish_reason\":null}}]}}\n\n"
            ),
            None => "data: [DONE]\n\n".to_owned(),
        };
        chunk.clear();
        write!(chunk, "{:x}\r\n{event}\r\n", event.len())?;
        connection.send(&chunk)?;
        wait(n + 1)?;
    }
    connection.send(b"0\r\n\r\n")
}
