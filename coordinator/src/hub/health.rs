//! The health of hosts, added up by label group and for the fleet.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use rfs_model::{HostId, Selector};
use rfs_proto::v1;
use tokio::sync::watch;

use super::Hub;
use super::roster::HostCard;

/// How often a watcher is told at most: changes that come together are told together.
const PACE: Duration = Duration::from_millis(200);
/// How much less often for each host: a large fleet makes a large message.
const PACE_PER_HOST: Duration = Duration::from_micros(100);

/// Whose health is added up, and how.
#[derive(Debug, Clone, Default)]
pub struct Grouping {
    /// Which hosts.
    pub selector: Selector,
    /// Label keys whose values make the groups.
    pub group_by: Vec<String>,
}

impl Hub {
    /// The hosts that `selector` takes, by name.
    pub fn hosts(&self, selector: &Selector) -> Vec<HostCard> {
        self.shared.roster.cards(false, |host, labels| selector.matches(host, labels))
    }

    /// At most `most` of them, the first ones after `after`; on demand with those that are forgotten.
    pub fn some_hosts(
        &self,
        selector: &Selector,
        with_forgotten: bool,
        after: Option<&HostId>,
        most: usize,
    ) -> Vec<HostCard> {
        let wanted = |host: &HostId, labels: &_| selector.matches(host, labels);
        self.shared.roster.cards_after(with_forgotten, after, most, wanted)
    }

    /// One host, if it was ever seen; also one that is forgotten.
    pub fn host(&self, host: &HostId) -> Option<HostCard> {
        self.shared.roster.card(host)
    }

    /// Health by host, by label group and for the fleet.
    pub fn fleet_health(&self, grouping: &Grouping) -> v1::FleetHealth {
        add_up(self.hosts(&grouping.selector), &grouping.group_by)
    }

    /// The health now, and then each time that it is another.
    pub fn watch_health(&self, grouping: Grouping) -> impl Stream<Item = v1::FleetHealth> + Send + use<> {
        let changes = self.shared.roster.changes();
        unfold(Watching { hub: self.clone(), grouping, changes, told: None, hosts: 0 }, Watching::next)
    }
}

struct Watching {
    hub: Hub,
    grouping: Grouping,
    changes: watch::Receiver<u64>,
    /// What was told last, as a digest.
    told: Option<u64>,
    /// How many hosts it was about.
    hosts: u32,
}

impl Watching {
    async fn next(mut self) -> Option<(v1::FleetHealth, Self)> {
        loop {
            if self.told.is_some() {
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    () = self.hub.shared.stop.cancelled() => return None,
                }
                tokio::time::sleep(PACE + PACE_PER_HOST * self.hosts).await;
            }
            self.changes.mark_unchanged();
            let health = self.hub.fleet_health(&self.grouping);
            self.hosts = u32::try_from(health.hosts.len()).unwrap_or(u32::MAX);
            let essence = essence(&health);
            if self.told.replace(essence) != Some(essence) {
                return Some((health, self));
            }
        }
    }
}

/// What makes one state of the fleet another: not when it was measured, nor in how many milliseconds.
fn essence(health: &v1::FleetHealth) -> u64 {
    let mut hasher = DefaultHasher::new();
    for host in &health.hosts {
        (&host.name, host.health, host.connected, host.inconsistent, &host.agent_version).hash(&mut hasher);
        (host.contested, &host.instance, host.refused_time.is_some()).hash(&mut hasher);
        host.checks.iter().for_each(|check| (&check.name, check.health, check.required).hash(&mut hasher));
        let labels: BTreeMap<_, _> = host.labels.iter().collect();
        labels.hash(&mut hasher);
    }
    hasher.finish()
}

fn add_up(cards: Vec<HostCard>, group_by: &[String]) -> v1::FleetHealth {
    let mut fleet = v1::HealthCount::default();
    let mut groups: BTreeMap<(usize, &str), v1::HealthCount> = BTreeMap::new();
    for card in &cards {
        add(&mut fleet, card.wire.health());
        for (place, key) in group_by.iter().enumerate() {
            let value = card.labels.get(key).map_or("", String::as_str);
            add(groups.entry((place, value)).or_default(), card.wire.health());
        }
    }
    let group = |((place, value), count): ((usize, &str), v1::HealthCount)| v1::GroupHealth {
        group: format!("{}={value}", group_by[place]),
        count: Some(count),
    };
    let groups = groups.into_iter().map(group).collect();
    v1::FleetHealth { fleet: Some(fleet), groups, hosts: cards.into_iter().map(|card| card.wire).collect() }
}

fn add(count: &mut v1::HealthCount, health: v1::Health) {
    match health {
        v1::Health::Good => count.good += 1,
        v1::Health::Bad => count.bad += 1,
        v1::Health::Unknown | v1::Health::Unspecified => count.unknown += 1,
    }
}

#[cfg(test)]
mod tests {
    use rfs_model::Labels;

    use super::*;

    fn card(host: &str, label: &str, health: v1::Health) -> HostCard {
        let labels = Labels::from_iter(rfs_model::label::parse_label(label));
        let wire = v1::Host { name: format!("hosts/{host}"), health: health.into(), ..Default::default() };
        HostCard { host: HostId::new(host).expect("a name"), labels, wire }
    }

    #[test]
    fn unknown_is_counted_apart_and_hosts_without_the_label_are_a_group_of_their_own() {
        let cards = vec![
            card("a", "role=web", v1::Health::Good),
            card("b", "role=web", v1::Health::Unknown),
            card("c", "role=db", v1::Health::Bad),
            card("d", "zone=a", v1::Health::Good),
        ];
        let health = add_up(cards, &["role".to_owned()]);
        assert_eq!(health.fleet, Some(v1::HealthCount { good: 2, bad: 1, unknown: 1 }));
        let groups: Vec<_> = health
            .groups
            .iter()
            .map(|group| {
                (group.group.as_str(), group.count.map(|count| (count.good, count.bad, count.unknown)))
            })
            .collect();
        assert_eq!(
            groups,
            [("role=", Some((1, 0, 0))), ("role=db", Some((0, 1, 0))), ("role=web", Some((1, 0, 1)))]
        );
    }

    #[test]
    fn another_time_of_measuring_is_no_change() {
        let state = |evidence: &str, health: v1::Health| {
            let mut card = card("a", "role=web", health);
            let check = v1::Check { name: "http".into(), evidence: evidence.into(), ..Default::default() };
            card.wire.checks = vec![check];
            card.wire.last_seen_time =
                Some(prost_types::Timestamp { seconds: 7, nanos: evidence.len() as i32 });
            essence(&add_up(vec![card], &[]))
        };
        assert_eq!(state("12 ms", v1::Health::Good), state("13.5 ms", v1::Health::Good));
        assert_ne!(state("12 ms", v1::Health::Good), state("12 ms", v1::Health::Bad));
    }
}
