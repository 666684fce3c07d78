//! How records lie in sled: keys whose byte order is the order of names and numbers, and values cut into parts.
//!
//! A value is cut because sled writes a whole leaf of up to 17 values at once, and puts a leaf above 128 KiB into a
//! file of its own, which it never syncs. Parts of 4 KiB keep every leaf below that.
//!
//! ```text
//! key   = space: u8 | name | part: u32         name of a job = tenant 00 01 job 00 01, where 00 within is 00 FF
//!                                              name of a row = that of its job, then the row's nine bytes
//! value = part 0: version: u64 | length: u32 | CRC-32 of the content: u32 | CRC-32 of name and these 16 bytes: u32
//!         and every part: up to 4 KiB of the content
//! ```

use crate::store::{JobKey, RowKey};
use bytes::Bytes;

const META: u8 = 0;
const JOBS: u8 = 1;
const ROWS: u8 = 2;

/// Bytes of the content in one part.
const PART: usize = 4096;
const HEAD: usize = 20;
const PART_NUMBER: usize = 4;

/// The name of a record of the store itself.
pub(super) fn meta(name: &str) -> Vec<u8> {
    let mut key = vec![META];
    push(&mut key, name);
    key
}

/// What all jobs of a tenant begin with.
pub(super) fn jobs_of(tenant: &str) -> Vec<u8> {
    let mut key = vec![JOBS];
    push(&mut key, tenant);
    key
}

/// Where the keys of snapshots lie of all tenants after `after`.
pub(super) fn tenants_after(after: Option<&str>) -> std::ops::Range<Vec<u8>> {
    after.map_or(vec![JOBS], |tenant| end_of(&jobs_of(tenant)))..vec![JOBS + 1]
}

/// The name of a job's snapshot.
pub(super) fn snapshot(job: &JobKey) -> Vec<u8> {
    let mut key = jobs_of(&job.tenant);
    push(&mut key, &job.name);
    key
}

/// What all rows of a job begin with.
pub(super) fn rows_of(job: &JobKey) -> Vec<u8> {
    let mut key = snapshot(job);
    key[0] = ROWS;
    key
}

/// The name of a row.
pub(super) fn row(job: &JobKey, row: RowKey) -> Vec<u8> {
    let mut key = rows_of(job);
    key.extend(row.to_bytes());
    key
}

/// The key of one part of the record `name`.
pub(super) fn part(name: &[u8], number: u32) -> Vec<u8> {
    let mut key = name.to_vec();
    key.extend(number.to_be_bytes());
    key
}

/// The row that a key below `rows_of(job)` belongs to.
pub(super) fn row_of_key(rows_of: &[u8], key: &[u8]) -> Option<RowKey> {
    let row = key.strip_prefix(rows_of)?;
    RowKey::from_bytes(row.get(..row.len().checked_sub(PART_NUMBER)?)?)
}

/// The job name in a key below `jobs_of(tenant)`.
pub(super) fn job_of_key(jobs_of: &[u8], key: &[u8]) -> Option<String> {
    let (name, rest) = pull(key.strip_prefix(jobs_of)?)?;
    (rest.len() == PART_NUMBER).then_some(name)
}

/// Where the keys of snapshots and those of rows lie: the keys of all jobs after `after`.
pub(super) fn all_after(after: Option<&JobKey>) -> [std::ops::Range<Vec<u8>>; 2] {
    [JOBS, ROWS].map(|space| {
        let start = after.map(|job| [&[space], &snapshot(job)[1..]].concat());
        start.map_or(vec![space], |name| end_of(&name))..vec![space + 1]
    })
}

/// The job that a key of a snapshot or of a row belongs to.
pub(super) fn owner_of_key(key: &[u8]) -> Option<JobKey> {
    let (tenant, rest) = pull(key.strip_prefix(&[JOBS]).or_else(|| key.strip_prefix(&[ROWS]))?)?;
    let (name, _) = pull(rest)?;
    Some(JobKey { tenant, name })
}

/// The least key after all that begin with `name`. Names end with 01.
pub(super) fn end_of(name: &[u8]) -> Vec<u8> {
    let mut end = name.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Takes off what [`push`] appended; the text, and what follows it.
fn pull(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut text, mut at) = (Vec::new(), 0);
    loop {
        let byte = *bytes.get(at)?;
        match (byte, bytes.get(at + 1)) {
            (0, Some(1)) => return Some((String::from_utf8(text).ok()?, &bytes[at + 2..])),
            (0, Some(0xff)) => at += 2,
            (0, _) => return None,
            _ => at += 1,
        }
        text.push(byte);
    }
}

/// Appends text so that no text is a prefix of another and byte order is text order.
fn push(key: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 1]);
}

/// The parts of a record, as keys and values. The content has at most `MAX_RECORD` bytes.
pub(super) fn split(name: &[u8], version: u64, content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let head = Head { version, len: content.len() as u32, crc: crc32fast::hash(content) };
    let mut first = head.to_bytes(name).to_vec();
    let mut parts = content.chunks(PART);
    first.extend(parts.next().unwrap_or_default());
    let rest = parts.zip(1..).map(|(bytes, number)| (part(name, number), bytes.to_vec()));
    std::iter::once((part(name, 0), first)).chain(rest).collect()
}

/// The content of a record and its version, from its first part and a way to fetch the others.
///
/// # Errors
/// The outer error is that of `fetch`, the inner one says what is wrong with the record.
pub(super) fn join<E>(
    name: &[u8],
    first: &[u8],
    mut fetch: impl FnMut(&[u8]) -> Result<Option<::sled::IVec>, E>,
) -> Result<Result<(u64, Bytes), String>, E> {
    let head = match Head::from_bytes(name, first) {
        Ok(head) => head,
        Err(what) => return Ok(Err(what)),
    };
    let mut content = Vec::with_capacity((head.len as usize).min(super::super::MAX_RECORD));
    content.extend(&first[HEAD..]);
    for number in 1..(head.len as usize).div_ceil(PART) as u32 {
        match fetch(&part(name, number))? {
            Some(bytes) => content.extend_from_slice(&bytes),
            None => return Ok(Err(format!("its part {number} is missing"))),
        }
    }
    if content.len() != head.len as usize || crc32fast::hash(&content) != head.crc {
        return Ok(Err("it does not match its checksum".to_owned()));
    }
    Ok(Ok((head.version, content.into())))
}

/// The version of a record, from its first part.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn version(name: &[u8], first: &[u8]) -> Result<u64, String> {
    Ok(Head::from_bytes(name, first)?.version)
}

/// What stands before the content.
struct Head {
    version: u64,
    len: u32,
    crc: u32,
}

impl Head {
    fn to_bytes(&self, name: &[u8]) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&self.version.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.crc.to_be_bytes());
        let crc = Self::own_crc(name, &bytes[..16]);
        bytes[16..].copy_from_slice(&crc);
        bytes
    }

    fn from_bytes(name: &[u8], first: &[u8]) -> Result<Self, String> {
        let Some((head, _)) = first.split_first_chunk::<HEAD>() else {
            return Err("it is cut off".to_owned());
        };
        if head[16..] != Self::own_crc(name, &head[..16]) {
            return Err("its head does not match its checksum".to_owned());
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *head;
        Ok(Self {
            version: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            len: u32::from_be_bytes([i, j, k, l]),
            crc: u32::from_be_bytes([m, n, o, p]),
        })
    }

    fn own_crc(name: &[u8], bytes: &[u8]) -> [u8; 4] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(name);
        hasher.update(bytes);
        hasher.finalize().to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, convert::Infallible};

    fn join_parts(name: &[u8], parts: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(u64, Bytes), String> {
        let first = parts.get(&part(name, 0)).ok_or("no first part")?;
        let fetch = |key: &[u8]| Ok::<_, Infallible>(parts.get(key).map(|value| value.as_slice().into()));
        match join(name, first, fetch) {
            Ok(joined) => joined,
        }
    }

    #[test]
    fn a_record_comes_back_from_its_parts() {
        let name = meta("x");
        for len in [0, 1, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 7] {
            let content: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let parts: BTreeMap<_, _> = split(&name, 7, &content).into_iter().collect();
            assert_eq!(parts.len(), len.div_ceil(PART).max(1));
            assert!(parts.values().all(|part| part.len() <= PART + HEAD));
            assert_eq!(join_parts(&name, &parts), Ok((7, content.into())));
        }
    }

    #[test]
    fn damage_is_found() {
        let name = meta("x");
        let parts: BTreeMap<_, _> = split(&name, 7, &[5; PART + 100]).into_iter().collect();
        for key in parts.keys() {
            let mut missing = parts.clone();
            missing.remove(key);
            assert!(join_parts(&name, &missing).is_err(), "a missing part");
            for at in 0..parts[key].len() {
                let mut broken = parts.clone();
                broken.entry(key.clone()).and_modify(|value| value[at] ^= 4);
                assert!(join_parts(&name, &broken).is_err(), "byte {at} of a part");
            }
            let mut cut = parts.clone();
            cut.entry(key.clone()).and_modify(|value| value.truncate(value.len() - 1));
            assert!(join_parts(&name, &cut).is_err(), "a short part");
        }
    }

    #[test]
    fn a_record_under_another_name_is_found() {
        let (_, first) = split(&meta("x"), 7, b"content").remove(0);
        assert!(version(&meta("x"), &first).is_ok());
        assert!(version(&meta("y"), &first).is_err());
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_names(a in "[\0\u{1}a\u{ff}.-]{0,4}", b in "[\0\u{1}a\u{ff}.-]{0,4}", p: u32, q: u32) {
            let key = |name: &str, number| part(&snapshot(&JobKey::new("t", name)), number);
            let expected = (&a, p).cmp(&(&b, q));
            prop_assert_eq!(key(&a, p).cmp(&key(&b, q)), expected);
        }

        #[test]
        fn no_job_begins_with_another(a in "[\0\u{1}a.]{0,3}", b in "[\0\u{1}a.]{0,3}", c in "[\0\u{1}a.]{0,3}", d in "[\0\u{1}a.]{0,3}") {
            prop_assume!((&a, &b) != (&c, &d));
            let (one, other) = (JobKey::new(a, b), JobKey::new(c, d));
            prop_assert!(!snapshot(&other).starts_with(&snapshot(&one)));
            let other_row = row(&other, RowKey::Directive { seq: 1 });
            prop_assert!(!other_row.starts_with(&rows_of(&one)));
        }

        #[test]
        fn names_come_back(tenant: String, name: String, seq: u64, number: u32) {
            let job = JobKey::new(tenant.clone(), name.clone());
            let key = part(&snapshot(&job), number);
            prop_assert_eq!(job_of_key(&jobs_of(&tenant), &key), Some(name));
            prop_assert_eq!(owner_of_key(&key), Some(job.clone()));
            let directive = RowKey::Directive { seq };
            let key = part(&row(&job, directive), number);
            prop_assert_eq!(row_of_key(&rows_of(&job), &key), Some(directive));
            prop_assert_eq!(owner_of_key(&key), Some(job));
        }

        #[test]
        fn all_keys_of_a_job_lie_before_those_of_later_ones(a in "[\0\u{1}a\u{ff}.-]{0,4}", b in "[\0\u{1}a\u{ff}.-]{0,4}", p: u32, seq: u64) {
            let key = |name: &str| part(&snapshot(&JobKey::new("t", name)), p);
            let row = |name: &str| part(&row(&JobKey::new("t", name), RowKey::Directive { seq }), p);
            let after = all_after(Some(&JobKey::new("t", a.clone())));
            prop_assert_eq!(after[0].contains(&key(&b)), b > a);
            prop_assert_eq!(after[1].contains(&row(&b)), b > a);
        }
    }
}
