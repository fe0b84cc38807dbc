//! `rfs-agent check`: whether the agent could be started with this configuration.

use std::path::Path;
use std::sync::Arc;

use rfs_link::{Credentials, LiveCredentials};
use rfs_model::Reason;
use rfs_model::time::SystemClock;
use serde_json::json;

use super::Ended;
use super::output::Output;
use super::status::certificate;
use crate::config::Config;
use crate::engine::cause::refuse;

/// The configuration was read when this is called; what it names is looked at here. Nothing is changed.
pub(super) fn run(config: &Config, path: &Path, output: &Output) -> Ended {
    if let Some(link) = &config.link {
        let paths =
            Credentials { ca: link.ca.clone(), certificate: link.certificate.clone(), key: link.key.clone() };
        let live = LiveCredentials::open(paths, Arc::new(SystemClock)).map_err(|error| error.failure())?;
        let id = live.id();
        if id.identity != rfs_link::Identity::Agent(config.host.clone()) {
            let text = format!("{} is {id}, and the host is {}", link.certificate.display(), config.host);
            let next = "issue the right one with: rfs pki issue agent NAME; or correct [host] name";
            return Err(refuse(Reason::InvalidArgument, text, next));
        }
    }
    let certificate = certificate(config, &SystemClock);
    if output.is_json() {
        output.document(&json!({
            "config": path.display().to_string(),
            "host": config.host.to_string(),
            "components": config.components.len(),
            "checks": config.health.len(),
            "certificate": certificate,
        }));
        return Ok(rfs_link::Exit::Done);
    }
    output.heading(format_args!("{} is good", path.display()));
    output.field("host", &config.host);
    output.field("components", config.components.len());
    output.field("checks", config.health.len());
    if let Some(certificate) = &certificate {
        output.field("certificate", certificate);
    }
    Ok(rfs_link::Exit::Done)
}
