//! Words of the API as people read them, in the colours of what they mean.

use chrono::{DateTime, SecondsFormat};
use rfs_proto::v1::{self, checkpoint, host_progress, host_snapshot, rollback, wave};

/// Colours. They reach terminals alone: the streams that print them take them out elsewhere.
pub(super) mod paint {
    use anstyle::{AnsiColor, Effects, Style};

    fn with(style: Style, text: impl std::fmt::Display) -> String {
        format!("{style}{text}{style:#}")
    }

    fn colour(colour: AnsiColor) -> Style {
        Style::new().fg_color(Some(colour.into()))
    }

    /// As it should be.
    pub(crate) fn good(text: impl std::fmt::Display) -> String {
        with(colour(AnsiColor::Green), text)
    }

    /// At work, or not known.
    pub(crate) fn doubt(text: impl std::fmt::Display) -> String {
        with(colour(AnsiColor::Yellow), text)
    }

    /// Not as it should be.
    pub(crate) fn bad(text: impl std::fmt::Display) -> String {
        with(colour(AnsiColor::Red), text)
    }

    /// A person must look.
    pub(crate) fn alarm(text: impl std::fmt::Display) -> String {
        with(colour(AnsiColor::Red) | Effects::BOLD, text)
    }

    /// The word `error`.
    pub(crate) fn error(text: impl std::fmt::Display) -> String {
        alarm(text)
    }

    /// What is not the matter now.
    pub(crate) fn faint(text: impl std::fmt::Display) -> String {
        with(Style::new() | Effects::DIMMED, text)
    }

    /// A heading.
    pub(crate) fn label(text: impl std::fmt::Display) -> String {
        with(Style::new() | Effects::BOLD, text)
    }
}

/// A health in its colour.
pub(super) fn health(health: v1::Health) -> String {
    match health {
        v1::Health::Good => paint::good("good"),
        v1::Health::Bad => paint::bad("bad"),
        v1::Health::Unknown => paint::doubt("unknown"),
        v1::Health::Unspecified => paint::faint("-"),
    }
}

/// A rollback's state in its colour.
pub(super) fn rollback_state(state: rollback::State) -> String {
    let word = lower(state.as_str_name());
    match state {
        rollback::State::Running => paint::doubt(word),
        rollback::State::Paused | rollback::State::Reverting | rollback::State::Aborting => paint::bad(word),
        rollback::State::Finished | rollback::State::Unspecified => word,
    }
}

/// A rollback's outcome in its colour.
pub(super) fn outcome(outcome: rollback::Outcome) -> String {
    use rollback::Outcome::{
        Aborted, NeedsOperator, Partial, RevertFailed, Reverted, Succeeded, Unspecified,
    };
    let word = outcome.as_str_name();
    match outcome {
        Succeeded => paint::good(word),
        Partial | Aborted | Reverted => paint::doubt(word),
        RevertFailed | NeedsOperator => paint::alarm(word),
        Unspecified => paint::faint("-"),
    }
}

/// A wave's state in its colour.
pub(super) fn wave_state(state: wave::State) -> String {
    let word = lower(state.as_str_name());
    match state {
        wave::State::Pending | wave::State::Unspecified => paint::faint(word),
        wave::State::Changing | wave::State::Watching => paint::doubt(word),
        wave::State::Passed => paint::good(word),
        wave::State::Failed => paint::bad(word),
    }
}

/// A host's state in a rollback, without colour.
pub(super) fn progress_word(state: host_progress::State) -> String {
    lower(state.as_str_name())
}

/// A host's state in a rollback; of one at work, with what its agent is at, such as "applying stage", or what its agent waits
/// for alone.
pub(super) fn progress(host: &v1::HostProgress) -> String {
    use host_progress::State as S;
    let state = progress_state(host.state());
    match host.state() {
        // Nothing of it has begun.
        S::Applying | S::Reverting if host.phase.starts_with("waiting") => paint::doubt(&host.phase),
        S::Applying | S::Reverting if !host.phase.is_empty() => {
            format!("{state} {}", paint::faint(&host.phase))
        }
        _ => state,
    }
}

/// A host's state in a rollback, in its colour.
pub(super) fn progress_state(state: host_progress::State) -> String {
    use host_progress::State as S;
    let word = progress_word(state);
    match state {
        S::Untouched | S::Unspecified => paint::faint(word),
        S::Waiting | S::Applying | S::Applied | S::Reverting => paint::doubt(word),
        S::Passed | S::Reverted => paint::good(word),
        S::Unchanged | S::Refused | S::Unhealthy | S::Skipped | S::Superseded | S::Lost | S::RevertFailed => {
            paint::bad(word)
        }
        S::Inconsistent => paint::alarm("INCONSISTENT"),
    }
}

/// A checkpoint's state in its colour.
pub(super) fn checkpoint_state(state: checkpoint::State) -> String {
    let word = lower(state.as_str_name());
    match state {
        checkpoint::State::Creating => paint::doubt(word),
        checkpoint::State::Complete => paint::good(word),
        checkpoint::State::Incomplete | checkpoint::State::Aborted => paint::bad(word),
        checkpoint::State::Unspecified => paint::faint(word),
    }
}

/// A host's state in a checkpoint, in its colour.
pub(super) fn snapshot_state(state: host_snapshot::State) -> String {
    use host_snapshot::State as S;
    let word = lower(state.as_str_name());
    match state {
        S::Pending | S::Unspecified => paint::faint(word),
        S::Preparing | S::Prepared | S::Cutting => paint::doubt(word),
        S::Durable => paint::good(word),
        S::Failed => paint::bad(word),
    }
}

/// A name of an enum's value as a word: `NEEDS_OPERATOR` is `needs operator`.
pub(super) fn lower(name: &str) -> String {
    match name {
        name if name.ends_with("UNSPECIFIED") => "-".to_owned(),
        name => name.to_lowercase().replace('_', " "),
    }
}

/// A time to the second, in UTC.
pub(super) fn time(time: Option<prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| DateTime::from_timestamp(time.seconds, 0));
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Labels as people write them.
pub(super) fn labels(labels: &std::collections::HashMap<String, String>) -> String {
    let mut labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(" ")
}

/// The id in a resource name.
pub(super) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A count with its noun, such as `1 host` and `3 hosts`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A selector as people say it.
pub(super) fn selector(selector: Option<&v1::Selector>) -> String {
    let Some(selector) = selector.filter(|s| !s.hosts.is_empty() || !s.labels.is_empty()) else {
        return "every host".to_owned();
    };
    let labels = labels(&selector.labels);
    let parts =
        selector.hosts.iter().map(String::as_str).chain(Some(labels.as_str()).filter(|l| !l.is_empty()));
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_waits_is_not_shown_at_work() {
        let check = |phase: &str, expected: &str| {
            let state = host_progress::State::Applying.into();
            let host = v1::HostProgress { state, phase: phase.into(), ..Default::default() };
            assert_eq!(anstream::adapter::strip_str(&progress(&host)).to_string(), expected);
        };
        check("", "applying");
        check("stage", "applying stage");
        check("waiting for a capture", "waiting for a capture");
    }
}
