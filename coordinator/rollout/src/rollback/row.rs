//! A rollback as a kept state holds it: as little text as can be, since that is read each time that somebody wants to know where
//! a rollback of thousands of hosts stands.
//!
//! - The records of hosts are their values alone, in a fixed order.
//! - A snapshot is said once, and then named by its place.
//! - What a plan says of its hosts is left out where their records say the same.
//!
//! A field that is added to a record must be added here: without it nothing compiles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{
    ByteCount, Generation, Health, HostId, InstanceId, RestoreNumber, RollbackId, SnapshotId, Standing,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use super::state::{Earlier, Elsewhere, HealthRecord, HostPhase, HostRecord, Phase, Rollback, WaveRecord};
use crate::host::{Failure, Findings, PhaseTime, Removed, Restored};
use crate::hosts::Hosts;
use crate::plan::{BudgetGroup, GroupIndex, Plan, Wave, WaveIndex};
use crate::request::{Choices, RollbackRequest};

/// A rollback.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackRow {
    id: RollbackId,
    #[serde(with = "crate::shared")]
    request: Arc<RollbackRequest>,
    plan: PlanRow,
    created_at: Timestamp,
    last_at: Timestamp,
    listening_since: Timestamp,
    heard_from: Timestamp,
    bounded_from: Timestamp,
    progress_at: Timestamp,
    phase: Phase,
    wave: Option<WaveIndex>,
    waves: Vec<WaveRecord>,
    /// Those that records name by their places here.
    snapshots: Vec<SnapshotId>,
    hosts: Hosts<HostRow>,
    acknowledged: BTreeSet<HostId>,
    cause: Option<Failure>,
    undone: BTreeMap<HostId, RollbackId>,
}

impl From<Rollback> for RollbackRow {
    fn from(rollback: Rollback) -> Self {
        let Rollback {
            id,
            request,
            plan,
            created_at,
            last_at,
            listening_since,
            heard_from,
            bounded_from,
            progress_at,
            phase,
            wave,
            waves,
            hosts,
            acknowledged,
            cause,
            undone,
        } = rollback;
        let plan = PlanRow::of(&plan, &hosts);
        let mut table = Table::default();
        let hosts =
            hosts.iter().map(|(name, host)| (name.clone(), HostRow::of(host.clone(), &mut table))).collect();
        Self {
            id,
            request,
            plan,
            created_at,
            last_at,
            listening_since,
            heard_from,
            bounded_from,
            progress_at,
            phase,
            wave,
            waves,
            snapshots: table.snapshots,
            hosts,
            acknowledged,
            cause,
            undone,
        }
    }
}

impl TryFrom<RollbackRow> for Rollback {
    type Error = &'static str;

    fn try_from(row: RollbackRow) -> Result<Self, Self::Error> {
        let RollbackRow {
            id,
            request,
            plan,
            created_at,
            last_at,
            listening_since,
            heard_from,
            bounded_from,
            progress_at,
            phase,
            wave,
            waves,
            snapshots,
            hosts,
            acknowledged,
            cause,
            undone,
        } = row;
        let hosts =
            hosts.try_map(|host| host.back(&snapshots)).ok_or("a snapshot is named that is not there")?;
        let plan = plan.back(&hosts).ok_or("a wave or a group is named that is not there")?;
        Ok(Self {
            id,
            request,
            plan: plan.into(),
            created_at,
            last_at,
            listening_since,
            heard_from,
            bounded_from,
            progress_at,
            phase,
            wave,
            waves,
            hosts,
            acknowledged,
            cause,
            undone,
        })
    }
}

/// A plan.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum PlanRow {
    /// The hosts of its waves and groups, and their targets, are those of the records.
    Bare {
        /// Of each wave, whether it goes first to be looked at, and its order group.
        waves: Vec<(bool, u32)>,
        /// The name and the limit of each group.
        groups: Vec<(String, u32)>,
        offered: usize,
        left_out: BTreeMap<HostId, String>,
    },
    /// They are others.
    Whole(Box<Plan>),
}

impl PlanRow {
    fn of(plan: &Plan, hosts: &Hosts<HostRecord>) -> Self {
        let bare = || Self::Bare {
            waves: plan.waves.iter().map(|wave| (wave.canary, wave.order_group)).collect(),
            groups: plan.groups.iter().map(|group| (group.name.clone(), group.limit)).collect(),
            offered: plan.offered,
            left_out: plan.left_out.clone(),
        };
        match bare().back(hosts) {
            Some(same) if same == *plan => bare(),
            Some(_) | None => Self::Whole(Box::new(plan.clone())),
        }
    }

    fn back(self, hosts: &Hosts<HostRecord>) -> Option<Plan> {
        let (waves, groups, offered, left_out) = match self {
            Self::Whole(plan) => return Some(*plan),
            Self::Bare { waves, groups, offered, left_out } => (waves, groups, offered, left_out),
        };
        let mut turns = vec![Vec::new(); waves.len()];
        let mut members = vec![Vec::new(); groups.len()];
        for (name, host) in hosts {
            turns.get_mut(host.wave.get())?.push((host.place, name));
            for group in host.groups.iter() {
                members.get_mut(group.get())?.push(name.clone());
            }
        }
        let wave = |((canary, order_group), mut turns): (_, Vec<(u32, &HostId)>)| {
            turns.sort_unstable_by_key(|(place, _)| *place);
            Wave { hosts: turns.into_iter().map(|(_, name)| name.clone()).collect(), canary, order_group }
        };
        let group = |((name, limit), members): (_, Vec<HostId>)| BudgetGroup {
            name,
            limit,
            hosts: members.into_iter().collect(),
        };
        Some(Plan {
            waves: waves.into_iter().zip(turns).map(wave).collect(),
            targets: hosts.iter().map(|(name, host)| (name.clone(), host.target)).collect(),
            offered,
            groups: groups.into_iter().zip(members).map(group).collect(),
            left_out,
        })
    }
}

/// The snapshots that records name.
#[derive(Default)]
struct Table {
    snapshots: Vec<SnapshotId>,
    places: BTreeMap<SnapshotId, usize>,
}

/// What stands for a `T` in a kept state.
trait Row<T>: Sized {
    fn of(value: T, table: &mut Table) -> Self;

    /// None if it names a snapshot that is not there.
    fn back(self, snapshots: &[SnapshotId]) -> Option<T>;
}

impl<T> Row<T> for T {
    fn of(value: T, _: &mut Table) -> Self {
        value
    }

    fn back(self, _: &[SnapshotId]) -> Option<T> {
        Some(self)
    }
}

/// A snapshot, by its place.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Named(usize);

impl Row<SnapshotId> for Named {
    fn of(snapshot: SnapshotId, table: &mut Table) -> Self {
        let next = table.snapshots.len();
        let place = *table.places.entry(snapshot).or_insert(next);
        if place == next {
            table.snapshots.push(snapshot);
        }
        Self(place)
    }

    fn back(self, snapshots: &[SnapshotId]) -> Option<SnapshotId> {
        snapshots.get(self.0).copied()
    }
}

/// The same where there may be none.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Perhaps<R>(Option<R>);

impl<T, R: Row<T>> Row<Option<T>> for Perhaps<R> {
    fn of(value: Option<T>, table: &mut Table) -> Self {
        Self(value.map(|value| R::of(value, table)))
    }

    fn back(self, snapshots: &[SnapshotId]) -> Option<Option<T>> {
        match self.0 {
            Some(row) => row.back(snapshots).map(Some),
            None => Some(None),
        }
    }
}

/// A struct with the values of another one, and the way there and back.
macro_rules! row {
    ($(#[$doc:meta])* $row:ident of $record:ident { $($(#[$how:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Serialize, Deserialize)]
        struct $row($($(#[$how])* $type),*);

        impl Row<$record> for $row {
            fn of($record { $($field),* }: $record, table: &mut Table) -> Self {
                Self($(Row::of($field, table)),*)
            }

            fn back(self, snapshots: &[SnapshotId]) -> Option<$record> {
                let Self($($field),*) = self;
                Some($record { $($field: $field.back(snapshots)?),* })
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
        target: Named,
        generation: Generation,
        told: Generation,
        connected: bool,
        connection_since: Timestamp,
        returns: bool,
        instance: Option<InstanceId>,
        accepted: Option<Generation>,
        overtaken: bool,
        contested: Option<String>,
        health: HealthRow,
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
        backup: Perhaps<Named>,
        elsewhere: BTreeMap<InstanceId, Elsewhere>,
        receipt: Perhaps<ReceiptRow>,
        removed: Vec<Removed>,
        failure: Option<Failure>,
        choices: Option<Box<Choices>>,
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

row! {
    /// What a host said of its last change.
    RestoredRow of Restored {
        standing: Standing,
        backup: Perhaps<Named>,
        downtime: Millis,
        phases: Times,
        steps: u64,
        bytes: ByteCount,
        failure: Option<Failure>,
        restore: Option<RestoreNumber>,
        findings: Option<Box<Findings>>,
    }
}

/// The same where it lies apart.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct ReceiptRow(RestoredRow);

impl Row<Box<Restored>> for ReceiptRow {
    fn of(restored: Box<Restored>, table: &mut Table) -> Self {
        Self(Row::of(*restored, table))
    }

    fn back(self, snapshots: &[SnapshotId]) -> Option<Box<Restored>> {
        self.0.back(snapshots).map(Box::new)
    }
}

/// A time, in milliseconds.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Millis(u64);

impl Row<Duration> for Millis {
    fn of(time: Duration, _: &mut Table) -> Self {
        Self(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn back(self, _: &[SnapshotId]) -> Option<Duration> {
        Some(Duration::from_millis(self.0))
    }
}

/// How long each phase took.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Times(Vec<(String, Millis)>);

impl Row<Vec<PhaseTime>> for Times {
    fn of(phases: Vec<PhaseTime>, table: &mut Table) -> Self {
        Self(phases.into_iter().map(|time| (time.phase, Row::of(time.duration, table))).collect())
    }

    fn back(self, snapshots: &[SnapshotId]) -> Option<Vec<PhaseTime>> {
        let time =
            |(phase, time): (String, Millis)| Some(PhaseTime { phase, duration: time.back(snapshots)? });
        self.0.into_iter().map(time).collect()
    }
}
