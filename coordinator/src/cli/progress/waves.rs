//! The waves of a rollback in as many lines as there are: a line for each wave, a row for each host that matters now.

use std::time::Duration;

use rfs_model::Timestamp;
use rfs_proto::convert::from_wire_time;
use rfs_proto::v1::{self, host_progress, wave};

use crate::cli::table::Table;
use crate::cli::words::{self, count, paint};
use crate::duration::{show_duration, show_wire};

/// The waves in at most `room` lines: what fails and what is at work has rows, the rest is counted.
pub(super) fn waves(waves: &[v1::Wave], room: usize, pace: Pace) -> Vec<String> {
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
        shown.iter().for_each(|host| table.row(row(host, pace)));
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
    let waits = match wave.waits_for.as_str() {
        "" => String::new(),
        what => format!("  {}", paint::faint(format!("waits for {what}"))),
    };
    format!(
        "{}{canary}  {state}  {}{took}{waits}",
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

/// How long a host must be healthy, and what time it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) min_healthy: Option<Duration>,
    pub(super) now: Timestamp,
}

impl Pace {
    /// How long of the time that it must be the host has been healthy.
    fn count(self, host: &v1::HostProgress) -> Option<String> {
        let counted = host.state() == host_progress::State::Applied && host.health() == v1::Health::Good;
        let needed = self.min_healthy.filter(|needed| counted && !needed.is_zero())?;
        // It counts from the change on.
        let since = host.health_time.map(from_wire_time).max(host.finish_time.map(from_wire_time))?;
        let so_far = self.now.since(since).min(needed);
        Some(format!("healthy {} of {} s", so_far.as_secs(), needed.as_secs_f64()))
    }
}

fn row(host: &v1::HostProgress, pace: Pace) -> [String; 5] {
    let down = host.downtime.map(|down| format!("down {}", show_wire(down))).unwrap_or_default();
    let why = match &host.failure {
        Some(failure) => paint::bad(&failure.message),
        None if pace.count(host).is_some() => paint::doubt(pace.count(host).unwrap_or_default()),
        None if watched(host.state()) => paint::faint(&host.evidence),
        None => String::new(),
    };
    [format!("  {}", host.host), words::progress(host), words::health(host.health()), down, why]
}

pub(super) fn watched(state: host_progress::State) -> bool {
    matches!(state, host_progress::State::Applied | host_progress::State::Passed)
}

/// What a person wants to see first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Wrong,
    AtWork,
    Fine,
    Waiting,
}

pub(super) fn rank(state: host_progress::State) -> Rank {
    use host_progress::State as S;
    match state {
        S::Inconsistent
        | S::Lost
        | S::RevertFailed
        | S::Unhealthy
        | S::Unchanged
        | S::Refused
        | S::Skipped
        | S::Superseded => Rank::Wrong,
        S::Applying | S::Applied | S::Reverting => Rank::AtWork,
        S::Passed | S::Reverted => Rank::Fine,
        S::Untouched | S::Waiting | S::Unspecified => Rank::Waiting,
    }
}

/// How long it was from one moment to another.
pub(super) fn between(from: prost_types::Timestamp, to: prost_types::Timestamp) -> String {
    show_duration(from_wire_time(to).since(from_wire_time(from)))
}
