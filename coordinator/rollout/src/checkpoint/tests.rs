//! Checkpoints played in a line each: hosts, of which `a!` has no connection and `a!!` was not seen for 45 days, then what
//! happens, parted by `;`. `missing=1` or `missing=10%` beside the hosts allows some to be missing. The timeout is 90 s.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{ByteCount, CheckpointId, Digest, Generation, HostId, Reason, SnapshotId, Timestamp};
use uuid::Uuid;

use super::*;
use crate::fleet::{Admission, Presence};
use crate::host::{Answer, Captured, Failure, Report, StepKind};
use crate::operation::{Event, Operation};
use crate::request::{Amount, CheckpointKind, CheckpointRequest};
use crate::{Command, Connected, Person, PersonAction};

const FIRST: Generation = Generation(8);

struct Play {
    operation: Operation,
    events: Vec<Event>,
    now: Timestamp,
    refusal: Option<String>,
}

impl Play {
    fn begin(hosts: &str) -> Self {
        let now = Timestamp(1_000_000);
        let (options, words): (Vec<&str>, Vec<&str>) =
            hosts.split_whitespace().partition(|word| word.contains('='));
        let allow_missing = options.first().and_then(|word| word.strip_prefix("missing=")).map(|most| {
            let number = most.trim_end_matches('%').parse().expect("a number");
            if most.ends_with('%') { Amount::Percent(number) } else { Amount::Count(number) }
        });
        let admission = |word: &str| {
            let connected = !word.ends_with('!');
            let unseen_for = word.ends_with("!!").then(|| Duration::from_secs(45 * 24 * 3600));
            let presence = Presence { connected, unseen_for, ..Presence::absent(now) };
            let host: HostId = word.trim_end_matches('!').parse().expect("a valid name");
            (host, Admission { generation: FIRST, presence })
        };
        let request = CheckpointRequest {
            kind: CheckpointKind::Automatic,
            selector: Default::default(),
            allow_missing,
            components: BTreeSet::new(),
            deployment: None,
            labels: Default::default(),
            reason: "before release 7".into(),
            requester: "operator/ci".into(),
            timeout: Duration::from_secs(90),
            quiesce_timeout: None,
        };
        let hosts = words.iter().map(|word| admission(word)).collect();
        let created = Box::new(Created { id: CheckpointId::from_uuid(Uuid::nil()), request, hosts });
        let event = Event::Checkpoint(CheckpointEvent::Created { at: now, created });
        let operation = Operation::begin(&event).expect("a creation");
        Self { operation, events: vec![event], now, refusal: None }
    }

    fn take(&mut self, command: &Command) {
        match self.operation.decide(command, self.now) {
            Err(refusal) => self.refusal = Some(refusal.to_string()),
            Ok(events) => {
                for event in events {
                    self.operation = self.operation.clone().evolve(&event);
                    self.events.push(event);
                }
                if !matches!(command, Command::Person(_)) {
                    assert_eq!(
                        self.operation.decide(command, self.now),
                        Ok(vec![]),
                        "{command:?} is repeated"
                    );
                }
            }
        }
        assert_eq!(Operation::replay(&self.events).as_ref(), Ok(&self.operation));
    }

    fn step(&mut self, step: &str) {
        let (verb, what) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
        match verb {
            "" => {}
            "wait" => {
                let until = self.now.plus(Duration::from_secs(what.parse().expect("seconds")));
                while let Some(due) = self.operation.wanted().wake_at.filter(|due| *due <= until) {
                    self.now = self.now.max(due);
                    let before = self.events.len();
                    self.take(&Command::Tick);
                    assert!(self.events.len() > before, "an alarm at {due} for nothing");
                }
                self.now = until;
            }
            "abort" | "pause" => {
                let action = if verb == "abort" { PersonAction::Abort } else { PersonAction::Pause };
                self.take(&Command::Person(Person { who: "bob".into(), action }));
            }
            _ => {
                for name in what.split_whitespace() {
                    self.take(&self.of_host(verb, name.parse().expect("a valid name")));
                }
            }
        }
    }

    fn of_host(&self, verb: &str, host: HostId) -> Command {
        let (step, answer) = match verb {
            "on" => return Command::Connected(Connected::plain(host)),
            "off" => return Command::Disconnected(host),
            "ready" => (StepKind::Prepare, Answer::Prepared),
            "cut" => {
                let captured = Captured {
                    snapshot: SnapshotId(Digest::from_bytes([3; 32])),
                    cut_at: self.now,
                    bytes: ByteCount(10),
                    new_bytes: ByteCount(5),
                    entries: 2,
                    notes: vec!["/srv/stie is not there".into()],
                };
                (StepKind::Cut, Answer::Captured(captured))
            }
            "resumed" => (StepKind::Finish, Answer::Finished),
            "abandoned" => (StepKind::Abandon, Answer::Finished),
            "full" => (StepKind::Prepare, Answer::Failed(Failure::new(Reason::NoSpace, "no space"))),
            "torn" => (StepKind::Cut, Answer::Failed(Failure::new(Reason::FileUnstable, "changes"))),
            "refuses" => (StepKind::Cut, Answer::Refused(Failure::new(Reason::WrongState, "not ready"))),
            _ => panic!("{verb} is not understood"),
        };
        let operation = self.operation.id();
        let generation = step.generation(FIRST);
        Command::Report(Report {
            host,
            instance: None,
            operation,
            generation,
            step,
            answer,
            newest: generation,
        })
    }

    fn show(&self) -> String {
        let Operation::Checkpoint(checkpoint) = &self.operation else { panic!("a checkpoint") };
        let wanted = self.operation.wanted();
        let host = |(name, host): (&HostId, &HostRecord)| {
            let told = wanted.commands.get(name).map_or("-", |command| command.step.kind().as_str());
            format!("{name} {:?}/{told}", host.phase)
        };
        let hosts = checkpoint.hosts.iter().map(host).collect::<Vec<_>>().join(", ");
        let whole = match &checkpoint.phase {
            Phase::Preparing => "preparing".to_owned(),
            Phase::Cutting => "cutting".to_owned(),
            Phase::Finishing { .. } => "finishing".to_owned(),
            Phase::Finished { outcome, skew, .. } => {
                let why = |(name, failure): (&HostId, &Option<Failure>)| {
                    format!("; {name}: {}", failure.as_ref().map_or("?", |failure| failure.message.as_str()))
                };
                let missing = checkpoint.missing().iter().map(why).collect::<String>();
                let open = if checkpoint.open() { " (open)" } else { "" };
                format!("{outcome}{open} within {skew:?}{missing}")
            }
        };
        let refusal = self.refusal.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
        format!("{hosts} | {whole}{refusal}")
    }
}

#[track_caller]
fn check(script: &str, expected: &str) {
    let (hosts, steps) = script.split_once(';').unwrap_or((script, ""));
    let mut play = Play::begin(hosts);
    for step in steps.split(';') {
        play.step(step);
    }
    let events: Vec<String> = play.events.iter().map(ToString::to_string).collect();
    assert_eq!(play.show(), expected, "{script}\n{}", events.join("\n"));
}

#[test]
fn no_host_cuts_before_all_are_ready_and_none_resumes_before_all_have_cut() {
    check("a b", "a Preparing/prepare, b Preparing/prepare | preparing");
    check("a b; ready a", "a Prepared/-, b Preparing/prepare | preparing");
    check("a b; ready a b", "a Cutting/cut, b Cutting/cut | cutting");
    check("a b; ready a b; cut a", "a Cut/-, b Cutting/cut | cutting");
    check("a b; ready a b; cut a; wait 2; cut b", "a Finishing/finish, b Finishing/finish | finishing");
    check("a b; ready a b; cut a; wait 2; cut b; resumed a b", "a Done/-, b Done/- | COMPLETE within 2s");
}

#[test]
fn a_host_that_fails_makes_the_checkpoint_incomplete_and_does_not_stop_the_others() {
    check(
        "a b; full a; ready b; cut b; resumed b",
        "a Failed/-, b Done/- | INCOMPLETE within 0ns; a: no space",
    );
    check(
        "a b; ready a b; torn a; cut b; resumed b",
        "a Failed/-, b Done/- | INCOMPLETE within 0ns; a: changes",
    );
    check("a b; full a b", "a Failed/-, b Failed/- | INCOMPLETE within 0ns; a: no space; b: no space");
    check("a b; ready a b; refuses a; cut b", "a Abandoning/abandon, b Finishing/finish | finishing");
    check(
        "a b; ready a b; refuses a; cut b; resumed b; abandoned a",
        "a Failed/-, b Done/- | INCOMPLETE within 0ns; a: not ready",
    );
}

#[test]
fn as_many_hosts_as_are_allowed_may_be_missing_and_each_is_named() {
    let a_is_missing = "full a; ready b; cut b; resumed b";
    check(
        &format!("a b missing=1; {a_is_missing}"),
        "a Failed/-, b Done/- | COMPLETE within 0ns; a: no space",
    );
    check(
        &format!("a b missing=50%; {a_is_missing}"),
        "a Failed/-, b Done/- | COMPLETE within 0ns; a: no space",
    );
    check(
        &format!("a b missing=49%; {a_is_missing}"),
        "a Failed/-, b Done/- | INCOMPLETE within 0ns; a: no space",
    );
    check(
        "a b c missing=1; full a b; ready c; cut c; resumed c",
        "a Failed/-, b Failed/-, c Done/- | INCOMPLETE within 0ns; a: no space; b: no space",
    );
    check(
        "a b missing=9; full a b",
        "a Failed/-, b Failed/- | INCOMPLETE within 0ns; a: no space; b: no space",
    );
}

#[test]
fn a_host_that_was_not_seen_for_long_is_named_with_the_way_to_forget_it() {
    check(
        "a!! b; ready b; wait 10; cut b; resumed b",
        "a Abandoning/-, b Done/- | INCOMPLETE within 0ns; a: not seen for 45 days",
    );
    check(
        "a!! b missing=1; ready b; wait 10; cut b; resumed b",
        "a Abandoning/-, b Done/- | COMPLETE within 0ns; a: not seen for 45 days",
    );
    let mut play = Play::begin("a!! b");
    play.step("wait 10");
    let Operation::Checkpoint(checkpoint) = &play.operation else { panic!("a checkpoint") };
    let failure = checkpoint.missing().into_values().flatten().next().expect("a is missing");
    assert_eq!(failure.next, "if it is gone for good: rfs host forget a");
}

#[test]
fn deadlines_end_each_phase() {
    check("a b; ready a; wait 59", "a Prepared/-, b Preparing/prepare | preparing");
    check("a b; ready a; wait 60", "a Cutting/cut, b Abandoning/abandon | cutting");
    check("a b; ready a b; cut a; wait 90", "a Finishing/finish, b Abandoning/abandon | finishing");
    check(
        "a b; ready a b; cut a; wait 120",
        "a Finishing/-, b Abandoning/- | INCOMPLETE within 0ns; b: not durable within 90s",
    );
    // The snapshots are durable whether or not a host says that it has resumed.
    check("a b; ready a b; cut a b; resumed a; wait 30", "a Done/-, b Finishing/- | COMPLETE within 0ns");
}

#[test]
fn a_host_without_a_connection_fails_soon_before_the_cut_and_is_waited_for_after_it() {
    check("a! b; ready b; wait 9", "a Preparing/prepare, b Prepared/- | preparing");
    check("a! b; ready b; wait 9; on a; wait 9", "a Preparing/prepare, b Prepared/- | preparing");
    check(
        "a! b; ready b; wait 10; cut b; resumed b",
        "a Abandoning/-, b Done/- | INCOMPLETE within 0ns; a: no connection for 10s",
    );
    check(
        "a b; ready a b; off a; cut b; wait 60; on a; cut a",
        "a Finishing/finish, b Finishing/finish | finishing",
    );
}

#[test]
fn a_host_that_may_hold_still_is_told_to_resume_when_it_is_back() {
    check("a b; ready b; off a; wait 10; cut b; resumed b", "a Abandoning/abandon, b Done/- | finishing");
    check(
        "a b; ready b; off a; wait 10; cut b; resumed b; on a; abandoned a",
        "a Failed/-, b Done/- | INCOMPLETE within 0ns; a: no connection for 10s",
    );
    check(
        "a b; ready b; off a; wait 10; cut b; resumed b; wait 30",
        "a Abandoning/abandon, b Done/- | INCOMPLETE (open) within 0ns; a: no connection for 10s",
    );
    check("a b; ready a b; cut a; off a; cut b; resumed b", "a Finishing/finish, b Done/- | finishing");
}

#[test]
fn an_abort_ends_it_at_once_and_everyone_is_told_to_resume() {
    let by_bob = "a: aborted by bob; b: aborted by bob";
    check(
        "a b; ready a; abort",
        &format!("a Abandoning/abandon, b Abandoning/abandon | ABORTED (open) within 0ns; {by_bob}"),
    );
    check(
        "a b; ready a; abort; abandoned a b",
        &format!("a Failed/-, b Failed/- | ABORTED within 0ns; {by_bob}"),
    );
    // What was captured is none of a checkpoint.
    check(
        "a b; ready a b; cut a; abort; abandoned b",
        &format!("a Abandoning/abandon, b Failed/- | ABORTED (open) within 0ns; {by_bob}"),
    );
    // One that never heard of it has nothing to resume.
    check("a! b; abort; abandoned b", &format!("a Abandoning/-, b Failed/- | ABORTED within 0ns; {by_bob}"));
    check(
        "a b; abort; abort; abandoned a b",
        &format!("a Failed/-, b Failed/- | ABORTED within 0ns; {by_bob}"),
    );
    check(
        "a; pause",
        "a Preparing/prepare | preparing (cannot pause while a checkpoint is taken; it can only be aborted)",
    );
}

#[test]
fn an_abort_of_hosts_that_resume_already_ends_it_with_what_it_has() {
    check(
        "a b; ready a b; cut a b; resumed a; abort",
        "a Done/-, b Finishing/finish | COMPLETE (open) within 0ns",
    );
    check("a b; ready a b; cut a b; abort; abort; resumed a b", "a Done/-, b Done/- | COMPLETE within 0ns");
    check(
        "a; ready a; cut a; resumed a; abort",
        "a Done/- | COMPLETE within 0ns (cannot abort: it is over (COMPLETE))",
    );
}

/// The bound of being quiet is 30 s, the timeout 90 s.
#[test]
fn beyond_its_end_hosts_are_told_to_resume_until_they_must_have_done_so_by_themselves() {
    let cut = "a b; ready a b; cut a b; resumed a";
    check(&format!("{cut}; wait 30"), "a Done/-, b Finishing/- | COMPLETE within 0ns");
    let late = "a b; ready a; wait 50; ready b; wait 20; cut a; wait 19; cut b; resumed a; wait 29";
    check(late, "a Done/-, b Finishing/finish | finishing");
    check(&format!("{late}; wait 1"), "a Done/-, b Finishing/- | COMPLETE within 19s");
    // One that was not heard since it was told to get ready may become quiet for as long as the whole may take.
    let lost = "a b; ready b; off a; wait 10; cut b; resumed b; wait 30";
    let missing = "within 0ns; a: no connection for 10s";
    check(lost, &format!("a Abandoning/abandon, b Done/- | INCOMPLETE (open) {missing}"));
    check(
        &format!("{lost}; wait 79"),
        &format!("a Abandoning/abandon, b Done/- | INCOMPLETE (open) {missing}"),
    );
    check(&format!("{lost}; wait 80"), &format!("a Abandoning/-, b Done/- | INCOMPLETE {missing}"));
    check(&format!("{lost}; on a; abandoned a"), &format!("a Failed/-, b Done/- | INCOMPLETE {missing}"));
    // The outcome stands, whatever is heard later.
    check(
        &format!("{lost}; cut a; full a; off b"),
        &format!("a Abandoning/abandon, b Done/- | INCOMPLETE (open) {missing}"),
    );
}

#[test]
fn answers_that_are_not_awaited_change_nothing() {
    check("a b; ready a b; ready a", "a Cutting/cut, b Cutting/cut | cutting");
    check("a b; wait 60; ready a", "a Abandoning/abandon, b Abandoning/abandon | finishing");
}

/// The answers may be this checkpoint's own, to steps that an older copy of the store does not know of.
#[test]
fn an_answer_to_a_step_that_was_never_given_gives_the_checkpoint_up() {
    check("a b; cut a", "a Abandoning/abandon, b Abandoning/abandon | finishing");
    let why = "a has obeyed generation 9, and the last one that this checkpoint gave is 8: the coordinator's store was put back \
               to an older copy";
    check(
        "a b; ready b; cut a; abandoned a b",
        &format!("a Failed/-, b Failed/- | INCOMPLETE within 0ns; a: {why}; b: {why}"),
    );
    check(
        "a b; ready a b; cut a; resumed b; abandoned a b",
        "a Failed/-, b Failed/- | INCOMPLETE within 0ns; a: b has obeyed generation 10, and the last one that this checkpoint \
         gave is 9: the coordinator's store was put back to an older copy; b: b has obeyed generation 10, and the last one \
         that this checkpoint gave is 9: the coordinator's store was put back to an older copy",
    );
}
