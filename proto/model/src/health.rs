//! Health: three values, because "did not answer" is neither good nor bad.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of a check, a host or a group. The order is from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Measured, and as it should be.
    Good,
    /// Not measured, too old, or the checker itself failed. Holds a gate; never counted as good.
    Unknown,
    /// Measured, and not as it should be.
    Bad,
}

impl Health {
    /// The health of the whole: the worst of its parts; a whole without parts is unknown.
    pub fn worst(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().max().unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Bad => "bad",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Health::{self, Bad, Good, Unknown};

    #[test]
    fn one_unknown_part_makes_the_whole_unknown_and_one_bad_part_makes_it_bad() {
        assert_eq!(Health::worst([Good, Good]), Good);
        assert_eq!(Health::worst([Good, Unknown]), Unknown);
        assert_eq!(Health::worst([Good, Unknown, Bad]), Bad);
        assert_eq!(Health::worst([]), Unknown);
    }
}
