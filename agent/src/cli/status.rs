//! `rfs-agent status`: where the host stands.

use std::time::Duration;

use rfs_link::Exit;
use rfs_model::time::SystemClock;
use rfs_model::{Clock, Timestamp};
use rfs_proto::v1;
use serde_json::{Value, json};

use super::door::{Door, Here};
use super::output::{self, Output};
use super::{Ended, door};
use crate::administration::in_words;
use crate::config::Config;
use crate::local::{Administration, LocalClient};

pub(super) fn run(config: &Config, output: &Output) -> Ended {
    let status = match door::open(config)? {
        Door::Daemon(client) => of_daemon(config, &client)?,
        Door::Here(here) => of_store(config, &here)?,
    };
    match output.is_json() {
        true => output.document(&status.document()),
        false => status.show(output),
    }
    Ok(if status.inconsistent.is_some() { Exit::Person } else { Exit::Done })
}

/// Where a host stands.
struct Status {
    host: String,
    agent: String,
    link: String,
    certificate: Option<String>,
    generation: u64,
    activity: Option<String>,
    inconsistent: Option<String>,
    recovered: Option<Value>,
    last_restore: Option<String>,
    health: String,
    checks: Vec<(String, String)>,
    components: Vec<(String, String)>,
}

fn of_daemon(config: &Config, client: &LocalClient) -> Result<Status, crate::commander::Refusal> {
    let status = client.status()?;
    let health = |number: i32| match v1::Health::try_from(number) {
        Ok(v1::Health::Good) => "good",
        Ok(v1::Health::Bad) => "bad",
        Ok(v1::Health::Unknown | v1::Health::Unspecified) | Err(_) => "unknown",
    };
    let activity = match (status.operation.as_str(), status.phase.as_str()) {
        ("", "") => None,
        ("", phase) => Some(phase.to_owned()),
        (operation, phase) => Some(format!("{operation} {phase}").trim_end().to_owned()),
    };
    Ok(Status {
        host: status.host,
        agent: format!("running, version {}", status.agent_version),
        link: match status.connected {
            true => format!("connected: {}", status.link),
            false => status.link,
        },
        certificate: certificate(config, &SystemClock),
        generation: status.generation,
        activity,
        inconsistent: status.inconsistent.then(|| status.last_restore.clone()),
        recovered: None,
        last_restore: Some(status.last_restore).filter(|text| !text.is_empty()),
        health: health(status.health).to_owned(),
        checks: status
            .checks
            .iter()
            .map(|check| (check.name.clone(), health(check.health).to_owned()))
            .collect(),
        components: status.components.iter().map(|part| (part.name.clone(), part.kind.clone())).collect(),
    })
}

fn of_store(config: &Config, here: &Here) -> Result<Status, crate::commander::Refusal> {
    let administrator = crate::administration::Administrator::new(here.engine.clone());
    let recovered = here.recovered.as_ref().map(|(operation, receipt)| {
        json!({
            "operation": operation.to_string(),
            "standing": output::standing_word(receipt.standing),
            "text": in_words(receipt),
        })
    });
    Ok(Status {
        host: config.host.to_string(),
        agent: "not running".to_owned(),
        link: match config.link {
            Some(_) => "not connected: the agent does not run".to_owned(),
            None => "no coordinator is configured".to_owned(),
        },
        certificate: certificate(config, &SystemClock),
        generation: here.engine.journal().generation().unwrap_or_default().0,
        activity: None,
        inconsistent: here.engine.inconsistent()?.map(|held| held.message),
        recovered,
        last_restore: administrator.last_restore(),
        health: "unknown".to_owned(),
        checks: Vec::new(),
        components: config
            .components
            .iter()
            .map(|part| (part.name.to_string(), part.kind().to_string()))
            .collect(),
    })
}

/// Until when the host's certificate is valid; without a coordinator there is none.
pub(super) fn certificate(config: &Config, clock: &dyn Clock) -> Option<String> {
    let path = &config.link.as_ref()?.certificate;
    let shown = match rfs_link::pki::show(path) {
        Ok(shown) => shown,
        Err(error) => return Some(rfs_link::Chain(&error).to_string()),
    };
    Some(validity(shown.first()?.not_after, clock.now()))
}

/// How far away a certificate's days are at which its end is a matter of concern.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

fn validity(not_after: Timestamp, now: Timestamp) -> String {
    let new = "issue a new one with: rfs pki issue";
    if not_after < now {
        return format!("EXPIRED at {not_after}: the coordinator lets this host in no more; {new}");
    }
    match not_after.since(now) {
        left if left <= SOON => format!("expires at {not_after}; {new}"),
        _ => format!("valid until {not_after}"),
    }
}

impl Status {
    fn show(&self, output: &Output) {
        output.heading(&self.host);
        output.field("agent", &self.agent);
        output.field("link", &self.link);
        if let Some(certificate) = &self.certificate {
            output.field("certificate", certificate);
        }
        if let Some(message) = &self.inconsistent {
            output.field("standing", output::standing(rfs_model::Standing::Inconsistent));
            output.field("", message);
        }
        if let Some(recovered) = &self.recovered {
            output.field("recovered", recovered["text"].as_str().unwrap_or_default());
        }
        output.field("at work", self.activity.as_deref().unwrap_or("nothing"));
        output.field("last", self.last_restore.as_deref().unwrap_or("no restore yet"));
        output.field("health", &self.health);
        for (name, health) in &self.checks {
            output.field("", format_args!("{name}: {health}"));
        }
        for (i, (name, kind)) in self.components.iter().enumerate() {
            output.field(if i == 0 { "components" } else { "" }, format_args!("{name} ({kind})"));
        }
    }

    fn document(&self) -> Value {
        let checks = self.checks.iter().map(|(name, health)| json!({ "name": name, "health": health }));
        let components = self.components.iter().map(|(name, kind)| json!({ "name": name, "kind": kind }));
        json!({
            "host": self.host,
            "agent": self.agent,
            "link": self.link,
            "certificate": self.certificate,
            "generation": self.generation,
            "activity": self.activity,
            "inconsistent": self.inconsistent,
            "recovered": self.recovered,
            "last_restore": self.last_restore,
            "health": self.health,
            "checks": checks.collect::<Vec<_>>(),
            "components": components.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_certificate_is_said_before_and_after_it_has_come() {
        let end = Timestamp(1_764_000_000_000);
        let at = |days: i64| validity(end, Timestamp(end.0 - days * 86_400_000));
        assert_eq!(at(31), "valid until 2025-11-24T16:00:00.000Z");
        assert_eq!(at(30), "expires at 2025-11-24T16:00:00.000Z; issue a new one with: rfs pki issue");
        assert!(at(-1).starts_with("EXPIRED at 2025-11-24T16:00:00.000Z: "), "{}", at(-1));
    }
}
