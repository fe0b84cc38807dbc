//! What a host's health report says, by the coordinator's clock.
//!
//! The agent tells ages, which it measured by a clock that never steps. They are counted back from the arrival, so that what a
//! host was found to be survives a reconnect, a restart of the coordinator, and clocks that are set.

use std::time::Duration;

use rfs_model::{Health, RestoreNumber, Timestamp};
use rfs_proto::agentlink::v1::HealthReport;
use rfs_proto::v1;
use rfs_rollout::Reading;

/// How far two reports of the same beginning may be apart: each has its own time on the way.
const JITTER: Duration = Duration::from_secs(1);

/// Reads a report that arrives `now`; `before` is what the same session reported last.
pub(super) fn read(before: Option<&Reading>, report: &HealthReport, now: Timestamp) -> Reading {
    let health = Health::from(report.health());
    let same = before.filter(|before| before.health == health);
    let since = match (back(now, report.health_age), same) {
        (Some(since), Some(before)) if since.0.abs_diff(before.since.0) <= millis(JITTER) => {
            since.min(before.since)
        }
        (Some(since), _) => since,
        (None, Some(before)) => before.since,
        (None, None) => now,
    };
    Reading {
        health,
        since,
        after: RestoreNumber(report.after_restore),
        measured_at: back(now, report.measured_age),
        heard_at: now,
        evidence: evidence(&report.checks),
    }
}

/// Whether a reading says something that the one before did not: more than that all is as it was.
pub(super) fn says_more(before: &Reading, reading: &Reading) -> bool {
    before.health != reading.health
        || before.after != reading.after
        || before.measured_at.is_some() != reading.measured_at.is_some()
        || reading.since.since(before.since) > JITTER
}

/// The time that was `age` ago; none if no age is told.
fn back(now: Timestamp, age: Option<prost_types::Duration>) -> Option<Timestamp> {
    let age = Duration::try_from(age?).ok()?;
    Some(Timestamp(now.0.saturating_sub_unsigned(millis(age))))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a health rests on: its worst required check.
fn evidence(checks: &[v1::Check]) -> String {
    let required = checks.iter().filter(|check| check.required);
    let worst = required.max_by_key(|check| Health::from(check.health()));
    worst
        .map_or_else(|| "no required check".to_owned(), |check| format!("{}: {}", check.name, check.evidence))
}

#[cfg(test)]
mod tests {
    use rfs_proto::convert::to_wire_duration;

    use super::*;

    fn report(
        health: v1::Health,
        age: Option<u64>,
        measured: Option<u64>,
        after_restore: u64,
    ) -> HealthReport {
        let wire = |ms| to_wire_duration(Duration::from_millis(ms));
        HealthReport {
            health: health.into(),
            health_age: age.map(wire),
            measured_age: measured.map(wire),
            after_restore,
            ..Default::default()
        }
    }

    #[test]
    fn ages_are_counted_back_from_the_arrival() {
        let reading = read(None, &report(v1::Health::Good, Some(60_000), Some(400), 3), Timestamp(100_000));
        assert_eq!(reading.since, Timestamp(40_000), "good since before this coordinator heard of it");
        assert_eq!(reading.measured_at, Some(Timestamp(99_600)));
        assert_eq!((reading.after, reading.heard_at), (RestoreNumber(3), Timestamp(100_000)));
    }

    #[test]
    fn without_ages_a_health_counts_from_its_arrival() {
        let first = read(None, &report(v1::Health::Good, None, None, 0), Timestamp(100));
        assert_eq!((first.since, first.measured_at), (Timestamp(100), None));
        let again = read(Some(&first), &report(v1::Health::Good, None, None, 0), Timestamp(200));
        assert_eq!(again.since, Timestamp(100));
        let bad = read(Some(&again), &report(v1::Health::Bad, None, None, 0), Timestamp(300));
        assert_eq!(bad.since, Timestamp(300));
    }

    #[test]
    fn the_way_of_a_report_moves_nothing_and_a_health_that_began_anew_does() {
        let first = read(None, &report(v1::Health::Good, Some(5_000), Some(0), 1), Timestamp(10_000));
        let late = read(Some(&first), &report(v1::Health::Good, Some(19_700), Some(0), 1), Timestamp(25_000));
        assert_eq!(late.since, first.since, "300 ms on the way");
        assert!(!says_more(&first, &late));
        let anew = read(Some(&late), &report(v1::Health::Good, Some(2_000), Some(0), 1), Timestamp(40_000));
        assert_eq!(anew.since, Timestamp(38_000), "it was something else between two reports");
        assert!(says_more(&late, &anew));
        let restored =
            read(Some(&anew), &report(v1::Health::Good, Some(17_000), Some(0), 2), Timestamp(55_000));
        assert!(says_more(&anew, &restored), "it was measured after another restore");
    }

    #[test]
    fn an_age_that_cannot_be_is_taken_for_none() {
        let mut odd = report(v1::Health::Good, None, None, 0);
        odd.health_age = Some(prost_types::Duration { seconds: -5, nanos: 0 });
        odd.measured_age = Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 });
        let reading = read(None, &odd, Timestamp(100));
        assert_eq!(reading.since, Timestamp(100));
        assert!(reading.measured_at.is_some_and(|at| at < Timestamp(0)));
    }
}
