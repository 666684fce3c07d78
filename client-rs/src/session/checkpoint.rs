//! Bytes for the trainer's own checkpoint, and the session that goes on from them. Format: "ALRS", version (u16),
//! CRC-32 of the rest (u32), both little-endian, then postcard.

use super::{
    Link, Machine, reason,
    segment::{Segment, SegmentEnd},
    slots::{Entry, Slots, needed_by_fallbacks},
    track::Track,
};
use autolrs_core::{
    directive::{Directive, Slot, SlotOp},
    job::{Opened, Resume},
    spec::Budget,
};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 4] = b"ALRS";
const VERSION: u16 = 1;
const HEADER: usize = 10;

/// A checkpoint can't be made: losses of steps that were run are still to be delivered.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
/// machine.tick();
/// assert_eq!(machine.export(), Err(LossesMissing { offset: 1 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deliver the losses of all {offset} steps of the directive before a checkpoint is made")]
pub struct LossesMissing {
    /// Steps that were run.
    pub offset: u64,
}

/// Bytes that are not a checkpoint of this library.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
/// assert_eq!(Checkpoint::decode(b"something else"), Err(BadCheckpoint::Foreign));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// They do not begin as one.
    #[error("these bytes are not the state of an AutoLRS session")]
    Foreign,
    /// Written by another version.
    #[error(
        "the session's state has format {0}; this client reads format {VERSION}: use the version that wrote it"
    )]
    Version(u16),
    /// Cut off or changed.
    #[error("the session's state is damaged")]
    Damaged,
}

/// A session's state out of a trainer's checkpoint.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
/// machine.record(1.0);
/// let checkpoint = Checkpoint::decode(&machine.export()?)?;
/// let resumed = Machine::resume_alone(checkpoint, 0.1);
/// assert_eq!(resumed.offset(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    job: String,
    uid: u64,
    switch_every: u64,
    total: u64,
    committed_lr: Option<f64>,
    /// The slot whose content the checkpoint holds in place of the live state.
    held: Option<(Slot, Entry)>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Place {
    /// At the start of the search that directive `seq` began: it is searched again.
    SearchStart { seq: u64 },
    /// Within a directive.
    Within(Box<Within>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Within {
    directive: Directive,
    segment: Segment,
    outbox: Vec<Segment>,
    /// The directive's slot operations were taken by the trainer.
    ops_done: bool,
}

impl Checkpoint {
    /// Reads what [`Machine::export`] wrote.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(Checkpoint::decode(&machine.export()?).is_ok());
    /// # Ok::<(), LossesMissing>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, BadCheckpoint> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or(BadCheckpoint::Foreign)?;
        if &header[..4] != MAGIC {
            return Err(BadCheckpoint::Foreign);
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != VERSION {
            return Err(BadCheckpoint::Version(version));
        }
        let checksum = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
        if checksum != crc32fast::hash(body) {
            return Err(BadCheckpoint::Damaged);
        }
        postcard::from_bytes(body).map_err(|_| BadCheckpoint::Damaged)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4]].concat();
        // Writing these types to memory can't fail; if it did, decoding would say that the bytes are damaged.
        if let Ok(body) = postcard::to_stdvec(self) {
            bytes[6..HEADER].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    /// The job it belongs to.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(Checkpoint::decode(&machine.export()?)?.job(), "digits");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn job(&self) -> &str {
        &self.job
    }

    /// What the server is asked for. None: the session has nothing to do with a server any more, see
    /// [`Machine::resume_alone`].
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// let checkpoint = Checkpoint::decode(&machine.export()?)?;
    /// assert_eq!(checkpoint.resume(), None, "there is no server");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&self) -> Option<Resume> {
        let (seq, offset) = match &self.place {
            Place::SearchStart { seq } => (*seq, 0),
            Place::Within(within) => {
                let oldest = within.outbox.first().unwrap_or(&within.segment);
                (oldest.seq, oldest.losses.len() as u64)
            }
        };
        let slots = self.held.iter().map(|(slot, _)| *slot).collect();
        (seq > 0).then_some(Resume { uid: self.uid, seq, offset, slots })
    }
}

impl Machine {
    /// The slot whose content the trainer's checkpoint must hold in place of the live state; none: the live state.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.export_slot(), None, "the live state");
    /// ```
    pub fn export_slot(&self) -> Option<Slot> {
        self.search_to_repeat().map(|(slot, _)| slot).or_else(|| self.state_to_come())
    }

    /// The session's state for the trainer's checkpoint; see [`Machine`], "Checkpoints".
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// let bytes = machine.export()?;
    /// assert_eq!(&bytes[..4], b"ALRS");
    /// # Ok::<(), LossesMissing>(())
    /// ```
    pub fn export(&self) -> Result<Vec<u8>, LossesMissing> {
        if !self.track.is_drained() {
            return Err(LossesMissing { offset: self.track.offset() });
        }
        Ok(self.export_delivered())
    }

    /// [`Machine::export`] without the steps whose losses are still to be delivered. The trainer that loads it goes on
    /// before them: its state is after them, so it reports them first, if the session stands where this one does
    /// ([`Machine::delivered`]). Not so if [`Machine::export_slot`] names a slot: those steps are undone with the rest.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// machine.tick();
    /// let checkpoint = Checkpoint::decode(&machine.export_delivered())?;
    /// assert_eq!((machine.offset(), machine.delivered()), (2, 1));
    /// assert_eq!(Machine::resume_alone(checkpoint, 0.1).offset(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export_delivered(&self) -> Vec<u8> {
        let checkpoint = match self.search_to_repeat() {
            Some((slot, entry)) => {
                self.checkpoint(entry.total, Some((slot, entry)), Place::SearchStart { seq: entry.seq })
            }
            None => {
                let held = self.state_to_come().and_then(|slot| Some((slot, self.slots.entry(slot)?)));
                let total = self.total - (self.track.offset() - self.delivered());
                self.checkpoint(total, held, self.place())
            }
        };
        checkpoint.encode()
    }

    fn checkpoint(&self, total: u64, held: Option<(Slot, Entry)>, place: Place) -> Checkpoint {
        Checkpoint {
            job: self.job.clone(),
            uid: self.uid,
            switch_every: self.switch_every,
            total,
            committed_lr: self.committed_lr,
            held,
            place,
        }
    }

    /// A search under way, past its start: its slot. The batches of its trials can't be had again by another
    /// process, so it is searched again.
    fn search_to_repeat(&self) -> Option<(Slot, Entry)> {
        if !self.track.in_trial() || self.done.is_some() {
            return None;
        }
        let slot = self.slot_to_go_back_to()?;
        let starts_here = self.track.directive.slot_ops.contains(&SlotOp::Save(slot));
        if starts_here && self.track.offset() == 0 && self.slots.state_comes_from().is_none() {
            return None;
        }
        self.slots.entry(slot).map(|entry| (slot, entry))
    }

    /// The held slot that the live state is about to be replaced with.
    fn state_to_come(&self) -> Option<Slot> {
        let guard = self.track.stop().filter(|_| !self.track.in_trial() && self.done.is_none());
        let guarded =
            guard.and_then(|_| self.slot_to_go_back_to()).filter(|s| self.slots.entry(*s).is_some());
        self.slots.state_comes_from().or(guarded)
    }

    fn place(&self) -> Place {
        let mut segment = self.track.segment.clone();
        // The interrupt is the server's to repeat.
        segment.end = segment.end.filter(|end| !matches!(end, SegmentEnd::Interrupted(_)));
        Place::Within(Box::new(Within {
            directive: self.track.directive.clone(),
            segment,
            outbox: self.outbox.iter().cloned().collect(),
            ops_done: self.slots.is_settled(),
        }))
    }

    /// Goes on from a checkpoint in the session that was opened with its [`Checkpoint::resume`].
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// use autolrs_core::{directive::*, job::Opened, lr_pieces::Piece};
    /// # let run = Run {
    /// #     phase: Phase::Stable, batches: Batches::Fresh, lr: vec![Piece::constant(9, 0.5)], stop_if: vec![],
    /// #     stage: 0, trial: None, rungs: Vec::new(), validate_at: Vec::new(),
    /// # };
    /// # let directive = Directive {
    /// #     seq: 1, slot_ops: vec![], action: Action::Run(run), committed_step_at_start: 0,
    /// #     fallback: None, fallback_on_stop: None,
    /// # };
    /// # let opened = Opened { session: 1, directive, received_through: 0, slot_ops: vec![], uid: 7, switch_every: 1 };
    /// let mut machine = Machine::open("digits", 0.1, opened.clone());
    /// machine.record(1.0);
    /// let checkpoint = Checkpoint::decode(&machine.export()?)?;
    /// assert_eq!(checkpoint.resume().map(|resume| (resume.seq, resume.offset)), Some((1, 1)));
    /// // The server opens session 2 for it.
    /// let resumed = Machine::resume(checkpoint, 0.1, Opened { session: 2, ..opened });
    /// assert_eq!((resumed.session(), resumed.offset()), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(checkpoint: Checkpoint, fallback_lr: f64, opened: Opened) -> Self {
        let mut machine = Self::open(checkpoint.job.clone(), fallback_lr, opened.clone());
        let resume = checkpoint.resume();
        machine.resumed = checkpoint.held.map(|(slot, _)| slot);
        machine.slots = Slots::holding(checkpoint.held);
        machine.total = checkpoint.total;
        machine.committed_lr = checkpoint.committed_lr;
        match checkpoint.place {
            Place::Within(within)
                if !within.outbox.is_empty() || opened.directive.seq == within.segment.seq =>
            {
                machine.go_on_within(*within, &opened);
            }
            // The search starts again, or the server has closed what the trainer can't go on with.
            Place::Within(_) | Place::SearchStart { .. } => machine.begin(&opened),
        }
        let oldest = machine.outbox.front_mut().unwrap_or(&mut machine.track.segment);
        if resume.is_some_and(|resume| resume.seq == opened.directive.seq) {
            oldest.acknowledge(opened.received_through);
        }
        machine
    }

    /// Goes on from a checkpoint that has nothing to ask a server for.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(1.0);
    /// let checkpoint = Checkpoint::decode(&machine.export()?)?;
    /// assert_eq!(Machine::resume_alone(checkpoint, 0.1).total_step(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume_alone(checkpoint: Checkpoint, fallback_lr: f64) -> Self {
        let mut machine = Self::alone(checkpoint.job, Budget::Known(1), fallback_lr);
        machine.uid = checkpoint.uid;
        machine.switch_every = checkpoint.switch_every;
        machine.resumed = checkpoint.held.map(|(slot, _)| slot);
        machine.slots = Slots::holding(checkpoint.held);
        machine.total = checkpoint.total;
        machine.committed_lr = checkpoint.committed_lr;
        if let Place::Within(within) = checkpoint.place {
            machine.place_within(*within);
        }
        machine
    }

    fn go_on_within(&mut self, mut within: Within, opened: &Opened) {
        if opened.directive.seq == within.directive.seq {
            // The server asks of this session what it can do.
            within.directive = opened.directive.clone();
        }
        self.slots.push(opened.directive.seq, opened.slot_ops.iter().copied());
        if !within.outbox.is_empty() {
            self.link = Link::Detached { heard: false };
        }
        self.outbox = within.outbox.iter().cloned().collect();
        self.place_within(within);
    }

    /// Puts the trainer back into a directive. Slots that its fallbacks need and that are lost take the state at hand.
    fn place_within(&mut self, within: Within) {
        let Within { directive, segment, ops_done, .. } = within;
        self.done = reason(&directive);
        let at_start = segment.losses.is_empty();
        if at_start && !ops_done {
            self.slots.push(directive.seq, directive.slot_ops.iter().copied());
        } else if at_start && self.done.is_none() {
            self.redo_saves(&directive);
        }
        let lost = needed_by_fallbacks(&directive).into_iter().filter(|slot| !self.slots.will_hold(*slot));
        let lost: Vec<SlotOp> = lost.map(SlotOp::Save).collect();
        self.slots.push(directive.seq, lost.into_iter().filter(|_| self.done.is_none()));
        self.track = Track::resumed(directive, segment, self.switch_every);
    }

    /// The operations that were done before the checkpoint, without the restores: their outcome is the state at hand.
    fn redo_saves(&mut self, directive: &Directive) {
        for &op in &directive.slot_ops {
            let wanted = match op {
                SlotOp::Restore(_) => false,
                SlotOp::Save(slot) => !self.slots.will_hold(slot),
                SlotOp::Drop(slot) => self.slots.will_hold(slot),
            };
            if wanted {
                self.slots.push(directive.seq, [op]);
            }
        }
    }
}
