//! What a rollback removed, kept and met on its hosts: what went, which snapshot has it, and how one of it comes back.

use rfs_model::ByteCount;
use rfs_proto::v1;
use rfs_rollout::plan::natural;

use super::After;
use super::rollback::hosts;
use super::standing::names;
use crate::cli::words::{id, paint};

/// For how many kinds of hosts it is said unless the whole record is shown.
const FEW: usize = 5;

/// What was lost, what was written since, and what there is to know, in lines; hosts of which the same is true share them.
pub(in crate::cli) fn loss_lines(rollback: &v1::Rollback, after: After) -> Vec<String> {
    let groups = alike(rollback);
    let most = if after == After::Record { usize::MAX } else { FEW };
    let mut lines: Vec<String> = groups.iter().take(most).flat_map(|alike| alike.lines(after)).collect();
    let rest: usize = groups.iter().skip(most).map(|alike| alike.hosts.len()).sum();
    if rest > 0 {
        let hosts = if rest == 1 { "host" } else { "hosts" };
        lines.push(format!(
            "… and {rest} more {hosts}; all of them: rfs rollback show {}",
            id(&rollback.name)
        ));
    }
    lines
}

/// Hosts of which the same is to be said.
struct Alike<'r> {
    hosts: Vec<&'r v1::HostProgress>,
}

fn alike(rollback: &v1::Rollback) -> Vec<Alike<'_>> {
    let told = |host: &&v1::HostProgress| {
        let now = host.lost.is_some() || host.written.is_some() || host.appeared.is_some();
        now || !host.notes.is_empty() || !host.removed_before.is_empty()
    };
    let mut told: Vec<&v1::HostProgress> = hosts(rollback).filter(told).collect();
    told.sort_by_cached_key(|host| natural(&host.host));
    let mut groups: Vec<Alike<'_>> = Vec::new();
    for host in told {
        let same = |alike: &&mut Alike<'_>| says_the_same(alike.hosts[0], host);
        match groups.iter_mut().find(same) {
            Some(alike) => alike.hosts.push(host),
            None => groups.push(Alike { hosts: vec![host] }),
        }
    }
    groups
}

fn says_the_same(a: &v1::HostProgress, b: &v1::HostProgress) -> bool {
    // Backups have names of their own on each host.
    let before = |host: &v1::HostProgress| -> Vec<_> {
        host.removed_before.iter().map(|removed| (removed.lost.clone(), removed.instance.clone())).collect()
    };
    (&a.lost, &a.appeared, &a.written, &a.notes, before(a))
        == (&b.lost, &b.appeared, &b.written, &b.notes, before(b))
}

impl Alike<'_> {
    fn lines(&self, after: After) -> Vec<String> {
        let first = self.hosts[0];
        let who: Vec<&str> = self.hosts.iter().map(|host| host.host.as_str()).collect();
        let who = names(&who);
        let mut lines = Vec::new();
        for before in &first.removed_before {
            let Some(lost) = &before.lost else { continue };
            let (when, place) = match before.instance.as_str() {
                "" => (" before its last change".to_owned(), ""),
                machine => {
                    (format!(" while another machine spoke for it (instance {machine})"), "that machine")
                }
            };
            lines.push(removed_line(&who, &when, lost));
            let until = ", unless a collection has removed it since";
            lines.push(self.kept(lost, &before.backup, until, &before.bring_back, place));
        }
        lines.extend(first.lost.iter().map(|lost| removed_line(&who, "", lost)));
        if let Some(appeared) = &first.appeared {
            lines.push(format!("  came after the plan: {}", named(appeared)));
        }
        if let Some(lost) = &first.lost {
            // The record of long ago does not know what the host has done since.
            let until = match after {
                After::Record => ", unless a later restore and a collection have removed it since",
                _ => ", at least until the next restore of the host",
            };
            lines.push(self.kept(lost, &first.loss_backup, until, &first.bring_back, ""));
        }
        if let Some(written) = &first.written {
            let paths = if written.count == 1 { "path" } else { "paths" };
            lines.push(format!(
                "{} {who}: {} {paths} after its services were started: {}",
                paint::label("written on"),
                written.count,
                named(written)
            ));
        }
        lines.extend(first.notes.iter().map(|note| format!("{} {who}: {note}", paint::label("note of"))));
        lines
    }

    /// Which snapshot has what was removed, and what brings one back: at that place, else on the first of the hosts.
    fn kept(
        &self,
        lost: &v1::ListedPaths,
        backup: &str,
        until: &str,
        bring_back: &str,
        place: &str,
    ) -> String {
        let backup = match self.hosts.as_slice() {
            [_] => format!("backup {}", backup.chars().take(12).collect::<String>()),
            _ => "a backup on each host".to_owned(),
        };
        let them = if lost.count == 1 { "it" } else { "them" };
        let back = match bring_back {
            "" => String::new(),
            command => {
                let place = if place.is_empty() { &self.hosts[0].host } else { place };
                format!("; bring one back, on {place}: {command}")
            }
        };
        format!("  {backup} keeps {them}{until}{back}")
    }
}

fn removed_line(who: &str, when: &str, lost: &v1::ListedPaths) -> String {
    let (what, bytes, entries) = (paint::doubt("removed on"), ByteCount(lost.bytes), entries(lost.count));
    format!("{what} {who}{when}: {entries} that the target does not have ({bytes}): {}", named(lost))
}

/// A count of entries.
pub(in crate::cli) fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn named(listed: &v1::ListedPaths) -> String {
    let more = listed.count.saturating_sub(listed.first.len() as u64);
    let names = listed.first.join(", ");
    match (listed.first.is_empty(), more) {
        (true, more) => format!("{more} with long names"),
        (false, 0) => names,
        (false, more) => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(count: u64, first: &[&str]) -> Option<v1::ListedPaths> {
        let first = first.iter().map(|path| (*path).to_owned()).collect();
        Some(v1::ListedPaths { count, bytes: 2048, first })
    }

    fn host(name: &str) -> v1::HostProgress {
        v1::HostProgress {
            host: name.into(),
            lost: listed(3, &["/srv/a", "/srv/b"]),
            loss_backup: format!("{name:0<64}"),
            bring_back: format!("rfs-agent restore {name:0<12} --path /srv/a"),
            ..Default::default()
        }
    }

    fn check(hosts: Vec<v1::HostProgress>, after: After, expected: &[&str]) {
        let wave = v1::Wave { hosts, ..Default::default() };
        let rollback = v1::Rollback { name: "rollbacks/r".into(), waves: vec![wave], ..Default::default() };
        let lines = loss_lines(&rollback, after);
        let lines: Vec<_> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_went_is_named_with_what_has_it_and_how_it_comes_back() {
        let web = v1::HostProgress {
            appeared: listed(1, &["/srv/b"]),
            written: listed(1, &["/srv/app.pid"]),
            notes: vec!["/srv/up/x is not in the snapshot and is kept".into()],
            ..host("web-1")
        };
        check(
            vec![v1::HostProgress { host: "quiet".into(), ..Default::default() }, web],
            After::Watching,
            &[
                "removed on web-1: 3 entries that the target does not have (2.0 KiB): /srv/a, /srv/b and 1 more",
                "  came after the plan: /srv/b",
                "  backup web-10000000 keeps them, at least until the next restore of the host; bring one back, on web-1: rfs-agent restore web-10000000 --path /srv/a",
                "written on web-1: 1 path after its services were started: /srv/app.pid",
                "note of web-1: /srv/up/x is not in the snapshot and is kept",
            ],
        );
    }

    #[test]
    fn what_an_earlier_change_removed_is_named_with_its_own_backup() {
        let before = v1::RemovedPaths {
            lost: listed(1, &["/srv/photo"]),
            backup: format!("{:0<64}", "first"),
            bring_back: "rfs-agent restore first0000000 --path /srv/photo".into(),
            ..Default::default()
        };
        let elsewhere = v1::RemovedPaths { instance: "6f2c".into(), ..before.clone() };
        let web = v1::HostProgress {
            host: "web-1".into(),
            removed_before: vec![before, elsewhere],
            ..Default::default()
        };
        check(
            vec![web],
            After::Watching,
            &[
                "removed on web-1 before its last change: 1 entry that the target does not have (2.0 KiB): /srv/photo",
                "  backup first0000000 keeps it, unless a collection has removed it since; bring one back, on web-1: rfs-agent restore first0000000 --path /srv/photo",
                "removed on web-1 while another machine spoke for it (instance 6f2c): 1 entry that the target does not have (2.0 KiB): /srv/photo",
                "  backup first0000000 keeps it, unless a collection has removed it since; bring one back, on that machine: rfs-agent restore first0000000 --path /srv/photo",
            ],
        );
    }

    #[test]
    fn hosts_of_which_the_same_is_true_share_their_lines_and_many_are_cut_short() {
        check(
            vec![host("b"), host("a")],
            After::Watching,
            &[
                "removed on a, b: 3 entries that the target does not have (2.0 KiB): /srv/a, /srv/b and 1 more",
                "  a backup on each host keeps them, at least until the next restore of the host; bring one back, on a: rfs-agent restore a00000000000 --path /srv/a",
            ],
        );
        let written = |number: u64| v1::HostProgress {
            host: format!("h{number}"),
            written: listed(number, &["/x"]),
            ..Default::default()
        };
        let wave = v1::Wave { hosts: (1..=8).map(written).collect(), ..Default::default() };
        let rollback = v1::Rollback { name: "rollbacks/r".into(), waves: vec![wave], ..Default::default() };
        let lines = loss_lines(&rollback, After::Watching);
        assert_eq!((lines.len(), &*lines[5]), (6, "… and 3 more hosts; all of them: rfs rollback show r"));
        assert_eq!(loss_lines(&rollback, After::Record).len(), 8);
    }
}
