//! The machines that have spoken for a host's name, as they are stored.
//!
//! A machine is known by the random id that lives with its agent's store. Who is let in is decided in the hub.

use std::collections::BTreeMap;

use rfs_model::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

/// Which machines have spoken for a host's name, and which of them it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machines {
    /// The machine that the name belongs to; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<InstanceId>,
    /// Since when, if the name belonged to another machine before and no person has accepted this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_at: Option<Timestamp>,
    /// A person has said that the name belongs to the accepted machine: any other one is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
    /// When another machine was last refused, since the accepted one was let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<Timestamp>,
    /// When a person said that the host is gone for good: nobody is let in under its name until a person accepts a machine
    /// again. Kept in a column of its own, which lists and whoever takes hosts look at.
    #[serde(skip)]
    pub forgotten_at: Option<Timestamp>,
    /// Set while two machines speak for the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contest: Option<Contest>,
    /// The machines that have spoken for the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<InstanceId, Machine>,
}

/// Two machines speak for one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// Since when.
    pub since: Timestamp,
    /// Which machines, in words.
    pub text: String,
    /// What a person does about it.
    pub next: String,
}

/// A machine that has spoken for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Where it last connected from.
    pub address: String,
    /// When it last connected.
    pub seen_at: Timestamp,
}
