//! Wire ⇄ model, with errors that name the field.

use std::collections::BTreeSet;
use std::time::Duration;

use prost_types::Timestamp as WireTime;
use rfs_model::{
    CheckpointId, Digest, Health, HostId, Labels, Reason, RollbackId, Selector, SnapshotId, Standing,
    Timestamp,
};

use crate::agentlink::v1 as link;
use crate::bounds;
use crate::v1;

/// A field of a message that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    /// The field's path from the message's root, such as `spec.waves.sizes[2].percent`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FieldError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, problem: impl ToString) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }

    /// The same error, seen from the message that has this one as its field `outer`.
    #[must_use]
    pub fn beneath(self, outer: &str) -> Self {
        Self { path: format!("{outer}.{}", self.path), ..self }
    }
}

/// Reads a field as text that has a rule, such as a name or an id.
pub fn parse<T>(path: &str, text: &str) -> Result<T, FieldError>
where
    T: std::str::FromStr<Err: ToString>,
{
    // Longer than any rule allows; the rule's own answer would quote it.
    bounds::text(path, text, bounds::LABEL)?;
    text.parse().map_err(|error: T::Err| FieldError::new(path, error.to_string()))
}

/// Takes the value of a message field that must be there.
pub fn required<T>(path: &str, value: Option<T>) -> Result<T, FieldError> {
    value.ok_or_else(|| FieldError::new(path, "is required"))
}

/// Reads a resource name such as `checkpoints/{checkpoint}`; the bare id is taken too.
fn resource<'t>(path: &str, collection: &str, text: &'t str) -> Result<&'t str, FieldError> {
    bounds::text(path, text, bounds::LABEL)?;
    if text.is_empty() {
        return Err(FieldError::new(path, format!("is required: {collection}/{{id}}")));
    }
    match text.split_once('/') {
        None => Ok(text),
        Some((before, id)) if before == collection => Ok(id),
        Some(_) => Err(FieldError::new(path, format!("{text:?} is not {collection}/{{id}}"))),
    }
}

/// Reads `checkpoints/{checkpoint}`.
pub fn checkpoint_id(path: &str, text: &str) -> Result<CheckpointId, FieldError> {
    parse(path, resource(path, "checkpoints", text)?)
}

/// Reads `rollbacks/{rollback}`.
pub fn rollback_id(path: &str, text: &str) -> Result<RollbackId, FieldError> {
    parse(path, resource(path, "rollbacks", text)?)
}

/// Reads `hosts/{host}`.
pub fn host_id(path: &str, text: &str) -> Result<HostId, FieldError> {
    parse(path, resource(path, "hosts", text)?)
}

/// Writes `checkpoints/{checkpoint}`.
pub fn checkpoint_name(id: CheckpointId) -> String {
    format!("checkpoints/{id}")
}

/// Writes `rollbacks/{rollback}`.
pub fn rollback_name(id: RollbackId) -> String {
    format!("rollbacks/{id}")
}

/// Writes `hosts/{host}`.
pub fn host_name(id: &HostId) -> String {
    format!("hosts/{id}")
}

/// Reads a snapshot's digest.
pub fn snapshot_id(path: &str, text: &str) -> Result<SnapshotId, FieldError> {
    parse(path, text)
}

/// Reads a snapshot's digest where it may be absent.
pub fn optional_snapshot_id(path: &str, text: &str) -> Result<Option<SnapshotId>, FieldError> {
    if text.is_empty() { Ok(None) } else { snapshot_id(path, text).map(Some) }
}

/// Reads the digests of snapshots as they travel where they are many: 32 bytes each.
pub fn snapshot_ids<C: FromIterator<SnapshotId>>(path: &str, wire: &[Vec<u8>]) -> Result<C, FieldError> {
    let id = |(place, bytes): (usize, &Vec<u8>)| match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ok(SnapshotId(Digest::from_bytes(bytes))),
        Err(_) => Err(FieldError::new(
            format!("{path}[{place}]"),
            format!("a digest has 32 bytes, and this one has {}", bytes.len()),
        )),
    };
    wire.iter().enumerate().map(id).collect()
}

/// Writes a point in time.
pub fn to_wire_time(time: Timestamp) -> WireTime {
    let nanos = i32::try_from(time.0.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    WireTime { seconds: time.0.div_euclid(1000), nanos }
}

/// Reads a point in time.
pub fn from_wire_time(time: WireTime) -> Timestamp {
    Timestamp(time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000))
}

/// Writes a duration.
pub fn to_wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Reads a duration, which must not be negative.
pub fn from_wire_duration(path: &str, duration: prost_types::Duration) -> Result<Duration, FieldError> {
    Duration::try_from(duration).map_err(|_| FieldError::new(path, "must not be negative"))
}

/// Reads a duration where it may be absent; absent and zero mean `default`.
pub fn duration_or(
    path: &str,
    duration: Option<prost_types::Duration>,
    default: Duration,
) -> Result<Duration, FieldError> {
    match duration.map(|d| from_wire_duration(path, d)).transpose()? {
        None | Some(Duration::ZERO) => Ok(default),
        Some(duration) => Ok(duration),
    }
}

/// Reads labels: keys and values must not be empty.
pub fn labels(path: &str, wire: std::collections::HashMap<String, String>) -> Result<Labels, FieldError> {
    bounds::count(path, wire.len(), bounds::FEW)?;
    for (key, value) in &wire {
        bounds::text(&format!("{path} (a key)"), key, bounds::LABEL)?;
        bounds::text(&format!("{path}[{key:?}]"), value, bounds::LABEL)?;
    }
    let empty = |(key, value): (&String, &String)| key.is_empty() || value.is_empty();
    if let Some(pair) = wire.iter().find(|pair| empty(*pair)) {
        return Err(FieldError::new(format!("{path}[{:?}]", pair.0), "keys and values must not be empty"));
    }
    Ok(wire.into_iter().collect())
}

/// Reads names of hosts.
pub fn hosts(path: &str, wire: &[String]) -> Result<BTreeSet<HostId>, FieldError> {
    bounds::count(path, wire.len(), bounds::MANY)?;
    let host = |(i, name): (usize, &String)| parse(&format!("{path}[{i}]"), name);
    wire.iter().enumerate().map(host).collect()
}

/// Reads a selector; absent means every host.
pub fn selector(path: &str, wire: Option<v1::Selector>) -> Result<Selector, FieldError> {
    let wire = wire.unwrap_or_default();
    Ok(Selector {
        hosts: hosts(&format!("{path}.hosts"), &wire.hosts)?,
        labels: labels(&format!("{path}.labels"), wire.labels)?,
    })
}

impl From<&Selector> for v1::Selector {
    fn from(selector: &Selector) -> Self {
        Self {
            hosts: selector.hosts.iter().map(ToString::to_string).collect(),
            labels: selector.labels.clone().into_iter().collect(),
        }
    }
}

impl From<Health> for v1::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Good => Self::Good,
            Health::Bad => Self::Bad,
            Health::Unknown => Self::Unknown,
        }
    }
}

impl From<v1::Health> for Health {
    fn from(health: v1::Health) -> Self {
        match health {
            v1::Health::Good => Self::Good,
            v1::Health::Bad => Self::Bad,
            v1::Health::Unknown | v1::Health::Unspecified => Self::Unknown,
        }
    }
}

impl From<Standing> for link::restored::Standing {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Before => Self::Before,
            Standing::Target => Self::Target,
            Standing::Inconsistent => Self::Inconsistent,
        }
    }
}

/// Reads where a host stands.
pub fn standing(path: &str, wire: i32) -> Result<Standing, FieldError> {
    match link::restored::Standing::try_from(wire) {
        Ok(link::restored::Standing::Before) => Ok(Standing::Before),
        Ok(link::restored::Standing::Target) => Ok(Standing::Target),
        Ok(link::restored::Standing::Inconsistent) => Ok(Standing::Inconsistent),
        Ok(link::restored::Standing::Unspecified) | Err(_) => Err(FieldError::new(path, "is required")),
    }
}

/// Writes a failure.
pub fn failure(reason: Reason, message: impl ToString, next: impl ToString) -> v1::Failure {
    v1::Failure { reason: reason.as_str().to_owned(), message: message.to_string(), next: next.to_string() }
}

/// The reason of a failure; one that this version does not know is [`Reason::Internal`].
pub fn failure_reason(failure: &v1::Failure) -> Reason {
    failure.reason.parse().unwrap_or(Reason::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_field_by_its_path() {
        let wire = v1::Selector { hosts: vec!["web-1".into(), "-bad".into()], ..Default::default() };
        let error = selector("selector", Some(wire)).expect_err("a name cannot start with a dash");
        assert_eq!(error.path, "selector.hosts[1]");
        assert_eq!(error.beneath("spec").path, "spec.selector.hosts[1]");
    }

    #[test]
    fn a_resource_name_of_another_collection_is_refused() {
        let id = "0193b5a0-0000-7000-8000-000000000001";
        assert!(checkpoint_id("name", &format!("checkpoints/{id}")).is_ok());
        assert!(checkpoint_id("name", id).is_ok());
        assert!(checkpoint_id("name", &format!("rollbacks/{id}")).is_err());
        assert!(checkpoint_id("name", "").is_err());
    }

    #[test]
    fn digests_that_travel_as_bytes_are_read_whole_or_refused_by_their_place() {
        let read = |wire: &[Vec<u8>]| snapshot_ids::<Vec<_>>("ids", wire);
        let good = read(&[vec![7; 32], vec![8; 32]]).expect("two digests");
        assert_eq!(good, [7, 8].map(|byte| SnapshotId(Digest::from_bytes([byte; 32]))));
        let error = read(&[vec![7; 32], vec![8; 31]]).expect_err("one is cut");
        assert_eq!(error.to_string(), "ids[1]: a digest has 32 bytes, and this one has 31");
    }

    #[test]
    fn times_before_the_epoch_survive_the_wire() {
        for ms in [-1, 0, 1, -1_500, 1_764_000_000_123] {
            assert_eq!(from_wire_time(to_wire_time(Timestamp(ms))), Timestamp(ms));
        }
    }
}
