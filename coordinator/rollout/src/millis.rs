//! Durations as whole milliseconds in stored values.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// The same where there may be none.
pub(crate) mod option {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde asks by reference")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// A long time in words, in the largest unit of which there are at least two.
pub(crate) fn in_words(duration: Duration) -> String {
    const UNITS: [(&str, u64); 3] = [("days", 86_400), ("hours", 3600), ("minutes", 60)];
    let seconds = duration.as_secs();
    match UNITS.iter().find(|(_, unit)| seconds >= 2 * unit) {
        Some((name, unit)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_is_a_number_and_its_unit() {
        let said =
            [59, 119, 120, 7199, 172_799, 172_800, 3_888_000].map(|s| in_words(Duration::from_secs(s)));
        assert_eq!(said, ["59 s", "119 s", "2 minutes", "119 minutes", "47 hours", "2 days", "45 days"]);
    }
}
