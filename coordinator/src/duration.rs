//! Durations as people write them, on the command line and in the configuration: `10s`, `1h30m`, `250ms`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads numbers with units, largest first or in any order, such as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let error =
        || format!("{text:?} is not a duration: write a number and ms, s, m, h or d, such as 90s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let number: u64 = number.parse().map_err(|_| error())?;
        total = number.checked_mul(*scale).and_then(|ms| total.checked_add(ms)).ok_or_else(error)?;
        rest = after;
    }
    if text.is_empty() { Err(error()) } else { Ok(Duration::from_millis(total)) }
}

/// Reads a duration of a configuration, which must not be nothing.
pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    use serde::de::Error as _;
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    match parse_duration(&text).map_err(D::Error::custom)? {
        Duration::ZERO => Err(D::Error::custom("must be longer than 0")),
        duration => Ok(duration),
    }
}

/// Writes a measured duration as briefly as it can be read: `250 ms`, `3.2 s`, `2m05s`, `1h04m`, `397 days`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let s = duration.as_secs();
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{}m{:02}s", s / 60, s % 60),
        3_600_000..86_400_000 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        86_400_000..864_000_000 => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
        _ => format!("{} days", s / 86_400),
    }
}

/// As [`show_duration`], from the wire; a negative one shows as zero.
pub(crate) fn show_wire(duration: prost_types::Duration) -> String {
    show_duration(Duration::try_from(duration).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        let ms = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("397d"), Ok(34_300_800_000));
        assert_eq!(ms("0"), Ok(0));
        for text in
            ["", "10", "s", "10 s", "-1s", "1.5s", "10x", "1s2", "99999999999999999999d", "9999999999999999d"]
        {
            assert!(ms(text).is_err_and(|e| e.contains("such as 90s")), "{text}");
        }
    }

    #[test]
    fn a_measured_duration_is_brief() {
        let shown = [0, 999, 1000, 59_940, 125_000, 3_840_000, 90_000_000, 864_000_000]
            .map(|ms| show_duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["0 ms", "999 ms", "1.0 s", "59.9 s", "2m05s", "1h04m", "1d01h", "10 days"]);
    }
}
