//! Records: a core type in an envelope that says what it is and proves that it is whole.
//!
//! ```text
//! "ALRS" | CRC-32 of all that follows | format: u16 | kind: u8 | payload (postcard)
//! ```
//! Numbers have their big end first. The first ten bytes keep their place in every future format, so that any release
//! can tell a damaged record from a newer one. Floats keep their bits, NaN and infinities too.

use super::{JobKey, RowKey, StoreError};
use serde::{Serialize, de::DeserializeOwned};

/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 4] = *b"ALRS";
const CRC: std::ops::Range<usize> = 4..8;
const VERSION: std::ops::Range<usize> = 8..10;
const KIND: usize = 10;
const HEADER: usize = 11;

/// What a record holds. The numbers are part of the format and are never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A job's snapshot.
    Snapshot = 1,
    /// A row [`RowKey::Directive`].
    Directive = 2,
    /// A row [`RowKey::Checkpoint`].
    Checkpoint = 3,
    /// A row [`RowKey::Trial`].
    Trial = 4,
    /// A row [`RowKey::Commit`].
    Commit = 5,
    /// A row [`RowKey::StageEnd`].
    StageEnd = 6,
}

impl From<RowKey> for Kind {
    fn from(key: RowKey) -> Self {
        match key {
            RowKey::Directive { .. } => Self::Directive,
            RowKey::Checkpoint { .. } => Self::Checkpoint,
            RowKey::Trial { .. } => Self::Trial,
            RowKey::Commit { .. } => Self::Commit,
            RowKey::StageEnd { .. } => Self::StageEnd,
        }
    }
}

/// Why a record can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what was written.
    #[error("the {kind:?} record {what}")]
    Damaged {
        /// What was to be read.
        kind: Kind,
        /// What is wrong with it.
        what: String,
    },
    /// The record is whole, but a newer release wrote it.
    #[error("the {kind:?} record has format {found}, this release reads up to {FORMAT}")]
    NewerFormat {
        /// What was to be read.
        kind: Kind,
        /// Its format.
        found: u16,
    },
    /// The value has no encoding (a sequence of unknown length, say): a bug of the type.
    #[error("a {kind:?} record can't be encoded: {reason}")]
    Unencodable {
        /// What was to be written.
        kind: Kind,
        /// What the encoder said.
        reason: String,
    },
}

impl CodecError {
    /// The same, naming the job.
    pub fn of(self, job: &JobKey) -> StoreError {
        let job = job.clone();
        match self {
            Self::NewerFormat { found, .. } => StoreError::NewerRecord { job, found, known: FORMAT },
            Self::Damaged { .. } => StoreError::Damaged { job, what: self.to_string() },
            Self::Unencodable { reason, .. } => StoreError::Unencodable { job, reason },
        }
    }
}

/// Puts a value into its envelope.
///
/// # Errors
/// [`CodecError::Unencodable`].
pub fn encode<T: Serialize + ?Sized>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut record = MAGIC.to_vec();
    record.extend([0; 4]);
    record.extend(FORMAT.to_be_bytes());
    record.push(kind as u8);
    let mut record = postcard::to_extend(value, record)
        .map_err(|e| CodecError::Unencodable { kind, reason: e.to_string() })?;
    let crc = crc32fast::hash(&record[CRC.end..]);
    record[CRC].copy_from_slice(&crc.to_be_bytes());
    Ok(record)
}

/// Takes a value out of its envelope.
///
/// # Errors
/// [`CodecError::Damaged`] for anything that [`encode`] did not write for this kind, and [`CodecError::NewerFormat`].
pub fn decode<T: DeserializeOwned>(kind: Kind, record: &[u8]) -> Result<T, CodecError> {
    let damaged = |what: String| CodecError::Damaged { kind, what };
    if record.len() < HEADER {
        return Err(damaged(format!("is cut off: {} bytes, {HEADER} are the least", record.len())));
    }
    if record[..CRC.start] != MAGIC {
        return Err(damaged("does not begin as a record does".to_owned()));
    }
    if record[CRC] != crc32fast::hash(&record[CRC.end..]).to_be_bytes() {
        return Err(damaged("does not match its checksum".to_owned()));
    }
    match u16::from_be_bytes([record[VERSION.start], record[VERSION.start + 1]]) {
        FORMAT => {}
        0 => return Err(damaged("has format 0, which never was".to_owned())),
        found => return Err(CodecError::NewerFormat { kind, found }),
    }
    if record[KIND] != kind as u8 {
        return Err(damaged(format!("is of another kind ({})", record[KIND])));
    }
    match postcard::take_from_bytes(&record[HEADER..]) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(damaged(format!("has {} bytes too many", rest.len()))),
        Err(e) => Err(damaged(format!("can't be decoded: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        losses: Vec<f64>,
        seq: Option<u64>,
    }

    fn sample() -> Sample {
        Sample { name: "run".to_owned(), losses: vec![1.5, -0.0, 1e-300], seq: Some(7) }
    }

    /// Puts a checksum that fits on a record that was changed.
    fn seal(mut record: Vec<u8>) -> Vec<u8> {
        let crc = crc32fast::hash(&record[CRC.end..]);
        record[CRC].copy_from_slice(&crc.to_be_bytes());
        record
    }

    #[test]
    fn the_bytes_of_format_1_are_pinned() {
        let record = encode(Kind::Trial, &(1u8, "ab")).expect("encodes");
        assert_eq!(record, [b"ALRS\xc7\xd2\x43\x82".as_slice(), &[0, 1, 4, 1, 2, b'a', b'b']].concat());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let record = encode(Kind::Snapshot, &sample()).expect("encodes");
        assert_eq!(decode::<Sample>(Kind::Snapshot, &record), Ok(sample()));
        for bit in 0..record.len() * 8 {
            let mut broken = record.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let found = decode::<Sample>(Kind::Snapshot, &broken);
            assert!(matches!(found, Err(CodecError::Damaged { .. })), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn every_cut_is_found() {
        let record = encode(Kind::Snapshot, &sample()).expect("encodes");
        for len in 0..record.len() {
            let found = decode::<Sample>(Kind::Snapshot, &record[..len]);
            assert!(matches!(found, Err(CodecError::Damaged { .. })), "{len} bytes: {found:?}");
        }
        let longer = [&record[..], &[0]].concat();
        assert!(matches!(decode::<Sample>(Kind::Snapshot, &longer), Err(CodecError::Damaged { .. })));
    }

    #[test]
    fn a_sealed_record_of_another_shape_is_damaged() {
        let record = encode(Kind::Snapshot, &sample()).expect("encodes");
        let cases = [
            seal([&record[..], &[0]].concat()),
            seal(record[..record.len() - 1].to_vec()),
            seal([&record[..VERSION.start], &[0, 0], &record[VERSION.end..]].concat()),
            encode(Kind::Directive, &sample()).expect("encodes"),
        ];
        for record in cases {
            let found = decode::<Sample>(Kind::Snapshot, &record);
            assert!(matches!(found, Err(CodecError::Damaged { .. })), "{found:?}");
        }
    }

    #[test]
    fn a_newer_record_says_so_whatever_follows() {
        let job = JobKey::new("team", "run");
        for found in [FORMAT + 1, u16::MAX] {
            let record = seal([&MAGIC[..], &[0; 4], &found.to_be_bytes(), b"another layout"].concat());
            let error = decode::<Sample>(Kind::Snapshot, &record).expect_err("newer");
            assert_eq!(error, CodecError::NewerFormat { kind: Kind::Snapshot, found });
            assert_eq!(error.of(&job), StoreError::NewerRecord { job: job.clone(), found, known: FORMAT });
        }
    }

    #[test]
    fn errors_name_the_job() {
        let error =
            decode::<Sample>(Kind::Snapshot, b"?").expect_err("cut off").of(&JobKey::new("team", "run"));
        assert!(
            error
                .to_string()
                .starts_with("job team/run is damaged in the store: the Snapshot record is cut off")
        );
    }

    #[test]
    fn floats_keep_their_bits() {
        let signalling = f64::from_bits(0x7ff0_0000_0000_0001);
        let negative_with_payload = f64::from_bits(0xfff8_dead_beef_0001);
        let floats = [
            f64::NAN,
            signalling,
            negative_with_payload,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            f64::MIN_POSITIVE / 2.0,
        ];
        let record = encode(Kind::Directive, &floats.to_vec()).expect("encodes");
        let back: Vec<f64> = decode(Kind::Directive, &record).expect("decodes");
        let bits = |floats: &[f64]| floats.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&floats));
    }

    #[test]
    fn what_has_no_encoding_is_an_error() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0..3).filter(|_| true))
            }
        }
        assert!(matches!(encode(Kind::Commit, &Endless), Err(CodecError::Unencodable { .. })));
    }

    proptest! {
        #[test]
        fn any_value_comes_back(name: String, bits: Vec<u64>, seq: Option<u64>) {
            let losses = bits.iter().map(|b| f64::from_bits(*b)).collect();
            let record = encode(Kind::Snapshot, &Sample { name: name.clone(), losses, seq }).unwrap();
            let back: Sample = decode(Kind::Snapshot, &record).unwrap();
            prop_assert_eq!(back.losses.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), bits);
            prop_assert_eq!((back.name, back.seq), (name, seq));
        }

        #[test]
        fn any_bytes_are_an_error(bytes: Vec<u8>) {
            prop_assert!(decode::<Sample>(Kind::Snapshot, &bytes).is_err());
        }

        #[test]
        fn any_sealed_payload_is_decoded_or_refused(payload: Vec<u8>) {
            let record = seal([&MAGIC[..], &[0; 4], &FORMAT.to_be_bytes(), &[1], &payload].concat());
            if let Ok(value) = decode::<Sample>(Kind::Snapshot, &record) {
                prop_assert!(encode(Kind::Snapshot, &value).is_ok());
            }
        }
    }
}
