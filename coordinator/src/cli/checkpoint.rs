//! `rfs checkpoint`: a fleet's snapshots under one id.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use rfs_link::Exit;
use rfs_model::ByteCount;
use rfs_proto::convert::to_wire_duration;
use rfs_proto::v1;
use uuid::Uuid;

use super::arguments::Grouped;
use super::connect::{Client, soon};
use super::consent::Consent;
use super::error::CliError;
use super::host::{Hosts, label};
use super::names;
use super::output::Output;
use super::progress::{checkpoint_state, counts, note_lines, remedy_lines};
use super::rollback::Amount;
use super::table::Table;
use super::watch::{Shown, watch};
use super::words::{self, id, paint};
use crate::duration::{parse_duration, show_wire};

#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// Take a checkpoint, and wait until it is durable on every host.
    Create(Create),
    /// List checkpoints, newest first.
    List {
        /// Only those of this deployment.
        #[arg(long, value_name = "ID")]
        deployment: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value = "50", value_parser = names::limit)]
        limit: usize,
    },
    /// Show one checkpoint with its hosts.
    Show {
        /// The id, the beginning of it, or latest.
        checkpoint: String,
    },
    /// End a checkpoint that is being taken; what its hosts made quiet resumes at once.
    Abort {
        /// The id, or the beginning of it.
        checkpoint: String,
    },
    /// Delete a checkpoint; its snapshots leave the hosts with their next retention run.
    Delete {
        /// The id, or the beginning of it.
        checkpoint: String,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    hosts: Hosts,
    /// Only this component; may be given often.
    #[arg(long = "component", value_name = "NAME", value_delimiter = ',')]
    components: Vec<String>,
    /// What it is taken for.
    #[arg(long, value_enum, default_value_t = Kind::Manual)]
    kind: Kind,
    /// The deployment that follows.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    deployment: String,
    /// A label of the checkpoint, such as train=green; may be given often.
    #[arg(long = "label", id = "label", value_name = "LABEL", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Why, for people.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// How long all of it may take.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = parse_duration)]
    timeout: Duration,
    /// How long a host may hold still without a further word, before it resumes by itself [default: 30s, or what the coordinator
    /// is configured with].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    quiesce_timeout: Option<Duration>,
    /// How many hosts may be missing from a checkpoint that is complete all the same [default: none].
    #[arg(long, value_name = "N|N%")]
    allow_missing: Option<Amount>,
    /// Your id of this request: the same id again gives the same checkpoint.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Return once it has started.
    #[arg(long)]
    no_wait: bool,
}

/// What a checkpoint is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Before a deploy.
    Automatic,
    /// A person asked.
    Manual,
}

pub(super) async fn run(group: Grouped<CheckpointCommand>, output: &mut Output) -> Result<Exit, CliError> {
    match group.command {
        CheckpointCommand::Create(create) => {
            let (no_wait, request) = (create.no_wait, create.request()?);
            let client = group.connection.open().await?;
            start(&client, output, request, no_wait).await
        }
        CheckpointCommand::List { deployment, limit } => {
            let client = group.connection.open().await?;
            list(&client, output, deployment.unwrap_or_default(), limit).await
        }
        CheckpointCommand::Show { checkpoint } => {
            let client = group.connection.open().await?;
            let name = names::checkpoint(&client, &checkpoint).await?;
            let request = v1::GetCheckpointRequest { name };
            let checkpoint = client.answer(client.checkpoints().get_checkpoint(soon(request)).await)?;
            show(output, &checkpoint)
        }
        CheckpointCommand::Abort { checkpoint } => {
            let client = group.connection.open().await?;
            let name = names::checkpoint(&client, &checkpoint).await?;
            abort(&client, output, name).await
        }
        CheckpointCommand::Delete { checkpoint, consent } => {
            let look = format!("rfs checkpoint show {checkpoint}");
            consent.possible(output, "deleting a checkpoint", &look)?;
            let client = group.connection.open().await?;
            let name = names::checkpoint(&client, &checkpoint).await?;
            if !consent.yes {
                let request = v1::GetCheckpointRequest { name: name.clone() };
                let checkpoint = client.answer(client.checkpoints().get_checkpoint(soon(request)).await)?;
                consent.ask(&format!(
                    "delete {name}, taken {} of {}? Nothing can be rolled back to it any more.",
                    words::time(checkpoint.create_time),
                    words::count(checkpoint.snapshots.len(), "host")
                ))?;
            }
            let request = v1::DeleteCheckpointRequest { name: name.clone() };
            client.answer(client.checkpoints().delete_checkpoint(soon(request)).await)?;
            if output.is_json() {
                output.document(&serde_json::json!({ "deleted": name }))?;
            } else {
                output.line(format!("{name} is deleted"))?;
            }
            Ok(Exit::Done)
        }
    }
}

impl Create {
    fn request(self) -> Result<v1::CreateCheckpointRequest, CliError> {
        let kind = match self.kind {
            Kind::Automatic => v1::checkpoint::Kind::Automatic,
            Kind::Manual => v1::checkpoint::Kind::Manual,
        };
        Ok(v1::CreateCheckpointRequest {
            selector: Some(self.hosts.selector()?),
            components: self.components,
            kind: kind.into(),
            deployment_id: self.deployment,
            labels: self.labels.into_iter().collect(),
            reason: self.reason,
            // With an id, a request whose answer was lost can be sent again.
            request_id: self.request_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            timeout: Some(to_wire_duration(self.timeout)),
            allow_missing: self.allow_missing.map(Into::into),
            quiesce_timeout: self.quiesce_timeout.map(to_wire_duration),
        })
    }
}

async fn start(
    client: &Client,
    output: &mut Output,
    request: v1::CreateCheckpointRequest,
    no_wait: bool,
) -> Result<Exit, CliError> {
    let started = client.answer(client.checkpoints().create_checkpoint(soon(request)).await)?;
    let name = started.name.clone();
    let short = id(&name);
    if no_wait {
        if output.is_json() {
            output.message(&started)?;
        } else {
            output.line(format!("{name} is being taken"))?;
            output.line(format!("{} rfs checkpoint show {short}", paint::label("next:")))?;
        }
        return Ok(Exit::Done);
    }
    let request = v1::WatchCheckpointRequest { name: name.clone(), changes_only: true };
    let open = async || client.checkpoints().watch_checkpoint(request.clone()).await;
    let next = format!("rfs checkpoint show {short}");
    let (_, exit) = watch(client, output, Shown::LastDocument, &next, open).await?;
    Ok(exit)
}

async fn abort(client: &Client, output: &mut Output, name: String) -> Result<Exit, CliError> {
    let request = v1::AbortCheckpointRequest { name };
    let ended = client.answer(client.checkpoints().abort_checkpoint(soon(request)).await)?;
    if output.is_json() {
        output.message(&ended)?;
        return Ok(Exit::Done);
    }
    let short = id(&ended.name);
    let (what, next) = if ended.state() == v1::checkpoint::State::Aborted {
        ("it is no target, and its hosts are free", "rfs checkpoint create".to_owned())
    } else {
        ("its hosts had cut before it could be ended, and are free", format!("rfs checkpoint show {short}"))
    };
    output.line(format!("{} is {}; {what}", ended.name, checkpoint_state(&ended)))?;
    output.line(format!("{} {next}", paint::label("next:")))?;
    Ok(Exit::Done)
}

async fn list(
    client: &Client,
    output: &mut Output,
    deployment_id: String,
    limit: usize,
) -> Result<Exit, CliError> {
    let mut all = v1::ListCheckpointsResponse::default();
    let mut page_token = String::new();
    while all.checkpoints.len() < limit {
        let page_size = i32::try_from(limit - all.checkpoints.len()).unwrap_or(i32::MAX);
        let request =
            v1::ListCheckpointsRequest { page_size, page_token, deployment_id: deployment_id.clone() };
        let page = client.answer(client.checkpoints().list_checkpoints(soon(request)).await)?;
        all.checkpoints.extend(page.checkpoints);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output.is_json() {
        output.message(&all)?;
        return Ok(Exit::Done);
    }
    if all.checkpoints.is_empty() && !deployment_id.is_empty() {
        output.line(format!("no checkpoint was taken before deployment {deployment_id}"))?;
        output.line(format!("{} rfs checkpoint list", paint::label("next:")))?;
        return Ok(Exit::Done);
    }
    if all.checkpoints.is_empty() {
        output.line("there is no checkpoint yet")?;
        output.line(format!("{} rfs checkpoint create", paint::label("next:")))?;
        return Ok(Exit::Done);
    }
    let ids: Vec<_> = all.checkpoints.iter().map(|checkpoint| id(&checkpoint.name)).collect();
    let mut table = Table::new(&[
        "CHECKPOINT",
        "STATE",
        "HOSTS",
        "HEALTH THEN",
        "KIND",
        "TAKEN",
        "DEPLOYMENT",
        "BY",
        "REASON",
    ]);
    for (marked, checkpoint) in names::mark_unique(&ids).zip(&all.checkpoints) {
        table.row([
            marked,
            checkpoint_state(checkpoint),
            checkpoint.host_count.to_string(),
            counts(checkpoint.health.as_ref()),
            words::lower(checkpoint.kind().as_str_name()),
            words::time(checkpoint.create_time),
            checkpoint.deployment_id.clone(),
            checkpoint.requester.clone(),
            checkpoint.reason.clone(),
        ]);
    }
    output.table(&table)?;
    Ok(Exit::Done)
}

fn show(output: &mut Output, checkpoint: &v1::Checkpoint) -> Result<Exit, CliError> {
    if output.is_json() {
        output.message(checkpoint)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::bare();
    let mut row = |what: &str, value: String| {
        if !value.is_empty() {
            table.row([paint::label(what), value]);
        }
    };
    row("checkpoint", id(&checkpoint.name).to_owned());
    row("state", checkpoint_state(checkpoint));
    row("kind", words::lower(checkpoint.kind().as_str_name()));
    row("deployment", checkpoint.deployment_id.clone());
    row("labels", words::labels(&checkpoint.labels));
    row("reason", checkpoint.reason.clone());
    row("by", checkpoint.requester.clone());
    row("hosts", words::selector(checkpoint.selector.as_ref()));
    row(
        "components",
        if checkpoint.components.is_empty() { "all".into() } else { checkpoint.components.join(", ") },
    );
    row("begun", words::time(checkpoint.create_time));
    row("ended", words::time(checkpoint.complete_time));
    row("skew", checkpoint.skew.map(show_wire).unwrap_or_default());
    row("health then", counts(checkpoint.health.as_ref()));
    output.table(&table)?;
    output.line("")?;
    let mut table = Table::new(&[
        "HOST",
        "STATE",
        "HEALTH THEN",
        "SNAPSHOT",
        "CUT",
        "SIZE",
        "STORED ANEW",
        "ENTRIES",
        "DURABLE AFTER",
        "WHY",
    ]);
    for host in &checkpoint.snapshots {
        table.row([
            host.host.clone(),
            words::snapshot_state(host.state()),
            words::health(host.health()),
            host.snapshot.chars().take(12).collect(),
            words::time(host.cut_time),
            ByteCount(host.bytes).to_string(),
            ByteCount(host.new_bytes).to_string(),
            host.entries.to_string(),
            host.duration.map(show_wire).unwrap_or_default(),
            why(host),
        ]);
    }
    output.table(&table)?;
    for line in remedy_lines(checkpoint).into_iter().chain(note_lines(checkpoint)) {
        output.line(line)?;
    }
    Ok(Exit::Done)
}

/// Why a host is not further: its failure, what it waits for, or what was wrong with it when it was asked for its snapshot.
fn why(host: &v1::HostSnapshot) -> String {
    match &host.failure {
        Some(failure) => failure.message.clone(),
        None if !host.phase.is_empty() => host.phase.clone(),
        None => ill(host),
    }
}

/// What was wrong with a host when it was asked for its snapshot.
fn ill(host: &v1::HostSnapshot) -> String {
    match host.health() {
        v1::Health::Bad | v1::Health::Unknown if !host.evidence.is_empty() => {
            format!("was {}", host.evidence)
        }
        v1::Health::Bad | v1::Health::Unknown | v1::Health::Good | v1::Health::Unspecified => String::new(),
    }
}
