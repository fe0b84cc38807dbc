//! What a caller asks for, before anything is checked against the fleet. [`crate::plan()`] checks.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rfs_model::{CheckpointId, ComponentName, DeploymentId, HostId, Labels, RollbackId, Selector};
use serde::{Deserialize, Serialize};

use crate::names::some_names;

/// Asks for a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Where the hosts' targets come from.
    pub source: Source,
    /// Which of the source's hosts.
    #[serde(default)]
    pub selector: Selector,
    /// What of each snapshot.
    #[serde(default)]
    pub selection: Selection,
    /// What a person decided about what would be lost.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub choices: Choices,
    /// All at once, or wave after wave.
    pub strategy: Strategy,
    /// How carefully.
    pub policy: Policy,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// Who asks, such as `operator/alice`.
    pub requester: String,
}

/// Where the targets of a rollback come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The snapshots of a checkpoint.
    Checkpoint(CheckpointId),
    /// The backups that another rollback took.
    Undo(RollbackId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(id) => write!(f, "checkpoint {id}"),
            Self::Undo(of) => write!(f, "the backups of rollback {of}"),
        }
    }
}

/// What of a snapshot is meant. Empty means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Components by name; none means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub components: BTreeSet<ComponentName>,
    /// Absolute paths within the chosen components; none means all. The host checks them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<String>,
}

/// What a person decided about what a restore would remove or meet. The host understands the patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Choices {
    /// Patterns: of what the snapshot does not have, this stays.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keep: BTreeSet<String>,
    /// Patterns of what may be lost, or met as it is now, although the host's configuration or the snapshot speaks against it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accept_loss: BTreeSet<String>,
    /// A service whose command does not stop it is ended by ending its processes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force_stop: bool,
}

impl Choices {
    /// These, and those of `other`.
    #[must_use]
    pub fn with(&self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self.clone() };
        Self {
            keep: self.keep.union(&other.keep).cloned().collect(),
            accept_loss: self.accept_loss.union(&other.accept_loss).cloned().collect(),
            force_stop: self.force_stop || other.force_stop,
        }
    }

    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What follows "tries 2 hosts again"; nothing if nothing was decided.
impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.keep.is_empty() {
            write!(f, "; keeps {}", some_names(self.keep.iter().map(String::as_str)))?;
        }
        if !self.accept_loss.is_empty() {
            write!(f, "; accepts the loss of {}", some_names(self.accept_loss.iter().map(String::as_str)))?;
        }
        if self.force_stop {
            f.write_str("; ends the processes of services that do not stop")?;
        }
        Ok(())
    }
}

/// How the hosts are spread over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All hosts in one wave.
    Immediate,
    /// Wave after wave, each behind a gate.
    Gradual(Waves),
}

/// How a gradual rollback is cut into waves. See [`crate::plan`] for how sizes are counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waves {
    /// Who goes first.
    #[serde(default)]
    pub canary: Canary,
    /// The sizes of the waves after the canary; the last repeats. None means one wave with all the rest.
    #[serde(default)]
    pub sizes: Vec<Amount>,
    /// Which labels' hosts change before which others'.
    #[serde(default)]
    pub order: Vec<Order>,
}

impl Waves {
    /// Who goes first when the caller says nothing of waves.
    pub const FIRST: Canary = Canary::Amount(Amount::Count(1));
    /// How large the waves after the canary are when the caller does not say.
    pub const SIZE: Amount = Amount::Percent(25);
}

/// The hosts that go first, in a wave of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    /// None.
    #[default]
    None,
    /// These.
    Hosts(BTreeSet<HostId>),
    /// Every target that has these names and labels.
    Selector(Selector),
    /// So many of each order group.
    Amount(Amount),
}

/// A number of hosts, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// That many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl Amount {
    /// The number of hosts out of `total`, a share rounded up.
    pub fn round_up(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => (total * percent as usize).div_ceil(100),
        }
    }

    /// The number of hosts out of `total` that is at most meant, a share rounded down.
    pub fn at_most(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => total * percent as usize / 100,
        }
    }

    /// The number of hosts out of `total`, a share rounded down, but at least 1.
    pub fn round_down(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => (total * percent as usize / 100).max(1),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Hosts with the first label change before hosts with the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Such as `role=db`.
    pub before: Label,
    /// Such as `role=web`.
    pub after: Label,
}

impl Order {
    /// The relations of a whole list, such as `role` with `[db, app, web]`.
    pub fn list(key: &str, values: &[&str]) -> Vec<Self> {
        let label = |value: &str| Label { key: key.to_owned(), value: value.to_owned() };
        values.windows(2).map(|pair| Self { before: label(pair[0]), after: label(pair[1]) }).collect()
    }
}

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label {
    /// Such as `role`.
    pub key: String,
    /// Such as `db`.
    pub value: String,
}

impl Label {
    /// Whether a host with `labels` has it.
    pub fn is_in(&self, labels: &Labels) -> bool {
        labels.get(&self.key) == Some(&self.value)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// How carefully a rollback is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// When a wave's verdict is reached.
    pub gate: GatePolicy,
    /// What follows when a gate fails.
    pub on_failure: OnFailure,
    /// What follows when a host cannot be reached when its turn comes.
    pub on_unreachable: OnUnreachable,
    /// How many hosts of a label group may be unavailable at once.
    #[serde(default)]
    pub budgets: Vec<Budget>,
    /// How long one host may take before it goes back by itself.
    #[serde(with = "crate::millis")]
    pub max_rollback_time: Duration,
    /// How long after its deadline a host that is not heard of counts as lost.
    #[serde(with = "crate::millis")]
    pub report_grace: Duration,
    /// How long a host without a connection is given before it counts as not reachable.
    #[serde(with = "crate::millis")]
    pub unreachable_after: Duration,
    /// How long the hosts that have not started may wait, all in all, before they count as failed; counted anew when a
    /// person lets a paused rollback go on.
    #[serde(with = "crate::millis")]
    pub max_duration: Duration,
    /// How long it may be paused before it ends as a person's task and releases its hosts.
    #[serde(with = "crate::millis", default = "Policy::a_day")]
    pub max_pause: Duration,
}

impl Policy {
    fn a_day() -> Duration {
        Duration::from_secs(24 * 3600)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            gate: GatePolicy::default(),
            on_failure: OnFailure::default(),
            on_unreachable: OnUnreachable::default(),
            budgets: Vec::new(),
            max_rollback_time: Duration::from_secs(300),
            report_grace: Duration::from_secs(60),
            unreachable_after: Duration::from_secs(20),
            max_duration: Self::a_day(),
            max_pause: Self::a_day(),
        }
    }
}

/// When a wave's verdict is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePolicy {
    /// How long a host must have been healthy without a break.
    #[serde(with = "crate::millis")]
    pub min_healthy_time: Duration,
    /// How long after its change a host may take to get there.
    #[serde(with = "crate::millis")]
    pub healthy_deadline: Duration,
    /// How many of a wave must be healthy, a share rounded up; none means all that have not failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Amount>,
    /// The gate fails at once when more hosts than this have failed, in this wave and the earlier ones.
    pub max_failed: u32,
    /// Health is not looked at: a host passes when it says that it is at the target.
    pub ignore_health: bool,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            min_healthy_time: Duration::from_secs(10),
            healthy_deadline: Duration::from_secs(300),
            healthy: None,
            max_failed: 0,
            ignore_health: false,
        }
    }
}

/// What follows when a gate fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// No further host starts until a person has decided.
    #[default]
    Pause,
    /// The next wave.
    Continue,
    /// The changed hosts go back to their backups.
    Revert,
}

/// What follows when a host cannot be reached when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnreachable {
    /// It has failed. On the way back: it stays at its target, and the rollback ends REVERT_FAILED.
    #[default]
    Fail,
    /// Its wave waits for it.
    Wait,
    /// It is left out, fenced by its generation, and brought in line when it is back. On the way back: it is left behind at its
    /// target, and goes back when it is back, also after the outcome REVERT_FAILED.
    Skip,
}

/// How many hosts of a label group may be unavailable at once: at work, not healthy, or not connected. All hosts of the fleet
/// that have the label count, and all running operations together keep the strictest limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The label key whose values make the groups; none means that all targets are one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// How many of a group; a share of the fleet's hosts in it, or of the targets where there is no label, is rounded down, but
    /// is at least 1.
    pub max_unavailable: Amount,
}

/// Asks for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRequest {
    /// Why it is taken.
    pub kind: CheckpointKind,
    /// Which hosts; each of them is required, but for as many as may be missing.
    #[serde(default)]
    pub selector: Selector,
    /// How many of the hosts may be missing from a checkpoint that is complete all the same: it is one of the others then. None
    /// if none may; a share is rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_missing: Option<Amount>,
    /// Which components; none means all.
    #[serde(default)]
    pub components: BTreeSet<ComponentName>,
    /// The deployment that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Free labels.
    #[serde(default)]
    pub labels: Labels,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// Who asks, such as `operator/alice`.
    pub requester: String,
    /// How long the hosts may take until every snapshot is durable.
    #[serde(with = "crate::millis")]
    pub timeout: Duration,
    /// How long what a host made quiet may stay so without a further word: past it the host resumes by itself. None is
    /// [`CheckpointRequest::QUIESCE_TIMEOUT`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::millis::option")]
    pub quiesce_timeout: Option<Duration>,
}

impl CheckpointRequest {
    /// How long a host may hold still without a further word when nobody says.
    pub const QUIESCE_TIMEOUT: Duration = Duration::from_secs(30);
    /// How long a checkpoint may take when the caller does not say.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
}

/// What a checkpoint was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointKind {
    /// Before a deploy.
    Automatic,
    /// A person asked.
    Manual,
}
