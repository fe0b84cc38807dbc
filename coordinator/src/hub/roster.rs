//! What is known of every host at this moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rfs_model::{Health, HostId, Labels, Timestamp};
use rfs_proto::agentlink::v1::HealthReport;
use rfs_proto::v1;
use rfs_rollout::Reading;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::STALE;
use super::session::Session;
use crate::driver::fleet::{SessionNumber, Sighting};
use crate::store::HostRow;

/// Every host that was ever seen, and the sessions that they hold.
pub(super) struct Roster {
    hosts: RwLock<BTreeMap<HostId, Entry>>,
    sessions: AtomicU64,
    /// Grows with each change that somebody may want to see.
    version: watch::Sender<u64>,
}

/// What a host says of itself when it connects.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) labels: Labels,
    pub(super) details: Details,
    pub(super) inconsistent: bool,
}

/// What a host says of itself beside its labels. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) agent_version: String,
    #[serde(default)]
    pub(super) components: Vec<Component>,
}

/// A component as a host names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) kind: String,
}

struct Entry {
    facts: Facts,
    last_seen: Timestamp,
    session: Option<Arc<Session>>,
    checks: Vec<v1::Check>,
    /// When the newest observation came; none that is too old, or of another session, is kept.
    observed: Option<Timestamp>,
    seen: Seen,
}

/// The health as it counts, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    health: Health,
    since: Timestamp,
    evidence: String,
}

/// One host as it is seen now.
#[derive(Debug, Clone, PartialEq)]
pub struct HostCard {
    /// Its name.
    pub host: HostId,
    /// The labels from its configuration.
    pub labels: Labels,
    /// As the API shows it; without what the store alone knows.
    pub wire: v1::Host,
}

/// A session that was let in.
pub(super) struct Admitted {
    pub(super) session: Arc<Session>,
    /// The session of the same host whose place it took.
    pub(super) replaced: Option<Arc<Session>>,
}

impl Roster {
    /// Begins with the hosts that are stored; none has a session.
    pub(super) fn new(rows: Vec<HostRow>, now: Timestamp) -> Self {
        let entry = |row: HostRow| {
            let details = serde_json::from_str(&row.details).unwrap_or_default();
            let facts = Facts { labels: row.labels, details, inconsistent: row.inconsistent };
            (row.host, Entry::absent(facts, row.last_seen, now))
        };
        Self {
            hosts: RwLock::new(rows.into_iter().map(entry).collect()),
            sessions: AtomicU64::new(0),
            version: watch::Sender::new(0),
        }
    }

    /// Numbers a session.
    pub(super) fn next_number(&self) -> SessionNumber {
        SessionNumber(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// A host comes in, or comes in again.
    pub(super) fn enter(&self, session: Session, facts: Facts, now: Timestamp) -> Admitted {
        let session = Arc::new(session);
        let mut hosts = self.write();
        let entry =
            hosts.entry(session.host.clone()).or_insert_with(|| Entry::absent(facts.clone(), now, now));
        let replaced = entry.session.replace(session.clone());
        entry.facts = facts;
        entry.last_seen = now;
        entry.observed = None;
        entry.checks.clear();
        entry.count(Health::Unknown, "no observation yet", now);
        drop(hosts);
        self.changed();
        Admitted { session, replaced }
    }

    /// A session is over. False if another one of the same host has taken its place.
    pub(super) fn leave(&self, session: &Session, now: Timestamp) -> bool {
        let mut hosts = self.write();
        let Some(entry) = hosts.get_mut(&session.host) else { return false };
        if entry.session.take_if(|held| held.number == session.number).is_none() {
            return false;
        }
        entry.last_seen = session.last_heard();
        entry.observed = None;
        entry.count(Health::Unknown, "no connection", now);
        drop(hosts);
        self.changed();
        true
    }

    /// A host's health was observed. True if it counts as another than before.
    pub(super) fn observe(&self, session: &Session, report: HealthReport, now: Timestamp) -> bool {
        let mut hosts = self.write();
        let Some(entry) = hosts.get_mut(&session.host).filter(|entry| entry.is_held_by(session)) else {
            return false;
        };
        let checks_changed = entry.checks.len() != report.checks.len()
            || entry
                .checks
                .iter()
                .zip(&report.checks)
                .any(|(a, b)| (&a.name, a.health) != (&b.name, b.health));
        let (health, evidence) = (Health::from(report.health()), evidence(&report.checks));
        entry.checks = report.checks;
        entry.observed = Some(now);
        let changed = entry.count(health, &evidence, now);
        drop(hosts);
        if changed || checks_changed {
            self.changed();
        }
        changed
    }

    /// Notes whether a host stands between its old and its new state. True if that is another than before.
    pub(super) fn set_inconsistent(&self, host: &HostId, inconsistent: bool) -> bool {
        let mut hosts = self.write();
        let Some(entry) = hosts.get_mut(host).filter(|entry| entry.facts.inconsistent != inconsistent) else {
            return false;
        };
        entry.facts.inconsistent = inconsistent;
        drop(hosts);
        self.changed();
        true
    }

    /// Lets old observations count for nothing, and gives the hosts of which that is so from now on.
    pub(super) fn let_go_stale(&self, now: Timestamp) -> Vec<HostId> {
        let stale = |entry: &Entry| entry.observed.is_some_and(|at| now.since(at) > STALE);
        // Mostly none is, so that a look while others look, too, is enough.
        if !self.read().values().any(stale) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for (host, entry) in self.write().iter_mut().filter(|(_, entry)| stale(entry)) {
            entry.observed = None;
            entry.count(Health::Unknown, "the last observation is too old", now);
            gone.push(host.clone());
        }
        self.changed();
        gone
    }

    /// How the drivers see a host.
    pub(super) fn look(&self, host: &HostId, now: Timestamp) -> Sighting {
        match self.read().get(host) {
            None => Sighting::absent(now),
            Some(entry) => Sighting {
                session: entry.session.as_ref().map(|session| session.number),
                reading: Reading {
                    health: entry.seen.health,
                    ..Reading::unknown(entry.seen.since, entry.seen.evidence.clone())
                },
                ..Sighting::absent(now)
            },
        }
    }

    /// The session that a host holds.
    pub(super) fn session(&self, host: &HostId) -> Option<Arc<Session>> {
        self.read().get(host).and_then(|entry| entry.session.clone())
    }

    /// The sessions that `wanted` takes.
    pub(super) fn sessions(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let hosts = self.read();
        let sessions = hosts.values().filter_map(|entry| entry.session.as_ref());
        sessions.filter(|session| wanted(session)).cloned().collect()
    }

    /// What was last said of a host.
    pub(super) fn facts(&self, host: &HostId) -> Option<Facts> {
        self.read().get(host).map(|entry| entry.facts.clone())
    }

    /// One host.
    pub(super) fn card(&self, host: &HostId) -> Option<HostCard> {
        self.read().get(host).map(|entry| entry.card(host))
    }

    /// The hosts that `wanted` takes, by name.
    pub(super) fn cards(&self, wanted: impl Fn(&HostId, &Labels) -> bool) -> Vec<HostCard> {
        let hosts = self.read();
        let wanted = hosts.iter().filter(|(host, entry)| wanted(host, &entry.facts.labels));
        wanted.map(|(host, entry)| entry.card(host)).collect()
    }

    /// Told of each change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<HostId, Entry>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<HostId, Entry>> {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn absent(facts: Facts, last_seen: Timestamp, now: Timestamp) -> Self {
        let seen = Seen { health: Health::Unknown, since: now, evidence: "no connection".to_owned() };
        Self { facts, last_seen, session: None, checks: Vec::new(), observed: None, seen }
    }

    fn is_held_by(&self, session: &Session) -> bool {
        self.session.as_ref().is_some_and(|held| held.number == session.number)
    }

    /// Takes a health as the one that counts. Since when it is so changes only with the health itself.
    fn count(&mut self, health: Health, evidence: &str, now: Timestamp) -> bool {
        evidence.clone_into(&mut self.seen.evidence);
        let changed = self.seen.health != health;
        if changed {
            self.seen.health = health;
            self.seen.since = now;
        }
        changed
    }

    fn card(&self, host: &HostId) -> HostCard {
        let last_seen = self.session.as_ref().map_or(self.last_seen, |session| session.last_heard());
        let component = |c: &Component| v1::Component { name: c.name.clone(), kind: c.kind.clone() };
        let wire = v1::Host {
            name: rfs_proto::convert::host_name(host),
            labels: self.facts.labels.clone().into_iter().collect(),
            connected: self.session.is_some(),
            last_seen_time: Some(rfs_proto::convert::to_wire_time(last_seen)),
            agent_version: self.facts.details.agent_version.clone(),
            components: self.facts.details.components.iter().map(component).collect(),
            health: v1::Health::from(self.seen.health).into(),
            checks: self.checks.clone(),
            owner: String::new(),
            generation: 0,
            inconsistent: self.facts.inconsistent,
            ..Default::default()
        };
        HostCard { host: host.clone(), labels: self.facts.labels.clone(), wire }
    }
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
    use std::time::Duration;

    use rfs_link::{Identity, Peer};
    use rfs_proto::agentlink::v1::Hello;

    use super::*;

    fn web_1() -> HostId {
        HostId::new("web-1").expect("a name")
    }

    fn session(roster: &Roster, now: i64) -> Session {
        let identity = Identity::Agent(web_1());
        let peer =
            Peer { identity, serial: "1".into(), not_after: Timestamp(0), addr: ([127, 0, 0, 1], 1).into() };
        Session::new(roster.next_number(), &peer, web_1(), &Hello::default(), Timestamp(now)).0
    }

    fn enter(roster: &Roster, now: i64) -> Admitted {
        let facts = Facts { labels: Labels::new(), details: Details::default(), inconsistent: false };
        roster.enter(session(roster, now), facts, Timestamp(now))
    }

    fn report(health: v1::Health) -> HealthReport {
        let check = |name: &str, health: v1::Health, required| v1::Check {
            name: name.into(),
            health: health.into(),
            evidence: "as seen".into(),
            required,
            ..Default::default()
        };
        let checks = vec![
            check("disk", v1::Health::Good, true),
            check("http", health, true),
            check("x", v1::Health::Bad, false),
        ];
        HealthReport { health: health.into(), checks, ..Default::default() }
    }

    fn sees(roster: &Roster, now: i64) -> String {
        let sighting = roster.look(&web_1(), Timestamp(now));
        let session = sighting.session.map(|number| number.0);
        let Reading { health, since, evidence, .. } = sighting.reading;
        format!("{session:?} {health} since {}: {evidence}", since.0)
    }

    #[test]
    fn health_is_unknown_until_observed_and_again_when_the_session_ends() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        assert_eq!(sees(&roster, 5), "None unknown since 5: no connection");
        let held = enter(&roster, 10).session;
        assert_eq!(sees(&roster, 11), "Some(0) unknown since 10: no observation yet");
        assert!(roster.observe(&held, report(v1::Health::Good), Timestamp(20)));
        assert!(!roster.observe(&held, report(v1::Health::Good), Timestamp(30)), "as before");
        assert_eq!(sees(&roster, 31), "Some(0) good since 20: http: as seen");
        assert!(roster.observe(&held, report(v1::Health::Bad), Timestamp(40)));
        assert_eq!(sees(&roster, 41), "Some(0) bad since 40: http: as seen");
        assert!(roster.leave(&held, Timestamp(50)));
        assert_eq!(sees(&roster, 51), "None unknown since 50: no connection");
        assert!(!roster.observe(&held, report(v1::Health::Good), Timestamp(60)), "the session is over");
    }

    #[test]
    fn an_observation_that_grows_old_counts_for_nothing() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        let held = enter(&roster, 0).session;
        roster.observe(&held, report(v1::Health::Good), Timestamp(1_000));
        let limit = Timestamp(1_000).plus(STALE);
        assert!(roster.let_go_stale(limit).is_empty());
        let later = limit.plus(Duration::from_millis(1));
        assert_eq!(roster.let_go_stale(later), [web_1()]);
        assert!(roster.let_go_stale(later).is_empty(), "told once");
        assert!(sees(&roster, later.0).ends_with("the last observation is too old"));
        assert!(roster.observe(&held, report(v1::Health::Good), later), "the next one counts again");
    }

    #[test]
    fn a_newer_session_takes_the_place_of_an_older_one_and_its_end_is_not_theirs() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        let old = enter(&roster, 10);
        assert!(old.replaced.is_none());
        let new = enter(&roster, 20);
        assert_eq!(new.replaced.map(|session| session.number), Some(old.session.number));
        assert!(!roster.leave(&old.session, Timestamp(30)));
        assert!(sees(&roster, 31).starts_with("Some(1) "));
        assert!(roster.leave(&new.session, Timestamp(40)));
    }
}
