//! Writes an export, a job at a time.

use super::{Count, Damage, END, FORMAT, HEAD, JOB, ROW};
use crate::store::{JobKey, JobStore, RowKey, StoreError, Stored, WholeJob};
use std::sync::Arc;

/// The next bytes of an export.
#[derive(Debug, Default)]
pub struct Part {
    /// The bytes.
    pub data: Vec<u8>,
    /// What could not be read and is not among them.
    pub damaged: Vec<Damage>,
}

/// Walks over a store that goes on working.
pub struct Exporter {
    store: Arc<dyn JobStore>,
    frames: Frames,
    after: Option<JobKey>,
    ended: bool,
}

impl Exporter {
    /// Begins at the first job.
    pub fn new(store: Arc<dyn JobStore>) -> Self {
        Self { store, frames: Frames::new(), after: None, ended: false }
    }

    /// The next part; none after the end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the export is of no use then.
    pub async fn next(&mut self) -> Result<Option<Part>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let mut part = Part::default();
        match self.store.next_whole(self.after.as_ref()).await? {
            Some(job) => {
                let damage = |what: &String| Damage { job: job.key.clone(), what: what.clone() };
                part.damaged.extend(job.damage.iter().map(damage));
                self.frames.whole(&job);
                self.after = Some(job.key);
            }
            None => {
                self.frames.end();
                self.ended = true;
            }
        }
        part.data = std::mem::take(&mut self.frames.out);
        Ok(Some(part))
    }

    /// What was written so far.
    pub fn count(&self) -> Count {
        self.frames.count
    }
}

/// Bytes that were not taken yet, and what the next frame needs to know of those before it.
pub(super) struct Frames {
    pub(super) out: Vec<u8>,
    crc: crc32fast::Hasher,
    count: Count,
}

impl Frames {
    pub(super) fn new() -> Self {
        let out = format!("{HEAD}{FORMAT}\n").into_bytes();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&out);
        Self { out, crc, count: Count::default() }
    }

    /// A job with its rows; nothing if its snapshot is damaged.
    pub(super) fn whole(&mut self, job: &WholeJob) {
        let Some(stored) = &job.stored else { return };
        self.job(&job.key, stored);
        for (key, record) in &job.rows {
            self.row(*key, record);
        }
    }

    fn job(&mut self, key: &JobKey, stored: &Stored) {
        self.frame(|body| {
            body.push(JOB);
            for text in [&key.tenant, &key.name] {
                body.extend((text.len() as u32).to_be_bytes());
                body.extend(text.as_bytes());
            }
            body.extend(stored.version.to_be_bytes());
            body.extend(&stored.snapshot);
        });
        self.count.jobs += 1;
        self.count.bytes += stored.snapshot.len() as u64;
    }

    fn row(&mut self, key: RowKey, record: &[u8]) {
        self.frame(|body| {
            body.push(ROW);
            body.extend(key.to_bytes());
            body.extend(record);
        });
        self.count.rows += 1;
        self.count.bytes += record.len() as u64;
    }

    pub(super) fn end(&mut self) {
        let Count { jobs, rows, .. } = self.count;
        self.frame(|body| {
            body.push(END);
            body.extend(jobs.to_be_bytes());
            body.extend(rows.to_be_bytes());
        });
    }

    fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend([0; 4]);
        write(&mut self.out);
        let len = (self.out.len() - start - 4) as u32;
        self.out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        self.crc.update(&self.out[start..]);
        let crc = self.crc.clone().finalize().to_be_bytes();
        self.crc.update(&crc);
        self.out.extend(crc);
    }
}
