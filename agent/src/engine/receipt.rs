//! The receipt of a restore: what was done, how long it took, and where the host stands.

use std::time::Duration;

use rfs_model::{ByteCount, ComponentName, Reason, RestoreNumber, SnapshotId, Standing, Timestamp};
use serde::{Deserialize, Serialize};

use super::phase::Phase;
use crate::component::Losses;

/// What a restore did to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Counts the restores of this host; 0 in a receipt from before they were counted.
    #[serde(default)]
    pub restore: RestoreNumber,
    /// Where the host stands now.
    pub standing: Standing,
    /// The snapshot that was asked for.
    pub target: SnapshotId,
    /// The snapshot of what was there before; none when the restore ended before it was durable.
    pub backup: Option<SnapshotId>,
    /// When the restore was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The phases in the order in which they were taken.
    pub phases: Vec<Span>,
    /// How long each service was down.
    pub downtime: Vec<Downtime>,
    /// Steps in the plan.
    pub planned: u64,
    /// Steps that changed live state, counted each time that one did: equal to `planned` when each was done once.
    pub applied: u64,
    /// Steps that were taken back.
    pub taken_back: u64,
    /// Bytes that were staged.
    pub staged: ByteCount,
    /// What existed and is not at the target: it went, and the backup has it.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub lost: Listed,
    /// Of those, what came after the plan that was shown: nobody had seen it go.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub appeared: Listed,
    /// What was written after services were started; it is no difference.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub written: Listed,
    /// What a person must know, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why the host is not at the target; none when it is.
    pub failure: Option<Failure>,
}

/// Some paths, of which the first are named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listed {
    /// How many.
    pub count: u64,
    /// How long their content is, where that is known.
    pub bytes: ByteCount,
    /// The first of them.
    pub first: Vec<String>,
}

impl Listed {
    /// How many a receipt names.
    pub(super) const NAMED: usize = 20;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds paths whose content is not counted.
    pub(super) fn add(&mut self, paths: Vec<String>) {
        self.count += paths.len() as u64;
        let room = Self::NAMED.saturating_sub(self.first.len());
        self.first.extend(paths.into_iter().take(room));
    }
}

impl From<Losses> for Listed {
    fn from(Losses { count, bytes, first }: Losses) -> Self {
        Self { count, bytes, first }
    }
}

/// Why a restore did not reach its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub reason: Reason,
    /// For people: the whole chain of causes.
    pub message: String,
    /// For people: what to do next.
    pub next: String,
    /// The phase in which it happened.
    pub phase: Phase,
}

/// One phase that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which.
    pub phase: Phase,
    /// When it was journalled.
    pub at: Timestamp,
    /// How long its effect took.
    #[serde(with = "micros")]
    pub took: Duration,
}

/// How long one service was down: from the order to stop until its start was confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// The `services` component.
    pub service: ComponentName,
    /// How long.
    #[serde(with = "micros")]
    pub down: Duration,
}

/// Durations in a journal or a report: whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}
