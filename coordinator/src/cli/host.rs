//! `rfs host`: the fleet's hosts and their health.

mod forget;
mod summary;

use clap::{Args, Subcommand};
use rfs_link::{Exit, Failure};
use rfs_model::time::SystemClock;
use rfs_model::{Clock as _, Reason};
use rfs_proto::v1;
use rfs_rollout::plan::natural;

use super::arguments::Grouped;
use super::connect::{Client, soon};
use super::consent::Consent;
use super::error::CliError;
use super::output::Output;
use super::progress::Watched as _;
use super::selection;
use super::table::Table;
use super::watch::{Shown, watch};
use super::words::{self, id, paint};

#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// List the hosts that have ever connected.
    List {
        #[command(flatten)]
        hosts: Hosts,
        /// List every host that was forgotten, too, not only those that ask to come back.
        #[arg(long)]
        forgotten: bool,
    },
    /// Show one host.
    Show {
        /// The host's name.
        name: String,
    },
    /// Say which machine a host's name belongs to, after two have spoken for it, or the host was forgotten. Any other one is
    /// refused from then on.
    Accept {
        /// The host's name.
        name: String,
        /// The machine, as rfs host show names it [default: the one that has spoken, if there is no other].
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// Forget a host that is gone for good: nothing waits for it any more, and its agent is refused until it is accepted again.
    Forget {
        /// The host's name.
        name: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Show the health of hosts, label groups and the fleet.
    Health {
        /// Only this host.
        name: Option<String>,
        #[command(flatten)]
        hosts: Hosts,
        /// Count by this label, such as role; may be given often.
        #[arg(long, value_name = "LABEL", value_delimiter = ',')]
        group_by: Vec<String>,
        /// Go on, and show each change.
        #[arg(long)]
        watch: bool,
    },
}

/// Which hosts are meant.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Hosts {
    /// Only this host; may be given often.
    #[arg(long = "host", value_name = "NAME", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Only hosts with this label, such as role=web; may be given often.
    #[arg(long = "selector", value_name = "LABEL", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,
}

/// Reads `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    rfs_model::label::parse_label(text).map_err(|error| error.to_string())
}

impl Hosts {
    /// The selector, or the label that is given with two values: no host has both.
    pub(super) fn selector(&self) -> Result<v1::Selector, Failure> {
        let mut labels = std::collections::HashMap::new();
        for (key, value) in &self.labels {
            if let Some(other) = labels.insert(key.clone(), value.clone()).filter(|other| other != value) {
                let message = format!("--selector: no host has both {key}={other} and {key}={value}");
                return Err(
                    Failure::new(Reason::InvalidArgument, message).next("give one value for each label")
                );
            }
        }
        Ok(v1::Selector { hosts: self.hosts.clone(), labels })
    }
}

pub(super) async fn run(group: Grouped<HostCommand>, output: &mut Output) -> Result<Exit, CliError> {
    match group.command {
        HostCommand::List { hosts, forgotten } => {
            let selector = hosts.selector()?;
            let client = group.connection.open().await?;
            list(&client, output, selector, forgotten).await
        }
        HostCommand::Forget { name, consent } => {
            consent.possible(output, "forgetting a host", &format!("rfs host show {name}"))?;
            let client = group.connection.open().await?;
            forget::forget(&client, output, name, consent).await
        }
        HostCommand::Show { name } => {
            let client = group.connection.open().await?;
            show(&client, output, name).await
        }
        HostCommand::Accept { name, instance } => {
            let client = group.connection.open().await?;
            accept(&client, output, name, instance).await
        }
        HostCommand::Health { name, mut hosts, group_by, watch } => {
            hosts.hosts.extend(name);
            let selector = Some(hosts.selector()?);
            let client = group.connection.open().await?;
            if watch {
                follow(&client, output, selector, group_by).await
            } else {
                health(&client, output, selector, group_by).await
            }
        }
    }
}

async fn list(
    client: &Client,
    output: &mut Output,
    selector: v1::Selector,
    forgotten: bool,
) -> Result<Exit, CliError> {
    let mut all = v1::ListHostsResponse::default();
    let mut page_token = String::new();
    loop {
        let request = v1::ListHostsRequest {
            page_size: 1000,
            page_token,
            selector: Some(selector.clone()),
            show_forgotten: true,
        };
        let page = client.answer(client.hosts().list_hosts(soon(request)).await)?;
        all.hosts.extend(page.hosts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    // One that was forgotten and asks to come back is a person's matter.
    all.hosts.retain(|host| host.forget_time.is_none() || host.refused_time.is_some() || forgotten);
    selection::not_empty(client, &selector, &all.hosts).await?;
    if output.is_json() {
        output.message(&all)?;
        return Ok(Exit::Done);
    }
    if all.hosts.is_empty() {
        output.line("no host has connected yet")?;
        output.line(format!(
            "{} on each server: rfs-agent run; its certificate: rfs pki issue agent NAME",
            paint::label("next:")
        ))?;
        return Ok(Exit::Done);
    }
    all.hosts.sort_by_cached_key(|host| natural(id(&host.name)));
    let mut table =
        Table::new(&["HOST", "CONNECTED", "HEALTH", "LABELS", "COMPONENTS", "VERSION", "LAST SEEN", "OWNER"]);
    for host in &all.hosts {
        let components: Vec<_> = host.components.iter().map(|component| component.name.as_str()).collect();
        table.row([
            id(&host.name).to_owned(),
            connected(host),
            state(host),
            words::labels(&host.labels),
            components.join(","),
            host.agent_version.clone(),
            words::time(host.last_seen_time),
            host.owner.clone(),
        ]);
    }
    output.table(&table)?;
    summary::lines(&all.hosts, SystemClock.now()).iter().try_for_each(|line| output.line(line))?;
    Ok(Exit::Done)
}

/// A host's health, or what is more urgent.
fn state(host: &v1::Host) -> String {
    if host.contested {
        return paint::alarm("CONFLICT: two machines speak for it");
    }
    if let Some(text) = forget::state(host) {
        return text;
    }
    let health = match host.inconsistent {
        true => paint::alarm("INCONSISTENT"),
        false => words::health(host.health()),
    };
    if let Some(asked) = host.refused_time {
        let text = format!("REFUSED: another machine asked for it {}", words::time(Some(asked)));
        return format!("{health} {}", paint::alarm(text));
    }
    match host.replaced_time {
        Some(since) => {
            format!(
                "{health} {}",
                paint::doubt(format!("(another machine since {})", words::time(Some(since))))
            )
        }
        None => health,
    }
}

fn connected(host: &v1::Host) -> String {
    if host.connected { paint::good("yes") } else { paint::bad("no") }
}

async fn show(client: &Client, output: &mut Output, name: String) -> Result<Exit, CliError> {
    let request = v1::GetHostRequest { name };
    let host = client.answer(client.hosts().get_host(soon(request)).await)?;
    if output.is_json() {
        output.message(&host)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::bare();
    let mut row = |what: &str, value: String| table.row([paint::label(what), value]);
    row("host", id(&host.name).to_owned());
    row("connected", connected(&host));
    row("last seen", words::time(host.last_seen_time));
    row("agent", host.agent_version.clone());
    row("labels", words::labels(&host.labels));
    let components =
        host.components.iter().map(|component| format!("{} ({})", component.name, component.kind));
    row("components", components.collect::<Vec<_>>().join(", "));
    row("health", words::health(host.health()));
    let owner = if host.owner.is_empty() { "no operation".to_owned() } else { host.owner.clone() };
    row("owner", owner);
    row("generation", host.generation.to_string());
    if !host.instance.is_empty() {
        row("machine", host.instance.clone());
    }
    if let Some(end) = host.certificate_expire_time {
        row("certificate", summary::validity(id(&host.name), end, SystemClock.now()));
    }
    if host.forget_time.is_some() {
        row("forgotten", words::time(host.forget_time));
    }
    output.table(&table)?;
    machines(output, &host)?;
    if host.inconsistent {
        output.line(paint::alarm("INCONSISTENT: it is at neither its old nor its new state"))?;
        output.line(format!("{} on the host: rfs-agent status", paint::label("next:")))?;
    }
    if !host.checks.is_empty() {
        output.line("")?;
        output.table(&checks(&host.checks))?;
    }
    Ok(Exit::Done)
}

/// Which machines have spoken for the host's name, where there is a doubt about that.
fn machines(output: &mut Output, host: &v1::Host) -> Result<(), CliError> {
    let name = id(&host.name);
    if !host.instances.is_empty() {
        output.line("")?;
        let mut table = Table::new(&["MACHINE", "ADDRESS", "LAST SEEN", ""]);
        for machine in &host.instances {
            let present = if machine.id == host.instance { "the name is its" } else { "" };
            table.row([
                machine.id.clone(),
                machine.address.clone(),
                words::time(machine.seen_time),
                present.to_owned(),
            ]);
        }
        output.table(&table)?;
    }
    if host.contested {
        let two = match host.instances.len() {
            1 => "CONFLICT: two machines with one store speak for this name; neither is told anything",
            _ => "CONFLICT: two machines speak for this name; neither is told anything",
        };
        output.line(paint::alarm(two))?;
        let next = format!(
            "give the clone a name and a certificate of its own, then: rfs host accept {name} --instance ID"
        );
        output.line(format!("{} {next}", paint::label("next:")))?;
    } else if let Some(lines) = forget::doubt(host) {
        lines.iter().try_for_each(|line| output.line(line))?;
    } else if let Some(asked) = host.refused_time {
        let asked = words::time(Some(asked));
        output.line(paint::alarm(format!(
            "REFUSED: another machine than the one that a person has named last asked for this name {asked}"
        )))?;
        let next = format!("if that is the right one now: rfs host accept {name} --instance ID");
        output.line(format!("{} {next}", paint::label("next:")))?;
    } else if let Some(since) = host.replaced_time {
        let since = words::time(Some(since));
        output.line(paint::doubt(format!("another machine speaks for this name since {since}")))?;
        let next = format!("if that is right: rfs host accept {name} --instance {}", host.instance);
        output.line(format!("{} {next}", paint::label("next:")))?;
    }
    Ok(())
}

async fn accept(
    client: &Client,
    output: &mut Output,
    name: String,
    instance: Option<String>,
) -> Result<Exit, CliError> {
    let instance = match instance {
        Some(instance) => instance,
        None => only_instance(client, &name).await?,
    };
    let request = v1::AcceptHostRequest { name, instance };
    let host = client.answer(client.hosts().accept_host(soon(request)).await)?;
    if output.is_json() {
        output.message(&host)?;
        return Ok(Exit::Done);
    }
    let name = id(&host.name);
    output.line(format!("{name} is the machine {}", host.instance))?;
    let others = host.instances.iter().filter(|machine| machine.id != host.instance);
    for machine in others {
        output.line(format!("  {} from {} is refused from now on", machine.id, machine.address))?;
    }
    output.line(match host.connected {
        true => "it is connected".to_owned(),
        false => "it is not connected; its agent comes back within seconds".to_owned(),
    })?;
    output.line(format!("{} rfs host show {name}", paint::label("next:")))?;
    Ok(Exit::Done)
}

/// The one machine that has spoken for a name.
async fn only_instance(client: &Client, name: &str) -> Result<String, CliError> {
    let request = v1::GetHostRequest { name: name.to_owned() };
    let host = client.answer(client.hosts().get_host(soon(request)).await)?;
    if host.instances.len() < 2 && !host.instance.is_empty() {
        return Ok(host.instance);
    }
    let name = id(&host.name);
    let message = format!("{} have spoken for {name}", words::count(host.instances.len(), "machine"));
    let next = format!("see them with: rfs host show {name}; then: rfs host accept {name} --instance ID");
    Err(Failure::new(Reason::InvalidArgument, message).next(next).into())
}

fn checks(checks: &[v1::Check]) -> Table {
    let mut table = Table::new(&["CHECK", "KIND", "HEALTH", "NEEDED", "SINCE", "EVIDENCE"]);
    for check in checks {
        let needed = if check.required { "required" } else { "advisory" };
        table.row([
            check.name.clone(),
            check.kind.clone(),
            words::health(check.health()),
            needed.to_owned(),
            words::time(check.since_time),
            check.evidence.clone(),
        ]);
    }
    table
}

async fn health(
    client: &Client,
    output: &mut Output,
    selector: Option<v1::Selector>,
    group_by: Vec<String>,
) -> Result<Exit, CliError> {
    let request = v1::GetFleetHealthRequest { selector: selector.clone(), group_by };
    let health = client.answer(client.hosts().get_fleet_health(soon(request)).await)?;
    selection::not_empty(client, &selector.unwrap_or_default(), &health.hosts).await?;
    if output.is_json() {
        output.message(&health)?;
    } else {
        health.picture(usize::MAX, SystemClock.now()).iter().try_for_each(|line| output.line(line))?;
        if health.hosts.len() == 1 && !health.hosts[0].checks.is_empty() {
            output.line("")?;
            output.table(&checks(&health.hosts[0].checks))?;
        }
    }
    Ok(Exit::Done)
}

async fn follow(
    client: &Client,
    output: &mut Output,
    selector: Option<v1::Selector>,
    group_by: Vec<String>,
) -> Result<Exit, CliError> {
    let request = v1::WatchFleetHealthRequest { selector, group_by };
    let open = async || client.hosts().watch_fleet_health(request.clone()).await;
    let (_, exit) = watch(client, output, Shown::Everything, "", open).await?;
    Ok(exit)
}
