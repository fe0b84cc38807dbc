//! Judges the health checks.

use std::time::Duration;

use rfs_model::ComponentName;
use toml::Spanned;

use super::Judge;
use crate::config::raw::{Health, Time};
use crate::config::source::Complaint;
use crate::config::{HealthCheck, Probe};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(3);
const HEALTHY_AFTER: u32 = 2;
const UNHEALTHY_AFTER: u32 = 3;

impl Judge<'_> {
    pub(super) fn health(&self, written: &[Spanned<Health>]) -> Result<Vec<HealthCheck>, Complaint> {
        let mut checks: Vec<HealthCheck> = Vec::new();
        for raw in written {
            let (span, raw) = (raw.span(), raw.get_ref());
            let name = raw.name.get_ref();
            // The rule for names is the same for everything that people type.
            if let Err(error) = ComponentName::new(name) {
                return Err(
                    self.at(raw.name.span(), format!("check name {name:?} is not valid: {}", error.rule))
                );
            }
            if checks.iter().any(|other| other.name == *name) {
                return Err(self.at(raw.name.span(), format!("there are two checks of the name {name:?}")));
            }
            let check = HealthCheck {
                name: name.clone(),
                probe: self.probe(raw)?,
                interval: raw.interval.map_or(INTERVAL, |Time(time)| time),
                timeout: raw.timeout.map_or(TIMEOUT, |Time(time)| time),
                healthy_after: raw.healthy_after.unwrap_or(HEALTHY_AFTER),
                unhealthy_after: raw.unhealthy_after.unwrap_or(UNHEALTHY_AFTER),
                required: raw.required,
            };
            if check.healthy_after == 0 || check.unhealthy_after == 0 {
                return Err(self.at(span, "healthy_after and unhealthy_after are at least 1"));
            }
            checks.push(check);
        }
        Ok(checks)
    }

    fn probe(&self, raw: &Health) -> Result<Probe, Complaint> {
        let keys = [
            ("url", "http", raw.url.as_ref().map(Spanned::span)),
            ("status", "http", raw.status.as_ref().map(Spanned::span)),
            ("address", "tcp", raw.address.as_ref().map(Spanned::span)),
            ("command", "command", raw.command.as_ref().map(Spanned::span)),
        ];
        let kind = raw.kind.get_ref().as_str();
        for (key, belongs, span) in keys {
            if let Some(span) = span
                && belongs != kind
                && ["http", "tcp", "command"].contains(&kind)
            {
                return Err(self
                    .at(span, format!("{key} belongs to kind {belongs}, and this check is of kind {kind}")));
            }
        }
        let needs = |what: &str| self.at(raw.kind.span(), format!("a check of kind {kind} needs {what}"));
        match kind {
            "http" => {
                let url = raw.url.as_ref().ok_or_else(|| needs("url"))?;
                let rest =
                    ["http://", "https://"].iter().find_map(|scheme| url.get_ref().strip_prefix(scheme));
                if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(' '))
                {
                    let message = format!(
                        "{:?} is not a URL; write it like \"http://127.0.0.1:8080/healthz\"",
                        url.get_ref()
                    );
                    return Err(self.at(url.span(), message));
                }
                if let Some(status) = &raw.status
                    && (status.get_ref().is_empty()
                        || !status.get_ref().iter().all(|s| (100..600).contains(s)))
                {
                    return Err(
                        self.at(status.span(), "status is a list of HTTP status codes, such as [200, 204]")
                    );
                }
                let status = raw.status.as_ref().map(|status| status.get_ref().iter().copied().collect());
                Ok(Probe::Http { url: url.get_ref().clone(), status })
            }
            "tcp" => {
                let address = raw.address.as_ref().ok_or_else(|| needs("address"))?;
                let parts = address.get_ref().rsplit_once(':');
                if !parts
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
                {
                    let message = format!(
                        "{:?} is not valid; write HOST:PORT, such as \"127.0.0.1:5432\"",
                        address.get_ref()
                    );
                    return Err(self.at(address.span(), message));
                }
                Ok(Probe::Tcp { address: address.get_ref().clone() })
            }
            "command" => {
                let command = raw.command.as_ref().ok_or_else(|| needs("command"))?;
                Ok(Probe::Command { program: self.program(command)? })
            }
            _ => {
                let message =
                    format!("check kind {kind:?} is not known; this version knows: http, tcp, command");
                Err(self.at(raw.kind.span(), message))
            }
        }
    }
}
