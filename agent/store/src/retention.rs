//! Retention: which snapshots stay, by rules alone. Nothing here touches a disk.
//!
//! Whatever a policy says, these stay: the newest snapshot, the last one proven good, every one in use, every pin.

use std::collections::BTreeMap;
use std::fmt;

use rfs_model::{SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::snapshot::SnapshotInfo;

/// How many snapshots are kept, of which kind. A snapshot stays if any rule wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepPolicy {
    /// The last so many.
    pub last: u32,
    /// The last of each of so many hours that have one.
    pub hourly: u32,
    /// The last of each of so many days (UTC) that have one.
    pub daily: u32,
    /// The last of each of so many weeks (from Monday, UTC) that have one.
    pub weekly: u32,
    /// The last of each of so many calendar months (UTC) that have one.
    pub monthly: u32,
    /// The last so many backups, which restores take by themselves. No other rule counts them, so that many restores push
    /// nothing else out.
    pub backups: u32,
}

impl Default for KeepPolicy {
    fn default() -> Self {
        Self { last: 10, hourly: 24, daily: 7, weekly: 4, monthly: 0, backups: 10 }
    }
}

impl KeepPolicy {
    /// Keeps what may not be deleted, and nothing else.
    pub const NOTHING: Self = Self { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, backups: 0 };
}

/// Who holds the newest complete checkpoint: see [`crate::Store::hold_checkpoint`].
pub const NEWEST_CHECKPOINT: &str = "newest-checkpoint";

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is the newest.
    Newest,
    /// It is the newest complete checkpoint.
    NewestCheckpoint,
    /// It is the last one that was proven to restore.
    LastProven,
    /// Someone needs it.
    InUse(String),
    /// A person pinned it.
    Pinned(String),
    /// A rule of the policy wants it.
    Policy(&'static str),
}

impl Kept {
    /// Whether no policy and no request may delete it.
    pub fn is_undeletable(&self) -> bool {
        !matches!(self, Self::Policy(_))
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("it is the newest"),
            Self::NewestCheckpoint => f.write_str("it is the newest complete checkpoint"),
            Self::LastProven => f.write_str("it is the last one proven to restore"),
            Self::InUse(why) => write!(f, "it is in use: {why}"),
            Self::Pinned(why) => write!(f, "it is pinned: {why}"),
            Self::Policy(rule) => write!(f, "it is kept by the rule {rule}"),
        }
    }
}

/// Why each snapshot that stays does so. `snapshots` are in the order of their sequence, the oldest first.
pub fn kept(snapshots: &[SnapshotInfo], policy: &KeepPolicy) -> BTreeMap<SnapshotId, Kept> {
    let mut kept = BTreeMap::new();
    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    let hour = |at: Timestamp| at.0.div_euclid(HOUR);
    let day = |at: Timestamp| at.0.div_euclid(DAY);
    // The epoch was a Thursday.
    let week = |at: Timestamp| (at.0.div_euclid(DAY) + 3).div_euclid(7);
    let month = |at: Timestamp| month_of(at.0.div_euclid(DAY));
    let counter = || {
        let mut number = 0;
        move |_| {
            number += 1;
            number
        }
    };
    let (mut each, mut each_backup) = (counter(), counter());
    type Period<'p> = &'p mut dyn FnMut(Timestamp) -> i64;
    let rules: [(&'static str, u32, bool, Period<'_>); 6] = [
        ("last", policy.last, false, &mut each),
        ("hourly", policy.hourly, false, &mut { hour }),
        ("daily", policy.daily, false, &mut { day }),
        ("weekly", policy.weekly, false, &mut { week }),
        ("monthly", policy.monthly, false, &mut { month }),
        ("backups", policy.backups, true, &mut each_backup),
    ];
    for (rule, count, of_backups, period) in rules {
        let mut left = count;
        let mut before = None;
        for snapshot in snapshots.iter().rev().filter(|snapshot| snapshot.is_backup() == of_backups) {
            let period = Some(period(snapshot.taken_at));
            if left == 0 || period == before {
                continue;
            }
            (left, before) = (left - 1, period);
            kept.entry(snapshot.id).or_insert(Kept::Policy(rule));
        }
    }
    kept.extend(
        snapshots.iter().filter_map(|snapshot| Some((snapshot.id, undeletable(snapshots, snapshot)?))),
    );
    kept
}

/// Why a snapshot may not be deleted by anyone, if that is so.
pub fn undeletable(snapshots: &[SnapshotInfo], snapshot: &SnapshotInfo) -> Option<Kept> {
    let marks = &snapshot.marks;
    // What only says that it is the newest checkpoint is said last.
    if let Some((who, why)) = marks.in_use.iter().find(|(who, _)| *who != NEWEST_CHECKPOINT) {
        return Some(Kept::InUse(format!("{why} ({who})")));
    }
    if let Some(why) = &marks.pinned {
        return Some(Kept::Pinned(why.clone()));
    }
    if snapshots.last().is_some_and(|newest| newest.id == snapshot.id) {
        return Some(Kept::Newest);
    }
    if marks.in_use.contains_key(NEWEST_CHECKPOINT) {
        return Some(Kept::NewestCheckpoint);
    }
    let last_proven = snapshots.iter().rev().find(|other| other.marks.proof.is_some());
    last_proven.filter(|proven| proven.id == snapshot.id).map(|_| Kept::LastProven)
}

/// Numbers the months of the Gregorian calendar, from a day's distance to 1970-01-01.
fn month_of(day: i64) -> i64 {
    // Years of this count begin in March, so that a leap day is the last of its year.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * day + 2) / 153
}

#[cfg(test)]
mod tests {
    use rfs_model::{Digest, HostId};

    use super::*;
    use crate::marks::{Marks, Proof};

    const HOUR: i64 = 3_600_000;

    /// Snapshots that were taken at these hours since a Monday; `b` a backup, `p` pinned, `u` in use, `v` proven.
    fn check(taken: &[(i64, &str)], policy: KeepPolicy, expected: &str) {
        let monday = 4 * 24 * HOUR;
        let snapshots: Vec<_> = taken
            .iter()
            .enumerate()
            .map(|(i, (hours, marks))| SnapshotInfo {
                id: SnapshotId(Digest::from_bytes([i as u8; 32])),
                sequence: i as u64,
                host: HostId::new("web-1").expect("a name"),
                taken_at: Timestamp(monday + hours * HOUR),
                label: if marks.contains('b') { "backup: before release 7".into() } else { String::new() },
                operation: None,
                components: Vec::new(),
                marks: Marks {
                    pinned: marks.contains('p').then(|| "audit".to_owned()),
                    in_use: marks
                        .contains('u')
                        .then(|| ("r1".to_owned(), "backup".to_owned()))
                        .into_iter()
                        .collect(),
                    proof: marks
                        .contains('v')
                        .then_some(Proof { verified_at: Timestamp(0), restore_millis: 1 }),
                    harmed: None,
                },
            })
            .collect();
        let kept = kept(&snapshots, &policy);
        let text: Vec<_> = kept.iter().map(|(id, why)| format!("{}: {why}", id.0.as_bytes()[0])).collect();
        assert_eq!(text.join(" | "), expected);
    }

    #[test]
    fn the_rules_keep_the_last_of_each_period() {
        let none = KeepPolicy::NOTHING;
        let taken = [(0, ""), (1, ""), (1, ""), (30, ""), (200, "")];
        check(&taken, KeepPolicy { last: 2, ..none }, "3: it is kept by the rule last | 4: it is the newest");
        check(
            &taken,
            KeepPolicy { hourly: 3, ..none },
            "2: it is kept by the rule hourly | 3: it is kept by the rule hourly | 4: it is the newest",
        );
        check(
            &taken,
            KeepPolicy { daily: 9, ..none },
            "2: it is kept by the rule daily | 3: it is kept by the rule daily | 4: it is the newest",
        );
        check(
            &taken,
            KeepPolicy { weekly: 9, ..none },
            "3: it is kept by the rule weekly | 4: it is the newest",
        );
    }

    #[test]
    fn backups_have_a_count_of_their_own_and_push_nothing_out() {
        let policy = KeepPolicy { last: 2, backups: 1, ..KeepPolicy::NOTHING };
        let taken = [(0, ""), (1, ""), (2, ""), (3, "b"), (4, "b"), (5, "b"), (6, "b")];
        check(
            &taken,
            policy,
            "1: it is kept by the rule last | 2: it is kept by the rule last | 6: it is the newest",
        );
        check(
            &taken,
            KeepPolicy { backups: 3, hourly: 1, ..KeepPolicy::NOTHING },
            "2: it is kept by the rule hourly | 4: it is kept by the rule backups | 5: it is kept by the rule backups | \
             6: it is the newest",
        );
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        // 1970-01-01, 1970-01-31, 1970-02-01, 1972-02-29, 1972-03-01, 2000-02-29, 2000-03-01, 2026-12-31, 1969-12-31
        let days = [0, 30, 31, 789, 790, 11_016, 11_017, 20_818, -1];
        let months: Vec<i64> = days.iter().map(|day| month_of(*day) - month_of(0)).collect();
        assert_eq!(months, [0, 0, 1, 25, 26, 361, 362, 683, -1]);
        let taken = [(0, ""), (10 * 24, ""), (40 * 24, ""), (41 * 24, "")];
        let policy = KeepPolicy { monthly: 2, ..KeepPolicy::NOTHING };
        check(&taken, policy, "1: it is kept by the rule monthly | 3: it is the newest");
    }

    #[test]
    fn no_policy_deletes_what_a_host_needs() {
        let none = KeepPolicy::NOTHING;
        check(&[], none, "");
        check(
            &[(0, "v"), (1, "v"), (2, "u"), (3, "p"), (4, ""), (5, "")],
            none,
            "1: it is the last one proven to restore | 2: it is in use: backup (r1) | 3: it is pinned: audit | 5: it is the newest",
        );
    }

    #[test]
    fn a_clock_that_jumped_back_does_not_make_an_old_snapshot_the_newest() {
        let none = KeepPolicy { last: 1, ..KeepPolicy::NOTHING };
        check(&[(0, ""), (900, ""), (1, "")], none, "2: it is the newest");
    }
}
