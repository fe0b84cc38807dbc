//! A rollback as people watch it: a header, a line for each wave, a row for each host that matters now.

use rfs_link::Exit;
use rfs_model::Reason;
use rfs_proto::v1::{self, host_progress, rollback, wave};

use super::{Watched, some_names};
use crate::cli::duration::show_wire;
use crate::cli::table::Table;
use crate::cli::words::{self, count, id, paint};

impl Watched for v1::Rollback {
    fn picture(&self, height: usize) -> Vec<String> {
        let mut lines = vec![header(self)];
        if let Some(cause) = self.cause.as_ref() {
            lines.push(format!("  {}", paint::bad(&cause.message)));
        }
        let room = height.saturating_sub(lines.len());
        lines.extend(waves(&self.waves, room));
        lines
    }

    fn changes(&self, before: Option<&Self>) -> Vec<String> {
        let mut lines = Vec::new();
        if before.is_none() {
            lines.push(format!("{} to {}: {}", self.name, target(self), extent(self)));
        }
        for (number, wave) in (1..).zip(&self.waves) {
            let earlier = before.and_then(|before| before.waves.get(number - 1));
            wave_changes(number, self.waves.len(), wave, earlier, &mut lines);
        }
        let was = before.map_or(rollback::State::Running, v1::Rollback::state);
        if self.state() != was && self.state() != rollback::State::Finished {
            let cause = self.cause.as_ref().map(|cause| format!(": {}", cause.message)).unwrap_or_default();
            lines.push(format!("{}{cause}", words::rollback_state(self.state())));
        }
        lines
    }

    fn verdict(&self) -> Option<Exit> {
        match self.state() {
            rollback::State::Finished => Some(match self.outcome() {
                rollback::Outcome::Succeeded => Exit::Done,
                rollback::Outcome::Partial | rollback::Outcome::Aborted | rollback::Outcome::Reverted => {
                    Exit::Failed
                }
                rollback::Outcome::RevertFailed
                | rollback::Outcome::NeedsOperator
                | rollback::Outcome::Unspecified => Exit::Person,
            }),
            // Who paused it will go on; a failure waits for somebody.
            rollback::State::Paused if !paused_by_person(self) => Some(Exit::Person),
            rollback::State::Paused
            | rollback::State::Running
            | rollback::State::Reverting
            | rollback::State::Aborting
            | rollback::State::Unspecified => None,
        }
    }

    fn closing(&self) -> Vec<String> {
        outcome_lines(self)
    }
}

fn paused_by_person(rollback: &v1::Rollback) -> bool {
    rollback.cause.as_ref().is_none_or(|cause| cause.reason == Reason::Cancelled.as_str())
}

/// How it ended or why it waits, and what to type next.
pub(in crate::cli) fn outcome_lines(rollback: &v1::Rollback) -> Vec<String> {
    let short = id(&rollback.name);
    let mut lines = Vec::new();
    let next = match (rollback.state(), rollback.outcome()) {
        (rollback::State::Finished, outcome) => {
            let took = elapsed(rollback).map(|took| format!(" in {took}")).unwrap_or_default();
            lines.push(format!("{} {}{took}", rollback.name, words::outcome(outcome)));
            match outcome {
                rollback::Outcome::Succeeded => None,
                rollback::Outcome::Aborted | rollback::Outcome::Partial | rollback::Outcome::Reverted => {
                    Some(format!("rfs rollback show {short}"))
                }
                rollback::Outcome::RevertFailed
                | rollback::Outcome::NeedsOperator
                | rollback::Outcome::Unspecified => {
                    Some(format!("rfs rollback show {short}; then rfs-agent status on each host that failed"))
                }
            }
        }
        (rollback::State::Paused, _) if !paused_by_person(rollback) => {
            lines.push(format!("{} is {}: a person is needed", rollback.name, paint::bad("paused")));
            Some(format!("rfs rollback show {short}; then rfs rollback resume, promote or abort {short}"))
        }
        _ => None,
    };
    if let Some(cause) = &rollback.cause
        && rollback.outcome() != rollback::Outcome::Succeeded
    {
        lines.push(format!("cause: {}", cause.message));
    }
    lines.extend(next.map(|next| format!("{} {next}", paint::label("next:"))));
    lines
}

/// Where the hosts go.
fn target(rollback: &v1::Rollback) -> String {
    match &rollback.spec {
        _ if !rollback.undo_of.is_empty() => format!("the backups of {}", rollback.undo_of),
        Some(spec) => spec.checkpoint.clone(),
        None => "its target".to_owned(),
    }
}

fn hosts(rollback: &v1::Rollback) -> impl Iterator<Item = &v1::HostProgress> {
    rollback.waves.iter().flat_map(|wave| &wave.hosts)
}

fn extent(rollback: &v1::Rollback) -> String {
    format!("{} in {}", count(hosts(rollback).count(), "host"), count(rollback.waves.len(), "wave"))
}

fn elapsed(rollback: &v1::Rollback) -> Option<String> {
    let (from, to) = (rollback.create_time?, rollback.finish_time?);
    Some(between(from, to))
}

fn between(from: prost_types::Timestamp, to: prost_types::Timestamp) -> String {
    let ms = |time: prost_types::Timestamp| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000;
    let ms = u64::try_from(ms(to) - ms(from)).unwrap_or(0);
    crate::cli::duration::show_duration(std::time::Duration::from_millis(ms))
}

fn header(rollback: &v1::Rollback) -> String {
    let done = hosts(rollback).filter(|host| settled(host.state())).count();
    let state = match rollback.state() {
        rollback::State::Finished => words::outcome(rollback.outcome()),
        state => words::rollback_state(state),
    };
    let name = paint::label(&rollback.name);
    format!("{name} to {}  {state}  {done} of {} done", target(rollback), extent(rollback))
}

fn settled(state: host_progress::State) -> bool {
    !matches!(rank(state), Rank::AtWork | Rank::Waiting)
}

/// What a person wants to see first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Wrong,
    AtWork,
    Fine,
    Waiting,
}

fn rank(state: host_progress::State) -> Rank {
    use host_progress::State as S;
    match state {
        S::Inconsistent | S::Lost | S::RevertFailed | S::Unhealthy | S::Unchanged | S::Skipped => Rank::Wrong,
        S::Applying | S::Applied | S::Reverting => Rank::AtWork,
        S::Passed | S::Reverted => Rank::Fine,
        S::Untouched | S::Unspecified => Rank::Waiting,
    }
}

/// The waves in at most `room` lines: what fails and what is at work has rows, the rest is counted.
fn waves(waves: &[v1::Wave], room: usize) -> Vec<String> {
    let everything = waves.iter().map(|wave| 1 + wave.hosts.len()).sum::<usize>();
    let open = |wave: &v1::Wave| {
        let moving =
            matches!(wave.state(), wave::State::Changing | wave::State::Watching | wave::State::Failed);
        moving || wave.hosts.iter().any(|host| matches!(rank(host.state()), Rank::Wrong | Rank::AtWork))
    };
    let blocks: Vec<Block> = if everything <= room {
        (1..).zip(waves).map(|(number, wave)| Block::open(number, wave)).collect()
    } else {
        fold(waves, open)
    };
    let headers = blocks.len();
    let opened = blocks.iter().filter(|block| block.rows.is_some()).count();
    // Whatever happens, the line of a wave is shown; its rows share what is left.
    let mut rows_left = room.saturating_sub(headers);
    let mut opened_left = opened;
    let mut table = Table::bare();
    let mut plain = Vec::new();
    for block in &blocks {
        plain.push((block.title.clone(), 0));
        let Some(wave) = block.rows else { continue };
        let share = rows_left.checked_div(opened_left).unwrap_or(0);
        opened_left = opened_left.saturating_sub(1);
        let (shown, rest) = choose(wave, share.max(1));
        rows_left = rows_left.saturating_sub(shown.len() + usize::from(rest.is_some()));
        if let Some(last) = plain.last_mut() {
            last.1 = shown.len();
        }
        shown.iter().for_each(|host| table.row(row(host)));
        plain.extend(rest.map(|rest| (rest, 0)));
    }
    let mut rows = table.lines().into_iter();
    let lines = plain.into_iter().flat_map(|(title, many)| {
        let rows: Vec<_> = rows.by_ref().take(many).collect();
        std::iter::once(title).chain(rows)
    });
    lines.collect()
}

/// A line of the picture that stands for a wave, or for several that are alike.
struct Block<'w> {
    title: String,
    rows: Option<&'w v1::Wave>,
}

impl<'w> Block<'w> {
    fn open(number: usize, wave: &'w v1::Wave) -> Self {
        Self { title: wave_title(number, wave), rows: Some(wave) }
    }
}

/// Neighbouring waves that are not open and in the same state share a line.
fn fold(waves: &[v1::Wave], open: impl Fn(&v1::Wave) -> bool) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut from = 0;
    while let Some(first) = waves.get(from) {
        if open(first) {
            blocks.push(Block::open(from + 1, first));
            from += 1;
            continue;
        }
        let alike = |wave: &&v1::Wave| !open(wave) && wave.state() == first.state();
        let many = waves[from..].iter().take_while(alike).count();
        let title = if many == 1 {
            wave_title(from + 1, first)
        } else {
            let hosts = waves[from..from + many].iter().map(|wave| wave.hosts.len()).sum();
            let state = words::wave_state(first.state());
            format!("waves {} to {}  {state}  {}", from + 1, from + many, count(hosts, "host"))
        };
        blocks.push(Block { title, rows: None });
        from += many;
    }
    blocks
}

fn wave_title(number: usize, wave: &v1::Wave) -> String {
    let canary = if wave.canary { " (canary)" } else { "" };
    let took = match (wave.start_time, wave.verdict_time) {
        (Some(from), Some(to)) => format!("  {}", between(from, to)),
        _ => String::new(),
    };
    let state = words::wave_state(wave.state());
    format!(
        "{}{canary}  {state}  {}{took}",
        paint::label(format!("wave {number}")),
        count(wave.hosts.len(), "host")
    )
}

/// The rows that fit, those first that a person wants to see, and a line for the rest.
fn choose(wave: &v1::Wave, room: usize) -> (Vec<&v1::HostProgress>, Option<String>) {
    let mut hosts: Vec<_> = wave.hosts.iter().collect();
    if hosts.len() <= room {
        return (hosts, None);
    }
    hosts.sort_by_key(|host| rank(host.state()));
    let rest = hosts.split_off(room - 1);
    let mut words: Vec<(String, usize)> = Vec::new();
    for host in &rest {
        let word = words::progress_word(host.state());
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, many)) => *many += 1,
            None => words.push((word, 1)),
        }
    }
    let parts: Vec<_> = words.into_iter().map(|(word, many)| format!("{many} {word}")).collect();
    (hosts, Some(paint::faint(format!("  … and {} more: {}", rest.len(), parts.join(", ")))))
}

fn row(host: &v1::HostProgress) -> [String; 5] {
    let state = match host.state() {
        host_progress::State::Applying | host_progress::State::Reverting if !host.phase.is_empty() => {
            format!("{} {}", words::progress_state(host.state()), paint::faint(&host.phase))
        }
        state => words::progress_state(state),
    };
    let down = host.downtime.map(|down| format!("down {}", show_wire(down))).unwrap_or_default();
    let why = match &host.failure {
        Some(failure) => paint::bad(&failure.message),
        None if watched(host.state()) => paint::faint(&host.evidence),
        None => String::new(),
    };
    [format!("  {}", host.host), state, words::health(host.health()), down, why]
}

fn watched(state: host_progress::State) -> bool {
    matches!(state, host_progress::State::Applied | host_progress::State::Passed)
}

fn wave_changes(
    number: usize,
    of: usize,
    wave: &v1::Wave,
    before: Option<&v1::Wave>,
    lines: &mut Vec<String>,
) {
    let canary = if wave.canary { " (canary)" } else { "" };
    let title = format!("wave {number} of {of}{canary}");
    let was = before.map_or(wave::State::Pending, v1::Wave::state);
    let began = was == wave::State::Pending && wave.state() != wave::State::Pending;
    if began {
        lines.push(format!("{title}: {}", some_names(wave.hosts.iter().map(|host| host.host.as_str()))));
    }
    for (place, host) in wave.hosts.iter().enumerate() {
        let earlier =
            before.and_then(|before| before.hosts.get(place)).filter(|earlier| earlier.host == host.host);
        lines.extend(host_change(host, earlier));
    }
    let over = matches!(wave.state(), wave::State::Passed | wave::State::Failed);
    if wave.state() != was && over {
        lines.push(format!("{title}: {}", words::wave_state(wave.state())));
    }
}

fn host_change(host: &v1::HostProgress, before: Option<&v1::HostProgress>) -> Option<String> {
    use host_progress::State as S;
    let was = before.map_or(S::Untouched, v1::HostProgress::state);
    if host.state() != was {
        let down = host.downtime.filter(|_| matches!(host.state(), S::Applied | S::Reverted));
        let down = down.map(|down| format!(", services were down {}", show_wire(down))).unwrap_or_default();
        let why = host.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        return Some(format!("{} {}{down}{why}", host.host, words::progress_state(host.state())));
    }
    let healed = before.is_some_and(|before| before.health() != host.health()) && watched(host.state());
    let evidence = if host.evidence.is_empty() { String::new() } else { format!(": {}", host.evidence) };
    healed.then(|| format!("{} is {}{evidence}", host.host, words::health(host.health())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a:passed b:applying` is a wave of two hosts; a wave's own state comes first.
    fn rollback(state: rollback::State, waves: &[&str]) -> v1::Rollback {
        let wave = |text: &&str| {
            let mut words = text.split(' ');
            let state = words.next().and_then(wave::State::from_str_name).expect("a state");
            let host = |word: &str| {
                let (host, state) = word.split_once(':').expect("host:STATE");
                let state = host_progress::State::from_str_name(state).expect("a state").into();
                v1::HostProgress {
                    host: host.into(),
                    state,
                    health: v1::Health::Good.into(),
                    ..Default::default()
                }
            };
            v1::Wave { state: state.into(), hosts: words.map(host).collect(), ..Default::default() }
        };
        let waves = waves.iter().map(wave).collect();
        let spec = Some(v1::RollbackSpec { checkpoint: "checkpoints/c".into(), ..Default::default() });
        v1::Rollback { name: "rollbacks/r".into(), spec, state: state.into(), waves, ..Default::default() }
    }

    fn plain(lines: Vec<String>) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn a_picture_has_a_row_for_each_host_while_they_fit() {
        let mut watched =
            rollback(rollback::State::Running, &["PASSED a:PASSED", "CHANGING b:APPLYING longer:UNTOUCHED"]);
        watched.waves[0].canary = true;
        watched.waves[0].hosts[0].downtime = Some(prost_types::Duration { seconds: 0, nanos: 210_000_000 });
        watched.waves[1].hosts[0].phase = "stage".into();
        assert_eq!(
            plain(watched.picture(20)),
            [
                "rollbacks/r to checkpoints/c  running  1 of 3 hosts in 2 waves done",
                "wave 1 (canary)  passed  1 host",
                "  a       passed          good  down 210 ms",
                "wave 2  changing  2 hosts",
                "  b       applying stage  good",
                "  longer  untouched       good",
            ]
        );
    }

    #[test]
    fn a_picture_never_outgrows_the_screen_and_shows_first_what_is_wrong() {
        let many: String = (0..50).map(|n| format!(" n{n}:PASSED")).collect();
        let second = format!("CHANGING{many} bad:LOST busy:APPLYING");
        let waiting = format!("PENDING{}", many.replace("PASSED", "UNTOUCHED"));
        let watched = rollback(rollback::State::Running, &["PASSED a:PASSED", &second, &waiting, &waiting]);
        let picture = plain(watched.picture(10));
        assert_eq!(
            picture,
            [
                "rollbacks/r to checkpoints/c  running  52 of 153 hosts in 4 waves done",
                "wave 1  passed  1 host",
                "wave 2  changing  52 hosts",
                "  bad   lost      good",
                "  busy  applying  good",
                "  n0    passed    good",
                "  n1    passed    good",
                "  n2    passed    good",
                "  … and 47 more: 47 passed",
                "waves 3 to 4  pending  100 hosts",
            ]
        );
    }

    #[test]
    fn a_change_is_told_once_with_what_it_rests_on() {
        let pending = rollback(rollback::State::Running, &["PENDING a:UNTOUCHED b:UNTOUCHED"]);
        assert_eq!(pending.changes(None), ["rollbacks/r to checkpoints/c: 2 hosts in 1 wave"]);
        let mut next = rollback(rollback::State::Paused, &["FAILED a:APPLIED b:UNCHANGED"]);
        next.waves[0].hosts[0].downtime = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let failure = rfs_proto::convert::failure(Reason::NoSpace, "/srv is full", "free space");
        next.waves[0].hosts[1].failure = Some(failure.clone());
        next.cause = Some(failure);
        assert_eq!(
            plain(next.changes(Some(&pending))),
            [
                "wave 1 of 1: a, b",
                "a applied, services were down 1.0 s",
                "b unchanged: /srv is full",
                "wave 1 of 1: failed",
                "paused: /srv is full",
            ]
        );
        assert_eq!(next.changes(Some(&next)), [""; 0]);
    }

    #[test]
    fn a_pause_for_a_failure_ends_the_wait_and_a_persons_pause_does_not() {
        let mut paused = rollback(rollback::State::Paused, &["FAILED a:LOST"]);
        paused.cause = Some(rfs_proto::convert::failure(Reason::Cancelled, "paused by operator/alice", ""));
        assert_eq!(paused.verdict(), None);
        paused.cause = Some(rfs_proto::convert::failure(Reason::Unhealthy, "a is not healthy", ""));
        assert_eq!(paused.verdict(), Some(Exit::Person));
        assert_eq!(
            plain(paused.closing()),
            [
                "rollbacks/r is paused: a person is needed",
                "cause: a is not healthy",
                "next: rfs rollback show r; then rfs rollback resume, promote or abort r",
            ]
        );
    }
}
