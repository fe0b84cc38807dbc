//! Pause, resume, retry, promote and abort: what each does to which hosts, and which hosts stand where then.

use rfs_link::{Exit, Failure};
use rfs_model::Reason;
use rfs_proto::v1::{self, host_progress, rollback, wave};

use super::Which;
use super::choices::decided;
use crate::cli::connect::{Client, soon};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::progress::{After, Standing, names, outcome_lines, standing_lines};
use crate::cli::words::{id, paint};
use crate::duration::show_wire;

/// What a person decides.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Steer {
    Pause,
    Resume,
    /// These hosts, none for all that failed; and what holds for them in this attempt.
    Retry {
        hosts: Vec<String>,
        choices: Option<v1::RestoreChoices>,
    },
    /// The wave, counted from 1; none for the present one.
    Promote {
        wave: Option<u32>,
    },
    Abort,
}

impl Steer {
    /// The command's name.
    pub(in crate::cli) fn verb(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry { .. } => "retry",
            Self::Promote { .. } => "promote",
            Self::Abort => "abort",
        }
    }
}

pub(super) async fn steer(
    client: &Client,
    output: &mut Output,
    which: Which,
    steer: Steer,
) -> Result<Exit, CliError> {
    let name = crate::cli::names::rollback(client, &which.rollback).await?;
    let mut rollbacks = client.rollbacks();
    let before =
        client.answer(rollbacks.get_rollback(soon(v1::GetRollbackRequest { name: name.clone() })).await)?;
    let answer = match &steer {
        Steer::Pause => rollbacks.pause_rollback(soon(v1::PauseRollbackRequest { name })).await,
        Steer::Resume => rollbacks.resume_rollback(soon(v1::ResumeRollbackRequest { name })).await,
        Steer::Promote { wave } => {
            // The wave that is present now, so that a request that is sent twice does not promote two.
            let wave = wave.or_else(|| present(&before).map(|wave| wave.index));
            rollbacks.promote_rollback(soon(v1::PromoteRollbackRequest { name, wave })).await
        }
        Steer::Retry { hosts, choices } => {
            let (hosts, choices) = (hosts.clone(), choices.clone());
            rollbacks.retry_rollback(soon(v1::RetryRollbackRequest { name, hosts, choices })).await
        }
        Steer::Abort => rollbacks.abort_rollback(soon(v1::AbortRollbackRequest { name })).await,
    };
    let after = client.answer(answer)?;
    if output.is_json() {
        output.message(&after)?;
    } else {
        // Said once it is decided: what is refused has no effect.
        let retries = matches!(steer, Steer::Retry { .. });
        if retries || before.state() != rollback::State::Finished {
            output.line(intent(&before, &steer))?;
        }
        aftermath(&after, &steer).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(Exit::Done)
}

/// The wave that runs, or ran last.
fn present(rollback: &v1::Rollback) -> Option<&v1::Wave> {
    rollback.waves.iter().rfind(|wave| wave.state() != wave::State::Pending)
}

/// What the decision does to which hosts, in one line.
fn intent(rollback: &v1::Rollback, steer: &Steer) -> String {
    format!("{}: {}", paint::label(steer.verb()), effect(rollback, steer))
}

/// What a decision does to which hosts.
pub(in crate::cli) fn effect(rollback: &v1::Rollback, steer: &Steer) -> String {
    let standing = Standing::of(rollback);
    let part = |verb: &str, hosts: &[&str], how: &str| {
        (!hosts.is_empty()).then(|| format!("{verb} {}{how}", names(hosts)))
    };
    let parts: Vec<Option<String>> = match steer {
        Steer::Pause => {
            vec![part("lets", &standing.at_work, " finish"), part("does not start", &standing.untouched, "")]
        }
        Steer::Resume => {
            let failed: Vec<&str> = failed(rollback).collect();
            vec![
                part("no longer counts as failed, and does not try again:", &failed, ""),
                part("changes", &standing.untouched, " in their waves"),
            ]
        }
        Steer::Retry { hosts, choices } => {
            let decided = decided(choices.as_ref()).map(|decided| format!("decided for them: {decided}"));
            let named: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let hosts = if named.is_empty() { &standing.failed } else { &named };
            let changes = part("changes", &standing.untouched, " in their waves");
            vec![part("tries", hosts, " again"), decided, changes]
        }
        Steer::Promote { wave } => {
            let meant = wave.and_then(|number| rollback.waves.iter().find(|wave| wave.index == number));
            let meant = meant.or_else(|| present(rollback));
            let number = meant.map_or(1, |wave| wave.index);
            let next = rollback.waves.iter().find(|wave| wave.index == number + 1);
            let open: Vec<&str> = hosts(meant).filter(|host| unproven(host)).map(name).collect();
            let next: Vec<&str> = hosts(next).map(name).collect();
            vec![
                Some(format!("takes wave {number}'s gate as passed")),
                part("accepts as they stand:", &open, ""),
                part("changes", &next, " next"),
            ]
        }
        Steer::Abort => vec![
            part("brings", &standing.at_work, " back"),
            part("does not start", &standing.untouched, ""),
            standing.any_changed().then(|| format!("leaves {} changed", standing.all_changed())),
        ],
    };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "no host is concerned".to_owned() } else { parts.join("; ") }
}

fn hosts(wave: Option<&v1::Wave>) -> impl Iterator<Item = &v1::HostProgress> {
    wave.into_iter().flat_map(|wave| &wave.hosts)
}

fn name(host: &v1::HostProgress) -> &str {
    &host.host
}

fn failed(rollback: &v1::Rollback) -> impl Iterator<Item = &str> {
    use host_progress::State as S;
    let failed = |host: &&v1::HostProgress| {
        matches!(
            host.state(),
            S::Unchanged | S::Refused | S::Unhealthy | S::Lost | S::Inconsistent | S::RevertFailed
        )
    };
    rollback.waves.iter().flat_map(|wave| &wave.hosts).filter(failed).map(name)
}

fn unproven(host: &v1::HostProgress) -> bool {
    use host_progress::State as S;
    matches!(host.state(), S::Applied | S::Unhealthy | S::Unchanged | S::Refused | S::Lost)
}

/// How it stands after the decision, and what to type next.
fn aftermath(rollback: &v1::Rollback, steer: &Steer) -> Vec<String> {
    // With nothing left to wait for, it is over at once.
    if rollback.state() == rollback::State::Finished && !matches!(steer, Steer::Retry { .. }) {
        return outcome_lines(rollback, After::Decision);
    }
    let short = id(&rollback.name);
    let bound =
        rollback.spec.as_ref().and_then(|spec| spec.max_pause).filter(|bound| bound.seconds != 86_400);
    let bound = bound.map(show_wire);
    let paused = format!("is paused, and ends by itself after {}", bound.as_deref().unwrap_or("24 h"));
    let (what, next) = match steer {
        Steer::Pause => {
            (paused.as_str(), format!("rfs rollback resume {short}; or rfs rollback abort {short}"))
        }
        Steer::Retry { .. } if rollback.state() == rollback::State::Finished => {
            ("tries hosts again, one first", format!("rfs rollback show {short}"))
        }
        Steer::Resume | Steer::Retry { .. } | Steer::Promote { .. } => {
            ("goes on", format!("rfs rollback watch {short}"))
        }
        Steer::Abort => {
            let standing = Standing::of(rollback);
            let undo = match standing.any_changed() {
                true => format!("; then bring {} back: rfs rollback undo {short}", standing.all_changed()),
                false => String::new(),
            };
            ("is being ended", format!("rfs rollback watch {short}{undo}"))
        }
    };
    let mut lines = vec![format!("{} {what}", rollback.name)];
    lines.extend(standing_lines(rollback));
    lines.push(format!("{} {next}", paint::label("next:")));
    lines
}

/// What an undo of `rollback` does, in one line. `brought` are the hosts that it brings back; `selector` takes those that were
/// chosen.
pub(super) fn undo_line(rollback: &v1::Rollback, brought: &[&str], selector: &v1::Selector) -> String {
    let standing = Standing::of(rollback);
    let hosts = if brought.is_empty() { "no host".to_owned() } else { names(brought) };
    let part = |verb: &str, hosts: &[&str]| (!hosts.is_empty()).then(|| format!("{verb} {}", names(hosts)));
    let runs = rollback.state() != rollback::State::Finished;
    // Labels are the coordinator's to match.
    let chosen = |host: &&str| {
        selector.labels.is_empty()
            && (selector.hosts.is_empty() || selector.hosts.iter().any(|chosen| chosen == host))
            && !brought.contains(host)
    };
    let waiting: Vec<&str> =
        standing.waiting.iter().chain(&standing.left_out).copied().filter(|host| chosen(host)).collect();
    let mut parts = Vec::new();
    if runs {
        let stops = [part("stops", &standing.at_work), part("does not start", &standing.untouched)];
        parts.push(format!("ends {} first", rollback.name));
        parts.extend(stops.into_iter().flatten());
    }
    parts.extend(part("no longer waits for", &waiting));
    parts.push(format!("brings {hosts} back to the state before {}", rollback.name));
    format!("{}: {}", paint::label("undo"), parts.join("; "))
}

/// Whether an undo may begin without a question: after an undo, `latest` names that undo, and a person
/// who types the same line again does not mean to bring the bad state back.
pub(super) fn not_by_accident(typed: &str, undone: &v1::Rollback) -> Result<(), Failure> {
    if undone.undo_of.is_empty() || typed != "latest" {
        return Ok(());
    }
    let short = id(&undone.name);
    let message = format!(
        "the latest rollback, {}, is itself an undo of {}: to undo it brings its hosts to where that one had taken them",
        undone.name, undone.undo_of
    );
    Err(Failure::new(Reason::WrongState, message)
        .next(format!("if that is meant, name it: rfs rollback undo {short} --yes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PASSED a:PASSED` is a wave with a host; the wave's own state comes first.
    fn rollback(state: rollback::State, waves: &[&str]) -> v1::Rollback {
        let wave = |(index, text): (usize, &&str)| {
            let mut words = text.split(' ');
            let state = words.next().and_then(wave::State::from_str_name).expect("a state");
            let host = |word: &str| {
                let (host, state) = word.split_once(':').expect("host:STATE");
                let state = host_progress::State::from_str_name(state).expect("a state").into();
                v1::HostProgress { host: host.into(), state, ..Default::default() }
            };
            let index = u32::try_from(index).expect("few waves") + 1;
            v1::Wave { index, state: state.into(), hosts: words.map(host).collect(), ..Default::default() }
        };
        let waves = waves.iter().enumerate().map(wave).collect();
        v1::Rollback { name: "rollbacks/r".into(), state: state.into(), waves, ..Default::default() }
    }

    fn plain(text: impl AsRef<str>) -> String {
        anstream::adapter::strip_str(text.as_ref()).to_string()
    }

    #[test]
    fn each_decision_says_before_what_it_does_to_whom() {
        let waves = ["PASSED a:PASSED", "FAILED b:UNHEALTHY c:APPLYING", "PENDING d:UNTOUCHED e:UNTOUCHED"];
        let running = rollback(rollback::State::Paused, &waves);
        let said = |steer| plain(intent(&running, &steer));
        assert_eq!(said(Steer::Pause), "pause: lets c finish; does not start d, e");
        assert_eq!(
            said(Steer::Resume),
            "resume: no longer counts as failed, and does not try again: b; changes d, e in their waves"
        );
        assert_eq!(
            said(Steer::Promote { wave: None }),
            "promote: takes wave 2's gate as passed; accepts as they stand: b; changes d, e next"
        );
        assert_eq!(
            said(Steer::Retry { hosts: Vec::new(), choices: None }),
            "retry: tries b again; changes d, e in their waves"
        );
        assert_eq!(said(Steer::Abort), "abort: brings c back; does not start d, e; leaves a, b changed");
        assert_eq!(
            plain(undo_line(&running, &["a", "b"], &v1::Selector::default())),
            "undo: ends rollbacks/r first; stops c; does not start d, e; brings a, b back to the state before rollbacks/r"
        );
        let over = rollback(rollback::State::Finished, &["PASSED a:PASSED b:SKIPPED"]);
        let undone = |over, brought: &[&str], hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            plain(undo_line(over, brought, &v1::Selector { hosts, ..Default::default() }))
        };
        assert_eq!(
            undone(&over, &["a"], &[]),
            "undo: no longer waits for b; brings a back to the state before rollbacks/r"
        );
        assert_eq!(undone(&over, &["a"], &["a"]), "undo: brings a back to the state before rollbacks/r");
    }

    #[test]
    fn after_a_decision_every_host_has_its_place_and_undo_is_named() {
        let ending =
            rollback(rollback::State::Aborting, &["WATCHING a:APPLIED b:REVERTING", "PENDING c:UNTOUCHED"]);
        let lines: Vec<_> = aftermath(&ending, &Steer::Abort).iter().map(plain).collect();
        assert_eq!(
            lines,
            [
                "rollbacks/r is being ended",
                "  at the checkpoint  a",
                "  going back         b",
                "  not started        c",
                "next: rfs rollback watch r; then bring a back: rfs rollback undo r",
            ]
        );
        let mut over = rollback(rollback::State::Finished, &["WATCHING a:APPLIED", "PENDING b:UNTOUCHED"]);
        over.set_outcome(rollback::Outcome::Aborted);
        let lines: Vec<_> = aftermath(&over, &Steer::Abort).iter().map(plain).collect();
        assert_eq!(
            lines,
            [
                "rollbacks/r ABORTED",
                "  at the checkpoint  a",
                "  not started        b",
                "next: undo it on a: rfs rollback undo r; details: rfs rollback show r",
            ]
        );
    }

    #[test]
    fn an_undo_of_an_undo_is_not_begun_by_the_same_line_typed_twice() {
        let mut undo = rollback(rollback::State::Finished, &["PASSED a:PASSED"]);
        assert!(not_by_accident("latest", &undo).is_ok());
        undo.undo_of = "rollbacks/first".into();
        let failure = not_by_accident("latest", &undo).expect_err("an undo of an undo");
        assert!(failure.message.contains("is itself an undo of rollbacks/first"), "{failure}");
        assert_eq!(failure.next_step(), "if that is meant, name it: rfs rollback undo r --yes");
        assert!(not_by_accident("r", &undo).is_ok(), "it is named");
    }
}
