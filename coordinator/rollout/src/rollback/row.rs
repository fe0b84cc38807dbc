//! The records of hosts as a kept state holds them: the values alone, in a fixed order. A state holds thousands of records, and
//! the names of their fields would take as long to read as all the rest.
//!
//! A field that is added to a record must be added here: without it nothing compiles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{ByteCount, Generation, Health, InstanceId, RestoreNumber, SnapshotId, Standing, Timestamp};
use serde::{Deserialize, Serialize};

use super::state::{Earlier, HealthRecord, HostPhase, HostRecord};
use crate::host::{Failure, PhaseTime, Restored};
use crate::plan::{GroupIndex, WaveIndex};

/// A struct with the values of another one, and the way there and back.
macro_rules! row {
    ($(#[$doc:meta])* $row:ident of $record:ident { $($(#[$how:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize)]
        pub(super) struct $row($($(#[$how])* $type),*);

        impl From<$record> for $row {
            fn from($record { $($field),* }: $record) -> Self {
                Self($($field),*)
            }
        }

        impl From<$row> for $record {
            fn from($row($($field),*): $row) -> Self {
                Self { $($field),* }
            }
        }
    };
}

row! {
    /// What became of a host.
    HostRow of HostRecord {
        wave: WaveIndex,
        place: u32,
        #[serde(with = "crate::shared::list")]
        groups: Arc<[GroupIndex]>,
        target: SnapshotId,
        generation: Generation,
        told: Generation,
        connected: bool,
        connection_since: Timestamp,
        returns: bool,
        instance: Option<InstanceId>,
        accepted: Option<Generation>,
        overtaken: bool,
        contested: Option<String>,
        health: HealthRecord,
        phase: HostPhase,
        attempt: u32,
        unanswered: Option<HostPhase>,
        again_at: Timestamp,
        granted: bool,
        fallback: HostPhase,
        given_up: bool,
        silent: bool,
        late: bool,
        restore: Option<RestoreNumber>,
        heard_late: Option<Timestamp>,
        started_at: Option<Timestamp>,
        finished_at: Option<Timestamp>,
        backup: Option<SnapshotId>,
        backups_elsewhere: BTreeMap<InstanceId, SnapshotId>,
        #[serde(with = "receipt")]
        receipt: Option<Box<Restored>>,
        failure: Option<Failure>,
    }
}

row! {
    /// What is known of a host's health.
    HealthRow of HealthRecord {
        health: Health,
        since: Timestamp,
        last_bad: Option<Timestamp>,
        evidence: String,
        after: RestoreNumber,
        measured_at: Option<Timestamp>,
        before: Option<Box<Earlier>>,
    }
}

/// What a host said of its last change.
mod receipt {
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Row(
        Standing,
        Option<SnapshotId>,
        u64,
        Vec<(String, u64)>,
        u64,
        ByteCount,
        Option<Failure>,
        Option<RestoreNumber>,
    );

    fn millis(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::ref_option, reason = "serde asks by reference")]
    pub(super) fn serialize<S: Serializer>(
        receipt: &Option<Box<Restored>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let row = |receipt: &Restored| {
            let Restored { standing, backup, downtime, phases, steps, bytes, failure, restore } =
                receipt.clone();
            let phases = phases.into_iter().map(|time| (time.phase, millis(time.duration))).collect();
            Row(standing, backup, millis(downtime), phases, steps, bytes, failure, restore)
        };
        receipt.as_deref().map(row).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Restored>>, D::Error> {
        let restored = |row: Row| {
            let Row(standing, backup, downtime, phases, steps, bytes, failure, restore) = row;
            let time = |(phase, millis)| PhaseTime { phase, duration: Duration::from_millis(millis) };
            let phases = phases.into_iter().map(time).collect();
            let downtime = Duration::from_millis(downtime);
            Box::new(Restored { standing, backup, downtime, phases, steps, bytes, failure, restore })
        };
        Ok(Option::<Row>::deserialize(deserializer)?.map(restored))
    }
}
