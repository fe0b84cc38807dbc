//! What is known of every host at this moment.

mod available;
mod card;
mod reading;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rfs_model::{Generation, Health, HostId, Labels, Timestamp};
use rfs_proto::agentlink::v1::HealthReport;
use rfs_proto::v1;
use rfs_rollout::Reading;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::STALE;
use super::machines::{Present, Starts};
use super::session::Session;
use super::wheel::LATE;
use crate::driver::fleet::{SessionNumber, Sighting};
use crate::store::{HostRow, Machines};

pub use card::HostCard;

/// How long hosts have to come back to a coordinator that was away.
const COME_BACK: Duration = Duration::from_secs(60);

/// Every host that was ever seen, and the sessions that they hold.
pub(super) struct Roster {
    hosts: RwLock<BTreeMap<HostId, Entry>>,
    /// Since when agents are heard without a break, and when that was last looked at.
    listening: AtomicI64,
    looked_at: AtomicI64,
    sessions: AtomicU64,
    /// Grows whenever the labels of a host have changed.
    labels: AtomicU64,
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
    machines: Machines,
    starts: Starts,
    /// The highest generation that the store is known to have for the host; it may have a higher one by now.
    recorded: Generation,
    checks: Vec<v1::Check>,
    /// When the newest observation came; none that is too old, or of another session, is kept.
    observed: Option<Timestamp>,
    /// The health as it counts.
    reading: Reading,
}

/// What is known of a name before a machine is let in under it.
#[derive(Debug, Clone, Default)]
pub(super) struct Name {
    pub(super) machines: Machines,
    pub(super) starts: Starts,
    pub(super) present: Present,
    /// A generation that the store has for the host, which may have a higher one by now; none if the host is new.
    pub(super) recorded: Option<Generation>,
}

/// What is kept of a host that comes in.
#[derive(Debug, Clone)]
pub(super) struct Entering {
    pub(super) facts: Facts,
    pub(super) machines: Machines,
    pub(super) starts: Starts,
    /// The generation that the store has recorded.
    pub(super) recorded: Generation,
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
            let entry = Entry {
                machines: row.machines,
                recorded: row.generation,
                ..Entry::absent(facts, row.last_seen, now)
            };
            (row.host, entry)
        };
        Self {
            hosts: RwLock::new(rows.into_iter().map(entry).collect()),
            listening: AtomicI64::new(now.0),
            looked_at: AtomicI64::new(now.0),
            sessions: AtomicU64::new(0),
            labels: AtomicU64::new(0),
            version: watch::Sender::new(0),
        }
    }

    /// Numbers a session.
    pub(super) fn next_number(&self) -> SessionNumber {
        SessionNumber(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// A host comes in, or comes in again.
    pub(super) fn enter(&self, session: Session, entering: Entering, now: Timestamp) -> Admitted {
        let Entering { facts, machines, starts, recorded } = entering;
        let session = Arc::new(session);
        let mut hosts = self.write();
        let is_new = !hosts.contains_key(&session.host);
        let entry =
            hosts.entry(session.host.clone()).or_insert_with(|| Entry::absent(facts.clone(), now, now));
        let replaced = entry.session.replace(session.clone());
        let relabelled = is_new || entry.facts.labels != facts.labels;
        (entry.facts, entry.machines, entry.starts) = (facts, machines, starts);
        entry.recorded = entry.recorded.max(recorded);
        entry.last_seen = now;
        entry.checks.clear();
        entry.know_nothing("no observation yet", now);
        if relabelled {
            // While nobody can read the new ones yet.
            self.labels.fetch_add(1, Ordering::SeqCst);
        }
        drop(hosts);
        self.changed();
        Admitted { session, replaced }
    }

    /// Agents are heard, since `listening` without a break.
    pub(super) fn listens(&self, listening: Timestamp, now: Timestamp) {
        self.listening.store(listening.0, Ordering::SeqCst);
        self.looked_at.store(now.0, Ordering::SeqCst);
    }

    /// For how long nothing was heard of who was last heard then, as far as anybody could be.
    fn silence(&self, heard: Timestamp, now: Timestamp) -> Duration {
        let looked_at = Timestamp(self.looked_at.load(Ordering::SeqCst));
        if now.since(looked_at) > LATE {
            // Nobody was heard since: it is us who stood still.
            return Duration::ZERO;
        }
        now.since(heard.max(Timestamp(self.listening.load(Ordering::SeqCst))))
    }

    /// When a host was last seen. That it was not since counts once it had the time to come back.
    fn last_seen(&self, entry: &Entry, now: Timestamp) -> Option<Timestamp> {
        let seen = entry.session.as_ref().map_or(entry.last_seen, |session| session.last_heard());
        let listening = Timestamp(self.listening.load(Ordering::SeqCst));
        (seen >= listening || now.since(listening) >= COME_BACK).then_some(seen)
    }

    /// What is known of the machines that speak for a host, and of the one that does now.
    pub(super) fn name(&self, host: &HostId, now: Timestamp) -> Name {
        let hosts = self.read();
        let Some(entry) = hosts.get(host) else { return Name::default() };
        // One that has no connection at this moment may have lost it a moment ago.
        let heard = entry.session.as_ref().map_or(entry.last_seen, |session| session.last_heard());
        let present =
            Present { connected: entry.heard_session().is_some(), silent: self.silence(heard, now) };
        Name {
            machines: entry.machines.clone(),
            starts: entry.starts.clone(),
            present,
            recorded: Some(entry.recorded),
        }
    }

    /// Notes which machine a name belongs to from now on. A session of another one, and any while two speak for the name or the
    /// host is forgotten, is given back to be ended: the host does not hold it any more.
    pub(super) fn settle_name(
        &self,
        host: &HostId,
        machines: Machines,
        starts: Starts,
        now: Timestamp,
    ) -> Option<Arc<Session>> {
        let mut hosts = self.write();
        let entry = hosts.get_mut(host)?;
        let (accepted, contested) = (machines.accepted, machines.contest.is_some());
        let nobody = contested || machines.forgotten_at.is_some();
        (entry.machines, entry.starts) = (machines, starts);
        let ended = entry.session.take_if(|session| nobody || Some(session.claim.instance) != accepted);
        if let Some(session) = &ended {
            entry.last_seen = session.last_heard();
        }
        if contested {
            entry.know_nothing("two machines speak for its name", now);
        } else if ended.is_some() {
            entry.know_nothing("no connection", now);
        }
        drop(hosts);
        self.changed();
        ended
    }

    /// A session is over. False if the host does not hold it any more.
    pub(super) fn leave(&self, session: &Session, now: Timestamp) -> bool {
        let mut hosts = self.write();
        let Some(entry) = hosts.get_mut(&session.host) else { return false };
        if entry.session.take_if(|held| held.number == session.number).is_none() {
            return false;
        }
        entry.last_seen = session.last_heard();
        entry.know_nothing("no connection", now);
        drop(hosts);
        self.changed();
        true
    }

    /// Whether the host holds this session.
    pub(super) fn holds(&self, session: &Session) -> bool {
        self.read().get(&session.host).is_some_and(|entry| entry.is_held_by(session))
    }

    /// A host's health was observed. True if the drivers must look at it.
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
        let before = entry.observed.map(|_| &entry.reading);
        let reading = reading::read(before, &report, now);
        let health_changed = entry.reading.health != reading.health;
        let changed = before.is_none_or(|before| reading::says_more(before, &reading));
        entry.checks = report.checks;
        entry.observed = Some(now);
        entry.reading = reading;
        drop(hosts);
        if health_changed || checks_changed {
            self.changed();
        }
        changed
    }

    /// Notes whether a host stands between its old and its new state. True if that is another than before.
    pub(super) fn set_inconsistent(&self, host: &HostId, inconsistent: bool) -> bool {
        // Asked with each report of health, and mostly nothing changes: then a look is enough.
        if self.read().get(host).is_none_or(|entry| entry.facts.inconsistent == inconsistent) {
            return false;
        }
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
    /// Nothing could be heard before `listening`.
    pub(super) fn let_go_stale(&self, now: Timestamp, listening: Timestamp) -> Vec<HostId> {
        let stale = |entry: &Entry| entry.observed.is_some_and(|at| now.since(at.max(listening)) > STALE);
        self.forget_health(stale, "the last observation is too old", now)
    }

    /// Hosts of which nothing was heard for longer than `limit` count as not connected until they are heard again; gives
    /// those of which that is so from now on. Nothing could be heard before `listening`.
    pub(super) fn let_go_silent(&self, now: Timestamp, listening: Timestamp, limit: Duration) -> Vec<HostId> {
        let silent = |entry: &Entry| {
            entry.session.as_ref().is_some_and(|session| session.fall_silent(now, listening, limit))
        };
        let evidence = format!("nothing was heard for {} s", limit.as_secs());
        self.forget_health(silent, &evidence, now)
    }

    fn forget_health(&self, gone: impl Fn(&Entry) -> bool, evidence: &str, now: Timestamp) -> Vec<HostId> {
        // Mostly there is none, so that a look while others look, too, is enough.
        let found: Vec<HostId> = {
            let hosts = self.read();
            let found = hosts.iter().filter(|(_, entry)| gone(entry));
            found.map(|(host, _)| host.clone()).collect()
        };
        if found.is_empty() {
            return found;
        }
        let mut hosts = self.write();
        for host in &found {
            if let Some(entry) = hosts.get_mut(host) {
                entry.know_nothing(evidence, now);
            }
        }
        drop(hosts);
        self.changed();
        found
    }

    /// How the drivers see a host.
    pub(super) fn look(&self, host: &HostId, now: Timestamp) -> Sighting {
        let hosts = self.read();
        let Some(entry) = hosts.get(host) else { return Sighting::absent(now) };
        let session = entry.heard_session();
        session.inspect(|session| session.mark_watched(now));
        let mut reading = entry.reading.clone();
        reading.heard_at = session.map_or(reading.heard_at, |session| session.read_up_to());
        Sighting {
            session: session.map(|session| session.number),
            instance: session.map(|session| session.claim.instance).or(entry.machines.accepted),
            accepted: session.map_or(Generation(0), |session| session.accepted),
            commanded: session.is_some_and(|session| session.was_commanded()),
            snapshot: session.and_then(|session| session.snapshot),
            contested: entry.machines.contest.as_ref().map(|contest| contest.text.clone()),
            last_seen: self.last_seen(entry, now).filter(|_| session.is_none()),
            forgotten: entry.machines.forgotten_at.is_some(),
            reading,
        }
    }

    /// Whether a host has told what its checks see, and none of them is required.
    pub(super) fn unchecked(&self, host: &HostId) -> bool {
        self.read().get(host).is_some_and(Entry::is_unchecked)
    }

    /// The session that a host holds, if it is heard.
    pub(super) fn session(&self, host: &HostId) -> Option<Arc<Session>> {
        self.read().get(host).and_then(|entry| entry.heard_session().cloned())
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

    /// The hosts that `wanted` takes, by name. Forgotten ones only if they are asked for.
    pub(super) fn cards(&self, forgotten: bool, wanted: impl Fn(&HostId, &Labels) -> bool) -> Vec<HostCard> {
        let hosts = self.read();
        let shown = |entry: &Entry| forgotten || entry.machines.forgotten_at.is_none();
        let wanted = hosts.iter().filter(|(host, entry)| shown(entry) && wanted(host, &entry.facts.labels));
        wanted.map(|(host, entry)| entry.card(host)).collect()
    }

    /// At most `most` of the hosts that `wanted` takes, by name, the first ones after `after`.
    pub(super) fn cards_after(
        &self,
        forgotten: bool,
        after: Option<&HostId>,
        most: usize,
        wanted: impl Fn(&HostId, &Labels) -> bool,
    ) -> Vec<HostCard> {
        let hosts = self.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = hosts
            .range::<HostId, _>((from, Bound::Unbounded))
            .filter(|(_, entry)| forgotten || entry.machines.forgotten_at.is_none())
            .filter(|(host, entry)| wanted(host, &entry.facts.labels));
        wanted.take(most).map(|(host, entry)| entry.card(host)).collect()
    }

    /// Told of each change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Somebody may want to see that something has changed.
    pub(super) fn changed(&self) {
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
        Self {
            facts,
            last_seen,
            session: None,
            machines: Machines::default(),
            starts: Starts::default(),
            recorded: Generation(0),
            checks: Vec::new(),
            observed: None,
            reading: Reading::unknown(now, "no connection"),
        }
    }

    fn is_held_by(&self, session: &Session) -> bool {
        self.session.as_ref().is_some_and(|held| held.number == session.number)
    }

    fn is_unchecked(&self) -> bool {
        self.observed.is_some() && !self.checks.iter().any(|check| check.required)
    }

    fn heard_session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| !session.is_silent())
    }

    /// What was observed counts for nothing any more. Since when nothing is known changes only when something was.
    fn know_nothing(&mut self, evidence: &str, now: Timestamp) {
        let since = match self.reading.health {
            Health::Unknown => self.reading.since,
            Health::Good | Health::Bad => now,
        };
        self.observed = None;
        self.reading = Reading { since, ..Reading::unknown(now, evidence) };
    }
}

#[cfg(test)]
mod tests {
    use rfs_model::InstanceId;
    use uuid::Uuid;

    use super::super::machines::Claim;
    use super::super::session::Introduction;
    use super::*;

    pub(super) fn web_1() -> HostId {
        HostId::new("web-1").expect("a name")
    }

    fn session(roster: &Roster, now: i64) -> Session {
        let claim = Claim {
            instance: InstanceId::from_uuid(Uuid::nil()),
            start: "1".into(),
            address: "10.0.0.1".into(),
        };
        let introduction = Introduction {
            claim,
            accepted: Generation(0),
            snapshot: None,
            agent_time: None,
            certificate_end: Timestamp(0),
        };
        let addr = ([127, 0, 0, 1], 1).into();
        Session::new(roster.next_number(), addr, web_1(), introduction, Timestamp(now)).0
    }

    pub(super) fn enter(roster: &Roster, now: i64) -> Admitted {
        let facts = Facts { labels: Labels::new(), details: Details::default(), inconsistent: false };
        let name = roster.name(&web_1(), Timestamp(now));
        let entering = Entering {
            facts,
            machines: name.machines,
            starts: name.starts,
            recorded: name.recorded.unwrap_or_default(),
        };
        roster.enter(session(roster, now), entering, Timestamp(now))
    }

    pub(super) fn report(health: v1::Health) -> HealthReport {
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
        assert!(roster.let_go_stale(limit, Timestamp(0)).is_empty());
        let later = limit.plus(Duration::from_millis(1));
        assert_eq!(roster.let_go_stale(later, Timestamp(0)), [web_1()]);
        assert!(roster.let_go_stale(later, Timestamp(0)).is_empty(), "told once");
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

    #[test]
    fn what_was_good_all_along_is_good_since_then_after_a_reconnect() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        let aged = |seconds| HealthReport {
            health_age: Some(prost_types::Duration { seconds, nanos: 0 }),
            measured_age: Some(prost_types::Duration::default()),
            after_restore: 4,
            ..report(v1::Health::Good)
        };
        let held = enter(&roster, 1_000_000).session;
        assert!(roster.observe(&held, aged(60), Timestamp(1_001_000)));
        assert!(roster.leave(&held, Timestamp(1_010_000)));
        let back = enter(&roster, 1_020_000).session;
        assert!(sees(&roster, 1_020_500).ends_with("no observation yet"), "unknown until it says so");
        assert!(roster.observe(&back, aged(80), Timestamp(1_021_000)));
        let reading = roster.look(&web_1(), Timestamp(1_022_000)).reading;
        assert_eq!(reading.since, Timestamp(941_000));
        assert_eq!(
            reading.heard_at,
            back.read_up_to(),
            "it may have waited to be read since the session began"
        );
        assert_eq!((reading.after.0, reading.measured_at), (4, Some(Timestamp(1_021_000))));
    }

    #[test]
    fn while_two_machines_speak_for_a_name_it_has_no_session_and_no_health() {
        let roster = Roster::new(Vec::new(), Timestamp(0));
        let held = enter(&roster, 10).session;
        roster.observe(&held, report(v1::Health::Good), Timestamp(20));
        let Name { mut machines, starts, .. } = roster.name(&web_1(), Timestamp(25));
        let contest = crate::store::Contest {
            since: Timestamp(30),
            text: "two machines speak".into(),
            next: String::new(),
        };
        machines.contest = Some(contest);
        let ended = roster.settle_name(&web_1(), machines.clone(), starts.clone(), Timestamp(30));
        assert_eq!(ended.map(|session| session.number), Some(held.number));
        let sighting = roster.look(&web_1(), Timestamp(40));
        assert_eq!(sighting.contested.as_deref(), Some("two machines speak"));
        assert_eq!((sighting.session, sighting.reading.health), (None, Health::Unknown));
        assert!(
            !roster.observe(&held, report(v1::Health::Good), Timestamp(50)),
            "what it says does not count"
        );
        assert!(!roster.leave(&held, Timestamp(60)), "its end is nobody's news");
        machines.contest = None;
        assert!(roster.settle_name(&web_1(), machines, starts, Timestamp(70)).is_none());
        assert_eq!(roster.look(&web_1(), Timestamp(80)).contested, None);
    }
}
