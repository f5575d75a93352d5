//! `limits`: token buckets that routes name.

use std::time::Duration;

use super::keys::{requests, window};
use crate::config::field::Field;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::policy::Subject;

pub(super) const LIMIT: Keys =
    Keys { known: &["requests", "per", "by", "burst"], later: &["cost", "shared", "store", "tokens"] };

const SUBJECTS: [(&str, Subject); 7] = [
    ("key", Subject::Key),
    ("organization", Subject::Organization),
    ("org", Subject::Organization),
    ("user", Subject::User),
    ("route", Subject::Route),
    ("address", Subject::Address),
    ("ip", Subject::Address),
];

/// One entry of `limits`.
pub(crate) struct Limit {
    pub requests: Field<u64>,
    pub per: Field<Duration>,
    pub by: Field<Subject>,
    pub burst: Field<u64>,
}

impl Limit {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &LIMIT)?;
        Some(Self {
            requests: section.required("requests", requests),
            per: section.required("per", window),
            by: section.field("by", |value| value.word(&SUBJECTS)),
            burst: section.field("burst", requests),
        })
    }
}
