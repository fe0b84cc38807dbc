//! Which keys exist, and of which type. Everything that only fits some kinds is optional here, and judged later.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use toml::Spanned;

use super::Extras;
use super::program::Program;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) version: Option<Spanned<u32>>,
    pub(super) host: Host,
    pub(super) coordinator: Option<Spanned<Coordinator>>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) store: Store,
    #[serde(default)]
    pub(super) component: Vec<Spanned<Component>>,
    #[serde(default)]
    pub(super) health: Vec<Spanned<Health>>,
    #[serde(default)]
    pub(super) restore: Restore,
    #[serde(default)]
    pub(super) retention: Retention,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Coordinator {
    pub(super) endpoints: Spanned<Vec<Spanned<String>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca: Spanned<String>,
    pub(super) certificate: Spanned<String>,
    pub(super) key: Spanned<String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) path: Spanned<String>,
    pub(super) reserve: Option<Spanned<String>>,
    pub(super) clones: Option<bool>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restore {
    pub(super) max_time: Option<Time>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) keep_last: Option<Spanned<u32>>,
    pub(super) keep_hourly: Option<Spanned<u32>>,
    pub(super) keep_daily: Option<Spanned<u32>>,
    pub(super) keep_weekly: Option<Spanned<u32>>,
    pub(super) keep_monthly: Option<Spanned<u32>>,
    pub(super) keep_backups: Option<Spanned<u32>>,
    pub(super) pinned: Option<Vec<Spanned<String>>>,
    pub(super) automatic: Option<bool>,
    pub(super) collect_every: Option<Time>,
    pub(super) collect_at_most: Option<Time>,
    pub(super) collect_between: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Component {
    pub(super) name: Spanned<String>,
    pub(super) kind: Spanned<String>,
    pub(super) paths: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) exclude: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) never_restore: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) extras: Option<Spanned<ExtrasKey>>,
    pub(super) devices: Option<Spanned<bool>>,
    pub(super) one_file_system: Option<Spanned<bool>>,
    pub(super) follow_roots: Option<Spanned<bool>>,
    pub(super) quiesce: Option<Spanned<Program>>,
    pub(super) quiesce_timeout: Option<Spanned<Time>>,
    pub(super) resume: Option<Spanned<Program>>,
    pub(super) resume_timeout: Option<Spanned<Time>>,
    pub(super) units: Option<Spanned<Vec<String>>>,
    pub(super) uses: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) commands: Option<Spanned<Commands>>,
}

/// One word for all extras, or one for each pattern.
#[derive(Debug, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "\"remove\", \"keep\" or \"refuse\", or a table of patterns such as { \"uploads/**\" = \"keep\" }"
)]
pub(super) enum ExtrasKey {
    All(Extras),
    Each(BTreeMap<String, Extras>),
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    pub(super) start: Program,
    pub(super) stop: Program,
    pub(super) status: Program,
    pub(super) start_timeout: Option<Time>,
    pub(super) stop_timeout: Option<Time>,
    pub(super) status_timeout: Option<Time>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    pub(super) name: Spanned<String>,
    pub(super) kind: Spanned<String>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) status: Option<Spanned<Vec<u16>>>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) command: Option<Spanned<Program>>,
    pub(super) interval: Option<Time>,
    pub(super) timeout: Option<Time>,
    pub(super) healthy_after: Option<u32>,
    pub(super) unhealthy_after: Option<u32>,
    #[serde(default = "yes")]
    pub(super) required: bool,
}

fn yes() -> bool {
    true
}

/// A length of time as it is written: `250ms`, `30s`, `5m`, `6h`; never zero, at most a week.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time, such as \"250ms\", \"30s\", \"5m\" or \"6h\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                parse_time(text)
                    .map(Time)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }

        from.deserialize_str(Written)
    }
}

/// Reads a length of time; none if it is not one, zero, or more than a week.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let time = Duration::from_millis(number.checked_mul(millis)?);
    (!time.is_zero() && time <= Duration::from_secs(7 * 86_400)).then_some(time)
}
