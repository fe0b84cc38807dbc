//! Where the hosts of a rollback stand, in a line for each kind of place.

use rfs_proto::v1::{self, host_progress, rollback};
use rfs_rollout::plan::natural;
use rfs_rollout::some_names;

use crate::cli::table::Table;
use crate::cli::words::paint;

/// The hosts of a rollback by where they stand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Standing<'r> {
    /// At the target.
    pub changed: Vec<&'r str>,
    /// At the target, and failed there: not healthy, or not brought back as they were to be.
    pub changed_and_failed: Vec<&'r str>,
    /// On their way to the target.
    pub at_work: Vec<&'r str>,
    /// On their way back.
    pub going_back: Vec<&'r str>,
    /// As they were: never started.
    pub untouched: Vec<&'r str>,
    /// As they were: they went back, or could not be changed.
    pub as_before: Vec<&'r str>,
    /// As they were: they refuse a loss that was not accepted.
    pub refused: Vec<&'r str>,
    /// To be tried again.
    pub waiting: Vec<&'r str>,
    /// At the target, as far as anybody knows, because they were out of reach when they were to go back; they go back once they
    /// are there.
    pub left_behind: Vec<&'r str>,
    /// Left out.
    pub left_out: Vec<&'r str>,
    /// Left out, and not waited for any more.
    pub superseded: Vec<&'r str>,
    /// Nobody knows.
    pub unknown: Vec<&'r str>,
    /// At neither state.
    pub between: Vec<&'r str>,
    /// Those that can be tried again, wherever they stand.
    pub failed: Vec<&'r str>,
}

impl<'r> Standing<'r> {
    /// Sorts the hosts of a rollback.
    pub(in crate::cli) fn of(rollback: &'r v1::Rollback) -> Self {
        use host_progress::State as S;
        let mut standing = Self::default();
        let mut hosts: Vec<_> = rollback.waves.iter().flat_map(|wave| &wave.hosts).collect();
        hosts.sort_by_cached_key(|host| natural(&host.host));
        for host in hosts {
            if matches!(host.state(), S::Unhealthy | S::Unchanged | S::Refused | S::Lost) {
                standing.failed.push(&host.host);
            }
            let place = match host.state() {
                S::Skipped | S::Waiting if is_left_behind(rollback, host) => &mut standing.left_behind,
                S::Applied | S::Passed => &mut standing.changed,
                S::Unhealthy | S::RevertFailed => &mut standing.changed_and_failed,
                S::Applying => &mut standing.at_work,
                S::Reverting => &mut standing.going_back,
                S::Untouched | S::Unspecified => &mut standing.untouched,
                S::Unchanged | S::Reverted => &mut standing.as_before,
                S::Refused => &mut standing.refused,
                S::Waiting => &mut standing.waiting,
                S::Skipped => &mut standing.left_out,
                S::Superseded => &mut standing.superseded,
                S::Lost => &mut standing.unknown,
                S::Inconsistent => &mut standing.between,
            };
            place.push(host.host.as_str());
        }
        standing
    }

    /// Whether an undo would have something to bring back.
    pub(in crate::cli) fn any_changed(&self) -> bool {
        let changed = [&self.changed, &self.changed_and_failed, &self.left_behind];
        changed.iter().any(|hosts| !hosts.is_empty())
    }

    /// The hosts that an undo would bring back.
    pub(in crate::cli) fn all_changed(&self) -> String {
        let all: Vec<&str> =
            self.changed.iter().chain(&self.changed_and_failed).chain(&self.left_behind).copied().collect();
        names(&all)
    }
}

/// Whether a host is at its target because it was out of reach on the way back. One that was left out on the way forward has
/// not been changed.
pub(super) fn is_left_behind(rollback: &v1::Rollback, host: &v1::HostProgress) -> bool {
    use host_progress::State as S;
    let went_back = rollback.state() == rollback::State::Reverting
        || rollback.outcome() == rollback::Outcome::RevertFailed;
    let waits = matches!(host.state(), S::Skipped | S::Waiting);
    went_back && waits && host.failure.is_some() && !host.backup.is_empty()
}

/// Names in a sentence.
pub(in crate::cli) fn names(hosts: &[&str]) -> String {
    some_names(hosts.iter().copied())
}

/// A line for each kind of place at which there are hosts.
pub(in crate::cli) fn standing_lines(rollback: &v1::Rollback) -> Vec<String> {
    let standing = Standing::of(rollback);
    let undo = !rollback.undo_of.is_empty();
    let mut table = Table::bare();
    let mut row = |what: String, hosts: &[&str]| {
        if !hosts.is_empty() {
            table.row([format!("  {what}"), names(hosts)]);
        }
    };
    let target = if undo { "at its backup" } else { "at the checkpoint" };
    row(target.to_owned(), &standing.changed);
    row(paint::bad(format!("{target}, and failed")), &standing.changed_and_failed);
    row(paint::doubt("goes back when it is there"), &standing.left_behind);
    row(paint::doubt("at work"), &standing.at_work);
    row(paint::doubt("going back"), &standing.going_back);
    row("as before".to_owned(), &standing.as_before);
    row(paint::bad("as before, and refused"), &standing.refused);
    row("not started".to_owned(), &standing.untouched);
    row(paint::doubt("to be tried again"), &standing.waiting);
    row(paint::doubt("left out"), &standing.left_out);
    row(paint::bad("not waited for"), &standing.superseded);
    row(paint::bad("not known where"), &standing.unknown);
    row(paint::alarm("INCONSISTENT"), &standing.between);
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_its_place_in_one_line() {
        use host_progress::State as S;
        let states = [
            ("web-10", S::Passed),
            ("web-2", S::Applied),
            ("a", S::Unhealthy),
            ("b", S::Untouched),
            ("c", S::Reverted),
            ("f", S::Refused),
            ("d", S::Lost),
            ("e", S::Inconsistent),
        ];
        let hosts = states.map(|(host, state)| v1::HostProgress {
            host: host.into(),
            state: state.into(),
            ..Default::default()
        });
        let wave = v1::Wave { hosts: hosts.to_vec(), ..Default::default() };
        let rollback = v1::Rollback { waves: vec![wave], ..Default::default() };
        let lines = standing_lines(&rollback);
        let plain: Vec<_> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!(
            plain,
            [
                "  at the checkpoint              web-2, web-10",
                "  at the checkpoint, and failed  a",
                "  as before                      c",
                "  as before, and refused         f",
                "  not started                    b",
                "  not known where                d",
                "  INCONSISTENT                   e",
            ]
        );
        assert_eq!(Standing::of(&rollback).all_changed(), "web-2, web-10, a");
    }
}
