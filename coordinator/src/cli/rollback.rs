//! `rfs rollback`: bring hosts back to a checkpoint, and steer it.

mod care;
mod choices;
mod pacing;
mod plan;
mod question;
mod show;
mod spec;
mod steer;
mod typed;
mod undo;
mod values;

use std::collections::HashSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use rfs_link::{Exit, Failure};
use rfs_model::Clock as _;
use rfs_model::time::SystemClock;
use rfs_proto::v1;
use uuid::Uuid;

use super::arguments::{self, Grouped};
use super::connect::{Client, soon, within};
use super::consent::Consent;
use super::error::CliError;
use super::host::Hosts;
use super::names::{self, limit};
use super::output::Output;
use super::watch::{Shown, watch};
use super::words::{id, paint};
use care::Care;
use choices::Choices;
pub(super) use plan::health_lines;
use spec::Spec;
use steer::steer;
pub(super) use steer::{Steer, effect};
pub(super) use values::Amount;

#[derive(Debug, Subcommand)]
pub(super) enum RollbackCommand {
    /// Say what a rollback would do, down to the steps on each host; change nothing.
    Plan {
        /// Print every step, not the first of each host.
        #[arg(long)]
        all_steps: bool,
        #[command(flatten)]
        spec: Spec,
    },
    /// Start a rollback, and watch it to its end.
    Start {
        /// Why, for people.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        starting: Starting,
        #[command(flatten)]
        spec: Spec,
    },
    /// List rollbacks, newest first.
    List {
        /// At most so many.
        #[arg(long, value_name = "N", default_value = "50", value_parser = limit)]
        limit: usize,
    },
    /// Show one rollback with its whole record.
    Show {
        #[command(flatten)]
        which: Which,
        /// Print what happened, event by event.
        #[arg(long)]
        events: bool,
    },
    /// Watch a rollback until it has an outcome.
    Watch(Which),
    /// Start no further host; hosts at work finish.
    Pause(Which),
    /// Go on after a pause. Hosts that failed stay as they are: retry tries them again.
    Resume(Which),
    /// Try hosts again that failed, were lost or stayed as they were; goes on after a pause, too.
    Retry {
        #[command(flatten)]
        which: Which,
        /// Only this host; may be given often [default: every host that failed, except INCONSISTENT ones].
        #[arg(long = "host", value_name = "NAME", value_delimiter = ',')]
        hosts: Vec<String>,
        #[command(flatten)]
        choices: Choices,
    },
    /// Take the present wave's gate as passed.
    Promote {
        #[command(flatten)]
        which: Which,
        /// The wave that is meant, as it is shown; typed again, it has no further effect [default: the present one].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        wave: Option<u32>,
    },
    /// End it: hosts at work go back to where they were, no other host starts. One that is over and still waits for hosts
    /// waits no longer.
    Abort(Which),
    /// Bring the changed hosts back to the backups that a rollback took; one that still runs is ended first.
    ///
    /// It is done as carefully as the rollback was, with the same waves; only what is given here is changed. Where a later
    /// rollback changed the same hosts, it asks, since it takes away what that one did as well; --yes answers that, too.
    Undo {
        #[command(flatten)]
        which: Which,
        /// Say what it would do, and change nothing.
        #[arg(long)]
        plan: bool,
        #[command(flatten)]
        hosts: Hosts,
        #[command(flatten)]
        starting: Starting,
        #[command(flatten)]
        choices: Choices,
        #[command(flatten)]
        care: Care,
    },
}

/// Which rollback is meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The id, the beginning of it, or latest.
    rollback: String,
}

/// How a rollback is started.
#[derive(Debug, Args)]
pub(super) struct Starting {
    #[command(flatten)]
    consent: Consent,
    /// Print every step of the plan, not the first of each host.
    #[arg(long)]
    all_steps: bool,
    /// Your id of this request: the same id again gives the same rollback.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Return once it has started.
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(group: Grouped<RollbackCommand>, output: &mut Output) -> Result<Exit, CliError> {
    let connection = group.connection;
    match group.command {
        RollbackCommand::Plan { spec, all_steps } => {
            let spec = spec.check()?;
            let client = connection.open().await?;
            let spec = Some(spec.resolve(&client).await?);
            let planned = ask_plan(&client, v1::PlanRollbackRequest { spec, ..Default::default() }).await?;
            plan::show(output, &planned, all_steps)
        }
        RollbackCommand::Start { spec, starting, reason } => {
            let spec = spec.check()?;
            let look = typed::plan_of_start(arguments::typed().skip(1));
            starting.consent.possible(output, "a rollback", &look)?;
            let client = connection.open().await?;
            let spec = spec.resolve(&client).await?;
            start(&client, output, spec, &starting, reason).await
        }
        RollbackCommand::Undo { which, hosts, starting, choices, care, plan } => {
            let (selector, mut spec) = (hosts.selector()?, care.given()?);
            if selector != v1::Selector::default() {
                spec.get_or_insert_default().selector = Some(selector);
            }
            if let Some(choices) = choices.given() {
                spec.get_or_insert_default().choices = Some(choices);
            }
            if !plan {
                let look = typed::plan_of_undo(arguments::typed().skip(1));
                starting.consent.possible(output, "an undo", &look)?;
            }
            let client = connection.open().await?;
            undo::undo(&client, output, &which, &starting, spec, plan).await
        }
        RollbackCommand::List { limit } => {
            let client = connection.open().await?;
            show::list(&client, output, limit).await
        }
        RollbackCommand::Show { which, events } => {
            let client = connection.open().await?;
            let name = names::rollback(&client, &which.rollback).await?;
            if events {
                show::events(&client, output, name).await
            } else {
                show::show(&client, output, name).await
            }
        }
        RollbackCommand::Watch(which) => {
            let client = connection.open().await?;
            let name = names::rollback(&client, &which.rollback).await?;
            follow(&client, output, Shown::Everything, name).await
        }
        RollbackCommand::Pause(which) => steer(&connection.open().await?, output, which, Steer::Pause).await,
        RollbackCommand::Resume(which) => {
            steer(&connection.open().await?, output, which, Steer::Resume).await
        }
        RollbackCommand::Retry { which, hosts, choices } => {
            let retry = Steer::Retry { hosts, choices: choices.given() };
            steer(&connection.open().await?, output, which, retry).await
        }
        RollbackCommand::Promote { which, wave } => {
            steer(&connection.open().await?, output, which, Steer::Promote { wave }).await
        }
        RollbackCommand::Abort(which) => steer(&connection.open().await?, output, which, Steer::Abort).await,
    }
}

/// A plan makes every host walk its state.
const PLAN: Duration = Duration::from_secs(120);

async fn ask_plan(
    client: &Client,
    request: v1::PlanRollbackRequest,
) -> Result<v1::PlanRollbackResponse, CliError> {
    Ok(client.answer(client.rollbacks().plan_rollback(within(PLAN, request)).await)?)
}

/// Shows a plan, and refuses to go on with what the coordinator would refuse.
fn show_to_be_confirmed(
    output: &mut Output,
    planned: &v1::PlanRollbackResponse,
    all_steps: bool,
) -> Result<(), CliError> {
    plan::print(output, planned, all_steps)?;
    match planned.problems.first() {
        None => Ok(()),
        Some(problem) => {
            let reason = rfs_proto::convert::failure_reason(problem);
            Err(Failure::new(reason, problem.message.clone()).next(problem.next.clone()).into())
        }
    }
}

impl Starting {
    fn request_id(&self) -> String {
        // With an id, a request whose answer was lost can be sent again.
        self.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string())
    }
}

async fn start(
    client: &Client,
    output: &mut Output,
    mut spec: v1::RollbackSpec,
    starting: &Starting,
    reason: String,
) -> Result<Exit, CliError> {
    if !starting.consent.yes {
        let request = v1::PlanRollbackRequest { spec: Some(spec.clone()), ..Default::default() };
        let planned = ask_plan(client, request).await?;
        show_to_be_confirmed(output, &planned, starting.all_steps)?;
        // What is started is what was seen, although a newer checkpoint may come in meanwhile.
        spec.checkpoint = planned.spec.as_ref().map_or(spec.checkpoint, |spec| spec.checkpoint.clone());
        starting.consent.ask(&question::question(&planned))?;
    }
    let request = v1::CreateRollbackRequest { spec: Some(spec), reason, request_id: starting.request_id() };
    let started = client.answer(client.rollbacks().create_rollback(soon(request)).await)?;
    if starting.consent.yes && !output.is_json() {
        // With --yes no plan was shown, so the target is named here.
        let name = started.spec.as_ref().map(|spec| spec.checkpoint.clone()).unwrap_or_default();
        let request = v1::GetCheckpointRequest { name };
        let target = client.answer(client.checkpoints().get_checkpoint(soon(request)).await);
        let lines = target.map(|target| plan::target_lines(&target, SystemClock.now())).unwrap_or_default();
        lines.iter().try_for_each(|line| output.line(line))?;
        let absent = absent(client, &started).await.unwrap_or_default();
        absent.map_or(Ok(()), |text| output.line(paint::doubt(text)))?;
    }
    follow_started(client, output, &started, starting.no_wait).await
}

/// Which hosts of a rollback that has begun have no connection, in words.
async fn absent(client: &Client, started: &v1::Rollback) -> Result<Option<String>, CliError> {
    let Some(spec) = &started.spec else { return Ok(None) };
    let mut gone = HashSet::new();
    let mut page_token = String::new();
    loop {
        let selector = spec.selector.clone();
        let request = v1::ListHostsRequest { page_size: 1000, page_token, selector, ..Default::default() };
        let page = client.answer(client.hosts().list_hosts(soon(request)).await)?;
        gone.extend(
            page.hosts.into_iter().filter(|host| !host.connected).map(|host| id(&host.name).to_owned()),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let hosts: Vec<&str> =
        started.waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.host.as_str()).collect();
    let absent: Vec<&str> = hosts.iter().copied().filter(|host| gone.contains(*host)).collect();
    Ok(question::absent_words(&absent, hosts.len(), spec))
}

async fn follow_started(
    client: &Client,
    output: &mut Output,
    started: &v1::Rollback,
    no_wait: bool,
) -> Result<Exit, CliError> {
    if !no_wait {
        return follow(client, output, Shown::LastDocument, started.name.clone()).await;
    }
    if output.is_json() {
        output.message(started)?;
    } else {
        output.line(format!("{} has started", started.name))?;
        output.line(format!("{} rfs rollback watch {}", paint::label("next:"), id(&started.name)))?;
    }
    Ok(Exit::Done)
}

async fn follow(client: &Client, output: &mut Output, shown: Shown, name: String) -> Result<Exit, CliError> {
    let next = format!("rfs rollback watch {}", id(&name));
    let request = v1::WatchRollbackRequest { name, changes_only: true };
    let open = async || client.rollbacks().watch_rollback(request.clone()).await;
    let (_, exit) = watch(client, output, shown, &next, open).await?;
    Ok(exit)
}
