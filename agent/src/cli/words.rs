//! Numbers and times as a person reads them.

use std::fmt;
use std::time::Duration;

use rfs_model::Timestamp;

/// A length of time: `34 ms`, `1.2 s`, `4 min 05 s`.
pub(super) struct Length(pub(super) Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        let text = match seconds {
            0 if millis == 0 => format!("{} µs", self.0.subsec_micros()),
            0 => format!("{millis} ms"),
            1..60 => format!("{:.1} s", self.0.as_secs_f64()),
            _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
        };
        f.pad(&text)
    }
}

/// A number with its thousands apart: `5,014`.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// `1 step`, `5,014 steps`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", Count(count), if count == 1 { one } else { many })
}

/// A time to the second: `2026-11-24 08:21:41Z`.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}Z"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_a_person_writes_them() {
        let lengths =
            [12, 34_000, 1_234_567, 245_000_000].map(|us| Length(Duration::from_micros(us)).to_string());
        assert_eq!(lengths, ["12 µs", "34 ms", "1.2 s", "4 min 05 s"]);
        assert_eq!(
            [0, 999, 5_014, 1_234_567].map(|n| Count(n).to_string()),
            ["0", "999", "5,014", "1,234,567"]
        );
        assert_eq!(counted(1, "step", "steps"), "1 step");
        assert_eq!(moment(Timestamp(1_795_508_501_000)), "2026-11-24 08:21:41Z");
    }
}
