//! Manifests: what a snapshot is. A manifest is JSON; the digest of its bytes is the snapshot's id.

use std::collections::BTreeMap;

use rfs_model::{
    ByteCount, ComponentKind, ComponentName, Digest, HostId, OperationId, SnapshotId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::layout::FORMAT;
use crate::met::Met;

/// What the caller says about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotNote {
    /// The host whose state it is.
    pub host: HostId,
    /// Why it was taken, for people, such as `backup` or `before release 7`.
    pub label: String,
    /// The fleet operation that it belongs to.
    pub operation: Option<OperationId>,
}

/// What is stored under a snapshot's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) sequence: u64,
    pub(crate) host: HostId,
    pub(crate) taken_at: Timestamp,
    pub(crate) label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<OperationId>,
    pub(crate) components: BTreeMap<ComponentName, Component>,
}

/// One component in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    pub(crate) kind: ComponentKind,
    /// Files, directories and links; zero for a value.
    pub(crate) entries: u64,
    /// The length of all content.
    pub(crate) size: ByteCount,
    pub(crate) content: Content,
    /// What files were captured with. Snapshots of earlier days do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) taken: Option<Met>,
    /// What a person must know who trusts the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// Where a component's content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// The object that lists a tree's segments.
    Tree(Digest),
    /// The objects that make up a value, in order.
    Value(Vec<Digest>),
}

impl Manifest {
    pub(crate) fn new(
        note: SnapshotNote,
        sequence: u64,
        taken_at: Timestamp,
        components: BTreeMap<ComponentName, Component>,
    ) -> Self {
        let SnapshotNote { host, label, operation } = note;
        Self { format: FORMAT, sequence, host, taken_at, label, operation, components }
    }

    /// The bytes that are stored, and the id that they give the snapshot.
    pub(crate) fn encode(&self) -> (SnapshotId, Vec<u8>) {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only text keys");
        bytes.push(b'\n');
        (id_of(&bytes), bytes)
    }

    pub(crate) fn decode(id: SnapshotId, bytes: &[u8]) -> Result<Self, String> {
        if id_of(bytes) != id {
            return Err("its content does not match its name".to_owned());
        }
        Self::parse(bytes)
    }

    /// Reads a manifest, whatever its name.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match manifest.format {
            1..=FORMAT => Ok(manifest),
            other => Err(format!("it has format {other}; this version reads up to {FORMAT}")),
        }
    }
}

fn id_of(bytes: &[u8]) -> SnapshotId {
    SnapshotId(Digest::from_bytes(*blake3::hash(bytes).as_bytes()))
}
