//! Wire to core and back. Every bad field of a request is reported at once, with its path in the proto.

pub(super) mod directive;
pub(super) mod job;
pub(super) mod open;
pub(super) mod report;
pub(super) mod requests;
pub(super) mod schedule;
pub(super) mod spec;
pub(crate) mod stage;

use crate::error::{Error, MORE, Violation};

/// Most bytes of an identifier that a caller chooses.
const MAX_REQUEST_ID: usize = 128;

/// Most violations of a request that are told: the list must not be larger than the request.
const MAX_VIOLATIONS: usize = 100;
/// Most entries of a list that jobs are compared with.
const MAX_FILTER: usize = 64;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        match self.0.len() {
            0..MAX_VIOLATIONS => {
                self.0.push(Violation { field: field.into(), description: description.into() });
            }
            MAX_VIOLATIONS => {
                self.0.push(Violation { field: String::new(), description: MORE.into() });
            }
            _ => {}
        }
    }

    /// Checks the length of a list that jobs are compared with.
    pub(super) fn filter(&mut self, field: &str, entries: usize) {
        if entries > MAX_FILTER {
            self.add(field, format!("must have at most {MAX_FILTER} entries, has {entries}"));
        }
    }

    /// Checks a job's name: `[a-z0-9]([a-z0-9._-]{0,62})`.
    pub(super) fn name(&mut self, field: &str, name: &str) {
        let bytes = name.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = bytes.first().is_some_and(alphanumeric);
        let rest = bytes.iter().all(|b| alphanumeric(b) || b"._-".contains(b));
        if !(first && rest && bytes.len() <= 63) {
            let rule = "must be 1 to 63 of a-z 0-9 . _ - and start with a letter or a digit";
            self.add(field, format!("{rule}, is {name:?}"));
        }
    }

    /// Checks an identifier of 1 to 128 bytes; `optional`: it may be empty.
    pub(super) fn request_id(&mut self, request_id: &str, optional: bool) {
        let least = usize::from(!optional);
        if !(least..=MAX_REQUEST_ID).contains(&request_id.len()) {
            let rule = format!("must be {least} to {MAX_REQUEST_ID} bytes, has {}", request_id.len());
            self.add("request_id", rule);
        }
    }

    pub(super) fn extend(&mut self, prefix: &str, violations: Vec<autolrs_core::spec::Violation>) {
        for violation in violations {
            self.add(format!("{prefix}{}", violation.field), violation.description);
        }
    }

    /// The value, if nothing is wrong. It is absent only if what makes it so is in the list.
    pub(super) fn finish<T>(self, job: &str, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Error::Invalid { job: job.into(), violations: self.0 }),
        }
    }
}

#[cfg(test)]
pub(super) fn fields<T>(result: Result<T, Error>) -> Vec<String> {
    match result {
        Err(Error::Invalid { violations, .. }) => violations.into_iter().map(|v| v.field).collect(),
        _ => Vec::new(),
    }
}
