//! Decides which machine speaks for a host's name: one at a time, and after a doubt the one that a person has accepted.
//!
//! ```text
//!                    the same instance ─────────────────────────────▶ welcome, unless two starts of it take turns
//!  hello ─▶ known? ─ another, never seen, nobody was heard lately ──▶ welcome: the machine was replaced
//!                    another, the present one was there just now ───▶ later
//!                    another, while the present one is there ───────▶ contested: nobody is let in
//!                    another that had spoken before ────────────────▶ contested
//!                    another than the one that a person has named ──▶ refused
//!                    any, of a host that a person has forgotten ────▶ forgotten
//! ```
//!
//! Nothing here waits or stores; who calls makes durable what was decided before anybody is welcomed.

use std::collections::VecDeque;
use std::time::Duration;

use rfs_link::Failure;
use rfs_model::{HostId, InstanceId, Reason, Timestamp};

use crate::store::{Contest, Machine, Machines};

/// How long after it was last heard a machine counts as there, so that another one under its name is a conflict.
pub(super) const PRESENT: Duration = Duration::from_secs(10);
/// When a machine that is refused may ask again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(10);
/// When a start of an agent comes again whose place another one seems to hold still.
const COME_AGAIN: Duration = Duration::from_secs(2);
/// How many machines are remembered for a name.
const KNOWN: usize = 16;
/// How many starts of an agent are remembered.
const STARTS: usize = 8;
/// How often a start that another one had followed must come back before two machines are known to have one store. One that
/// comes back once may be a hello that was late.
const RETURNS: u32 = 2;

/// Who says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// The id that lives with the agent's store.
    pub(super) instance: InstanceId,
    /// The start of the agent's process.
    pub(super) start: String,
    /// Where it connects from.
    pub(super) address: String,
}

/// How the machine is that the name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Present {
    /// Whether it holds a session.
    pub(super) connected: bool,
    /// For how long nothing was heard from it, as far as anybody could be heard.
    pub(super) silent: Duration,
}

impl Default for Present {
    fn default() -> Self {
        Self { connected: false, silent: Duration::MAX }
    }
}

/// What becomes of a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is let in.
    Welcome,
    /// It is let in; the name belonged to this other machine before.
    Replaces(InstanceId),
    /// It is not let in yet: another machine, or another start of the agent with the same store, was heard a moment ago. That
    /// one is gone and is silent soon, or two speak for the name.
    Later,
    /// Nobody is let in: two machines speak for the name.
    Contested,
    /// It is not let in: the name belongs to this other machine, as a person has said.
    Refused(InstanceId),
    /// It is not let in: the host was forgotten then, and nobody has accepted a machine since.
    Forgotten(Timestamp),
}

/// Decides on a hello, and notes in `machines` and `starts` what it means.
pub(super) fn judge(
    host: &HostId,
    machines: &mut Machines,
    starts: &mut Starts,
    claim: &Claim,
    present: &Present,
    now: Timestamp,
) -> Verdict {
    let heard = present.silent < PRESENT;
    let had_spoken = machines.known.contains_key(&claim.instance);
    note(machines, claim, now);
    if let Some(at) = machines.forgotten_at {
        machines.refused_at = Some(now);
        return Verdict::Forgotten(at);
    }
    if machines.contest.is_some() {
        return Verdict::Contested;
    }
    let Some(accepted) = machines.accepted else {
        machines.accepted = Some(claim.instance);
        starts.take(claim);
        return Verdict::Welcome;
    };
    if claim.instance == accepted {
        let is_there = present.connected && heard;
        let waited = starts.waits(claim, is_there, now);
        if waited.is_some_and(|waited| waited <= PRESENT) {
            return Verdict::Later;
        }
        let other = match waited {
            // Both have been heard all the while.
            Some(_) => starts.last_address(),
            None => starts.take(claim),
        };
        let Some(other) = other else {
            machines.refused_at = None;
            return Verdict::Welcome;
        };
        let text = format!(
            "two machines with one store ({accepted}) speak for {host} in turns, from {other} and {}",
            claim.address
        );
        // Which of them it is makes no difference to the name: both have its id.
        let next = format!(
            "one of them is a copy: stop its agent, give it a name, a certificate (rfs pki issue agent NAME) and an empty store \
             of its own, then say that the other one is {host}: rfs host accept {host} --instance {accepted}"
        );
        machines.contest = Some(Contest { since: now, text, next });
        return Verdict::Contested;
    }
    if machines.confirmed {
        machines.refused_at = Some(now);
        return Verdict::Refused(accepted);
    }
    if (present.connected && heard) || had_spoken {
        let named = |id: InstanceId| {
            let address = machines.known.get(&id).map_or("?", |machine| machine.address.as_str());
            format!("{id} from {address}")
        };
        let text =
            format!("two machines speak for {host}: {} and {}", named(accepted), named(claim.instance));
        let next = format!(
            "see the machines with: rfs host show {host}; then say which one it is: rfs host accept {host} --instance ID; \
             the other one needs a name and a certificate of its own: rfs pki issue agent NAME"
        );
        machines.contest = Some(Contest { since: now, text, next });
        return Verdict::Contested;
    }
    if heard {
        // It may have lost its connection for a moment. This one counts as never seen until it is let in.
        machines.known.remove(&claim.instance);
        return Verdict::Later;
    }
    machines.accepted = Some(claim.instance);
    machines.replaced_at = Some(now);
    *starts = Starts::default();
    starts.take(claim);
    Verdict::Replaces(accepted)
}

/// A person says which machine the name belongs to. False if no such machine has spoken for it.
pub(super) fn accept(machines: &mut Machines, starts: &mut Starts, instance: InstanceId) -> bool {
    if !machines.known.contains_key(&instance) {
        return false;
    }
    (machines.confirmed, machines.refused_at, machines.forgotten_at) = (true, None, None);
    machines.accepted = Some(instance);
    machines.replaced_at = None;
    machines.contest = None;
    *starts = Starts::default();
    true
}

/// A person says that the host is gone for good. Which machines have spoken for it stays known, so that one of them can be
/// accepted again.
pub(super) fn forget(machines: &mut Machines, starts: &mut Starts, now: Timestamp) {
    machines.forgotten_at = Some(now);
    (machines.refused_at, machines.replaced_at, machines.contest) = (None, None, None);
    *starts = Starts::default();
}

fn note(machines: &mut Machines, claim: &Claim, now: Timestamp) {
    let machine = Machine { address: claim.address.clone(), seen_at: now };
    machines.known.insert(claim.instance, machine);
    if machines.known.len() > KNOWN {
        let kept = [Some(claim.instance), machines.accepted];
        let others = machines.known.iter().filter(|(id, _)| !kept.contains(&Some(**id)));
        let oldest = others.min_by_key(|(_, machine)| machine.seen_at);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            machines.known.remove(&id);
        }
    }
}

/// The starts of the agent with one store. Only of a disk that was copied do two of them take turns.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts {
    /// The newest last, each with where it connected from.
    seen: VecDeque<(String, String)>,
    returned: u32,
    /// A start that was told to come again because another one was heard, and since when.
    waiting: Option<(String, Timestamp)>,
}

impl Starts {
    /// For how long a start has been told to come again; none if it may come in, as far as another one that is there goes.
    fn waits(&mut self, claim: &Claim, is_there: bool, now: Timestamp) -> Option<Duration> {
        let is_other = self.seen.back().is_some_and(|(start, _)| *start != claim.start);
        if !is_there || !is_other {
            self.waiting = None;
            return None;
        }
        if self.waiting.as_ref().is_none_or(|(start, _)| *start != claim.start) {
            self.waiting = Some((claim.start.clone(), now));
        }
        self.waiting.as_ref().map(|(_, since)| now.since(*since))
    }

    fn last_address(&self) -> Option<String> {
        self.seen.back().map(|(_, address)| address.clone())
    }

    /// Notes a start. Gives where the other one is if two take turns.
    fn take(&mut self, claim: &Claim) -> Option<String> {
        let last = self.seen.back().cloned();
        if last.as_ref().is_some_and(|(start, _)| *start == claim.start) {
            return None;
        }
        let before = self.seen.iter().position(|(start, _)| *start == claim.start);
        match before.and_then(|place| self.seen.remove(place)) {
            Some(_) => self.returned += 1,
            None if self.seen.len() == STARTS => drop(self.seen.pop_front()),
            None => {}
        }
        self.seen.push_back((claim.start.clone(), claim.address.clone()));
        last.filter(|_| self.returned >= RETURNS).map(|(_, address)| address)
    }
}

/// What a machine is told while two speak for the name.
pub(super) fn contested(contest: &Contest) -> Failure {
    let Contest { text, next, .. } = contest;
    Failure::new(Reason::HostConflict, text.clone()).next(next.clone()).retry_after(ASK_AGAIN)
}

/// What a machine is told while another one, or another start of the agent with the same store, was heard a moment ago.
pub(super) fn later(host: &HostId) -> Failure {
    let message = format!("another connection spoke for {host} a moment ago");
    let next = "it comes in once the other one is silent; if both are heard they are a conflict";
    Failure::new(Reason::HostBusy, message).next(next).retry_after(COME_AGAIN)
}

/// What a machine is told that a person has turned away.
pub(super) fn refused(host: &HostId, claim: &Claim, accepted: InstanceId) -> Failure {
    let message =
        format!("{host} is the machine {accepted}, as a person has said; this one is {}", claim.instance);
    let next = format!(
        "give this machine a name and a certificate of its own: rfs pki issue agent NAME; \
         if it is the right one: rfs host accept {host} --instance {}",
        claim.instance
    );
    Failure::new(Reason::HostConflict, message).next(next).retry_after(ASK_AGAIN)
}

/// What a machine is told of whose host a person has said that it is gone for good.
pub(super) fn forgotten(host: &HostId, claim: &Claim, at: Timestamp) -> Failure {
    let message = format!("{host} was forgotten at {at}, so nobody is let in under its name");
    let next = format!(
        "if this machine belongs to the fleet: rfs host accept {host} --instance {}; if not, stop its agent",
        claim.instance
    );
    Failure::new(Reason::HostForgotten, message).next(next).retry_after(ASK_AGAIN)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(machine: char) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(u128::from(u32::from(machine))))
    }

    /// Plays hellos such as `a1`: the machine with store `a`, and the start 1 of its agent. `(a)` before it means that the
    /// machine with store `a` holds the session, `(a?)` that it was not heard for long, `[a]` that it lost its connection a
    /// moment ago. `!a`: a person accepts it. `x`: a person says that the host is gone for good.
    fn play(words: &str) -> String {
        let host = HostId::new("web-1").expect("a name");
        let (mut machines, mut starts) = (Machines::default(), Starts::default());
        let mut said = Vec::new();
        let mut present = Present::default();
        let mut at = 0;
        for word in words.split_whitespace() {
            at += 1;
            let letters: Vec<char> = word.chars().collect();
            match letters[..] {
                ['(', _, ')'] => present = Present { connected: true, silent: Duration::ZERO },
                ['(', _, '?', ')'] => present = Present { connected: true, silent: PRESENT },
                ['[', _, ']'] => present = Present { connected: false, silent: Duration::ZERO },
                // Time passes.
                ['+'] => at += 11_000,
                ['x'] => forget(&mut machines, &mut starts, Timestamp(at)),
                ['!', machine] => said.push(match accept(&mut machines, &mut starts, id(machine)) {
                    true => "accepted".to_owned(),
                    false => "unknown".to_owned(),
                }),
                [machine, start] => {
                    let claim = Claim {
                        instance: id(machine),
                        start: start.to_string(),
                        address: format!("10.0.0.{start}"),
                    };
                    let present = std::mem::take(&mut present);
                    let verdict = judge(&host, &mut machines, &mut starts, &claim, &present, Timestamp(at));
                    said.push(match verdict {
                        Verdict::Welcome => "in".to_owned(),
                        Verdict::Replaces(_) => "replaces".to_owned(),
                        Verdict::Later => "later".to_owned(),
                        Verdict::Contested => "contested".to_owned(),
                        Verdict::Refused(_) => "refused".to_owned(),
                        Verdict::Forgotten(_) => "forgotten".to_owned(),
                    });
                }
                _ => panic!("{word} is not understood"),
            }
        }
        said.join(" ")
    }

    #[test]
    fn one_machine_is_let_in_as_often_as_it_comes() {
        assert_eq!(play("a1 a1 (a) a1 a2 a3"), "in in in in in");
    }

    /// The copy of a disk is told nothing while the machine that it was copied from is heard.
    #[test]
    fn another_start_of_one_store_waits_until_the_first_is_silent() {
        assert_eq!(play("a1 (a) a2"), "in later");
        assert_eq!(
            play("a1 (a) a2 (a?) a2"),
            "in later in",
            "it was killed, and its connection was not closed"
        );
        assert_eq!(play("a1 (a) a2 + (a) a2"), "in later contested", "both are heard");
        assert_eq!(play("a1 (a) a2 + a2 (a) a2"), "in later in in");
    }

    #[test]
    fn another_machine_is_a_conflict_while_the_first_is_there_and_a_change_when_it_is_not() {
        assert_eq!(play("a1 (a) b1"), "in contested");
        assert_eq!(play("a1 (a?) b1"), "in replaces", "a machine that is gone has no say");
        assert_eq!(play("a1 b1 b1 c1"), "in replaces in replaces");
    }

    /// A cut of a moment must not give the name to whoever asks first.
    #[test]
    fn another_machine_that_comes_as_the_first_has_lost_its_connection_waits_until_that_is_silent() {
        assert_eq!(play("a1 [a] b1 [a] b1 b1"), "in later later replaces");
        assert_eq!(play("a1 [a] b1 [a] a1 (a) b1"), "in later in contested", "the first came back");
        assert_eq!(play("a1 [a] a2"), "in in", "its agent was started again");
    }

    #[test]
    fn a_machine_that_had_spoken_before_is_a_conflict_whoever_is_there() {
        assert_eq!(play("a1 b1 a1 a1 b1"), "in replaces contested contested contested");
    }

    #[test]
    fn two_starts_of_one_store_that_take_turns_are_two_machines() {
        assert_eq!(play("a1 a2 a1 a2"), "in in in contested");
        assert_eq!(play("a1 a2 a1 a3 a4"), "in in in in in", "a hello that was late is no second machine");
        assert_eq!(play("a1 a1 a2 a2 a3 a3"), "in in in in in in", "an agent that is restarted");
    }

    #[test]
    fn after_a_person_has_said_which_one_it_is_the_others_are_refused_for_good() {
        assert_eq!(
            play("a1 (a) b1 a1 !a a1 b1 (a?) b1 b1 a1"),
            "in contested contested accepted in refused refused refused in"
        );
        assert_eq!(
            play("a1 (a) b1 !b a1 b1 !a b1 a1"),
            "in contested accepted refused in accepted refused in"
        );
        assert_eq!(play("a1 !c"), "in unknown");
        assert_eq!(
            play("a1 (a) b1 !a c1 a1 c1 !c c1 a1"),
            "in contested accepted refused in refused accepted in refused",
            "whoever else comes is refused, also while the right one is away"
        );
    }

    #[test]
    fn a_host_that_was_forgotten_is_let_in_by_nobody_but_a_person() {
        assert_eq!(play("a1 x a1 a2 + a1"), "in forgotten forgotten forgotten", "not its own machine");
        assert_eq!(play("a1 x b1 + b1"), "in forgotten forgotten", "nor one that was set up anew");
        assert_eq!(play("a1 x a2 !a a2 a2 b1"), "in forgotten accepted in in refused");
        assert_eq!(play("a1 x b1 !b b1 a1"), "in forgotten accepted in refused");
        assert_eq!(play("a1 x !a a1 x a1"), "in accepted in forgotten", "before it has asked; and once more");
        assert_eq!(play("a1 (a) b1 x a1 !b b1"), "in contested forgotten accepted in", "a contest is over");
        assert_eq!(play("a1 x !c"), "in unknown");
    }

    #[test]
    fn who_speaks_is_said_in_words() {
        let host = HostId::new("web-1").expect("a name");
        let (mut machines, mut starts) = (Machines::default(), Starts::default());
        let mut hello = |machine: char, start: &str, present| {
            let claim =
                Claim { instance: id(machine), start: start.to_owned(), address: format!("10.0.0.{start}") };
            judge(&host, &mut machines, &mut starts, &claim, &present, Timestamp(7));
            machines.contest.as_ref().map(|contest| contest.text.clone())
        };
        assert_eq!(hello('a', "1", Present::default()), None);
        let there = Present { connected: true, silent: Duration::ZERO };
        assert_eq!(
            hello('b', "2", there).expect("a contest"),
            format!("two machines speak for web-1: {} from 10.0.0.1 and {} from 10.0.0.2", id('a'), id('b'))
        );
    }

    #[test]
    fn the_machines_of_a_name_are_bounded_and_the_one_it_belongs_to_stays() {
        let host = HostId::new("web-1").expect("a name");
        let (mut machines, mut starts) = (Machines::default(), Starts::default());
        for number in 0..100 {
            let instance = InstanceId::from_uuid(Uuid::from_u128(number));
            let claim = Claim { instance, start: "1".into(), address: "10.0.0.1".into() };
            let present = Present { connected: true, silent: Duration::ZERO };
            judge(&host, &mut machines, &mut starts, &claim, &present, Timestamp(7));
        }
        assert_eq!(machines.known.len(), KNOWN);
        assert!(machines.known.contains_key(&InstanceId::from_uuid(Uuid::from_u128(0))));
    }
}
