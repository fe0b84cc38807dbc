//! Judges what is kept, for how long, and how much space is left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{ByteCount, SnapshotId};
use rfs_store::{KeepPolicy, ReserveRule};
use toml::Spanned;

use super::Judge;
use crate::config::raw::{self, Time};
use crate::config::source::Complaint;
use crate::config::{DayTime, RetentionConfig};

const EVERY: Duration = Duration::from_secs(3600);
const AT_MOST: Duration = Duration::from_secs(600);

impl Judge<'_> {
    pub(super) fn retention(&self, raw: &raw::Retention) -> Result<RetentionConfig, Complaint> {
        let usual = KeepPolicy::default();
        let count = |written: &Option<Spanned<u32>>, usual| written.as_ref().map_or(usual, |n| *n.get_ref());
        let keep = KeepPolicy {
            last: count(&raw.keep_last, usual.last),
            hourly: count(&raw.keep_hourly, usual.hourly),
            daily: count(&raw.keep_daily, usual.daily),
            weekly: count(&raw.keep_weekly, usual.weekly),
            monthly: count(&raw.keep_monthly, usual.monthly),
            backups: count(&raw.keep_backups, usual.backups),
        };
        let without_backups = KeepPolicy { backups: 0, ..keep };
        if let (KeepPolicy::NOTHING, Some(last)) = (without_backups, &raw.keep_last) {
            let message = "every rule keeps 0 snapshots, so that hardly one would be left to go back to; write keep_last = 1 or more";
            return Err(self.at(last.span(), message));
        }
        Ok(RetentionConfig {
            keep,
            pinned: self.pins(raw.pinned.as_deref().unwrap_or_default())?,
            automatic: raw.automatic.unwrap_or(true),
            every: raw.collect_every.map_or(EVERY, |Time(time)| time),
            at_most: raw.collect_at_most.map_or(AT_MOST, |Time(time)| time),
            between: raw.collect_between.as_ref().map(|between| self.between(between)).transpose()?,
        })
    }

    fn pins(&self, written: &[Spanned<String>]) -> Result<BTreeSet<SnapshotId>, Complaint> {
        let pin = |text: &Spanned<String>| {
            text.get_ref().parse().map_err(|_| {
                let message = format!(
                    "{:?} is not the id of a snapshot, which has 64 hexadecimal digits; see it whole with: rfs-agent snapshots show {}",
                    text.get_ref(),
                    text.get_ref()
                );
                self.at(text.span(), message)
            })
        };
        written.iter().map(pin).collect()
    }

    fn between(&self, written: &Spanned<Vec<Spanned<String>>>) -> Result<(DayTime, DayTime), Complaint> {
        let [from, to] = written.get_ref().as_slice() else {
            return Err(
                self.at(written.span(), "write two times of day (UTC), such as [\"01:00\", \"05:00\"]")
            );
        };
        let read = |text: &Spanned<String>| {
            DayTime::parse(text.get_ref()).ok_or_else(|| {
                let message =
                    format!("{:?} is not a time of day; write it as \"01:00\" (UTC)", text.get_ref());
                self.at(text.span(), message)
            })
        };
        let (from, to) = (read(from)?, read(to)?);
        if from == to {
            return Err(
                self.at(written.span(), "both times are the same; leave the key out for the whole day")
            );
        }
        Ok((from, to))
    }

    pub(super) fn reserve(&self, written: Option<&Spanned<String>>) -> Result<ReserveRule, Complaint> {
        let Some(written) = written else { return Ok(ReserveRule::default()) };
        parse_reserve(written.get_ref()).ok_or_else(|| {
            let message = format!(
                "{:?} is not an amount of space; write it as \"512MiB\", \"2GiB\" or \"5%\" (at most 50%)",
                written.get_ref()
            );
            self.at(written.span(), message)
        })
    }
}

/// Reads `512MiB`, `2 GiB`, `5%`; none if it is neither.
fn parse_reserve(text: &str) -> Option<ReserveRule> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim_start() {
        "%" => return u8::try_from(number).ok().filter(|n| *n <= 50).map(ReserveRule::Percent),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1u64 << 40,
        _ => return None,
    };
    number.checked_mul(factor).map(|bytes| ReserveRule::Bytes(ByteCount(bytes)))
}
