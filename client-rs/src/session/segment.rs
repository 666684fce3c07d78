//! What the server must come to know of one directive: its losses and how it ended.

use super::MAX_LOSSES_PER_REPORT;
use autolrs_core::job::{Report, StoppedBecause, Validation};
use serde::{Deserialize, Serialize};

/// Validation losses that are kept of one directive; the server keeps no more.
pub(super) const MAX_VALIDATIONS: usize = 4096;

/// The losses of one directive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// The directive. 0: made by the client itself, never reported.
    pub(super) seq: u64,
    pub(super) losses: Vec<f64>,
    pub(super) validations: Vec<Validation>,
    /// Set once the segment has ended and every loss is known.
    pub(super) end: Option<SegmentEnd>,
    /// The server has closed and stored it.
    #[serde(skip)]
    pub(super) stored: bool,
    /// The trainer stands at a rung after the last loss, and waits.
    #[serde(skip)]
    pub(super) at_rung: bool,
    /// Losses that the server holds, by its last answer.
    #[serde(skip)]
    received: usize,
    /// Validations in the reports so far.
    #[serde(skip)]
    validations_sent: usize,
    /// Validations in answered reports.
    #[serde(skip)]
    validations_received: usize,
}

/// How a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SegmentEnd {
    /// At its last step.
    Completed,
    /// A stop rule matched.
    Stopped(autolrs_core::stop_rules::Stop),
    /// The interrupt of this number was obeyed.
    Interrupted(u64),
    /// No answer came at a rung.
    NoAnswer,
}

impl SegmentEnd {
    fn stopped_because(self) -> Option<StoppedBecause> {
        match self {
            Self::Completed => None,
            Self::Stopped(stop) => Some(StoppedBecause::Rule(stop)),
            Self::Interrupted(number) => Some(StoppedBecause::Interrupt(number)),
            Self::NoAnswer => Some(StoppedBecause::NoAnswer),
        }
    }
}

impl Segment {
    pub(super) fn new(seq: u64) -> Self {
        Self {
            seq,
            losses: Vec::new(),
            validations: Vec::new(),
            end: None,
            stored: false,
            at_rung: false,
            received: 0,
            validations_sent: 0,
            validations_received: 0,
        }
    }

    /// The next report: what the server lacks, from where it said to go on. It finishes the directive, or says that a
    /// rung is reached, only if it carries the last loss.
    pub(super) fn report(&mut self, session: u64) -> Report {
        self.validations_sent = self.validations.len();
        let to = self.losses.len().min(self.received + MAX_LOSSES_PER_REPORT);
        let end = self.end.filter(|_| to == self.losses.len());
        let from = if end.is_some() { 0 } else { self.validations_received };
        Report {
            session,
            seq: self.seq,
            first_offset: self.received as u64,
            train_losses: self.losses[self.received..to].to_vec(),
            validations: self.validations[from..].to_vec(),
            finished: end.is_some(),
            stopped_because: end.and_then(SegmentEnd::stopped_because),
            at_rung: self.at_rung && to == self.losses.len(),
        }
    }

    /// A report of nothing, to be heard.
    pub(super) fn heartbeat(&self, session: u64) -> Report {
        Report { session, seq: self.seq, first_offset: self.received as u64, ..Report::default() }
    }

    /// The server holds this many losses. Fewer than before: it has lost its memory, so all is sent again.
    pub(super) fn acknowledge(&mut self, received_through: u64) {
        let received = usize::try_from(received_through).unwrap_or(usize::MAX).min(self.losses.len());
        self.validations_received = if received < self.received { 0 } else { self.validations_sent };
        self.received = received;
    }

    pub(super) fn unsent_losses(&self) -> usize {
        self.losses.len() - self.received
    }

    pub(super) fn unsent_validations(&self) -> &[Validation] {
        &self.validations[self.validations_received..]
    }

    /// Keeps a validation loss and room for `reserved` more. False: there are too many.
    pub(super) fn validate(&mut self, offset: u64, loss: f64, reserved: usize) -> bool {
        let room = self.validations.len() + reserved < MAX_VALIDATIONS;
        if room {
            self.validations.push(Validation { offset, loss });
        }
        room
    }
}
