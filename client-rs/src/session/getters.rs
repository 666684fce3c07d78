//! What can be asked of the machine.

use super::{Due, Link, LossesMissing, Machine, NotReady};
use autolrs_core::{
    directive::{Batches, DoneReason, Phase},
    lr_pieces::{self, Piece},
};

impl Machine {
    /// The job's name.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.job(), "digits");
    /// ```
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The job's uid; 0 without a server.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.uid(), 0, "there is no server");
    /// ```
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Number of the session; 0 without a server.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.session(), 0, "there is no server");
    /// ```
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Number of the directive in force; 0 for one that the client made itself.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.seq(), 0, "a directive of its own");
    /// ```
    pub fn seq(&self) -> u64 {
        self.track.seq()
    }

    /// How many directives have come into force after the first; fallbacks count.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.entered(), 0);
    /// while machine.record(1.0) != Status::Ended {}
    /// machine.handle_silence();
    /// assert_eq!(machine.entered(), 1);
    /// ```
    pub fn entered(&self) -> u64 {
        self.entered
    }

    /// What its steps are for; none once the job is done.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.phase(), Some(autolrs_client::Phase::Stable));
    /// ```
    pub fn phase(&self) -> Option<Phase> {
        self.run().map(|run| run.phase)
    }

    /// Its stage, from 0.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.stage(), 0);
    /// ```
    pub fn stage(&self) -> u32 {
        self.run().map_or(0, |run| run.stage)
    }

    /// Its trial, from 0; none outside a search.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.trial(), None);
    /// ```
    pub fn trial(&self) -> Option<u32> {
        self.run().and_then(|run| run.trial)
    }

    /// Whether its batches are those that followed the save of the restored slot, once more.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(!machine.replay());
    /// ```
    pub fn replay(&self) -> bool {
        self.run().is_some_and(|run| run.batches == Batches::Replay)
    }

    /// Its steps.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.steps(), 3);
    /// ```
    pub fn steps(&self) -> u64 {
        self.track.steps()
    }

    /// Its steps that were run.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// assert_eq!(machine.offset(), 1);
    /// ```
    pub fn offset(&self) -> u64 {
        self.track.offset()
    }

    /// How many losses of the directive have been delivered.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.tick();
    /// assert_eq!((machine.offset(), machine.delivered()), (1, 0));
    /// ```
    pub fn delivered(&self) -> u64 {
        self.track.known()
    }

    /// How many of its losses must have been delivered by now; see [`super::Status::WantLosses`]. At a switch point all but
    /// the last `switch_every - 1`.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.tick();
    /// assert_eq!(machine.wanted(), 1);
    /// ```
    pub fn wanted(&self) -> u64 {
        self.track.wanted()
    }

    /// The LR of the next step. After the last step: the last committed one, or the job's `fallback_lr`.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.lr(), 0.1);
    /// ```
    pub fn lr(&self) -> f64 {
        self.track.lr().or(self.committed_lr).unwrap_or(self.fallback_lr)
    }

    /// The LRs of the next steps, up to the next switch point, validation or end: before that nothing but the LR can
    /// change. Empty: [`Machine::status`] says what has to be done first. For trainers of several processes, which
    /// need not speak with each other until then.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.next_lrs(), [0.1], "every step is a switch point");
    /// ```
    pub fn next_lrs(&self) -> Vec<f64> {
        if self.begun { self.track.next_lrs() } else { Vec::new() }
    }

    /// The LRs of its steps that were not run yet.
    ///
    /// ```
    /// # use autolrs_client::{Piece, session::*};
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// assert_eq!(machine.line(), [Piece { index: 1, of: 3, ..Piece::constant(2, 0.1) }]);
    /// ```
    pub fn line(&self) -> Vec<Piece> {
        self.run().map(|run| lr_pieces::cut(&run.lr, self.offset()).1).unwrap_or_default()
    }

    /// Why nothing is left to do, if so.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.done(), None);
    /// ```
    pub fn done(&self) -> Option<DoneReason> {
        self.done
    }

    /// The directive has ended or is at a rung, every loss is known, and what follows is not: the trainer waits.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// while machine.record(1.0) != Status::Ended {}
    /// assert!(machine.waiting());
    /// ```
    pub fn waiting(&self) -> bool {
        self.done.is_none() && self.track.stands()
    }

    /// Fails while the directive has ended and something of it is still to be delivered: nothing can follow then.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// for _ in 0..3 {
    ///     machine.tick();
    /// }
    /// assert_eq!(machine.ready(), Err(NotReady::Losses(LossesMissing { offset: 3 })));
    /// ```
    pub fn ready(&self) -> Result<(), NotReady> {
        let offset = self.track.offset();
        if self.done.is_some() || !self.track.has_ended() || self.track.complete() {
            Ok(())
        } else if self.track.is_drained() {
            Err(NotReady::Validation { offset })
        } else {
            Err(NotReady::Losses(LossesMissing { offset }))
        }
    }

    /// Whether it is worth waiting for an answer.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(!machine.expects_answer(), "there is no server");
    /// ```
    pub fn expects_answer(&self) -> bool {
        matches!(self.link, Link::Up | Link::Detached { heard: true }) && self.track.seq() > 0
    }

    /// Runs a fallback that the server does not know of.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(machine.is_detached(), "there is no server");
    /// ```
    pub fn is_detached(&self) -> bool {
        self.link != Link::Up
    }

    /// Nothing will be said to the server any more.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(machine.is_severed(), "there is no server");
    /// ```
    pub fn is_severed(&self) -> bool {
        self.link == Link::Severed
    }

    /// Everything the server must know has reached it.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// assert!(machine.is_flushed(), "nobody wants it");
    /// ```
    pub fn is_flushed(&self) -> bool {
        matches!(self.due(), Due::Heartbeat | Due::Never)
    }

    /// Steps whose outcome is kept.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// assert_eq!(machine.committed_step(), 1);
    /// ```
    pub fn committed_step(&self) -> u64 {
        let run = if self.track.in_trial() { 0 } else { self.track.offset() };
        self.track.directive.committed_step_at_start + run
    }

    /// All steps: committed, of searches, and rolled back.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// assert_eq!(machine.total_step(), 1);
    /// ```
    pub fn total_step(&self) -> u64 {
        self.total
    }
}
