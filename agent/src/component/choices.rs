//! What a person decided for one restore.

use std::path::Path;

use rfs_store::restore::{PathSet, PatternError};
use rfs_store::text::decode;
use serde::{Deserialize, Serialize};

/// What a person decided for one restore, beside what is restored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Choices {
    /// Patterns: of what the snapshot does not have, this stays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Patterns of what may be lost, or met as it is now, although the configuration or the snapshot speaks against it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_loss: Vec<String>,
    /// A service whose command does not stop it is ended by ending its processes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force_stop: bool,
}

impl Choices {
    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What stays.
    pub(crate) fn kept(&self) -> Result<PathSet, PatternError> {
        patterns(&self.keep)
    }

    /// What is accepted.
    pub(crate) fn accepted(&self) -> Result<PathSet, PatternError> {
        patterns(&self.accept_loss)
    }

    /// The first pattern that means nothing.
    pub(crate) fn check(&self) -> Result<(), PatternError> {
        self.kept().and(self.accepted()).map(|_| ())
    }
}

/// What patterns mean, and the very paths that they look like: a path is typed as it was printed, also where a glob would read it
/// otherwise.
fn patterns(patterns: &[String]) -> Result<PathSet, PatternError> {
    let paths: Vec<_> =
        patterns.iter().filter(|text| text.starts_with('/')).filter_map(|text| decode(text)).collect();
    Ok(PathSet::new(patterns)?.with_paths(paths.iter().map(|path| &path[..])))
}

/// A path as a pattern that means this path alone.
pub(crate) fn literal(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for character in rfs_store::text::encode(path.as_os_str().as_bytes()).chars() {
        match character {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' => {
                text.push_str(&format!("%{:02X}", u32::from(character)))
            }
            other => text.push(other),
        }
    }
    text
}
