//! Where the kills fell: what each worker was at, and how far.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What one worker was at, told from its lines.
pub(crate) struct Activity {
    /// By who does it: the thread that changes the host, the collector's, the reader.
    now: BTreeMap<&'static str, (String, Instant)>,
    restoring: Option<Instant>,
}

/// Counts of kills by what they interrupted.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) kills: BTreeMap<String, u32>,
    /// How long each activity takes when nobody interrupts it.
    lengths: BTreeMap<String, (Duration, u32)>,
}

impl Activity {
    pub(crate) fn start(at: Instant) -> Self {
        Self { now: BTreeMap::from([("opener", (OPENING.to_owned(), at))]), restoring: None }
    }

    /// Takes a line at its time.
    pub(crate) fn hear(&mut self, line: &str, at: Instant, tally: &mut Tally) {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let (who, what) = match word {
            "deploying" | "capturing" => ("host", word.to_owned()),
            RESTORING => ("host", format!("{RESTORING}: accepting")),
            "phase" => ("host", format!("{RESTORING}: {}", words.next().unwrap_or_default())),
            "deployed" | "captured" | "restored" | "refused" => ("host", String::new()),
            "pinned" | "unpinned" => ("host", "marking".to_owned()),
            "collecting" => ("collector", word.to_owned()),
            "collected" => ("collector", String::new()),
            "verifying" | "reading" => ("reader", word.to_owned()),
            "verified" | "read" => ("reader", String::new()),
            _ => return,
        };
        if let Some((_, since)) = self.now.remove("opener") {
            tally.took(OPENING, at - since);
        }
        if let Some((before, since)) = self.now.insert(who, (what, at)) {
            tally.took(&before, at - since);
        }
        match (word, self.restoring.take()) {
            (RESTORING, _) => self.restoring = Some(at),
            ("restored", Some(since)) => tally.took(RESTORING, at - since),
            ("phase", since) => self.restoring = since,
            (_, _) => {}
        }
    }

    /// It was killed now.
    pub(crate) fn killed(&self, at: Instant, tally: &mut Tally) {
        for (what, since) in self.now.values() {
            let mut key = if what.is_empty() { "between two".to_owned() } else { what.clone() };
            if let Some(usual) = tally.length(what).filter(|_| is_long(what)) {
                key += match (at - *since).div_duration_f64(usual) {
                    share if share < 0.25 => ", first quarter",
                    share if share < 0.5 => ", second quarter",
                    share if share < 0.75 => ", third quarter",
                    _ => ", last quarter or longer than usual",
                };
            }
            *tally.kills.entry(key).or_default() += 1;
        }
    }
}

pub(crate) const OPENING: &str = "opening";
pub(crate) const RESTORING: &str = "restoring";

/// Whether it is worth saying how far it was.
fn is_long(what: &str) -> bool {
    [OPENING, "capturing", "collecting", "verifying", "reading"].contains(&what)
}

impl Tally {
    fn took(&mut self, what: &str, length: Duration) {
        let (sum, count) = self.lengths.entry(what.to_owned()).or_default();
        (*sum, *count) = (*sum + length, *count + 1);
    }

    /// How long the activity takes, if it was ever seen to end.
    pub(crate) fn length(&self, what: &str) -> Option<Duration> {
        self.lengths.get(what).map(|(sum, count)| *sum / *count)
    }

    pub(crate) fn print(&self) {
        for (what, count) in &self.kills {
            println!("{count:6} {what}");
        }
    }
}
