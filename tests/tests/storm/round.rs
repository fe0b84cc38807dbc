//! One round of the storm.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rfs_tests::bed::{Bed, brief};
use rfs_tests::dice::Dice;
use rfs_tests::wait::{until, within};
use serde_json::Value;

use crate::HOSTS;
use crate::faults::{Weather, schedule};
use crate::judge::{self, Sides, Words};

/// In which a round must end once all is mended: every deadline of its rollback is far shorter.
const END: Duration = Duration::from_secs(120);

/// A fleet in a storm, and what was compared so far.
pub(crate) struct Storm {
    bed: Bed,
    dice: Dice,
    complete: u64,
    passed: u64,
    outcomes: BTreeMap<String, u64>,
}

impl Storm {
    pub(crate) fn new(bed: Bed, dice: Dice) -> Self {
        Self { bed, dice, complete: 0, passed: 0, outcomes: BTreeMap::new() }
    }

    /// What was compared, in words.
    pub(crate) fn tally(&self) -> String {
        let outcomes: Vec<_> = self.outcomes.iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
        format!("{} complete, {} passed, {}", self.complete, self.passed, outcomes.join(", "))
    }

    /// Goes through a round, and says how it ended.
    pub(crate) fn round(&mut self, round: u64) -> String {
        let ill_target = self.dice.once_in(2);
        self.release_everywhere(&format!("c{round}"), if ill_target { Ill::Some } else { Ill::Nobody });
        self.await_all_connected();
        let target = judge::digests(&self.bed);
        let checkpoint = self.checkpoint(round);
        let ill_release = self.dice.one_of(&[Ill::Nobody, Ill::Nobody, Ill::Some, Ill::Everybody]);
        self.release_everywhere(&format!("r{round}"), ill_release);
        let before = judge::digests(&self.bed);
        let sides: Vec<_> =
            target.into_iter().zip(before).map(|(target, before)| Sides { target, before }).collect();
        // Mostly the coordinator has heard how the release is when the rollback begins: what it then knows is soon of before.
        if !self.dice.once_in(4) {
            self.await_true_health();
        }
        let (policy, rollback) = self.roll_back(&checkpoint, &sides);
        let told = self.decide_until_the_end(&rollback, &sides);
        judge::check_complete(&self.bed, &checkpoint, &sides);
        self.complete += 1;
        format!("{}; {policy}; {told}", if ill_target { "ill target" } else { "healthy target" })
    }

    fn release_everywhere(&mut self, version: &str, ill: Ill) {
        for host in &self.bed.hosts {
            let is_ill = match ill {
                Ill::Nobody => false,
                Ill::Some => self.dice.once_in(2),
                Ill::Everybody => true,
            };
            host.release(version, if is_ill { "broken" } else { "ok" });
        }
    }

    fn await_all_connected(&self) {
        self.bed.await_connected_in_any_health(HOSTS);
    }

    /// Waits until the coordinator shows every host's health as its site answers.
    fn await_true_health(&self) {
        until("the coordinator knows every host's health", || {
            let listed = self.bed.rfs(["host", "list", "--output", "json"]).json()?;
            let shown = listed["hosts"].as_array()?.iter().map(|host| host["health"] == "GOOD");
            let are = self.bed.hosts.iter().map(judge::is_well);
            shown.eq(are).then_some(())
        });
    }

    /// Takes a checkpoint in the storm, and another one after it if that cannot be complete.
    fn checkpoint(&mut self, round: u64) -> Value {
        let id = format!("checkpoint-{round}");
        let create = [
            "checkpoint",
            "create",
            "--request-id",
            &id,
            "--timeout",
            "20s",
            "--no-wait",
            "--output",
            "json",
        ];
        let said = self.bed.rfs(create);
        assert_eq!(said.code, 0, "{said:?}");
        let name =
            said.json().and_then(|json| json["name"].as_str().map(str::to_owned)).expect("it has a name");
        let count = self.dice.below(3);
        let faults = schedule(&mut self.dice, count, HOSTS);
        let mut weather = Weather::calm();
        weather.blow(&mut self.bed, &faults, &mut |_| {});
        weather.clear_up(&mut self.bed);
        let over = |bed: &Bed, name: &str| {
            within(Duration::from_secs(60), "the checkpoint is over", || {
                // A call that is not answered is made again, as a person would.
                let said = bed.rfs(["checkpoint", "show", name, "--output", "json"]);
                said.json().filter(|checkpoint| checkpoint["state"] != "CREATING")
            })
        };
        let first = over(&self.bed, &name);
        if first["state"] == "COMPLETE" {
            return first;
        }
        self.await_all_connected();
        // All is well now, so nothing is in its way.
        let again = until("a checkpoint can be taken", || {
            let said = self.bed.rfs(["checkpoint", "create", "--timeout", "30s", "--output", "json"]);
            said.json().filter(|_| said.code == 0)
        });
        println!("  the first checkpoint was incomplete: {}", why(&first));
        self.bed.show_checkpoint(again["name"].as_str().expect("it has a name"))
    }

    /// Starts a rollback with a policy that is thrown, and lets faults happen. Returns the policy and the rollback's name.
    fn roll_back(&mut self, checkpoint: &Value, sides: &[Sides]) -> (String, String) {
        let dice = &mut self.dice;
        let mut policy: Vec<String> = Vec::new();
        let mut set = |option: &str, value: &str| policy.extend([option.to_owned(), value.to_owned()]);
        if dice.once_in(3) {
            set("--strategy", "immediate");
        } else {
            set("--canary", dice.one_of(&["web-1", "web-4", "1", "2"]));
            set("--wave", dice.one_of(&["1", "2", "50%"]));
        }
        if dice.once_in(2) {
            set("--budget", dice.one_of(&["1", "2", "zone=1"]));
        }
        set("--min-healthy", dice.one_of(&["300ms", "1s", "2s"]));
        set("--healthy-deadline", dice.one_of(&["5s", "8s"]));
        set("--on-failure", dice.one_of(&["pause", "pause", "continue", "revert"]));
        set("--on-unreachable", dice.one_of(&["fail", "wait", "skip"]));
        set("--max-time", "30s");
        let name = checkpoint["name"].as_str().expect("it has a name");
        let fixed = ["rollback", "start", "--checkpoint", name, "--yes", "--no-wait", "--output", "json"];
        let words: Vec<&str> = fixed.into_iter().chain(policy.iter().map(String::as_str)).collect();
        let said = self.bed.rfs(&words);
        assert_eq!(said.code, 0, "{said:?}");
        let name =
            said.json().and_then(|json| json["name"].as_str().map(str::to_owned)).expect("it has a name");

        let count = 2 + self.dice.below(5);
        let faults = schedule(&mut self.dice, count, HOSTS);
        let mut weather = Weather::calm();
        let passed = &mut self.passed;
        weather.blow(&mut self.bed, &faults, &mut |bed| {
            judge::check_passed(bed, &name, sides, Words::default(), passed)
        });
        weather.clear_up(&mut self.bed);
        (policy.join(" "), name)
    }

    /// Persons decide until the rollback is over, and what it says then is compared.
    fn decide_until_the_end(&mut self, name: &str, sides: &[Sides]) -> String {
        let mut words = Words::default();
        let mut decisions = Vec::new();
        let mended = Instant::now();
        let rollback = loop {
            let Some(rollback) = judge::show(&self.bed, name) else { continue };
            assert!(mended.elapsed() < END, "it does not end: {decisions:?} {}", brief(&rollback));
            match rollback["state"].as_str() {
                Some("FINISHED") => break rollback,
                Some("PAUSED") => {
                    let decision = if decisions.len() > 5 {
                        "abort"
                    } else {
                        self.dice.one_of(&["resume", "resume", "promote", "promote", "abort"])
                    };
                    let said = self.bed.rfs(["rollback", decision, name]);
                    if said.code == 0 {
                        words.promoted |= decision == "promote";
                        decisions.push(decision);
                    }
                }
                _ => {
                    // Whether a promotion came in time for what is seen cannot be told here, so it counts from the first one on.
                    judge::check_passed(&self.bed, name, sides, words, &mut self.passed);
                    thread::sleep(Duration::from_millis(100));
                }
            }
        };
        let latest = judge::show(&self.bed, "latest").map(|latest| latest["name"].clone());
        assert_eq!(latest, Some(name.into()), "the latest is the one that was started last");
        let outcome = rollback["outcome"].as_str().unwrap_or_default().to_owned();
        let compared = judge::check_end(&self.bed, &rollback, sides, words);
        *self.outcomes.entry(outcome.clone()).or_default() += 1;
        format!("{decisions:?} {outcome}{compared}")
    }
}

/// How many hosts a release makes ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ill {
    Nobody,
    Some,
    Everybody,
}

fn why(checkpoint: &Value) -> String {
    let parts = checkpoint["snapshots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failed = parts.iter().filter(|part| !part["failure"].is_null());
    failed
        .map(|part| format!("{} {}", part["host"], part["failure"]["reason"]))
        .collect::<Vec<_>>()
        .join(", ")
}
