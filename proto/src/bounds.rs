//! How much a peer may say in one field. What is longer is refused by the field's name, and never quoted.

use crate::agentlink::v1 as link;
use crate::convert::FieldError;
use crate::v1;

/// A name, an id, a version, a kind.
pub const NAME: usize = 128;
/// A label's key or value.
pub const LABEL: usize = 256;
/// A text for people: a reason, a message, the evidence of a check.
pub const TEXT: usize = 4096;
/// A path, as the kernel takes it at once.
pub const PATH: usize = 4096;
/// Labels, components, checks, phases.
pub const FEW: usize = 512;
/// Hosts, paths.
pub const MANY: usize = 20_000;
/// Patterns of one kind that a person gives for a restore.
pub const PATTERNS: usize = 100;
/// The first and the last second of a point in time, since 1970.
const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;
/// The seconds of the longest duration.
const LONGEST: u64 = 315_576_000_000;

/// Refuses a text of more than `most` bytes.
pub fn text(path: &str, text: &str, most: usize) -> Result<(), FieldError> {
    match text.len() {
        found if found > most => {
            Err(FieldError::new(path, format!("has {found} bytes; at most {most} are taken")))
        }
        _ => Ok(()),
    }
}

/// Refuses more than `most` items.
pub fn count(path: &str, found: usize, most: usize) -> Result<(), FieldError> {
    match found {
        found if found > most => {
            Err(FieldError::new(path, format!("has {found} items; at most {most} are taken")))
        }
        _ => Ok(()),
    }
}

/// Refuses a number that cannot be stored, for numbers are stored with a sign.
pub fn number(path: &str, number: u64) -> Result<(), FieldError> {
    match i64::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => Err(FieldError::new(path, format!("{number} is above {}", i64::MAX))),
    }
}

/// Refuses a point in time outside the years 1 to 9999, which JSON cannot say.
pub fn time(path: &str, time: Option<prost_types::Timestamp>) -> Result<(), FieldError> {
    match time {
        Some(time) if !(FIRST_SECOND..=LAST_SECOND).contains(&time.seconds) => {
            Err(FieldError::new(path, "is not within the years 1 to 9999"))
        }
        _ => Ok(()),
    }
}

/// Refuses a duration of more than 10,000 years, which JSON cannot say.
pub fn duration(path: &str, duration: Option<prost_types::Duration>) -> Result<(), FieldError> {
    match duration {
        Some(duration) if duration.seconds.unsigned_abs() > LONGEST => {
            Err(FieldError::new(path, "is more than 10,000 years"))
        }
        _ => Ok(()),
    }
}

/// What an agent says of itself.
pub fn hello(hello: &link::Hello) -> Result<(), FieldError> {
    for (path, field) in [
        ("hello.host", &hello.host),
        ("hello.agent_version", &hello.agent_version),
        ("hello.instance_id", &hello.instance_id),
        ("hello.start_id", &hello.start_id),
        ("hello.snapshot", &hello.snapshot),
    ] {
        text(path, field, NAME)?;
    }
    count("hello.labels", hello.labels.len(), FEW)?;
    count("hello.components", hello.components.len(), FEW)?;
    for (place, component) in hello.components.iter().enumerate() {
        text(&format!("hello.components[{place}].name"), &component.name, NAME)?;
        text(&format!("hello.components[{place}].kind"), &component.kind, NAME)?;
    }
    time("hello.agent_time", hello.agent_time)?;
    number("hello.generation", hello.generation)
}

/// What an agent says of its health.
pub fn health(report: &link::HealthReport) -> Result<(), FieldError> {
    count("health.checks", report.checks.len(), FEW)?;
    for (place, check) in report.checks.iter().enumerate() {
        text(&format!("health.checks[{place}].name"), &check.name, LABEL)?;
        text(&format!("health.checks[{place}].kind"), &check.kind, NAME)?;
        text(&format!("health.checks[{place}].evidence"), &check.evidence, TEXT)?;
        time(&format!("health.checks[{place}].since_time"), check.since_time)?;
        time(&format!("health.checks[{place}].measured_time"), check.measured_time)?;
        time(&format!("health.checks[{place}].begin_time"), check.begin_time)?;
    }
    number("health.after_restore", report.after_restore)
}

/// What an agent says of a command's end.
pub fn report(report: &link::Report) -> Result<(), FieldError> {
    use link::report::Outcome;
    if let Some(key) = &report.key {
        text("key.operation_id", &key.operation_id, NAME)?;
        number("key.generation", key.generation)?;
    }
    number("sequence", report.sequence)?;
    number("newest_generation", report.newest_generation)?;
    match &report.outcome {
        Some(Outcome::Captured(captured)) => {
            text("captured.snapshot", &captured.snapshot, NAME)?;
            time("captured.cut_time", captured.cut_time)?;
            number("captured.bytes", captured.bytes)?;
            number("captured.new_bytes", captured.new_bytes)?;
            number("captured.entries", captured.entries)
        }
        Some(Outcome::Restored(restored)) => {
            text("restored.backup", &restored.backup, NAME)?;
            duration("restored.downtime", restored.downtime)?;
            count("restored.phases", restored.phases.len(), FEW)?;
            for (place, phase) in restored.phases.iter().enumerate() {
                text(&format!("restored.phases[{place}].phase"), &phase.phase, NAME)?;
                duration(&format!("restored.phases[{place}].duration"), phase.duration)?;
            }
            number("restored.steps", restored.steps)?;
            number("restored.bytes", restored.bytes)?;
            number("restored.restore", restored.restore)?;
            for (field, listed) in
                [("lost", &restored.lost), ("appeared", &restored.appeared), ("written", &restored.written)]
            {
                let Some(listed) = listed else { continue };
                number(&format!("restored.{field}.count"), listed.count)?;
                number(&format!("restored.{field}.bytes"), listed.bytes)?;
            }
            restored.failure.as_ref().map_or(Ok(()), |wire| failure("restored.failure", wire))
        }
        Some(Outcome::Refused(wire)) => failure("refused", wire),
        Some(Outcome::Failed(wire)) => failure("failed", wire),
        Some(Outcome::Prepared(_) | Outcome::Finished(_)) | None => Ok(()),
    }
}

/// What a person decided for a restore.
pub fn choices(path: &str, choices: &v1::RestoreChoices) -> Result<(), FieldError> {
    for (field, patterns) in [("keep", &choices.keep), ("accept_loss", &choices.accept_loss)] {
        count(&format!("{path}.{field}"), patterns.len(), PATTERNS)?;
        for (place, pattern) in patterns.iter().enumerate() {
            let path = format!("{path}.{field}[{place}]");
            text(&path, pattern, PATH)?;
            if pattern.is_empty() {
                return Err(FieldError::new(path, "is empty; write a path, or a glob such as **/*.key"));
            }
        }
    }
    Ok(())
}

/// What an agent says of a command at work.
pub fn progress(progress: &link::Progress) -> Result<(), FieldError> {
    text("progress.phase", &progress.phase, NAME)?;
    if let Some(key) = &progress.key {
        text("progress.key.operation_id", &key.operation_id, NAME)?;
    }
    Ok(())
}

fn failure(path: &str, wire: &v1::Failure) -> Result<(), FieldError> {
    text(&format!("{path}.reason"), &wire.reason, NAME)?;
    // An error with all its causes, which may be long where programs wrote it.
    text(&format!("{path}.message"), &wire.message, 8 * TEXT)?;
    text(&format!("{path}.next"), &wire.next, TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_refused_by_its_field_and_not_quoted() {
        let long = || "V".repeat(3 << 20);
        let check = |result: Result<(), FieldError>, expected: &str| {
            assert_eq!(result.expect_err("is too much").to_string(), expected);
        };
        check(
            hello(&link::Hello { agent_version: long(), ..Default::default() }),
            "hello.agent_version: has 3145728 bytes; at most 128 are taken",
        );
        let component = v1::Component { name: "a".into(), kind: "k".into() };
        check(
            hello(&link::Hello { components: vec![component; 20_000], ..Default::default() }),
            "hello.components: has 20000 items; at most 512 are taken",
        );
        let wire = v1::Check { evidence: long(), ..Default::default() };
        check(
            health(&link::HealthReport { checks: vec![wire], ..Default::default() }),
            "health.checks[0].evidence: has 3145728 bytes; at most 4096 are taken",
        );
        check(
            report(&link::Report {
                outcome: Some(link::report::Outcome::Failed(v1::Failure {
                    next: long(),
                    ..Default::default()
                })),
                ..Default::default()
            }),
            "failed.next: has 3145728 bytes; at most 4096 are taken",
        );
        let since_time = Some(prost_types::Timestamp { seconds: i64::MIN, nanos: 0 });
        let wire = v1::Check { since_time, ..Default::default() };
        check(
            health(&link::HealthReport { checks: vec![wire], ..Default::default() }),
            "health.checks[0].since_time: is not within the years 1 to 9999",
        );
        check(
            report(&link::Report { newest_generation: u64::MAX, ..Default::default() }),
            "newest_generation: 18446744073709551615 is above 9223372036854775807",
        );
    }

    #[test]
    fn patterns_are_few_short_and_not_empty() {
        let check = |keep: Vec<String>, expected: &str| {
            let wire = v1::RestoreChoices { keep, ..Default::default() };
            assert_eq!(choices("choices", &wire).expect_err(expected).to_string(), expected);
        };
        check(vec!["a".into(); 101], "choices.keep: has 101 items; at most 100 are taken");
        check(vec!["a".into(), "V".repeat(4097)], "choices.keep[1]: has 4097 bytes; at most 4096 are taken");
        check(vec![String::new()], "choices.keep[0]: is empty; write a path, or a glob such as **/*.key");
        let accept_loss = vec!["a".repeat(4096); 100];
        choices("choices", &v1::RestoreChoices { accept_loss, ..Default::default() }).expect("fits");
    }

    #[test]
    fn what_honest_agents_say_fits() {
        hello(&link::Hello { host: "web-1".into(), generation: 7, ..Default::default() }).expect("fits");
        health(&link::HealthReport::default()).expect("fits");
        report(&link::Report::default()).expect("fits");
        progress(&link::Progress::default()).expect("fits");
    }
}
