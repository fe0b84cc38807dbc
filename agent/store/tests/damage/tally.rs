//! How many changes of each kind of file came to what.

use std::collections::BTreeMap;
use std::fmt;

use crate::lab::{Kind, Verdict};

#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<Kind, Counts>);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    refused: usize,
    found: usize,
    harmless: usize,
    silent: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, kind: Kind, verdict: &Verdict) {
        let counts = self.0.entry(kind).or_default();
        match verdict {
            Verdict::Refused => counts.refused += 1,
            Verdict::Found => counts.found += 1,
            Verdict::Harmless => counts.harmless += 1,
            Verdict::Silent(_) => counts.silent += 1,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (kind, more) in other.0 {
            let counts = self.0.entry(kind).or_default();
            counts.refused += more.refused;
            counts.found += more.found;
            counts.harmless += more.harmless;
            counts.silent += more.silent;
        }
    }

    pub(crate) fn harmless(&self, kind: Kind) -> usize {
        self.0.get(&kind).map_or(0, |counts| counts.harmless)
    }

    pub(crate) fn total(&self, kind: Kind) -> usize {
        self.0.get(&kind).map_or(0, Counts::total)
    }
}

impl Counts {
    fn total(&self) -> usize {
        self.refused + self.found + self.harmless + self.silent
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, counts) in &self.0 {
            let Counts { refused, found, harmless, silent } = counts;
            write!(
                f,
                "{:<11} {:>6}: {found} found by verify, {refused} refused",
                format!("{kind:?}"),
                counts.total()
            )?;
            if *harmless > 0 {
                write!(f, ", {harmless} harmless ({})", kind.dead())?;
            }
            if *silent > 0 {
                write!(f, ", {silent} unnoticed: nothing else names it")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
