//! What a driver has in hand: decided on together, and answered once that is durable.

use std::sync::Arc;

use rfs_model::{HostId, InstanceId, Timestamp};
use rfs_rollout::{Command, Connected, Draft, Event, Operation, Outside, Refusal};

use super::inbox::{Batch, Told};

/// What is dealt with at once.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// What came in.
    pub(super) batch: Batch,
    /// What was seen.
    pub(super) seen: Vec<Command>,
}

/// What is in hand, as it is decided: first what is known for sure, then what was seen, then what persons want. That another
/// machine speaks for a host comes before what that machine reports.
pub(super) fn commands(operation: &Operation, batch: &Batch, seen: &[Command]) -> Vec<Command> {
    let superseded = batch.superseded.iter().cloned().map(Command::Superseded);
    let reports = batch.reports.iter().map(|told| Command::Report(told.report.clone()));
    let decisions = batch.decisions.iter().map(|asked| Command::Person(asked.person.clone()));
    let introduces = |command: &&Command| match command {
        Command::Connected(Connected { host, instance, .. }) => {
            let is_another = instance_of(operation, host).is_some_and(|known| Some(known) != *instance);
            let speaks = |told: &Told| told.report.host == *host && told.report.instance == *instance;
            // Thousands are seen at once, and few of them are other machines.
            is_another && batch.reports.iter().any(speaks)
        }
        _ => false,
    };
    let (first, then): (Vec<&Command>, Vec<&Command>) = seen.iter().partition(introduces);
    let first = superseded.chain(first.into_iter().cloned()).chain(reports);
    first.chain(then.into_iter().cloned()).chain(decisions).collect()
}

/// The machine that the history knows as the host.
fn instance_of(operation: &Operation, host: &HostId) -> Option<InstanceId> {
    match operation {
        Operation::Rollback(rollback) => rollback.hosts.get(host)?.instance,
        Operation::Checkpoint(_) => None,
    }
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

#[cfg(test)]
mod tests {
    use rfs_model::Generation;
    use rfs_rollout::{Answer, Report, StepKind};
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::*;
    use crate::play::{Play, hosts};

    #[test]
    fn a_machine_that_is_back_is_introduced_before_what_it_reports() {
        let hosts = hosts(1, 4);
        let mut play = Play::rollback(&hosts, |_| {});
        let machine = |number| Some(InstanceId::from_uuid(Uuid::from_u128(number)));
        let connected =
            |number| Connected { instance: machine(number), ..Connected::plain(hosts[0].clone()) };
        play.take(&[Command::Connected(connected(1))]);
        for (number, introduced) in [(1, false), (2, true)] {
            let report = Report {
                host: hosts[0].clone(),
                instance: machine(number),
                operation: play.operation.id(),
                generation: Generation(1),
                step: StepKind::Apply,
                answer: Answer::Finished,
                newest: Generation(1),
            };
            let told = Told { report, stored: oneshot::channel().0 };
            let batch = Batch { reports: vec![told], ..Batch::default() };
            let commands = commands(&play.operation, &batch, &[Command::Connected(connected(number))]);
            assert_eq!(commands.len(), 2);
            assert_eq!(matches!(commands[0], Command::Connected(_)), introduced, "{commands:?}");
        }
    }
}
