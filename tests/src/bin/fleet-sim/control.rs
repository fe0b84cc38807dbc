//! Steers the fleet by lines on standard input; each is answered by one line of JSON on standard output.

use std::io::{self, Write as _};

use anyhow::Result;
use rfs_tests::sim::{Rule, SimFleet};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Obeys until it is told to quit. Without anybody to tell it, the fleet stays.
pub(super) async fn obey(fleet: &SimFleet, mut commands: mpsc::Receiver<String>) -> Result<()> {
    loop {
        let Some(command) = commands.recv().await else { std::future::pending().await };
        if command.trim() == "quit" {
            return Ok(());
        }
        let answer = answer(fleet, command.trim()).unwrap_or_else(|error| json!({ "error": error }));
        writeln!(io::stdout(), "{answer}")?;
    }
}

fn answer(fleet: &SimFleet, command: &str) -> Result<Value, String> {
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    Ok(match word {
        "status" => status(fleet),
        "hosts" => hosts(fleet),
        "deploy" => json!({ "content": fleet.deploy() }),
        "rule" => {
            let rule = Rule::parse(rest.trim()).map_err(|error| error.to_string())?;
            json!({ "hosts": fleet.obey(&rule) })
        }
        "cut" => {
            fleet.cut();
            json!({ "cut": fleet.status().agents })
        }
        _ => return Err(format!("{word:?} is no command: say status, hosts, deploy, rule, cut or quit")),
    })
}

fn status(fleet: &SimFleet) -> Value {
    let status = fleet.status();
    let contents: serde_json::Map<_, _> =
        status.contents.iter().map(|(content, count)| (content.to_string(), json!(count))).collect();
    json!({
        "agents": status.agents,
        "connected": status.connected,
        "sessions": status.sessions,
        "commands": status.commands,
        "quiet": status.quiet,
        "inconsistent": status.inconsistent,
        "contents": contents,
        "troubles": status.troubles,
    })
}

fn hosts(fleet: &SimFleet) -> Value {
    let host = |index| {
        fleet.look(
            index,
            |host| json!({ "name": host.name(), "content": host.content(), "effects": host.effects() }),
        )
    };
    (0..fleet.hosts()).map(host).collect()
}
