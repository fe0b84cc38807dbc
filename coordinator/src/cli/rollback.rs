//! `rfs rollback`: bring hosts back to a checkpoint, and steer it.

mod care;
mod plan;
mod show;
mod spec;
mod values;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use rfs_link::{Exit, Failure};
use rfs_model::Reason;
use rfs_proto::v1;
use uuid::Uuid;

use super::arguments::Grouped;
use super::connect::{Client, soon, within};
use super::error::CliError;
use super::names;
use super::output::Output;
use super::watch::{Shown, watch};
use super::words::{id, paint};
use care::Care;
use spec::Spec;

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
        #[arg(long, value_name = "N", default_value_t = 50)]
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
    /// Go on after a pause.
    Resume(Which),
    /// Take the present wave's gate as passed.
    Promote {
        #[command(flatten)]
        which: Which,
        /// The wave that is meant, as it is shown; typed again, it has no further effect [default: the present one].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        wave: Option<u32>,
    },
    /// End it: hosts at work go back to where they were, no other host starts.
    Abort(Which),
    /// Bring the changed hosts back to the backups that a rollback took.
    ///
    /// It is done as carefully as the rollback was. If any option about care is given, they alone count.
    Undo {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        starting: Starting,
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
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
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
            let spec = spec.resolve(&client).await?;
            let planned = ask_plan(&client, spec).await?;
            plan::show(output, &planned, all_steps)
        }
        RollbackCommand::Start { spec, starting, reason } => {
            let spec = spec.check()?;
            starting.need_consent(output)?;
            let client = connection.open().await?;
            let spec = spec.resolve(&client).await?;
            if !starting.yes {
                let planned = ask_plan(&client, spec.clone()).await?;
                plan::show(output, &planned, false)?;
                confirm(&format!("roll back to {}?", spec.checkpoint))?;
            }
            let request_id = starting.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
            let request = v1::CreateRollbackRequest { spec: Some(spec), reason, request_id };
            let started = client.answer(client.rollbacks().create_rollback(soon(request)).await)?;
            follow_started(&client, output, &started, starting.no_wait).await
        }
        RollbackCommand::Undo { which, starting, care } => {
            let spec = care.given()?;
            starting.need_consent(output)?;
            let client = connection.open().await?;
            let name = names::rollback(&client, &which.rollback).await?;
            if !starting.yes {
                confirm(&format!("bring the hosts that {name} changed back to their backups?"))?;
            }
            let request_id = starting.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
            let request = v1::UndoRollbackRequest { name, request_id, spec };
            let started = client.answer(client.rollbacks().undo_rollback(soon(request)).await)?;
            follow_started(&client, output, &started, starting.no_wait).await
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
        RollbackCommand::Promote { which, wave } => {
            let wave = wave.map(|number| number - 1);
            steer(&connection.open().await?, output, which, Steer::Promote { wave }).await
        }
        RollbackCommand::Abort(which) => steer(&connection.open().await?, output, which, Steer::Abort).await,
    }
}

/// A plan makes every host walk its state.
const PLAN: Duration = Duration::from_secs(120);

async fn ask_plan(client: &Client, spec: v1::RollbackSpec) -> Result<v1::PlanRollbackResponse, CliError> {
    let request = v1::PlanRollbackRequest { spec: Some(spec) };
    Ok(client.answer(client.rollbacks().plan_rollback(within(PLAN, request)).await)?)
}

impl Starting {
    /// Without somebody to ask, the consent must be in the command.
    fn need_consent(&self, output: &Output) -> Result<(), Failure> {
        if self.yes || (io::stdin().is_terminal() && !output.is_json()) {
            return Ok(());
        }
        Err(Failure::new(
            Reason::InvalidArgument,
            "a rollback is to be confirmed, and there is nobody to ask",
        )
        .next("look at it with: rfs rollback plan; then start it with --yes"))
    }
}

fn confirm(question: &str) -> Result<(), CliError> {
    anstream::eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    let failure = Failure::new(Reason::Cancelled, "not confirmed; nothing was changed");
    Err(failure.next("run it again and answer y, or give --yes").into())
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
    let request = v1::WatchRollbackRequest { name };
    let open = async || client.rollbacks().watch_rollback(request.clone()).await;
    let (_, exit) = watch(client, output, shown, &next, open).await?;
    Ok(exit)
}

/// What a person decides.
#[derive(Debug, Clone, Copy)]
enum Steer {
    Pause,
    Resume,
    /// The index of the wave; none for the present one.
    Promote {
        wave: Option<u32>,
    },
    Abort,
}

async fn steer(client: &Client, output: &mut Output, which: Which, steer: Steer) -> Result<Exit, CliError> {
    let name = names::rollback(client, &which.rollback).await?;
    let mut rollbacks = client.rollbacks();
    let answer = match steer {
        Steer::Pause => rollbacks.pause_rollback(soon(v1::PauseRollbackRequest { name })).await,
        Steer::Resume => rollbacks.resume_rollback(soon(v1::ResumeRollbackRequest { name })).await,
        Steer::Promote { wave } => {
            let wave = match wave {
                Some(wave) => Some(wave),
                None => present_wave(client, &name).await?,
            };
            rollbacks.promote_rollback(soon(v1::PromoteRollbackRequest { name, wave })).await
        }
        Steer::Abort => rollbacks.abort_rollback(soon(v1::AbortRollbackRequest { name })).await,
    };
    let rollback = client.answer(answer)?;
    if output.is_json() {
        output.message(&rollback)?;
        return Ok(Exit::Done);
    }
    let (what, next) = match steer {
        Steer::Pause => ("is paused; hosts at work finish", "resume"),
        Steer::Resume => ("goes on", "watch"),
        Steer::Promote { .. } => {
            ("goes on: the wave's gate is taken as passed once no host of it is at work", "watch")
        }
        Steer::Abort => ("is being ended; hosts at work go back", "watch"),
    };
    output.line(format!("{} {what}", rollback.name))?;
    output.line(format!("{} rfs rollback {next} {}", paint::label("next:"), id(&rollback.name)))?;
    Ok(Exit::Done)
}

/// The index of the wave that is present now, so that a request that is sent twice does not promote two.
async fn present_wave(client: &Client, name: &str) -> Result<Option<u32>, CliError> {
    let request = v1::GetRollbackRequest { name: name.to_owned() };
    let rollback = client.answer(client.rollbacks().get_rollback(soon(request)).await)?;
    let started = rollback.waves.iter().filter(|wave| wave.state() != v1::wave::State::Pending);
    Ok(started.map(|wave| wave.index).max())
}
