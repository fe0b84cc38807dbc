//! Which hosts the fleet cannot count on now, for the budgets of label groups.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rfs_model::{Health, HostId, Labels, Timestamp};
use rfs_rollout::outside::Ill;

use super::Roster;

impl Roster {
    /// Tells of each host that is not available. One that was not seen for `gone_after` is not missed any more.
    pub(in crate::hub) fn unavailable(
        &self,
        now: Timestamp,
        gone_after: Duration,
        tell: &mut dyn FnMut(&HostId, Ill),
    ) {
        for (host, entry) in self.read().iter().filter(|(_, entry)| entry.machines.forgotten_at.is_none()) {
            let ill = match (entry.heard_session(), entry.reading.health) {
                (None, _) => {
                    let seen = self.last_seen(entry, now);
                    let is_gone = seen.is_some_and(|seen| now.since(seen) >= gone_after);
                    (!is_gone).then_some(Ill::Absent)
                }
                (Some(_), _) if entry.facts.inconsistent => Some(Ill::Inconsistent),
                (Some(_), Health::Good) => None,
                (Some(_), Health::Unknown) if entry.is_unchecked() => None,
                (Some(_), health) => Some(Ill::Health(health)),
            };
            if let Some(ill) = ill {
                tell(host, ill);
            }
        }
    }

    /// Grows whenever the labels of a host have changed.
    pub(in crate::hub) fn labels_version(&self) -> u64 {
        self.labels.load(Ordering::SeqCst)
    }

    /// The labels that a host has; none if it is not known.
    pub(in crate::hub) fn labels(&self, host: &HostId) -> Labels {
        self.read().get(host).map(|entry| entry.facts.labels.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use rfs_proto::v1;

    use super::super::tests::{enter, report, web_1};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn unavailable(roster: &Roster, now: i64) -> String {
        let mut told = Vec::new();
        roster.unavailable(Timestamp(now), DAY, &mut |host, ill| told.push(format!("{host} {ill}")));
        told.join(", ")
    }

    #[test]
    fn a_host_is_available_while_it_is_connected_and_known_to_be_healthy() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        assert_eq!(unavailable(&roster, 5), "");
        let held = enter(&roster, 10).session;
        assert_eq!(unavailable(&roster, 11), "web-1 has unknown health");
        roster.observe(&held, report(v1::Health::Good), Timestamp(20));
        assert_eq!(unavailable(&roster, 21), "");
        roster.observe(&held, report(v1::Health::Bad), Timestamp(30));
        assert_eq!(unavailable(&roster, 31), "web-1 is unhealthy");
        roster.set_inconsistent(&web_1(), true);
        assert_eq!(unavailable(&roster, 32), "web-1 is INCONSISTENT");
        roster.leave(&held, Timestamp(50));
        assert_eq!(unavailable(&roster, 51), "web-1 has no connection");
    }

    #[test]
    fn nobody_misses_a_host_that_is_forgotten_or_was_not_seen_for_long_or_has_nothing_to_measure() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        let held = enter(&roster, 10).session;
        let nothing = v1::Health::Unknown;
        let mut unchecked = report(nothing);
        unchecked.checks.clear();
        roster.observe(&held, unchecked, Timestamp(20));
        assert_eq!(unavailable(&roster, 21), "");
        roster.leave(&held, Timestamp(30));
        let seen = roster.card(&web_1()).and_then(|card| card.wire.last_seen_time).expect("it was seen");
        let seen = seen.seconds * 1_000 + i64::from(seen.nanos) / 1_000_000;
        let long = i64::try_from(DAY.as_millis()).expect("a day");
        assert_eq!(unavailable(&roster, seen + long - 1), "web-1 has no connection");
        assert_eq!(unavailable(&roster, seen + long), "");
        let name = roster.name(&web_1(), Timestamp(40));
        let machines = crate::store::Machines { forgotten_at: Some(Timestamp(40)), ..name.machines };
        roster.settle_name(&web_1(), machines, name.starts, Timestamp(40));
        assert_eq!(unavailable(&roster, 41), "");
    }
}
