//! One job with a store: what a crash leaves is what was stored.

use autolrs_core::{
    directive::Directive,
    job::{
        Ack, Answer, Cancel, Checkpoint, DirectiveRecord, End, Event, Finish, Job, Open, Opened, Refusal,
        Report, Row, Update,
    },
    lr_pieces::Piece,
    policy::Change,
    spec::ResolvedSpec,
};
use std::collections::BTreeMap;

/// The job, what is stored of it, and every directive that it ever gave.
pub struct SimServer {
    job: Job,
    stored: Vec<u8>,
    checkpoints: BTreeMap<u64, Checkpoint>,
    records: BTreeMap<u64, DirectiveRecord>,
    given: BTreeMap<u64, Directive>,
}

impl SimServer {
    /// A server with one new job.
    pub fn new(spec: ResolvedSpec) -> Self {
        let job = Job::create(spec, 0xfeed);
        let stored = encoded(&job);
        Self { job, stored, checkpoints: BTreeMap::new(), records: BTreeMap::new(), given: BTreeMap::new() }
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// kill -9 and a new process.
    pub fn restart(&mut self) {
        self.job = postcard::from_bytes(&self.stored).expect("what was stored can be read");
    }

    /// Opens a session.
    pub fn open(&mut self, mut open: Open) -> Result<Opened, Refusal> {
        let checkpoint = self.job.needs_checkpoint(&open).and_then(|seq| self.checkpoints.get(&seq));
        open.checkpoint = checkpoint.cloned().map(Box::new);
        match self.event(Event::Open(open))? {
            Answer::Opened(opened) => {
                self.remember(&opened.directive);
                Ok(*opened)
            }
            other => panic!("an open is answered with {other:?}"),
        }
    }

    /// Takes a report.
    pub fn report(&mut self, report: Report) -> Result<Ack, Refusal> {
        match self.event(Event::Report(report))? {
            Answer::Ack(ack) => {
                if let Some(directive) = &ack.directive {
                    self.remember(directive);
                }
                Ok(ack)
            }
            other => panic!("a report is answered with {other:?}"),
        }
    }

    /// An operator finishes the job.
    pub fn finish(&mut self, cooldown_steps: Option<u64>) -> Result<(), Refusal> {
        let request_id = format!("finish-{:?}", self.job.session());
        self.event(Event::Finish(Finish { request_id, cooldown_steps })).map(drop)
    }

    /// An operator cancels the job.
    pub fn cancel(&mut self) -> Result<(), Refusal> {
        self.event(Event::Cancel(Cancel { request_id: "cancel".into(), live: true })).map(drop)
    }

    /// An operator changes the job's course.
    pub fn update(&mut self, change: Change) -> Result<(), Refusal> {
        let request_id = format!("update-{change:?}");
        self.event(Event::Update(Update { request_id, change })).map(drop)
    }

    /// The LR of every step that was kept.
    ///
    /// # Panics
    /// If a record is missing.
    pub fn kept_line(&self) -> Vec<Piece> {
        let mut line = self.job.kept_line();
        while let Some(seq) = line.wants() {
            line.add(&self.records[&seq]);
        }
        line.finish()
    }

    /// The validation losses of every directive that has ended, as bits.
    pub fn validations(&self) -> Vec<(u64, Vec<(u64, u64)>)> {
        let closed = self.records.values().filter(|record| record.end != End::Open);
        let bits = |record: &DirectiveRecord| {
            let mut bits: Vec<_> = record.validations.iter().map(|v| (v.offset, v.loss.to_bits())).collect();
            bits.sort_unstable();
            bits
        };
        closed.map(|record| (record.directive.seq, bits(record))).collect()
    }

    /// A directive that was given, or a fallback inside one.
    pub fn directive(&self, seq: u64) -> Option<&Directive> {
        self.given.get(&seq).or_else(|| self.given.values().find_map(|d| d.fallback_with(seq)))
    }

    fn remember(&mut self, directive: &Directive) {
        self.given.insert(directive.seq, directive.clone());
    }

    /// Durable before visible.
    fn event(&mut self, event: Event) -> Result<Answer, Refusal> {
        let admitted = self.job.admit(event)?;
        let must_store = admitted.must_store();
        let effects = self.job.apply(admitted);
        if must_store {
            self.stored = encoded(&self.job);
        } else {
            assert!(effects.rows.is_empty(), "rows of an event that is not stored would be lost");
        }
        for row in effects.rows {
            match row {
                Row::Checkpoint(checkpoint) => drop(self.checkpoints.insert(checkpoint.seq(), *checkpoint)),
                Row::DropCheckpoint(seq) => drop(self.checkpoints.remove(&seq)),
                Row::Clear => {
                    self.checkpoints.clear();
                    self.records.clear();
                }
                Row::Directive(record) => drop(self.records.insert(record.directive.seq, *record)),
                Row::Trial(_) | Row::Commit(_) | Row::StageEnd(_) => {}
            }
        }
        Ok(effects.answer)
    }
}

fn encoded(job: &Job) -> Vec<u8> {
    postcard::to_stdvec(job).expect("a job can be written")
}
