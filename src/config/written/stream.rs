//! `stream`: the format of a service that streams in its own way.

use crate::config::field::At;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::scan::stream::{House, Path, Template};

pub(super) const STREAM: Keys = Keys { known: &["join", "channel", "opaque", "done", "end"], later: &[] };

/// Reads a `stream` section.
pub(super) fn stream(value: &Value<'_>) -> Option<House> {
    let section = Section::open(value, &STREAM)?;
    let join = section.required("join", |value| {
        let list = paths(value)?;
        if list.is_empty() { value.refuse(value.mistake("expected at least one place")) } else { Some(list) }
    });
    let channel = section.field("channel", paths);
    let opaque = section.field("opaque", paths);
    let done = section.field("done", |value| value.text("what the last event holds, such as `[END]`").map(Box::from));
    let end = section.field("end", |value| {
        value.list(|item| item.parsed("a line such as `{\"error\": \"{message}\"}`", Template::parse))
    });
    Some(House {
        join: join.given()?,
        channel: channel.given().unwrap_or_default(),
        opaque: opaque.given().unwrap_or_default(),
        done: done.given(),
        end: end.given().unwrap_or_default().into_iter().map(|template| template.value).collect(),
    })
}

fn paths(value: &Value<'_>) -> Option<Vec<Path>> {
    let list = value.set(|item| item.parsed("a place such as `choices[].text`", Path::parse))?;
    Some(list.into_iter().map(|At { value, .. }| value).collect())
}
