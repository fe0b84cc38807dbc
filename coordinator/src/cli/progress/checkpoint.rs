//! A checkpoint as people watch it.

use rfs_link::Exit;
use rfs_model::{ByteCount, Timestamp};
use rfs_proto::v1::{self, checkpoint, host_snapshot};

use super::remedy::{Remedies, next_of};
use super::{Told, Watched, elapsed, in_order, names};
use crate::cli::rollback::health_lines;
use crate::cli::table::Table;
use crate::cli::words::{self, count, id, paint};
use crate::duration::show_wire;

/// How many notes of all hosts are printed before they are cut short.
const NOTES: usize = 40;

/// How many reasons why hosts are missing are printed before they are cut short.
const REASONS: usize = 10;

impl Watched for v1::Checkpoint {
    fn picture(&self, height: usize, now: Timestamp) -> Vec<String> {
        let durable =
            self.snapshots.iter().filter(|host| host.state() == host_snapshot::State::Durable).count();
        let state = checkpoint_state(self);
        let of = count(self.snapshots.len(), "host");
        let took = elapsed(self.create_time, self.complete_time, now);
        let mut lines =
            vec![format!("{}  {state}  {durable} of {of} durable{took}", paint::label(&self.name))];
        let room = height.saturating_sub(1);
        let mut hosts: Vec<_> = self.snapshots.iter().collect();
        let mut rest = 0;
        if hosts.len() > room {
            hosts.sort_by_key(|host| rank(host.state()));
            rest = hosts.split_off(room.saturating_sub(1)).len();
        }
        let mut table = Table::bare();
        hosts.iter().for_each(|host| table.row(row(host)));
        lines.extend(table.lines());
        if rest > 0 {
            lines.push(paint::faint(format!("  … and {rest} more")));
        }
        lines
    }

    fn changes(&self, before: Option<&Self>) -> Vec<Told> {
        let mut lines = Vec::new();
        if before.is_none() {
            let text = format!("{}: {}", self.name, count(self.snapshots.len(), "host"));
            lines.push(Told::at(self.create_time, text));
        }
        let mut failed = Vec::new();
        for (place, host) in self.snapshots.iter().enumerate() {
            let earlier = before.and_then(|before| before.snapshots.get(place));
            let was = earlier.filter(|earlier| earlier.host == host.host);
            if was.is_some_and(|was| was.state() == host.state() && was.phase == host.phase) {
                continue;
            }
            // The steps between are too short-lived to be told one by one.
            match host.state() {
                host_snapshot::State::Durable => {
                    let text = row(host).map(|cell| cell.trim().to_owned()).join(" ");
                    lines.push(Told::at(host.finish_time.or(self.update_time), text.trim()));
                }
                host_snapshot::State::Failed => failed.push(host),
                // A wait may last, so it is told.
                _ if !host.phase.is_empty() => {
                    let state = words::snapshot_state(host.state());
                    lines.push(Told::at(self.update_time, format!("{} {state}, {}", host.host, host.phase)));
                }
                host_snapshot::State::Pending
                | host_snapshot::State::Preparing
                | host_snapshot::State::Prepared
                | host_snapshot::State::Cutting
                | host_snapshot::State::Unspecified => {}
            }
        }
        // Hosts that failed for the same reason are told of in one line, at the time of the last of them.
        for (why, hosts) in by_reason(&failed) {
            let times = failed.iter().filter(|host| hosts.contains(&host.host.as_str()));
            let last = times.filter_map(|host| host.finish_time).max_by_key(|at| (at.seconds, at.nanos));
            let state = words::snapshot_state(host_snapshot::State::Failed);
            let text = format!("{} {state} {}", names(&hosts), paint::bad(why));
            lines.push(Told::at(last.or(self.update_time), text));
        }
        in_order(lines)
    }

    fn verdict(&self) -> Option<Exit> {
        match self.state() {
            checkpoint::State::Creating | checkpoint::State::Unspecified => None,
            checkpoint::State::Complete => Some(Exit::Done),
            checkpoint::State::Incomplete | checkpoint::State::Aborted => Some(Exit::Failed),
        }
    }

    fn closing(&self) -> Vec<String> {
        let state = checkpoint_state(self);
        if self.state() != checkpoint::State::Complete {
            let mut lines = vec![format!("{} is {state}; it is no target for a rollback", self.name)];
            lines.extend(missing_lines(self));
            lines.extend(note_lines(self));
            let next = format!(
                "put right what is named and take another: rfs checkpoint create; details: rfs checkpoint show {}",
                id(&self.name)
            );
            lines.push(format!("{} {next}", paint::label("next:")));
            return lines;
        }
        let bytes = |of: fn(&v1::HostSnapshot) -> u64| ByteCount(self.snapshots.iter().map(of).sum());
        let skew = self.skew.map(|skew| format!(", cut within {}", show_wire(skew))).unwrap_or_default();
        let (all, new) = (bytes(|host| host.bytes), bytes(|host| host.new_bytes));
        let mut lines = vec![format!("{} is {state}: {all}, {new} stored anew{skew}", self.name)];
        if self.missing_count > 0 {
            let text = "a rollback to it does not change the hosts that it lacks:";
            lines.push(paint::doubt(text));
            lines.extend(missing_lines(self));
        }
        if self.snapshots.iter().any(|host| host.health() != v1::Health::Good) {
            lines.extend(health_lines(self));
        }
        lines.extend(note_lines(self));
        let go_back = format!("rfs rollback plan --checkpoint {}", id(&self.name));
        lines.push(format!("{} {go_back}", paint::label("to go back:")));
        lines
    }
}

/// A checkpoint's state, with how many hosts one that is complete lacks.
pub(in crate::cli) fn checkpoint_state(checkpoint: &v1::Checkpoint) -> String {
    let state = words::checkpoint_state(checkpoint.state());
    match checkpoint.missing_count {
        many @ 1.. if checkpoint.state() == checkpoint::State::Complete => {
            let of = count(usize::try_from(checkpoint.host_count).unwrap_or(usize::MAX), "host");
            format!("{state} {}", paint::doubt(format!("without {many} of {of}")))
        }
        _ => state,
    }
}

/// The hosts of which an ended checkpoint has no snapshot, by why, and what to do about them.
fn missing_lines(checkpoint: &v1::Checkpoint) -> Vec<String> {
    let missing: Vec<&v1::HostSnapshot> = missing(checkpoint).collect();
    let reasons = by_reason(&missing);
    let line = |(why, hosts): &(&str, Vec<&str>)| format!("  {}: {why}", names(hosts));
    let mut lines: Vec<String> = reasons.iter().take(REASONS).map(line).collect();
    let more = reasons.iter().skip(REASONS).map(|(_, hosts)| hosts.len()).sum::<usize>();
    if more > 0 {
        let all = format!("rfs checkpoint show {}", id(&checkpoint.name));
        lines.push(format!("  … and {}; all of them: {all}", count(more, "more host")));
    }
    lines.extend(remedy_lines(checkpoint));
    lines
}

/// Why hosts have no snapshot, each reason once with its hosts.
fn by_reason<'c>(hosts: &[&'c v1::HostSnapshot]) -> Vec<(&'c str, Vec<&'c str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for host in hosts {
        let why = host.failure.as_ref().map_or("not captured", |failure| failure.message.as_str());
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, hosts)) => hosts.push(&host.host),
            None => reasons.push((why, vec![&host.host])),
        }
    }
    reasons
}

/// What to do about the hosts of which an ended checkpoint has no snapshot: each sentence once.
pub(in crate::cli) fn remedy_lines(checkpoint: &v1::Checkpoint) -> Vec<String> {
    let missing = missing(checkpoint);
    let remedies = Remedies::of(missing.map(|host| (host.host.as_str(), next_of(host.failure.as_ref()))));
    remedies.lines("  ", &format!("rfs checkpoint show {} --output json", id(&checkpoint.name)))
}

fn missing(checkpoint: &v1::Checkpoint) -> impl Iterator<Item = &v1::HostSnapshot> {
    checkpoint.snapshots.iter().filter(|host| host.state() == host_snapshot::State::Failed)
}

/// What hosts had to say of what they captured, such as a path that is not there: each sentence once, with its hosts.
pub(in crate::cli) fn note_lines(checkpoint: &v1::Checkpoint) -> Vec<String> {
    let mut hosts_by_note: Vec<(&str, Vec<&str>)> = Vec::new();
    for host in &checkpoint.snapshots {
        for note in &host.notes {
            match hosts_by_note.iter_mut().find(|(known, _)| known == note) {
                Some((_, hosts)) => hosts.push(&host.host),
                None => hosts_by_note.push((note, vec![&host.host])),
            }
        }
    }
    let more = hosts_by_note.len().saturating_sub(NOTES);
    let line =
        |(note, hosts): &(&str, Vec<&str>)| format!("{} {}: {note}", paint::label("note:"), names(hosts));
    let mut lines: Vec<String> = hosts_by_note.iter().take(NOTES).map(line).collect();
    if more > 0 {
        let all = format!("rfs checkpoint show {} --output json", id(&checkpoint.name));
        lines.push(format!("… and {more} more notes; all of them: {all}"));
    }
    lines
}

fn rank(state: host_snapshot::State) -> u8 {
    use host_snapshot::State as S;
    match state {
        S::Failed => 0,
        S::Preparing | S::Cutting => 1,
        S::Prepared => 2,
        S::Pending | S::Unspecified => 3,
        S::Durable => 4,
    }
}

fn row(host: &v1::HostSnapshot) -> [String; 3] {
    let detail = match (&host.failure, host.state()) {
        (Some(failure), _) => paint::bad(&failure.message),
        (None, host_snapshot::State::Durable) => {
            let took = host
                .duration
                .map(|took| format!(", {} after the checkpoint began", show_wire(took)))
                .unwrap_or_default();
            format!("{}, {} stored anew{took}", ByteCount(host.bytes), ByteCount(host.new_bytes))
        }
        (None, _) => host.phase.clone(),
    };
    [format!("  {}", host.host), words::snapshot_state(host.state()), detail]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, state: host_snapshot::State) -> v1::HostSnapshot {
        v1::HostSnapshot {
            host: name.into(),
            state: state.into(),
            bytes: 2048,
            new_bytes: 10,
            ..Default::default()
        }
    }

    fn plain(lines: Vec<String>) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn an_incomplete_checkpoint_says_which_hosts_are_missing_and_why() {
        let mut watched = v1::Checkpoint {
            name: "checkpoints/c".into(),
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            state: checkpoint::State::Incomplete.into(),
            snapshots: vec![
                host("web-1", host_snapshot::State::Durable),
                host("db", host_snapshot::State::Failed),
            ],
            ..Default::default()
        };
        watched.snapshots[1].failure =
            Some(rfs_proto::convert::failure(rfs_model::Reason::NoSpace, "/var/lib/rfs is full", ""));
        assert_eq!(
            plain(watched.picture(9, Timestamp(3_200))),
            [
                "checkpoints/c  incomplete  1 of 2 hosts durable  2.2 s",
                "  web-1  durable  2.0 KiB, 10 B stored anew",
                "  db     failed   /var/lib/rfs is full",
            ]
        );
        assert_eq!(
            plain(watched.picture(2, Timestamp(3_200))),
            ["checkpoints/c  incomplete  1 of 2 hosts durable  2.2 s", "  … and 2 more"]
        );
        assert_eq!(
            plain(watched.changes(None).into_iter().map(|told| told.text).collect()),
            [
                "checkpoints/c: 2 hosts",
                "web-1 durable 2.0 KiB, 10 B stored anew",
                "db failed /var/lib/rfs is full",
            ]
        );
        assert_eq!(
            plain(watched.closing())[..2],
            ["checkpoints/c is incomplete; it is no target for a rollback", "  db: /var/lib/rfs is full",]
        );
        assert_eq!(watched.verdict(), Some(Exit::Failed));
    }

    #[test]
    fn what_a_host_waits_for_is_said_once() {
        let mut busy = host("db", host_snapshot::State::Preparing);
        let checkpoint = |host: &v1::HostSnapshot| v1::Checkpoint {
            name: "checkpoints/c".into(),
            state: checkpoint::State::Creating.into(),
            snapshots: vec![host.clone()],
            ..Default::default()
        };
        let texts = |told: Vec<Told>| plain(told.into_iter().map(|told| told.text).collect());
        let before = checkpoint(&busy);
        busy.phase = "waiting for a capture".into();
        let waits = checkpoint(&busy);
        assert_eq!(texts(waits.changes(Some(&before))), ["db preparing, waiting for a capture"]);
        assert_eq!(plain(waits.picture(9, Timestamp(0)))[1], "  db  preparing  waiting for a capture");
        assert_eq!(texts(waits.changes(Some(&waits))), [""; 0]);
        assert_eq!(texts(before.changes(Some(&waits))), [""; 0]);
    }

    #[test]
    fn many_hosts_that_are_missing_for_one_reason_are_a_line_here_and_there() {
        let mut watched = v1::Checkpoint {
            name: "checkpoints/c".into(),
            state: checkpoint::State::Incomplete.into(),
            snapshots: (1..=30)
                .map(|number| host(&format!("web-{number}"), host_snapshot::State::Failed))
                .collect(),
            ..Default::default()
        };
        let next = "start rfs-agent there, or allow missing hosts: --allow-missing N";
        let failure =
            rfs_proto::convert::failure(rfs_model::Reason::HostUnreachable, "no connection for 30s", next);
        watched.snapshots.iter_mut().for_each(|host| host.failure = Some(failure.clone()));
        let who = "web-1, web-2, web-3, web-4, web-5, web-6 and 24 more";
        let told = plain(watched.changes(None).into_iter().map(|told| told.text).collect());
        assert_eq!(told[1..], [format!("{who} failed no connection for 30s")]);
        assert_eq!(
            plain(watched.closing())[1..3],
            [
                format!("  {who}: no connection for 30s"),
                format!("  next: start rfs-agent on {who}, or allow missing hosts: --allow-missing N"),
            ]
        );
    }

    #[test]
    fn a_complete_checkpoint_names_the_hosts_that_it_lacks_and_how_to_forget_those_that_are_gone() {
        let mut watched = v1::Checkpoint {
            name: "checkpoints/c".into(),
            state: checkpoint::State::Complete.into(),
            snapshots: vec![
                host("web-1", host_snapshot::State::Durable),
                host("web-2", host_snapshot::State::Failed),
            ],
            host_count: 2,
            missing_count: 1,
            ..Default::default()
        };
        let failure = rfs_proto::convert::failure(
            rfs_model::Reason::HostUnreachable,
            "not seen for 45 days",
            "if it is gone for good: rfs host forget web-2",
        );
        watched.snapshots[1].failure = Some(failure);
        let closing = plain(watched.closing());
        assert_eq!(closing[0], "checkpoints/c is complete without 1 of 2 hosts: 4.0 KiB, 20 B stored anew");
        assert_eq!(
            closing[1..4],
            [
                "a rollback to it does not change the hosts that it lacks:",
                "  web-2: not seen for 45 days",
                "  next: if it is gone for good: rfs host forget web-2",
            ]
        );
        assert_eq!(watched.verdict(), Some(Exit::Done));
        watched.set_state(checkpoint::State::Incomplete);
        let closing = plain(watched.closing());
        assert_eq!(closing[0], "checkpoints/c is incomplete; it is no target for a rollback");
        assert!(closing.iter().any(|line| line.ends_with("rfs host forget web-2")), "{closing:?}");
    }

    #[test]
    fn what_hosts_captured_and_had_to_say_of_it_is_named_with_the_hosts() {
        let mut watched = v1::Checkpoint {
            name: "checkpoints/c".into(),
            state: checkpoint::State::Complete.into(),
            snapshots: ["web-1", "web-2"].map(|name| host(name, host_snapshot::State::Durable)).into(),
            ..Default::default()
        };
        watched.snapshots[0].notes = vec!["/srv/stie is not there".into(), "/srv/x is empty".into()];
        watched.snapshots[1].notes = vec!["/srv/stie is not there".into()];
        let closing = plain(watched.closing());
        for line in ["note: web-1, web-2: /srv/stie is not there", "note: web-1: /srv/x is empty"] {
            assert!(closing.iter().any(|told| told == line), "{closing:?}");
        }
        watched.snapshots[0].notes = (0..500).map(|number| number.to_string()).collect();
        assert_eq!(note_lines(&watched).len(), NOTES + 1);
    }
}
