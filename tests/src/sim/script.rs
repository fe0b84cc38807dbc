//! What simulated hosts are scripted to do, and how a person writes it down.
//!
//! ```text
//! rule    WHO:WHAT[,WHAT]...        50:ill-at-target    h-7:silent=apply,slow=10    2%:flapping=4s
//! ```

use std::time::Duration;

use rfs_proto::agentlink::v1::Step;

/// What a host does. The default is a host that is well, and does what it is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Script {
    /// How well it is.
    pub health: Health,
    /// Steps that fail and leave it as it is.
    pub fails: Steps,
    /// A restore leaves it at neither state.
    pub breaks: bool,
    /// It holds its connection, and neither reads nor says anything.
    pub silent: bool,
    /// It falls silent when it is told one of these steps.
    pub silent_at: Steps,
    /// It has no connection, and seeks none.
    pub gone: bool,
    /// It goes when it is told one of these steps.
    pub gone_at: Steps,
    /// How often its connection is lost.
    pub drops: Option<Duration>,
    /// By how much its steps take longer; 0 means that they do not.
    pub slow: u32,
}

/// How well a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Always well.
    #[default]
    Good,
    /// Never well.
    Ill,
    /// Not well while it is at what a rollback brought it to.
    IllAtTarget,
    /// Well and ill in turns of this length.
    Flapping(Duration),
    /// No check of it is required.
    Unchecked,
}

/// A set of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps(u16);

impl Steps {
    /// Whether the step is one of them.
    pub fn has(self, step: Step) -> bool {
        self.0 & 1 << step as i32 != 0
    }

    fn with(self, step: Step) -> Self {
        Self(self.0 | 1 << step as i32)
    }
}

/// How long steps take: evenly anything between two bounds.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<(Step, Duration, Duration)>);

impl Latencies {
    /// Reads `STEP=MIN` or `STEP=MIN..MAX`, such as `apply=200ms..2s`; a later one replaces an earlier one.
    pub fn set(&mut self, text: &str) -> Result<(), ScriptError> {
        let error = || ScriptError::new(text, "write STEP=TIME or STEP=TIME..TIME, such as apply=200ms..2s");
        let (step, time) = text.split_once('=').ok_or_else(error)?;
        let (least, most) = time.split_once("..").unwrap_or((time, time));
        let (step, least, most) = (self::step(step)?, duration(least)?, duration(most)?);
        if least > most {
            return Err(error());
        }
        self.0.retain(|(known, ..)| *known != step);
        self.0.push((step, least, most));
        Ok(())
    }

    /// The bounds of a step.
    pub fn of(&self, step: Step) -> (Duration, Duration) {
        let found = self.0.iter().find(|(known, ..)| *known == step);
        found.map_or_else(Default::default, |(_, least, most)| (*least, *most))
    }
}

/// A script for some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    who: Who,
    what: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Who {
    All,
    Named(String),
    /// So many, evenly spread.
    Count(usize),
    Percent(usize),
}

/// A script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be read: {rule}")]
pub struct ScriptError {
    text: String,
    rule: &'static str,
}

impl ScriptError {
    fn new(text: &str, rule: &'static str) -> Self {
        Self { text: text.chars().take(100).collect(), rule }
    }
}

impl Rule {
    /// Reads `WHO:WHAT[,WHAT]...`.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let error = |rule| ScriptError::new(text, rule);
        let (who, what) = text.split_once(':').ok_or_else(|| error("write WHO:WHAT, such as 5%:ill"))?;
        let rule = Self { who: Who::parse(who), what: what.split(',').map(str::to_owned).collect() };
        rule.apply(&mut Script::default())?;
        Ok(rule)
    }

    /// Whether it is for the host of this place and name among `count`.
    pub fn is_for(&self, index: usize, name: &str, count: usize) -> bool {
        let spread = |wanted: usize| {
            let wanted = wanted.min(count);
            // The hosts at which the share of those that came before steps to the next whole number.
            (index + 1) * wanted / count.max(1) > index * wanted / count.max(1)
        };
        match &self.who {
            Who::All => true,
            Who::Named(wanted) => wanted == name,
            Who::Count(wanted) => spread(*wanted),
            Who::Percent(percent) => spread((count * percent).div_ceil(100)),
        }
    }

    /// Changes a host's script.
    pub fn apply(&self, script: &mut Script) -> Result<(), ScriptError> {
        self.what.iter().try_for_each(|what| script.becomes(what))
    }
}

impl Who {
    fn parse(text: &str) -> Self {
        match (text, text.parse(), text.strip_suffix('%').map(str::parse)) {
            ("all", ..) => Self::All,
            (_, Ok(count), _) => Self::Count(count),
            (_, _, Some(Ok(percent))) => Self::Percent(percent),
            _ => Self::Named(text.to_owned()),
        }
    }
}

impl Script {
    fn becomes(&mut self, what: &str) -> Result<(), ScriptError> {
        const RULE: &str = "say good, ill, ill-at-target, flapping=TIME, unchecked, fails=STEP, breaks, silent, silent=STEP, \
                            gone, gone=STEP, drops=TIME, or slow=TIMES";
        let error = || ScriptError::new(what, RULE);
        match what.split_once('=') {
            None => match what {
                "good" => *self = Self::default(),
                "ill" => self.health = Health::Ill,
                "ill-at-target" => self.health = Health::IllAtTarget,
                "unchecked" => self.health = Health::Unchecked,
                "breaks" => self.breaks = true,
                "silent" => self.silent = true,
                "gone" => self.gone = true,
                _ => return Err(error()),
            },
            Some((what, value)) => match what {
                "flapping" => self.health = Health::Flapping(duration(value)?),
                "fails" => self.fails = self.fails.with(step(value)?),
                "silent" => self.silent_at = self.silent_at.with(step(value)?),
                "gone" => self.gone_at = self.gone_at.with(step(value)?),
                "drops" => self.drops = Some(duration(value)?),
                "slow" => self.slow = value.parse().map_err(|_| error())?,
                _ => return Err(error()),
            },
        }
        Ok(())
    }
}

fn step(text: &str) -> Result<Step, ScriptError> {
    let error = || ScriptError::new(text, "a step is prepare, cut, finish, abandon, apply, revert or cancel");
    let step = Step::from_str_name(&text.to_uppercase()).ok_or_else(error)?;
    if step == Step::Unspecified { Err(error()) } else { Ok(step) }
}

/// Reads a time, such as `50ms`, `4s` or `10m`.
pub fn duration(text: &str) -> Result<Duration, ScriptError> {
    let error = || ScriptError::new(text, "a time is a number with ms, s, m or h, such as 200ms");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let number: u64 = text[..digits].parse().map_err(|_| error())?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(error()),
    };
    Ok(Duration::from_millis(number.checked_mul(unit).ok_or_else(error)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rule: &str, count: usize) -> Vec<usize> {
        let rule = Rule::parse(rule).expect("a rule");
        (0..count).filter(|index| rule.is_for(*index, &format!("h-{index}"), count)).collect()
    }

    #[test]
    fn a_rule_is_for_all_for_one_by_name_or_for_some_that_are_evenly_spread() {
        assert_eq!(chosen("all:ill", 3), [0, 1, 2]);
        assert_eq!(chosen("h-1:ill", 3), [1]);
        assert_eq!(chosen("2:ill", 6), [2, 5]);
        assert_eq!(chosen("50%:ill", 4), [1, 3]);
        assert_eq!(chosen("1%:ill", 10).len(), 1);
        assert_eq!(chosen("99:ill", 4).len(), 4);
    }

    #[test]
    fn what_a_host_does_is_read_from_words() {
        let mut script = Script::default();
        let rule = Rule::parse("all:flapping=4s,fails=apply,silent=cut,drops=1m,slow=3").expect("a rule");
        rule.apply(&mut script).expect("it was checked");
        assert_eq!(script.health, Health::Flapping(Duration::from_secs(4)));
        assert!(
            script.fails.has(Step::Apply)
                && !script.fails.has(Step::Revert)
                && script.silent_at.has(Step::Cut)
        );
        assert_eq!((script.drops, script.slow), (Some(Duration::from_secs(60)), 3));
        Rule::parse("all:good").expect("a rule").apply(&mut script).expect("it was checked");
        assert_eq!(script, Script::default());
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        for (text, part) in [
            ("ill", "write WHO:WHAT"),
            ("all:dead", "say good, ill"),
            ("all:fails=eat", "a step is prepare"),
            ("all:drops=4", "a time is a number"),
        ] {
            let error = Rule::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut latencies = Latencies::default();
        latencies.set("apply=1s..2s").expect("bounds");
        assert_eq!(latencies.of(Step::Apply), (Duration::from_secs(1), Duration::from_secs(2)));
        assert!(latencies.set("apply=2s..1s").is_err() && latencies.set("apply").is_err());
        assert_eq!(latencies.of(Step::Cut), Default::default());
    }
}
