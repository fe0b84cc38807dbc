//! One face for both kinds of operation: replay, decide, evolve, wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rfs_model::{Generation, HostId, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Checkpoint, CheckpointEvent};
use crate::command::{Command, Refusal};
use crate::host::HostCommand;
use crate::outside::Outside;
use crate::rollback::{self, Rollback, RollbackEvent};

/// One thing that happened in an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// In a checkpoint.
    Checkpoint(CheckpointEvent),
    /// In a rollback.
    Rollback(RollbackEvent),
}

impl Event {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Checkpoint(event) => event.at(),
            Self::Rollback(event) => event.at(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(event) => event.fmt(f),
            Self::Rollback(event) => event.fmt(f),
        }
    }
}

/// An event as it is stored: with the version of its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Envelope {
    /// The version that wrote it.
    pub version: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Envelope {
    /// The version that this one writes. A later version must still read what an earlier one wrote.
    ///
    /// 2: hosts say which machine they are, and after which restore their health was measured.
    pub const VERSION: u32 = 2;

    /// Wraps an event for the store.
    pub fn new(event: Event) -> Self {
        Self { version: Self::VERSION, event }
    }
}

/// The same as it is read: without [`Event`] in between, which would have each event read twice.
#[derive(Deserialize)]
struct Stored {
    version: u32,
    #[serde(default)]
    checkpoint: Option<CheckpointEvent>,
    #[serde(default)]
    rollback: Option<RollbackEvent>,
}

impl TryFrom<Stored> for Envelope {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let event = match (stored.checkpoint, stored.rollback) {
            (Some(event), None) => Event::Checkpoint(event),
            (None, Some(event)) => Event::Rollback(event),
            (None, None) | (Some(_), Some(_)) => return Err("it is not one event of one kind of operation"),
        };
        Ok(Self { version: stored.version, event })
    }
}

/// A fleet operation. Its state can be kept beside its history: see [`Operation::to_kept`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// A rollback.
    Rollback(Box<Rollback>),
}

/// What should be in flight, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    /// The one command that each host should be at. Those without a connection get it when they are back.
    pub commands: BTreeMap<HostId, HostCommand>,
    /// Hosts that pass once their health was measured again and found good, each from when on: to be looked at from then on.
    pub hear: BTreeMap<HostId, Timestamp>,
    /// Hosts for which generations are to be reserved, for another attempt.
    pub reserve: BTreeSet<HostId>,
    /// When a [`crate::Command::Tick`] is due.
    pub wake_at: Option<Timestamp>,
}

/// Events that are not a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There are none.
    #[error("the history is empty")]
    Empty,
    /// The first is not a creation.
    #[error("the history does not begin with a creation")]
    NoBeginning,
    /// An event of another kind of operation is in between.
    #[error("event {position} is of another kind of operation")]
    Mixed {
        /// Its place, from 0.
        position: usize,
    },
}

impl Operation {
    /// The operation that begins with `event`, if that is a creation.
    pub fn begin(event: &Event) -> Option<Self> {
        match event {
            Event::Checkpoint(CheckpointEvent::Created { at, created }) => {
                Some(Self::Checkpoint(Box::new(Checkpoint::begin(*at, created))))
            }
            Event::Rollback(RollbackEvent::Created { at, created }) => {
                Some(Self::Rollback(Box::new(Rollback::begin(*at, created))))
            }
            Event::Checkpoint(_) | Event::Rollback(_) => None,
        }
    }

    /// The operation whose whole history is `events`.
    pub fn replay<'e>(events: impl IntoIterator<Item = &'e Event>) -> Result<Self, ReplayError> {
        let mut events = events.into_iter();
        let begun = Self::begin(events.next().ok_or(ReplayError::Empty)?).ok_or(ReplayError::NoBeginning)?;
        begun.resume(1, events)
    }

    /// This operation, which stands where its first `known` events have led it, after the rest of its history.
    pub fn resume<'e>(
        mut self,
        known: usize,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Result<Self, ReplayError> {
        for (event, position) in events.into_iter().zip(known..) {
            if !self.take(event) {
                return Err(ReplayError::Mixed { position });
            }
        }
        Ok(self)
    }

    /// What `command` brings about at `now`. No events: nothing. Events count once they are stored.
    pub fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        let mut draft = Draft::of(self.clone());
        draft.handle(command, now)?;
        draft.settle(now);
        Ok(draft.into_parts().1)
    }

    /// This operation after `event`. An event of the other kind changes nothing.
    #[must_use]
    pub fn evolve(mut self, event: &Event) -> Self {
        self.take(event);
        self
    }

    /// Becomes what it is after `event`; false if that is of the other kind, which changes nothing.
    fn take(&mut self, event: &Event) -> bool {
        match (self, event) {
            (Self::Checkpoint(checkpoint), Event::Checkpoint(event)) => checkpoint.take(event),
            (Self::Rollback(rollback), Event::Rollback(event)) => rollback.take(event),
            (Self::Checkpoint(_), Event::Rollback(_)) | (Self::Rollback(_), Event::Checkpoint(_)) => {
                return false;
            }
        }
        true
    }

    /// What should be in flight, and when to look again, where nobody else is at work.
    pub fn wanted(&self) -> Work {
        self.wanted_beside(Outside::NOBODY)
    }

    /// What should be in flight, and when to look again.
    pub fn wanted_beside(&self, outside: &Outside) -> Work {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.wanted(),
            Self::Rollback(rollback) => rollback.wanted(outside),
        }
    }

    /// The hosts that should be at a command by [`Operation::wanted`], in order, each with that command's generation.
    pub fn in_flight(&self) -> Vec<(&HostId, Generation)> {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.in_flight().collect(),
            Self::Rollback(rollback) => rollback.in_flight().collect(),
        }
    }

    /// The command that a host should be at by [`Operation::wanted`].
    pub fn command(&self, host: &HostId) -> Option<HostCommand> {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.command(host),
            Self::Rollback(rollback) => rollback.command(host),
        }
    }

    /// What [`Operation::wanted_beside`] says without the commands.
    pub fn awaited_beside(&self, outside: &Outside) -> Work {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.awaited(),
            Self::Rollback(rollback) => rollback.awaited(outside),
        }
    }

    /// Its id.
    pub fn id(&self) -> OperationId {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.id.into(),
            Self::Rollback(rollback) => rollback.id.into(),
        }
    }

    /// Whether it has an outcome.
    pub fn finished(&self) -> bool {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.outcome().is_some(),
            Self::Rollback(rollback) => rollback.outcome().is_some(),
        }
    }

    /// Whether there is anything left to do. A rollback may have an outcome and still wait for hosts that it left out; a
    /// checkpoint for hosts that may hold still.
    pub fn open(&self) -> bool {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.open(),
            Self::Rollback(rollback) => rollback.open(),
        }
    }
}

/// An operation with the events that are being decided, already taken into account.
///
/// For whoever takes many commands at once: each is handled, then all that follows is decided once. If the events cannot be
/// stored, the draft is thrown away with the operation in it.
#[derive(Debug)]
pub struct Draft {
    operation: Operation,
    outside: Arc<Outside>,
    events: Vec<Event>,
}

impl Draft {
    /// A draft on which nothing is decided yet, where nobody else is at work.
    pub fn of(operation: Operation) -> Self {
        Self { operation, outside: Arc::default(), events: Vec::new() }
    }

    /// The same with what others take.
    #[must_use]
    pub fn beside(self, outside: Arc<Outside>) -> Self {
        Self { outside, ..self }
    }

    /// Takes a command.
    pub fn handle(&mut self, command: &Command, now: Timestamp) -> Result<(), Refusal> {
        match &mut self.operation {
            Operation::Checkpoint(state) => {
                let mut events = Vec::new();
                let result = checkpoint::Draft::new(state, &mut events, now).handle(command);
                self.events.extend(events.into_iter().map(Event::Checkpoint));
                result
            }
            Operation::Rollback(state) => {
                let mut events = Vec::new();
                let result = rollback::Draft::new(state, &mut events, now).handle(command);
                events.into_iter().for_each(|event| self.add(event));
                result
            }
        }
    }

    /// Hosts that come back together are one event for each thing that is said of them: what is said of one changes nothing
    /// for another.
    fn add(&mut self, event: RollbackEvent) {
        if event.is_return() {
            let returns = |event: &&mut Event| matches!(event, Event::Rollback(event) if event.is_return());
            for before in self.events.iter_mut().rev().take_while(returns) {
                if let Event::Rollback(before) = before
                    && before.join(&event)
                {
                    return;
                }
            }
        }
        self.events.push(Event::Rollback(event));
    }

    /// Decides what follows from all that was taken, and from the time.
    pub fn settle(&mut self, now: Timestamp) {
        match &mut self.operation {
            Operation::Checkpoint(state) => {
                let mut events = Vec::new();
                checkpoint::Draft::new(state, &mut events, now).settle();
                self.events.extend(events.into_iter().map(Event::Checkpoint));
            }
            Operation::Rollback(state) => {
                let mut events = Vec::new();
                rollback::Draft::new(state, &mut events, now).beside(&self.outside).settle();
                self.events.extend(events.into_iter().map(Event::Rollback));
            }
        }
    }

    /// The operation as it stands with the events, and the events.
    pub fn into_parts(self) -> (Operation, Vec<Event>) {
        (self.operation, self.events)
    }
}
