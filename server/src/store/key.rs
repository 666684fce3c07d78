//! Names of what is stored, and their order.

use std::fmt;

/// A job: a name, unique within its tenant. Any two strings are a valid key; keys of different tenants never meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The owner.
    pub tenant: String,
    /// The job's name.
    pub name: String,
}

impl JobKey {
    /// The job `name` of `tenant`.
    pub fn new(tenant: impl Into<String>, name: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), name: name.into() }
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant.escape_debug(), self.name.escape_debug())
    }
}

/// A history row of a job. The order is by kind, then by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// A directive and what came of it.
    Directive {
        /// The directive's number.
        seq: u64,
    },
    /// The policy's state at the start of a directive.
    Checkpoint {
        /// The directive's number.
        seq: u64,
    },
    /// A trial of a search.
    Trial {
        /// The stage of the search, from 0.
        stage: u32,
        /// The trial in it, from 0.
        trial: u32,
    },
    /// What a stage committed.
    Commit {
        /// The stage, from 0.
        stage: u32,
    },
    /// How a stage ended.
    StageEnd {
        /// The stage, from 0.
        stage: u32,
    },
}

/// Bytes of an encoded [`RowKey`].
pub(crate) const ROW_KEY_LEN: usize = 9;

impl RowKey {
    /// The least key of the same kind.
    pub fn first_of_kind(self) -> Self {
        match self {
            Self::Directive { .. } => Self::Directive { seq: 0 },
            Self::Checkpoint { .. } => Self::Checkpoint { seq: 0 },
            Self::Trial { .. } => Self::Trial { stage: 0, trial: 0 },
            Self::Commit { .. } => Self::Commit { stage: 0 },
            Self::StageEnd { .. } => Self::StageEnd { stage: 0 },
        }
    }

    /// Nine bytes whose order is the order of the keys: kind, then the numbers, big end first.
    pub(crate) fn to_bytes(self) -> [u8; ROW_KEY_LEN] {
        let (kind, number) = match self {
            Self::Directive { seq } => (1, seq),
            Self::Checkpoint { seq } => (2, seq),
            Self::Trial { stage, trial } => (3, u64::from(stage) << 32 | u64::from(trial)),
            Self::Commit { stage } => (4, u64::from(stage)),
            Self::StageEnd { stage } => (5, u64::from(stage)),
        };
        let mut bytes = [0; ROW_KEY_LEN];
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&u64::to_be_bytes(number));
        bytes
    }

    /// The inverse of [`RowKey::to_bytes`]; `None` for bytes that it never writes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&kind, number) = bytes.split_first()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        let stage = u32::try_from(number);
        match kind {
            1 => Some(Self::Directive { seq: number }),
            2 => Some(Self::Checkpoint { seq: number }),
            3 => Some(Self::Trial { stage: (number >> 32) as u32, trial: number as u32 }),
            4 => Some(Self::Commit { stage: stage.ok()? }),
            5 => Some(Self::StageEnd { stage: stage.ok()? }),
            _ => None,
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directive { seq } => write!(f, "directive {seq}"),
            Self::Checkpoint { seq } => write!(f, "checkpoint {seq}"),
            Self::Trial { stage, trial } => write!(f, "trial {trial} of stage {stage}"),
            Self::Commit { stage } => write!(f, "commit of stage {stage}"),
            Self::StageEnd { stage } => write!(f, "end of stage {stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys around the borders of every number, in their order.
    fn samples() -> Vec<RowKey> {
        let seqs = [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX];
        let stages = [0, 1, 255, 256, u32::MAX];
        let mut keys = Vec::new();
        keys.extend(seqs.map(|seq| RowKey::Directive { seq }));
        keys.extend(seqs.map(|seq| RowKey::Checkpoint { seq }));
        keys.extend(stages.iter().flat_map(|&stage| stages.map(|trial| RowKey::Trial { stage, trial })));
        keys.extend(stages.map(|stage| RowKey::Commit { stage }));
        keys.extend(stages.map(|stage| RowKey::StageEnd { stage }));
        keys
    }

    #[test]
    fn bytes_are_ordered_as_keys_are() {
        let keys = samples();
        assert!(keys.is_sorted());
        assert!(keys.iter().map(|key| key.to_bytes()).is_sorted());
    }

    #[test]
    fn bytes_come_back() {
        for key in samples() {
            assert_eq!(RowKey::from_bytes(&key.to_bytes()), Some(key));
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [&[][..], &[1], &[0; 9], &[6; 9], &[1; 10], &[4, 0, 0, 0, 1, 0, 0, 0, 0]] {
            assert_eq!(RowKey::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_first_of_a_kind_is_not_above_any() {
        for key in samples() {
            let first = key.first_of_kind();
            assert!(first <= key);
            assert_eq!(first.to_bytes()[0], key.to_bytes()[0]);
        }
    }

    #[test]
    fn a_printed_key_stays_on_one_line() {
        assert_eq!(JobKey::new("team\n", "a").to_string(), r"team\n/a");
    }
}
