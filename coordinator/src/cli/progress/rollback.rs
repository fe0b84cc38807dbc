//! A rollback as people watch it: a header, a line for each wave, a row for each host that matters now.

use std::time::Duration;

use rfs_link::Exit;
use rfs_model::{Reason, Timestamp};
use rfs_proto::v1::{self, host_progress, rollback, wave};
use rfs_rollout::some_names;

use super::outcome::{After, outcome_lines};
use super::waves::{Pace, Rank, rank, watched, waves};
use super::{Told, Watched, elapsed, in_order};
use crate::cli::words::{self, count, paint};
use crate::duration::show_wire;

impl Watched for v1::Rollback {
    fn picture(&self, height: usize, now: Timestamp) -> Vec<String> {
        let mut lines = header(self, now).to_vec();
        if let Some(cause) = self.cause.as_ref() {
            lines.push(format!("  {}", paint::bad(&cause.message)));
        }
        let room = height.saturating_sub(lines.len());
        let gate = self.spec.as_ref().and_then(|spec| spec.gate.as_ref());
        let looks = |gate: &&v1::GatePolicy| gate.ignore_health != Some(true);
        let min_healthy = gate.filter(looks).and_then(|gate| gate.min_healthy_time);
        let min_healthy = min_healthy.and_then(|time| Duration::try_from(time).ok());
        lines.extend(waves(&self.waves, room, Pace { min_healthy, now }));
        lines
    }

    fn changes(&self, before: Option<&Self>) -> Vec<Told> {
        let mut lines = Vec::new();
        if before.is_none() {
            let text = format!("{} to {}: {}", self.name, target(self), extent(self));
            lines.push(Told::at(self.create_time, text));
        }
        for (number, wave) in (1..).zip(&self.waves) {
            let earlier = before.and_then(|before| before.waves.get(number - 1));
            lines.extend(wave_changes(number, self, wave, earlier));
        }
        let was = before.map_or(rollback::State::Running, v1::Rollback::state);
        if self.state() != was && self.state() != rollback::State::Finished {
            let text = match &self.cause {
                // What a person did says the state in its first word.
                Some(cause) if cause.reason == Reason::Cancelled.as_str() => paint::doubt(&cause.message),
                Some(cause) => format!("{}: {}", words::rollback_state(self.state()), cause.message),
                None => words::rollback_state(self.state()),
            };
            lines.push(Told::at(self.update_time, text));
        }
        // What is new came after what was told before, whatever time of its own it has.
        let told_until = before.and_then(|before| before.update_time);
        in_order(lines.into_iter().map(|told| told.not_before(told_until)).collect())
    }

    fn verdict(&self) -> Option<Exit> {
        match self.state() {
            rollback::State::Finished => Some(match self.outcome() {
                rollback::Outcome::Succeeded => Exit::Done,
                _ if is_refused(self) => Exit::Refused,
                rollback::Outcome::Partial | rollback::Outcome::Aborted | rollback::Outcome::Reverted => {
                    Exit::Failed
                }
                rollback::Outcome::RevertFailed
                | rollback::Outcome::NeedsOperator
                | rollback::Outcome::Unspecified => Exit::Person,
            }),
            // Who paused it will go on; a failure waits for somebody.
            rollback::State::Paused if is_refused(self) => Some(Exit::Refused),
            rollback::State::Paused if !paused_by_person(self) => Some(Exit::Person),
            rollback::State::Paused
            | rollback::State::Running
            | rollback::State::Reverting
            | rollback::State::Aborting
            | rollback::State::Unspecified => None,
        }
    }

    fn closing(&self) -> Vec<String> {
        outcome_lines(self, After::Watching)
    }
}

pub(super) fn paused_by_person(rollback: &v1::Rollback) -> bool {
    rollback.cause.as_ref().is_none_or(|cause| cause.reason == Reason::Cancelled.as_str())
}

/// Whether it stands where it stands because hosts refuse a loss that was not accepted, and none of them was changed.
fn is_refused(rollback: &v1::Rollback) -> bool {
    use host_progress::State as S;
    let refuses =
        rollback.cause.as_ref().is_some_and(|cause| cause.reason == Reason::LossNotAccepted.as_str());
    refuses && hosts(rollback).all(|host| matches!(host.state(), S::Refused | S::Untouched | S::Unchanged))
}

/// Where the hosts go.
fn target(rollback: &v1::Rollback) -> String {
    match &rollback.spec {
        _ if !rollback.undo_of.is_empty() => format!("the backups of {}", rollback.undo_of),
        Some(spec) => spec.checkpoint.clone(),
        None => "its target".to_owned(),
    }
}

pub(super) fn hosts(rollback: &v1::Rollback) -> impl Iterator<Item = &v1::HostProgress> {
    rollback.waves.iter().flat_map(|wave| &wave.hosts)
}

fn extent(rollback: &v1::Rollback) -> String {
    format!("{} in {}", count(hosts(rollback).count(), "host"), count(rollback.waves.len(), "wave"))
}

/// Two lines: with both ids on one, it would not fit.
fn header(rollback: &v1::Rollback, now: Timestamp) -> [String; 2] {
    let done = hosts(rollback).filter(|host| settled(host.state())).count();
    let state = match rollback.state() {
        rollback::State::Finished => words::outcome(rollback.outcome()),
        state => words::rollback_state(state),
    };
    let name = paint::label(&rollback.name);
    let took = elapsed(rollback.create_time, rollback.finish_time, now);
    [
        format!("{name}  {state}  {done} of {} done{took}", extent(rollback)),
        format!("  to {}", target(rollback)),
    ]
}

fn settled(state: host_progress::State) -> bool {
    !matches!(rank(state), Rank::AtWork | Rank::Waiting)
}

fn wave_changes(
    number: usize,
    rollback: &v1::Rollback,
    wave: &v1::Wave,
    before: Option<&v1::Wave>,
) -> Vec<Told> {
    let mut lines = Vec::new();
    let canary = if wave.canary { " (canary)" } else { "" };
    let title = format!("wave {number} of {}{canary}", rollback.waves.len());
    let was = before.map_or(wave::State::Pending, v1::Wave::state);
    let began = was == wave::State::Pending && wave.state() != wave::State::Pending;
    if began {
        let hosts = some_names(wave.hosts.iter().map(|host| host.host.as_str()));
        lines.push(Told::at(wave.start_time.or(rollback.update_time), format!("{title}: {hosts}")));
    }
    for (place, host) in wave.hosts.iter().enumerate() {
        let earlier =
            before.and_then(|before| before.hosts.get(place)).filter(|earlier| earlier.host == host.host);
        let moved = earlier.is_none_or(|earlier| earlier.state != host.state);
        let at = if moved { host_time(host, wave) } else { host.health_time };
        lines.extend(host_change(host, earlier).map(|text| Told::at(at.or(rollback.update_time), text)));
    }
    let over = matches!(wave.state(), wave::State::Passed | wave::State::Failed);
    if wave.state() != was && over {
        let text = format!("{title}: {}", words::wave_state(wave.state()));
        lines.push(Told::at(wave.verdict_time.or(rollback.update_time), text));
    }
    lines
}

/// When a host came to be as it is.
fn host_time(host: &v1::HostProgress, wave: &v1::Wave) -> Option<prost_types::Timestamp> {
    use host_progress::State as S;
    match host.state() {
        S::Applying => host.start_time,
        S::Applied | S::Unchanged | S::Refused | S::Reverted | S::Inconsistent => host.finish_time,
        S::Passed => wave.verdict_time,
        // One that does not answer on the way back has the time of its change alone.
        S::RevertFailed
        | S::Untouched
        | S::Waiting
        | S::Unhealthy
        | S::Reverting
        | S::Skipped
        | S::Superseded
        | S::Lost
        | S::Unspecified => None,
    }
}

fn host_change(host: &v1::HostProgress, before: Option<&v1::HostProgress>) -> Option<String> {
    use host_progress::State as S;
    let was = before.map_or(S::Untouched, v1::HostProgress::state);
    if host.state() != was {
        let known = before.and_then(|before| before.downtime);
        let down = host
            .downtime
            .filter(|down| known != Some(*down) && !matches!(host.state(), S::Unchanged | S::Refused));
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

    fn texts(told: Vec<Told>) -> Vec<String> {
        plain(told.into_iter().map(|told| told.text).collect())
    }

    #[test]
    fn a_picture_has_a_row_for_each_host_while_they_fit() {
        let mut watched =
            rollback(rollback::State::Running, &["PASSED a:PASSED", "CHANGING b:APPLYING longer:UNTOUCHED"]);
        watched.waves[0].canary = true;
        watched.waves[0].hosts[0].downtime = Some(prost_types::Duration { seconds: 0, nanos: 210_000_000 });
        watched.waves[1].hosts[0].phase = "stage".into();
        assert_eq!(
            plain(watched.picture(20, Timestamp(0))),
            [
                "rollbacks/r  running  1 of 3 hosts in 2 waves done",
                "  to checkpoints/c",
                "wave 1 (canary)  passed  1 host",
                "  a       passed          good  down 210 ms",
                "wave 2  changing  2 hosts",
                "  b       applying stage  good",
                "  longer  untouched       good",
            ]
        );
    }

    #[test]
    fn a_picture_counts_how_long_a_host_has_been_healthy_and_says_what_its_wave_waits_for() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut watched = rollback(rollback::State::Running, &["WATCHING a:APPLIED", "PENDING b:UNTOUCHED"]);
        watched.waves[0].waits_for = "1 to become healthy".into();
        let host = &mut watched.waves[0].hosts[0];
        (host.health_time, host.finish_time) = (at(3), at(4));
        let spec = watched.spec.as_mut().expect("a spec");
        let min_healthy_time = Some(prost_types::Duration { seconds: 10, nanos: 0 });
        spec.gate = Some(v1::GatePolicy { min_healthy_time, ..Default::default() });
        assert_eq!(
            plain(watched.picture(20, Timestamp(10_500)))[2..],
            [
                "wave 1  watching  1 host  waits for 1 to become healthy",
                "  a  applied    good    healthy 6 of 10 s",
                "wave 2  pending  1 host",
                "  b  untouched  good",
            ]
        );
    }

    #[test]
    fn a_picture_never_outgrows_the_screen_and_shows_first_what_is_wrong() {
        let many: String = (0..50).map(|n| format!(" n{n}:PASSED")).collect();
        let second = format!("CHANGING{many} bad:LOST busy:APPLYING");
        let waiting = format!("PENDING{}", many.replace("PASSED", "UNTOUCHED"));
        let watched = rollback(rollback::State::Running, &["PASSED a:PASSED", &second, &waiting, &waiting]);
        let picture = plain(watched.picture(11, Timestamp(0)));
        assert_eq!(
            picture,
            [
                "rollbacks/r  running  52 of 153 hosts in 4 waves done",
                "  to checkpoints/c",
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
        assert_eq!(texts(pending.changes(None)), ["rollbacks/r to checkpoints/c: 2 hosts in 1 wave"]);
        let mut next = rollback(rollback::State::Paused, &["FAILED a:APPLIED b:UNCHANGED"]);
        next.waves[0].hosts[0].downtime = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let failure = rfs_proto::convert::failure(Reason::NoSpace, "/srv is full", "free space");
        next.waves[0].hosts[1].failure = Some(failure.clone());
        next.cause = Some(failure);
        assert_eq!(
            texts(next.changes(Some(&pending))),
            [
                "wave 1 of 1: a, b",
                "a applied, services were down 1.0 s",
                "b unchanged: /srv is full",
                "wave 1 of 1: failed",
                "paused: /srv is full",
            ]
        );
        assert!(next.changes(Some(&next)).is_empty());
    }

    #[test]
    fn what_is_told_late_has_the_time_at_which_it_happened() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut over =
            rollback(rollback::State::Finished, &["PASSED b:PASSED a:UNCHANGED", "PENDING c:UNTOUCHED"]);
        (over.create_time, over.finish_time, over.update_time) = (at(10), at(50), at(60));
        (over.waves[0].start_time, over.waves[0].verdict_time) = (at(11), at(30));
        over.waves[0].hosts[1].finish_time = at(20);
        let told: Vec<_> = over
            .changes(None)
            .into_iter()
            .map(|told| (told.at.map_or(0, |at| at.seconds), plain(vec![told.text]).remove(0)))
            .collect();
        let line = |at: i64, text: &str| (at, text.to_owned());
        assert_eq!(
            told,
            [
                line(10, "rollbacks/r to checkpoints/c: 3 hosts in 2 waves"),
                line(11, "wave 1 of 2: b, a"),
                line(20, "a unchanged"),
                line(30, "b passed"),
                line(30, "wave 1 of 2: passed"),
            ]
        );
    }

    #[test]
    fn what_is_told_later_never_has_an_earlier_time() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut before = rollback(rollback::State::Reverting, &["FAILED a:REVERTING b:REVERTING"]);
        before.update_time = at(40);
        let mut after = rollback(rollback::State::Reverting, &["FAILED a:REVERT_FAILED b:REVERTED"]);
        after.update_time = at(45);
        after.waves[0].hosts.iter_mut().for_each(|host| host.finish_time = at(20));
        let told = after.changes(Some(&before));
        let told: Vec<_> = told.iter().map(|told| told.at.map_or(0, |at| at.seconds)).collect();
        assert_eq!(told, [40, 45]);
    }

    #[test]
    fn a_pause_for_a_failure_ends_the_wait_and_a_persons_pause_does_not() {
        let mut paused = rollback(rollback::State::Paused, &["FAILED a:LOST"]);
        paused.cause = Some(rfs_proto::convert::failure(Reason::Cancelled, "paused by operator/alice", ""));
        assert_eq!(paused.verdict(), None);
        paused.cause = Some(rfs_proto::convert::failure(Reason::Unhealthy, "a is not healthy", ""));
        assert_eq!(paused.verdict(), Some(Exit::Person));
        let mut refused = rollback(rollback::State::Paused, &["FAILED a:REFUSED b:UNTOUCHED"]);
        refused.cause = Some(rfs_proto::convert::failure(Reason::LossNotAccepted, "a refuses", ""));
        assert_eq!(refused.verdict(), Some(Exit::Refused), "nothing is wrong, and nothing was changed");
        refused.waves[0].hosts[1].state = host_progress::State::Passed.into();
        assert_eq!(refused.verdict(), Some(Exit::Person));
    }
}
