//! The LR of every step that was kept, read back from the records of the directives. The newest directive comes first:
//! each one says which it followed and how many steps had been kept before it, so what was rolled back, searched or
//! abandoned by a rewind drops out.

use super::{DirectiveRecord, End, Job};
use crate::{
    directive::Phase,
    lr_pieces::{self, Piece},
};

/// Collects the kept line from its end to its start.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptLine {
    /// Newest first.
    pieces: Vec<Piece>,
    /// Steps that are not known yet.
    missing: u64,
    /// The directive before; 0: none.
    follows: u64,
}

impl Job {
    /// The kept line so far, with what is known of the directive under way.
    pub fn kept_line(&self) -> KeptLine {
        let mut line = KeptLine { pieces: Vec::new(), missing: u64::MAX, follows: 0 };
        if let Some(current) = &self.current {
            line.add(&self.record(current, End::Open));
        }
        line
    }
}

impl KeptLine {
    /// The directive whose record must be added next; none: the line is whole.
    pub fn wants(&self) -> Option<u64> {
        (self.missing > 0 && self.follows > 0).then_some(self.follows)
    }

    /// Adds the record that [`KeptLine::wants`] names.
    pub fn add(&mut self, record: &DirectiveRecord) {
        self.follows = record.follows;
        let before = record.kept_before.min(self.missing);
        if let Some(run) = record.directive.run().filter(|run| run.phase != Phase::Trial) {
            let kept = record.steps.min(self.missing - before);
            self.pieces.extend(lr_pieces::cut(&run.lr, kept).0.into_iter().rev());
        }
        self.missing = before;
    }

    /// The line from its start, in as few pieces as it needs.
    pub fn finish(self) -> Vec<Piece> {
        let mut line = Vec::new();
        for piece in self.pieces.into_iter().rev() {
            lr_pieces::push(&mut line, piece);
        }
        line
    }
}
