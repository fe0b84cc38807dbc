//! `rfs-agent snapshots`: what is in the store, and what is done with it; looked at beside whoever writes to it.

use rfs_link::Exit;
use rfs_model::{ComponentKind, SnapshotId};
use rfs_store::text::encode;
use rfs_store::{EntryKind, Snapshot, Store};
use serde_json::{Value, json};

use super::output::Output;
use super::words::{Count, Length, counted, moment};
use super::{Ended, arguments, diff, door, upkeep};
use crate::administration::{GOES, stays};
use crate::commander::Refusal;
use crate::config::Config;
use crate::engine::{label, refuse_snapshot};
use crate::local::SnapshotView;

pub(super) fn run(config: &Config, command: &arguments::Snapshots, output: &Output) -> Ended {
    match command {
        arguments::Snapshots::List => list(config, output),
        arguments::Snapshots::Show { snapshot, entries } => {
            let store = door::look(&config.store)?;
            let id = resolve(&store, snapshot)?;
            let mut stays = stays(&store, config).map_err(|error| refuse_snapshot(&error))?;
            let kept = stays.remove(&id).unwrap_or_else(|| GOES.to_owned());
            let snapshot = store.snapshot(id).map_err(|error| refuse_snapshot(&error))?;
            show(&snapshot, &kept, *entries, output)
        }
        arguments::Snapshots::Diff { snapshot, other } => {
            let store = door::look(&config.store)?;
            let first = resolve(&store, snapshot)?;
            let other = other.as_ref().map(|other| resolve(&store, other)).transpose()?;
            diff::run(config, &store, first, other, output)
        }
        arguments::Snapshots::Verify { sample } => {
            upkeep::verify(&door::look(&config.store)?, *sample, output)
        }
        arguments::Snapshots::Repair => upkeep::repair(config, output),
        arguments::Snapshots::Drill { snapshot, scratch } => {
            upkeep::drill(config, snapshot, scratch.as_deref(), output)
        }
        arguments::Snapshots::Pin { snapshot, reason } => upkeep::pin(config, snapshot, reason, output),
        arguments::Snapshots::Unpin { snapshot } => upkeep::unpin(config, snapshot, output),
        arguments::Snapshots::Delete { snapshot } => upkeep::delete(config, snapshot, output),
    }
}

fn resolve(store: &Store, prefix: &str) -> Result<SnapshotId, Refusal> {
    crate::administration::resolve(store, prefix).map_err(|error| refuse_snapshot(&error))
}

fn list(config: &Config, output: &Output) -> Ended {
    let snapshots = door::open(config)?.administration().snapshots()?;
    if output.is_json() {
        output.document(&json!({ "snapshots": snapshots.iter().map(document).collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    if snapshots.is_empty() {
        output.line("no snapshot yet; make one with: rfs-agent capture");
        return Ok(Exit::Done);
    }
    let row = |snapshot: &SnapshotView| {
        let names: Vec<&str> = snapshot.components.iter().map(|(name, _)| name.as_str()).collect();
        vec![
            snapshot.id.0.short(),
            moment(snapshot.created_at),
            snapshot.kind.as_str().to_owned(),
            snapshot.checkpoint.map(|id| id.to_string()).unwrap_or_default(),
            names.join(","),
            Count(snapshot.entries).to_string(),
            snapshot.bytes.to_string(),
            snapshot.stays.clone(),
            format!("{}{}", flags(snapshot), snapshot.reason),
        ]
    };
    output.table(
        &["SNAPSHOT", "CREATED", "KIND", "CHECKPOINT", "COMPONENTS", "ENTRIES", "SIZE", "STAYS", "REASON"],
        snapshots.iter().map(row),
    );
    Ok(Exit::Done)
}

/// What a list says of a snapshot before its reason.
fn flags(snapshot: &SnapshotView) -> String {
    let flags = [(snapshot.pinned, "[pinned] "), (snapshot.proven.is_some(), "[proven] ")];
    flags.iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| *flag).collect()
}

/// A snapshot, for programs.
pub(super) fn document(snapshot: &SnapshotView) -> Value {
    let component =
        |(name, kind): &(rfs_model::ComponentName, ComponentKind)| json!({ "name": name, "kind": kind });
    json!({
        "id": snapshot.id,
        "create_time": snapshot.created_at.to_string(),
        "kind": snapshot.kind.as_str(),
        "reason": snapshot.reason,
        "operation": snapshot.operation,
        "components": snapshot.components.iter().map(component).collect::<Vec<_>>(),
        "bytes": snapshot.bytes.0,
        "new_bytes": snapshot.stored.0,
        "entries": snapshot.entries,
        "pinned": snapshot.pinned,
        "verify_time": snapshot.proven.map(|(at, _)| at.to_string()),
        "restore_seconds": snapshot.proven.map(|(_, took)| took.as_secs_f64()),
        "held": snapshot.held,
        "checkpoint": snapshot.checkpoint,
        "stays": snapshot.stays,
        "notes": snapshot.notes,
    })
}

fn show(snapshot: &Snapshot, kept: &str, with_entries: bool, output: &Output) -> Ended {
    let info = snapshot.info().map_err(|error| refuse_snapshot(&error))?;
    let (kind, reason) = label::read(&info.label);
    let checkpoint = label::checkpoint(&info.label, info.operation);
    let mut entries = Vec::new();
    for part in info.components.iter().filter(|part| with_entries && part.kind == ComponentKind::Files) {
        let tree = snapshot.tree(&part.name).map_err(|error| refuse_snapshot(&error))?;
        for root in &tree.roots {
            for entry in &root.entries {
                let mut path = root.path.clone();
                if !entry.path.is_empty() {
                    path.push(b'/');
                    path.extend(&entry.path);
                }
                entries.push((
                    encode(&path).into_owned(),
                    format!("{:04o}", entry.meta.mode),
                    what(&entry.kind),
                ));
            }
        }
    }
    if output.is_json() {
        let parts = info.components.iter().map(|part| {
            json!({ "name": part.name, "kind": part.kind, "entries": part.entries, "bytes": part.size.0, "notes": part.notes })
        });
        let listed =
            entries.iter().map(|(path, mode, what)| json!({ "path": path, "mode": mode, "what": what }));
        output.document(&json!({
            "id": info.id,
            "host": info.host,
            "create_time": info.taken_at.to_string(),
            "kind": kind.as_str(),
            "reason": reason,
            "operation": info.operation,
            "checkpoint": checkpoint,
            "components": parts.collect::<Vec<_>>(),
            "pinned": info.marks.pinned,
            "in_use": info.marks.in_use,
            "kept": kept,
            "verify_time": info.marks.proof.map(|proof| proof.verified_at.to_string()),
            "restore_seconds": info.marks.proof.map(|proof| proof.restore_time().as_secs_f64()),
            "entries": with_entries.then(|| listed.collect::<Vec<_>>()),
        }));
        return Ok(Exit::Done);
    }
    output.heading(info.id);
    output.field("host", &info.host);
    output.field("created", moment(info.taken_at));
    output.field("kind", kind.as_str());
    output.field("reason", reason);
    if let Some(operation) = info.operation {
        output.field("operation", operation);
    }
    if let Some(checkpoint) = checkpoint {
        output.field("checkpoint", checkpoint);
    }
    output.field("stays", kept);
    for (i, part) in info.components.iter().enumerate() {
        let title = if i == 0 { "components" } else { "" };
        let entries = counted(part.entries, "entry", "entries");
        output.field(title, format_args!("{} ({}), {entries}, {}", part.name, part.kind, part.size));
    }
    for part in &info.components {
        output.notes(&part.notes);
    }
    if let Some(proof) = info.marks.proof {
        let took = Length(proof.restore_time());
        output.field("proven", format_args!("{}, restored in {took}", moment(proof.verified_at)));
    }
    if let Some(why) = &info.marks.pinned {
        output.field("pinned", why);
    }
    for (who, why) in &info.marks.in_use {
        output.field("in use", format_args!("{why} ({who})"));
    }
    for (path, mode, what) in entries {
        output.line(format_args!("{mode} {what:<9} {path}"));
    }
    Ok(Exit::Done)
}

fn what(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "folder",
        EntryKind::File { .. } => "file",
        EntryKind::Symlink(_) => "link",
        EntryKind::Fifo => "pipe",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => "device",
    }
}
