//! Who speaks for a name: the coordinator's end of the hosts' sessions, as far as a rollout can tell.

use std::time::Duration;

use rfs_model::{Generation, InstanceId, SnapshotId, Timestamp};
use rfs_rollout::Reading;

use super::fault::Fault;
use super::world::SILENT;

/// A machine that was heard so recently still has its name.
const HEARD: Duration = Duration::from_secs(10);

/// A driver has looked at a session that is so old.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// A name, and the machines that have a certificate for it.
pub(crate) struct Seat {
    /// The machines, by their places in the world; the last one is the present one, a clone comes after it.
    pub(crate) machines: Vec<usize>,
    pub(crate) session: Option<Session>,
    /// The machine that was let in last.
    pub(crate) serves: usize,
    /// Which instances have spoken for the name.
    seen: Vec<InstanceId>,
    /// Which machines speak for it, while there are two.
    pub(crate) contested: Option<String>,
    pub(crate) contested_at: Timestamp,
    /// The only one that is let in, once a person has said so.
    pub(crate) accepted: Option<InstanceId>,
    /// Since when it has no session, as far as the coordinator was there to see it.
    pub(crate) absent_since: Timestamp,
    /// When its last session ended.
    pub(crate) left_at: Timestamp,
    /// The machine that the operation was told of last.
    pub(crate) told: usize,
    /// The machine had accepted that when it was told of.
    pub(crate) told_accepted: Option<Generation>,
}

/// A machine's connection.
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) machine: usize,
    pub(crate) instance: InstanceId,
    pub(crate) accepted: Generation,
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) since: Timestamp,
    pub(crate) heard_at: Timestamp,
    pub(crate) reading: Reading,
    /// A command was handed to it, whatever became of that.
    pub(crate) commanded: bool,
}

/// What became of a hello.
pub(crate) enum Welcome {
    Admitted,
    Refused,
    /// Refused, and so is everybody else.
    Contested,
}

impl Seat {
    pub(crate) fn new(machine: usize, instance: InstanceId, now: Timestamp) -> Self {
        Self {
            machines: vec![machine],
            session: None,
            serves: machine,
            seen: vec![instance],
            contested: None,
            contested_at: now,
            accepted: None,
            absent_since: now,
            left_at: now,
            told: machine,
            told_accepted: None,
        }
    }

    /// A machine says hello.
    pub(crate) fn hello(&mut self, session: Session, now: Timestamp, fault: Option<Fault>) -> Welcome {
        let instance = session.instance;
        if self.accepted.is_some_and(|accepted| accepted != instance) {
            return Welcome::Refused;
        }
        if self.contested.is_some() {
            return Welcome::Refused;
        }
        let known = self.seen.last() == Some(&instance);
        if !known && fault != Some(Fault::CloneIsServed) {
            let occupied = self.session.as_ref().is_some_and(|other| now.since(other.heard_at) < HEARD);
            if occupied || self.seen.contains(&instance) {
                self.contested = Some(format!("{} and another machine speak for it", self.seen[0]));
                self.contested_at = now;
                self.leave(now);
                return Welcome::Contested;
            }
        }
        if !known {
            self.seen.push(instance);
        }
        self.serves = session.machine;
        self.session = Some(session);
        Welcome::Admitted
    }

    /// The session is over.
    pub(crate) fn leave(&mut self, now: Timestamp) {
        let Some(session) = self.session.take() else { return };
        self.left_at = now;
        // One that was there for a moment may not have been looked at; one that was silent did not count as there.
        if now.since(session.since) >= LOOKED_AT && now.since(session.heard_at) < SILENT {
            self.absent_since = now;
        }
    }

    /// A person says which machine it is.
    pub(crate) fn accept(&mut self, machine: usize, instance: InstanceId) {
        self.contested = None;
        self.accepted = Some(instance);
        self.seen = vec![instance];
        self.serves = machine;
    }

    /// The session, unless nothing was heard of it for so long.
    pub(crate) fn heard_session(&self, now: Timestamp, silent: Duration) -> Option<&Session> {
        self.session.as_ref().filter(|session| now.since(session.heard_at) < silent)
    }
}
