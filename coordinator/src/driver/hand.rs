//! What a driver has in hand: decided on together, and answered once that is durable.

use std::sync::Arc;

use rfs_model::Timestamp;
use rfs_rollout::{Command, Draft, Event, Operation, Outside, Refusal};

use super::inbox::Batch;

/// What is dealt with at once.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// What came in.
    pub(super) batch: Batch,
    /// What was seen.
    pub(super) seen: Vec<Command>,
}

/// What is in hand, as it is decided: first what is known for sure, then what was seen, then what persons want.
pub(super) fn commands(batch: &Batch, seen: &[Command]) -> Vec<Command> {
    let superseded = batch.superseded.iter().cloned().map(Command::Superseded);
    let reports = batch.reports.iter().map(|told| Command::Report(told.report.clone()));
    let decisions = batch.decisions.iter().map(|asked| Command::Person(asked.person.clone()));
    superseded.chain(reports).chain(seen.iter().cloned()).chain(decisions).collect()
}

/// What was decided: the operation as it stands with the events, these, and why each command was refused, if it was.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) after: Arc<Operation>,
    pub(super) events: Vec<Event>,
    pub(super) refusals: Vec<Option<Refusal>>,
}

/// Decides on commands together, and says for each why it was refused, if it was. What follows from all that hosts say is
/// decided once; a person's decision meets the operation as it stands after that.
pub(super) fn decide(
    operation: &Operation,
    outside: &Arc<Outside>,
    commands: &[Command],
    now: Timestamp,
) -> Decided {
    let mut draft = Draft::of(operation.clone()).beside(outside.clone());
    let mut take = |command: &Command| {
        let decision = matches!(command, Command::Person(_));
        if decision {
            draft.settle(now);
        }
        draft.handle(command, now).err()
    };
    let refusals = commands.iter().map(&mut take).collect();
    draft.settle(now);
    let (after, events) = draft.into_parts();
    Decided { after: Arc::new(after), events, refusals }
}

/// Answers those who wait; `refusals` are those of the batch's commands, decisions last. Who has gone is not waited for.
pub(super) fn answer(batch: Batch, mut refusals: Vec<Option<Refusal>>) {
    for told in batch.reports {
        let _ = told.stored.send(());
    }
    let decisions = refusals.split_off(refusals.len() - batch.decisions.len());
    for (asked, refusal) in batch.decisions.into_iter().zip(decisions) {
        let _ = asked.reply.send(refusal.map_or(Ok(()), |refusal| Err(refusal.into())));
    }
}
