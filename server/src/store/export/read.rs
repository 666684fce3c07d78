//! Reads an export, a job at a time, and believes nothing that is not proven by a checksum.

use super::{Count, END, ExportError, FORMAT, HEAD, JOB, MAX_BODY, ROW};
use crate::store::{JobKey, MAX_RECORD, RowKey, Stored, WholeJob, key::ROW_KEY_LEN};
use bytes::Bytes;
use std::io::{ErrorKind, Read};

/// The first line is not longer than this.
const MAX_HEAD: usize = 32;

/// The jobs of an export.
pub struct Reader<R> {
    from: R,
    crc: crc32fast::Hasher,
    /// Where the frame begins that is read next.
    at: u64,
    /// The job whose rows are read next.
    job: Option<WholeJob>,
    count: Count,
    ended: bool,
}

/// What a frame says.
enum Said {
    Job(WholeJob),
    Row(RowKey, Bytes),
    End { jobs: u64, rows: u64 },
}

impl<R: Read> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`ExportError::NotAnExport`], [`ExportError::Newer`], [`ExportError::Io`].
    pub fn new(mut from: R) -> Result<Self, ExportError> {
        let mut head = Vec::new();
        while head.len() < MAX_HEAD && !head.ends_with(b"\n") {
            let mut byte = [0];
            match from.read_exact(&mut byte) {
                Ok(()) => head.extend(byte),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e.into()),
            }
        }
        let line = std::str::from_utf8(&head).ok().and_then(|line| line.strip_suffix('\n'));
        let number = line.and_then(|line| line.strip_prefix(HEAD)?.parse().ok());
        match number {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => return Err(ExportError::Newer { found }),
            _ => return Err(ExportError::NotAnExport),
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        Ok(Self { from, crc, at: head.len() as u64, job: None, count: Count::default(), ended: false })
    }

    /// The next job; none once the end was found and nothing follows it.
    ///
    /// # Errors
    /// All but [`ExportError::NotAnExport`] and [`ExportError::Newer`].
    pub fn next_job(&mut self) -> Result<Option<WholeJob>, ExportError> {
        while !self.ended {
            let start = self.at;
            let damaged = |what| ExportError::Damaged { at: start, what };
            let body = self.frame()?;
            let said = parse(&body).ok_or_else(|| damaged("makes no sense"))?;
            let ready = match said {
                Said::Job(job) => {
                    self.count.jobs += 1;
                    self.job.replace(job)
                }
                Said::Row(key, record) => {
                    let job = self.job.as_mut().ok_or_else(|| damaged("is a row of no job"))?;
                    job.rows.push((key, record));
                    self.count.rows += 1;
                    None
                }
                Said::End { jobs, rows } if (jobs, rows) == (self.count.jobs, self.count.rows) => {
                    self.ended = true;
                    if self.from.read(&mut [0])? > 0 {
                        return Err(damaged("is not the last although it says so"));
                    }
                    self.job.take()
                }
                Said::End { .. } => return Err(damaged("counts other jobs or rows than there are")),
            };
            if let Some(job) = ready {
                let stored = job.stored.iter().map(|stored| stored.snapshot.len());
                self.count.bytes +=
                    (job.rows.iter().map(|row| row.1.len()).chain(stored).sum::<usize>()) as u64;
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// Reads all that is left, to see whether it is whole.
    ///
    /// # Errors
    /// As [`Reader::next_job`].
    pub fn check(mut self) -> Result<Count, ExportError> {
        while self.next_job()?.is_some() {}
        Ok(self.count)
    }

    /// The body of the next frame.
    fn frame(&mut self) -> Result<Vec<u8>, ExportError> {
        let (at, jobs) = (self.at, self.count.jobs);
        let cut = |e: std::io::Error| match e.kind() {
            ErrorKind::UnexpectedEof => ExportError::Cut { at, jobs },
            _ => e.into(),
        };
        let mut word = [0; 4];
        self.from.read_exact(&mut word).map_err(cut)?;
        let len = u32::from_be_bytes(word) as usize;
        if len > MAX_BODY {
            return Err(ExportError::Damaged { at, what: "has an impossible length" });
        }
        self.crc.update(&word);
        let mut body = Vec::new();
        let read = (&mut self.from).take(len as u64).read_to_end(&mut body)?;
        if read < len {
            return Err(ExportError::Cut { at, jobs });
        }
        self.crc.update(&body);
        self.from.read_exact(&mut word).map_err(cut)?;
        if word != self.crc.clone().finalize().to_be_bytes() {
            return Err(ExportError::Damaged { at, what: "does not match its checksum" });
        }
        self.crc.update(&word);
        self.at += (len + 8) as u64;
        Ok(body)
    }
}

fn parse(body: &[u8]) -> Option<Said> {
    let (&kind, mut rest) = body.split_first()?;
    let said = match kind {
        JOB => {
            let key = JobKey { tenant: text(&mut rest)?, name: text(&mut rest)? };
            let version = number(&mut rest)?;
            let stored = Some(Stored { version, snapshot: Bytes::copy_from_slice(rest) });
            Said::Job(WholeJob { key, stored, rows: Vec::new(), damage: Vec::new() })
        }
        ROW => {
            let (key, record) = rest.split_at_checked(ROW_KEY_LEN)?;
            rest = record;
            Said::Row(RowKey::from_bytes(key)?, Bytes::copy_from_slice(record))
        }
        END => {
            let (jobs, rows) = (number(&mut rest)?, number(&mut rest)?);
            return rest.is_empty().then_some(Said::End { jobs, rows });
        }
        _ => return None,
    };
    (rest.len() <= MAX_RECORD).then_some(said)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, left) = rest.split_first_chunk::<8>()?;
    *rest = left;
    Some(u64::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let (len, left) = rest.split_first_chunk::<4>()?;
    let (text, left) = left.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = left;
    String::from_utf8(text.to_vec()).ok()
}
