//! `keyward scan`: standard input through the scanners of the proxy.
//!
//! What may pass leaves on standard output as soon as it may; one line of JSON with the verdict leaves on standard
//! error. Exit codes: 0 clean, 1 a rule matched or the proxy would refuse it, 2 it could not be scanned.

mod input;
mod sniff;
mod verdict;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::load;
use crate::scan::{
    Action, BinaryParts, Direction, Inspection, Place, Places, Rule, RuleHit, RuleSet, StreamFormat, StreamRules,
    StreamScanner, StreamStop, TextFormat, Verdict, inspect, locate, preset, presets,
};
use input::{Chunk, Chunks};
use sniff::sniff;
use verdict::{Outcome, Word};

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// Take rules, action and length limits from the `defaults` of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look for this preset (seed, html, secrets, context), or this rule of the configuration [default: html]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Look for this regular expression; may be given several times
    #[arg(long = "rule", value_name = "REGEX")]
    rules: Vec<String>,
    /// Which defaults of the configuration apply: request or response
    #[arg(long, default_value = "response", value_name = "WAY")]
    direction: Direction,
    /// What a hit does: block, redact, sanitize or observe [default: that of the configuration, or block]
    #[arg(long)]
    action: Option<Action>,
    /// How the input is written
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// Read N bytes at a time, or random numbers of them from a seed
    #[arg(long, value_name = "N|random:SEED")]
    chunk: Option<Chunk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Told by how the input begins
    Auto,
    /// One text
    Text,
    /// One JSON document
    Json,
    /// Server-sent events
    Sse,
    /// A JSON document on each line
    Ndjson,
}

/// The most of a document that is held: the default of `max_body`.
const MAX_HELD: u64 = 10 << 20;

/// What is looked for, and what is done about it.
struct Task {
    what: StreamRules,
    max_held: u64,
}

pub(super) fn run(args: &ScanArgs) -> ExitCode {
    let scanned = task(args).and_then(|task| {
        let outcome = scan(&task, args.format, args.chunk, &mut io::stdin().lock(), &mut io::stdout().lock())?;
        Ok((outcome.line(task.what.rules.rule_ids())?, outcome.word))
    });
    let (line, code) = match scanned {
        Ok((line, Word::Clean)) => (line, 0),
        Ok((line, _)) => (line, 1),
        Err(why) => (why, 2),
    };
    // Nothing can be told to somebody who does not listen; the exit code still tells.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(code)
}

fn task(args: &ScanArgs) -> Result<Task, String> {
    let compiled = args.config.as_deref().map(load).transpose();
    let defaults = match compiled {
        Ok(compiled) => compiled.map(|compiled| compiled.defaults),
        Err(super::Failure::Config(mistakes)) => return Err(mistakes.to_string()),
        Err(super::Failure::Other(why)) => return Err(told(why)),
    };
    let own = defaults.as_ref().map(|defaults| &defaults.own_rules[..]).unwrap_or_default();
    let rules = named_rules(args, own).map_err(told)?;
    let section = defaults.as_ref().map(|defaults| match args.direction {
        Direction::Request => &defaults.request,
        Direction::Response => &defaults.response,
    });
    let action = args.action.or(section.map(|section| section.action)).unwrap_or(Action::Block);
    let rules = match (rules.is_empty(), section) {
        (true, Some(section)) => Arc::clone(&section.rules),
        _ => Arc::new(RuleSet::compile_for(rules, action).map_err(told)?),
    };
    let what = StreamRules {
        rules,
        action,
        max_chars: section.and_then(|section| section.max_chars),
        max_body_chars: section.and_then(|section| section.max_body_chars),
        house: section.and_then(|section| section.house.clone()),
    };
    Ok(Task { what, max_held: section.map_or(MAX_HELD, |section| section.max_body) })
}

fn told(why: impl std::fmt::Display) -> String {
    format!("keyward: {why}")
}

/// The rules that the command line names. None where a configuration is to say it.
fn named_rules(args: &ScanArgs, own: &[Rule]) -> Result<Vec<Rule>, String> {
    let name = match (&args.preset, &args.config) {
        (Some(name), _) => Some(name.as_str()),
        (None, None) if args.rules.is_empty() => Some("html"),
        (None, _) => None,
    };
    let mut rules = match name {
        None => Vec::new(),
        Some(name) => preset(name)
            .or_else(|| own.iter().find(|rule| *rule.id == *name).map(|rule| vec![rule.clone()]))
            .ok_or_else(|| unknown(name, own))?,
    };
    let numbered = args.rules.iter().enumerate();
    rules.extend(numbered.map(|(i, pattern)| Rule::new(format!("rule-{}", i + 1), pattern.as_str())));
    Ok(rules)
}

fn unknown(name: &str, own: &[Rule]) -> String {
    let known = presets::NAMES.into_iter().chain(own.iter().map(|rule| &*rule.id));
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    format!("--preset: there is no `{name}`; there are {}", known.join(", "))
}

/// Scans `from` to its end, or until the verdict is certain, and writes to `to` what may leave.
fn scan(
    task: &Task,
    format: Format,
    chunk: Option<Chunk>,
    from: &mut dyn Read,
    to: &mut dyn Write,
) -> Result<Outcome, String> {
    let mut chunks = Chunks::new(from, chunk);
    let mut begun = Vec::new();
    let format = match format {
        Format::Auto => sniff(&mut chunks, &mut begun).map_err(unreadable)?,
        other => other,
    };
    let sanitizes = task.what.action == Action::Sanitize;
    let stream = match format {
        Format::Json => return whole(task, TextFormat::Json, chunks, begun, to),
        // Removal needs the text whole, and the proxy holds it too.
        Format::Auto | Format::Text if sanitizes => return whole(task, TextFormat::Text, chunks, begun, to),
        Format::Sse | Format::Ndjson if sanitizes => {
            return Err(told("a stream cannot be sanitized: use `--action redact`"));
        }
        Format::Auto | Format::Text => StreamFormat::Text,
        Format::Sse => StreamFormat::Events,
        Format::Ndjson => StreamFormat::Lines,
    };
    streamed(task, stream, chunks, &begun, to)
}

fn unreadable(error: io::Error) -> String {
    told(format!("cannot read standard input: {error}"))
}

/// A stream, let go as it comes. `begun` was read before, in the same chunks.
fn streamed(
    task: &Task,
    format: StreamFormat,
    mut chunks: Chunks<'_>,
    begun: &[u8],
    to: &mut dyn Write,
) -> Result<Outcome, String> {
    let mut scanner = StreamScanner::new(task.what.clone(), format, None).with_places();
    let (mut out, mut chunk) = (Vec::new(), Vec::new());
    let (mut held_max, mut released) = (0, 0);
    let mut deliver = |out: &mut Vec<u8>| {
        released += out.len() as u64;
        let written = write(to, out);
        out.clear();
        written.map(|()| released)
    };
    let mut already = chunks.again(begun);
    let mut end = false;
    while !end && scanner.stop().is_none() {
        match already.next() {
            Some(part) => scanner.feed(part, &mut out),
            None if chunks.next(&mut chunk).map_err(unreadable)? => scanner.feed(&chunk, &mut out),
            None => {
                scanner.finish(&mut out);
                end = true;
            }
        }
        held_max = held_max.max(scanner.withheld() as u64);
        deliver(&mut out)?;
    }
    let stopped = match scanner.stop() {
        None => None,
        Some(StreamStop::Blocked) => Some("a candidate outgrew what may be withheld"),
        Some(StreamStop::TooLong) => Some("a text is too long"),
        Some(StreamStop::Unscannable(why)) => return Err(told(format!("the proxy would refuse this stream: {why}"))),
    };
    let released = deliver(&mut out)?;
    let places = scanner.places().cloned().unwrap_or_default();
    let word = Word::of(task.what.action, stopped.is_some(), !scanner.hits().is_empty());
    Ok(Outcome { word, reason: stopped.filter(|_| places.total() == 0), places, held_max, released })
}

/// A body that is held, as the proxy holds it.
fn whole(
    task: &Task,
    format: TextFormat,
    mut chunks: Chunks<'_>,
    mut body: Vec<u8>,
    to: &mut dyn Write,
) -> Result<Outcome, String> {
    let mut chunk = Vec::new();
    while chunks.next(&mut chunk).map_err(unreadable)? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > task.max_held {
            return Err(told(format!(
                "the input is larger than {} bytes, the most of one body that is held (`max_body`)",
                task.max_held
            )));
        }
    }
    let body = Bytes::from(body);
    let what = Inspection {
        rules: &task.what.rules,
        action: task.what.action,
        max_chars: task.what.max_chars,
        max_body_chars: task.what.max_body_chars,
        binary_parts: BinaryParts::Pass,
    };
    let report = inspect(&body, format, &what);
    let mut places = Places::default();
    if !report.hits.is_empty() {
        locate(&body, format, &what, &mut places);
    }
    let (stopped, passes) = match report.verdict {
        Verdict::Clean | Verdict::Observed => (None, Some(body.clone())),
        Verdict::Rewritten(rewritten) => (None, Some(rewritten)),
        Verdict::Blocked => (Some("it matches only when it is read another way"), None),
        Verdict::TooLong => (Some("a text is too long"), None),
        Verdict::Malformed(error) => return Err(told(format!("the input is not JSON: {error}"))),
        Verdict::Unscannable(why) => return Err(told(format!("the proxy would refuse this body: {why}"))),
    };
    let passes = passes.unwrap_or_default();
    write(to, &passes)?;
    let hit = report.hits.iter().any(|hit: &RuleHit| hit.count > 0);
    Ok(Outcome {
        word: Word::of(task.what.action, stopped.is_some(), hit),
        reason: stopped.filter(|_| places.total() == 0),
        places,
        held_max: body.len() as u64,
        released: passes.len() as u64,
    })
}

/// Writes at once: whoever reads is to see what may leave when it may.
fn write(to: &mut dyn Write, bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Ok(());
    }
    to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => told("nobody reads standard output any more: stopped before the end"),
        _ => told(format!("cannot write to standard output: {error}")),
    })
}

#[cfg(test)]
mod tests;
