//! Labels of hosts, and selectors over them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::HostId;

/// The labels of a host or a checkpoint, such as `role=db`.
pub type Labels = BTreeMap<String, String>;

/// Which hosts are meant. Names and labels narrow each other; an empty selector means every host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selector {
    /// Hosts by name; empty means any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<HostId>,
    /// Labels that a host must all have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

impl Selector {
    /// Whether the host of this name and these labels is meant.
    pub fn matches(&self, host: &HostId, labels: &Labels) -> bool {
        let named = self.hosts.is_empty() || self.hosts.contains(host);
        named && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Text that is not `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {0:?} is not valid: write key=value, such as role=web")]
pub struct LabelError(pub String);

/// Reads one `key=value`.
pub fn parse_label(text: &str) -> Result<(String, String), LabelError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(LabelError(text.to_owned())),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hosts.is_empty() && self.labels.is_empty() {
            return f.write_str("every host");
        }
        let hosts = self.hosts.iter().map(ToString::to_string);
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        f.write_str(&hosts.chain(labels).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &[&str], labels: &[&str], expected: bool) {
        let selector = Selector {
            hosts: hosts.iter().filter_map(|h| h.parse().ok()).collect(),
            labels: labels.iter().filter_map(|l| parse_label(l).ok()).collect(),
        };
        let web_1 = HostId::new("web-1").expect("a valid name");
        let has = Labels::from([("role".into(), "web".into()), ("zone".into(), "a".into())]);
        assert_eq!(selector.matches(&web_1, &has), expected, "{selector}");
    }

    #[test]
    fn names_and_labels_narrow_each_other() {
        check(&[], &[], true);
        check(&["web-1"], &[], true);
        check(&["web-2"], &[], false);
        check(&[], &["role=web", "zone=a"], true);
        check(&[], &["role=web", "zone=b"], false);
        check(&["web-1"], &["role=db"], false);
    }
}
