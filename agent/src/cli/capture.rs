//! `rfs-agent capture`

use std::time::Instant;

use rfs_link::Exit;
use serde_json::json;

use super::output::Output;
use super::words::{Count, Length};
use super::{Ended, arguments, door, snapshots};
use crate::config::Config;

pub(super) fn run(config: &Config, arguments: &arguments::Capture, output: &Output) -> Ended {
    let door = door::open_to_work(config)?;
    let begun = Instant::now();
    let components = arguments.components.iter().cloned().collect();
    let snapshot = door.administration().capture(&components, &arguments.reason)?;
    if output.is_json() {
        output.document(&json!({ "snapshot": snapshots::document(&snapshot) }));
        return Ok(Exit::Done);
    }
    output.heading(format_args!("{} captured", snapshot.id.0.short()));
    output.field("holds", format_args!("{} entries, {}", Count(snapshot.entries), snapshot.bytes));
    output.field("stored", format_args!("{} that were new", snapshot.stored));
    output.notes(&snapshot.notes);
    output.field("took", Length(begun.elapsed()));
    output.field("restore", format_args!("rfs-agent restore {} --plan", snapshot.id.0.short()));
    Ok(Exit::Done)
}
