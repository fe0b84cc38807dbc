//! Rollbacks as a list, and one with its record.

use rfs_link::Exit;
use rfs_proto::v1::{self, host_progress, rollback};

use super::choices::decided;
use crate::cli::connect::{Client, soon};
use crate::cli::error::CliError;
use crate::cli::names;
use crate::cli::output::Output;
use crate::cli::progress::{After, outcome_lines};
use crate::cli::table::Table;
use crate::cli::words::{self, id, paint};
use crate::duration::show_wire;

pub(super) async fn list(client: &Client, output: &mut Output, limit: usize) -> Result<Exit, CliError> {
    let mut all = v1::ListRollbacksResponse::default();
    let mut page_token = String::new();
    while all.rollbacks.len() < limit {
        let page_size = i32::try_from(limit - all.rollbacks.len()).unwrap_or(i32::MAX);
        let request = v1::ListRollbacksRequest { page_size, page_token };
        let page = client.answer(client.rollbacks().list_rollbacks(soon(request)).await)?;
        all.rollbacks.extend(page.rollbacks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output.is_json() {
        output.message(&all)?;
        return Ok(Exit::Done);
    }
    if all.rollbacks.is_empty() {
        output.line("there is no rollback yet")?;
        output.line(format!("{} rfs rollback plan --checkpoint latest", paint::label("next:")))?;
        return Ok(Exit::Done);
    }
    let ids: Vec<_> = all.rollbacks.iter().map(|rollback| id(&rollback.name)).collect();
    let mut table = Table::new(&["ROLLBACK", "STATE", "TO", "BEGUN", "BY", "REASON"]);
    for (marked, rollback) in names::mark_unique(&ids).zip(&all.rollbacks) {
        table.row([
            marked,
            state(rollback),
            target(rollback),
            words::time(rollback.create_time),
            rollback.requester.clone(),
            rollback.reason.clone(),
        ]);
    }
    output.table(&table)?;
    Ok(Exit::Done)
}

fn state(rollback: &v1::Rollback) -> String {
    match rollback.state() {
        rollback::State::Finished => words::outcome(rollback.outcome()),
        state => words::rollback_state(state),
    }
}

fn target(rollback: &v1::Rollback) -> String {
    match &rollback.spec {
        _ if !rollback.undo_of.is_empty() => format!("undo of {}", rollback.undo_of),
        Some(spec) => spec.checkpoint.clone(),
        None => String::new(),
    }
}

pub(super) async fn show(client: &Client, output: &mut Output, name: String) -> Result<Exit, CliError> {
    let request = v1::GetRollbackRequest { name };
    let rollback = client.answer(client.rollbacks().get_rollback(soon(request)).await)?;
    if output.is_json() {
        output.message(&rollback)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::bare();
    let mut row = |what: &str, value: String| {
        if !value.is_empty() {
            table.row([paint::label(what), value]);
        }
    };
    row("rollback", id(&rollback.name).to_owned());
    row("state", state(&rollback));
    row("to", target(&rollback));
    row("reason", rollback.reason.clone());
    row("by", rollback.requester.clone());
    row("begun", words::time(rollback.create_time));
    row("ended", rollback.finish_time.map(|time| words::time(Some(time))).unwrap_or_default());
    if let Some(spec) = &rollback.spec {
        row("strategy", words::lower(spec.strategy().as_str_name()));
        row("on failure", words::lower(spec.on_failure().as_str_name()));
        row("hosts", words::selector(spec.selector.as_ref()));
        row("decided", decided(spec.choices.as_ref()).unwrap_or_default());
    }
    output.table(&table)?;
    output.line("")?;
    output.table(&hosts(&rollback))?;
    let mut left_out: Vec<_> = rollback.left_out.iter().collect();
    left_out.sort();
    for (host, why) in left_out {
        output.line(format!("{} {host}: {why}", paint::doubt("left out")))?;
    }
    for wave in rollback.waves.iter().filter(|wave| !wave.waits_for.is_empty()) {
        let title = paint::label(format!("wave {}", wave.index));
        output.line(format!("{title} waits for {}", wave.waits_for))?;
    }
    for line in outcome_lines(&rollback, After::Record) {
        output.line(line)?;
    }
    Ok(Exit::Done)
}

fn hosts(rollback: &v1::Rollback) -> Table {
    let mut table =
        Table::new(&["WAVE", "HOST", "STATE", "HEALTH", "STEPS", "DOWN", "SNAPSHOT", "BACKUP", "WHY"]);
    for (number, wave) in (1..).zip(&rollback.waves) {
        for host in &wave.hosts {
            let short = |digest: &str| digest.chars().take(12).collect::<String>();
            let doubt = host.health() != v1::Health::Good && host.state() != host_progress::State::Untouched;
            let evidence = if doubt { host.evidence.as_str() } else { "" };
            let why = host.failure.as_ref().map_or(evidence, |failure| &failure.message);
            table.row([
                format!("{number}{}", if wave.canary { " canary" } else { "" }),
                host.host.clone(),
                words::progress(host),
                words::health(host.health()),
                host.steps.to_string(),
                host.downtime.map(show_wire).unwrap_or_default(),
                short(&host.snapshot),
                short(&host.backup),
                why.to_owned(),
            ]);
        }
    }
    table
}

pub(super) async fn events(client: &Client, output: &mut Output, name: String) -> Result<Exit, CliError> {
    let mut all = v1::ListRollbackEventsResponse::default();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRollbackEventsRequest { name: name.clone(), page_size: 5000, page_token };
        let page = client.answer(client.rollbacks().list_rollback_events(soon(request)).await)?;
        page_token = page.next_page_token;
        if output.is_json() {
            all.events.extend(page.events);
        } else {
            for event in &page.events {
                let time = event.time.map(rfs_proto::convert::from_wire_time).unwrap_or_default();
                output.line(format!("{:>4}  {time}  {}", event.position, event.description))?;
            }
        }
        if page_token.is_empty() {
            break;
        }
    }
    if output.is_json() {
        output.message(&all)?;
    }
    Ok(Exit::Done)
}
