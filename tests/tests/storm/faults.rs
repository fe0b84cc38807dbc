//! What befalls the fleet: a schedule that is thrown before it begins, so that the same seed gives the same storm.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use rfs_tests::bed::Bed;
use rfs_tests::dice::Dice;
use rfs_tests::machine_clock::HOUR;
use rfs_tests::relay::Link;

/// Who is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Coordinator,
    Agent(usize),
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`, and a new start so much later.
    Killed(Who, Duration),
    /// SIGSTOP, and SIGCONT so much later.
    Frozen(Who, Duration),
    /// The clock is set to so many seconds beside the true time, and stays so.
    ClockSet(Who, i64),
    /// A host's link is so for a time.
    LinkIs(usize, Link, Duration),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Agent(index) => write!(f, "web-{}", index + 1),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(who, time) => write!(f, "{who} killed for {time:.1?}"),
            Self::Frozen(who, time) => write!(f, "{who} frozen for {time:.1?}"),
            Self::ClockSet(who, by) => write!(f, "clock of {who} set to {by:+} s"),
            Self::LinkIs(index, link, time) => write!(f, "link of web-{} {link:?} for {time:.1?}", index + 1),
        }
    }
}

/// Throws `count` faults, with the time from one's beginning to the next one's.
pub(crate) fn schedule(dice: &mut Dice, count: u64, hosts: usize) -> Vec<(Duration, Fault)> {
    (0..count).map(|_| (millis(dice, 50, 1500), fault(dice, hosts))).collect()
}

fn millis(dice: &mut Dice, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + dice.below(to - from))
}

fn fault(dice: &mut Dice, hosts: usize) -> Fault {
    let host = dice.below(hosts as u64) as usize;
    let who = if dice.once_in(2) { Who::Coordinator } else { Who::Agent(host) };
    // Most are short; some are longer than silence is borne.
    let time = if dice.once_in(5) { millis(dice, 6_000, 12_000) } else { millis(dice, 0, 3_000) };
    match dice.below(6) {
        0 | 1 => Fault::Killed(who, time),
        2 => Fault::Frozen(who, time),
        3 => Fault::ClockSet(who, dice.one_of(&[HOUR, -HOUR, 30, -30, 0])),
        4 => Fault::LinkIs(host, Link::Cut, time),
        _ => Fault::LinkIs(host, dice.one_of(&[Link::Held, Link::Slow(Duration::from_millis(150))]), time),
    }
}

/// A storm that is under way.
pub(crate) struct Weather {
    /// What is to be mended, and when.
    mending: Vec<(Instant, Fault)>,
}

impl Weather {
    pub(crate) fn calm() -> Self {
        Self { mending: Vec::new() }
    }

    /// Lets the schedule happen. `look` is called between faults while the coordinator can answer.
    pub(crate) fn blow(&mut self, bed: &mut Bed, schedule: &[(Duration, Fault)], look: &mut dyn FnMut(&Bed)) {
        for (wait, fault) in schedule {
            let next = Instant::now() + *wait;
            while Instant::now() < next {
                self.mend_what_is_due(bed, Instant::now());
                if self.is_coordinator_up() {
                    look(bed);
                }
                thread::sleep(Duration::from_millis(20));
            }
            if self.strike(bed, *fault) {
                println!("  {fault}");
            }
        }
    }

    /// Ends every fault; clocks stay as they are set.
    pub(crate) fn clear_up(&mut self, bed: &mut Bed) {
        for (_, fault) in self.mending.drain(..) {
            mend(bed, fault);
        }
    }

    pub(crate) fn is_coordinator_up(&self) -> bool {
        self.mending.iter().all(|(_, fault)| victim(fault) != Some(Who::Coordinator))
    }

    fn mend_what_is_due(&mut self, bed: &mut Bed, now: Instant) {
        let (due, rest) = self.mending.drain(..).partition(|(at, _)| *at <= now);
        self.mending = rest;
        for (_, fault) in due {
            mend(bed, fault);
        }
    }

    /// False if the fault cannot be: who is dead cannot be killed.
    fn strike(&mut self, bed: &mut Bed, fault: Fault) -> bool {
        let same = |(_, other): &(Instant, Fault)| match (fault, other) {
            (Fault::LinkIs(host, ..), Fault::LinkIs(other, ..)) => host == *other,
            _ => victim(&fault).is_some_and(|who| victim(other) == Some(who)),
        };
        if self.mending.iter().any(same) {
            return false;
        }
        let time = match fault {
            Fault::Killed(Who::Coordinator, time) => {
                bed.kill_coordinator();
                time
            }
            Fault::Killed(Who::Agent(index), time) => {
                bed.hosts[index].kill_agent();
                time
            }
            Fault::Frozen(who, time) => {
                process(bed, who).freeze();
                time
            }
            Fault::LinkIs(index, link, time) => {
                bed.hosts[index].relay.as_ref().expect("the layout has relays").set(link);
                time
            }
            Fault::ClockSet(who, seconds) => {
                let clock = match who {
                    Who::Coordinator => &bed.clock,
                    Who::Agent(index) => &bed.hosts[index].clock,
                };
                let Some(clock) = clock else { return false };
                clock.set(seconds);
                return true;
            }
        };
        self.mending.push((Instant::now() + time, fault));
        true
    }
}

/// Whose process is not at work while the fault lasts.
fn victim(fault: &Fault) -> Option<Who> {
    match fault {
        Fault::Killed(who, _) | Fault::Frozen(who, _) => Some(*who),
        Fault::ClockSet(..) | Fault::LinkIs(..) => None,
    }
}

fn process(bed: &Bed, who: Who) -> &rfs_tests::process::Running {
    let running = match who {
        Who::Coordinator => bed.coordinator.as_ref(),
        Who::Agent(index) => bed.hosts[index].agent.as_ref(),
    };
    running.unwrap_or_else(|| panic!("{who} runs"))
}

fn mend(bed: &mut Bed, fault: Fault) {
    match fault {
        Fault::Killed(Who::Coordinator, _) => bed.start_coordinator(),
        Fault::Killed(Who::Agent(index), _) => bed.start_agent(index),
        Fault::Frozen(who, _) => process(bed, who).thaw(),
        Fault::LinkIs(index, ..) => bed.hosts[index].relay.as_ref().expect("it has one").set(Link::Open),
        Fault::ClockSet(..) => {}
    }
}
