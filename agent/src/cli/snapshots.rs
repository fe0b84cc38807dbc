//! `rfs-agent snapshots`: what is in the store, looked at beside whoever writes to it.

use rfs_link::Exit;
use rfs_model::{ComponentKind, Reason, SnapshotId};
use rfs_store::text::encode;
use rfs_store::{Cancel, ComponentDiff, DamagedThing, EntryKind, FileChange, Share, Snapshot, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use super::output::Output;
use super::words::{Count, counted, moment};
use super::{Ended, arguments, door};
use crate::commander::Refusal;
use crate::component::files_spec;
use crate::config::{ComponentSpec, Config};
use crate::engine::cause::{refuse, refuse_for};
use crate::engine::{label, refuse_snapshot};
use crate::local::SnapshotView;

pub(super) fn run(config: &Config, command: &arguments::Snapshots, output: &Output) -> Ended {
    let store = door::look(&config.store)?;
    match command {
        arguments::Snapshots::List => list(config, output),
        arguments::Snapshots::Show { snapshot, entries } => {
            let id = resolve(&store, snapshot)?;
            show(&store.snapshot(id).map_err(|error| refuse_snapshot(&error))?, *entries, output)
        }
        arguments::Snapshots::Diff { snapshot, other } => {
            let first = resolve(&store, snapshot)?;
            let other = other.as_ref().map(|other| resolve(&store, other)).transpose()?;
            diff(config, &store, first, other, output)
        }
        arguments::Snapshots::Verify { sample } => verify(&store, *sample, output),
    }
}

fn resolve(store: &Store, prefix: &str) -> Result<SnapshotId, Refusal> {
    store.resolve_prefix(prefix).map_err(|error| refuse_snapshot(&error))
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
            names.join(","),
            Count(snapshot.entries).to_string(),
            snapshot.bytes.to_string(),
            format!("{}{}", if snapshot.pinned { "[pinned] " } else { "" }, snapshot.reason),
        ]
    };
    output.table(
        &["SNAPSHOT", "CREATED", "KIND", "COMPONENTS", "ENTRIES", "SIZE", "REASON"],
        snapshots.iter().map(row),
    );
    Ok(Exit::Done)
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
    })
}

fn show(snapshot: &Snapshot, with_entries: bool, output: &Output) -> Ended {
    let info = snapshot.info().map_err(|error| refuse_snapshot(&error))?;
    let (kind, reason) = label::read(&info.label);
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
            json!({ "name": part.name, "kind": part.kind, "entries": part.entries, "bytes": part.size.0 })
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
            "components": parts.collect::<Vec<_>>(),
            "pinned": info.marks.pinned,
            "in_use": info.marks.in_use,
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
    for (i, part) in info.components.iter().enumerate() {
        let title = if i == 0 { "components" } else { "" };
        let entries = counted(part.entries, "entry", "entries");
        output.field(title, format_args!("{} ({}), {entries}, {}", part.name, part.kind, part.size));
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

fn diff(
    config: &Config,
    store: &Store,
    first: SnapshotId,
    other: Option<SnapshotId>,
    output: &Output,
) -> Ended {
    let diffs = match other {
        Some(other) => store.diff(first, other).map_err(|error| refuse_snapshot(&error))?,
        None => {
            let files = config.components.iter().filter_map(|component| match &component.spec {
                ComponentSpec::Files(files) => Some((component.name.clone(), files_spec(files))),
                ComponentSpec::Services(_) => None,
            });
            let files: Vec<_> = files.collect();
            store
                .drift(first, &files, &Cancel::new())
                .map_err(|error| refuse_for(Reason::Io, rfs_link::Chain(&error).to_string()))?
        }
    };
    let mut lines = Vec::new();
    for (name, diff) in &diffs {
        match diff {
            ComponentDiff::Added => lines.push(("added", name.to_string(), name.to_string())),
            ComponentDiff::Removed => lines.push(("removed", name.to_string(), name.to_string())),
            ComponentDiff::Value | ComponentDiff::OtherKind => {
                lines.push(("changed", name.to_string(), name.to_string()))
            }
            ComponentDiff::Files(files) => {
                for file in files {
                    let (change, aspects) = match &file.change {
                        FileChange::Added => ("added", String::new()),
                        FileChange::Removed => ("removed", String::new()),
                        FileChange::Changed(aspects) => {
                            let aspects: Vec<String> = aspects.iter().map(ToString::to_string).collect();
                            ("changed", format!(" ({})", aspects.join(", ")))
                        }
                    };
                    lines.push((change, name.to_string(), format!("{}{aspects}", encode(&file.path))));
                }
            }
        }
    }
    if output.is_json() {
        let changes = lines.iter().map(|(change, component, text)| {
            json!({ "change": change, "component": component, "description": text })
        });
        output.document(&json!({ "changes": changes.collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    if lines.is_empty() {
        output.line("no difference");
    }
    for (change, component, text) in lines {
        output.line(format_args!("{change:<8} {component}  {text}"));
    }
    Ok(Exit::Done)
}

fn verify(store: &Store, sample: Option<u8>, output: &Output) -> Ended {
    let share = match sample {
        None => Share::Whole,
        Some(percent) => {
            Share::PerMille { share: u16::from(percent) * 10, seed: Uuid::now_v7().as_u64_pair().1 }
        }
    };
    let report = store.verify(share, &Cancel::new()).map_err(|error| {
        refuse_for(crate::component::store_reason(&error), rfs_link::Chain(&error).to_string())
    })?;
    let damage: Vec<(String, String, Vec<String>)> = report
        .damage
        .iter()
        .map(|damage| {
            let thing = match damage.what {
                DamagedThing::Object(digest) => format!("object {digest}"),
                DamagedThing::Missing(digest) => format!("missing object {digest}"),
                DamagedThing::Index => "the index".to_owned(),
                DamagedThing::Pack(number) => format!("pack {number}"),
                DamagedThing::Manifest(id) => format!("manifest of {id}"),
                DamagedThing::Marks(id) => format!("marks of {id}"),
            };
            let harms = damage.harms.iter().map(|id| id.0.short()).collect();
            (format!("{thing} in {}", damage.path.display()), damage.reason.clone(), harms)
        })
        .collect();
    if output.is_json() {
        let damage =
            damage.iter().map(|(what, why, harms)| json!({ "what": what, "why": why, "harms": harms }));
        output.document(&json!({
            "objects": report.objects,
            "objects_total": report.objects_total,
            "bytes": report.bytes.0,
            "snapshots": report.snapshots,
            "damage": damage.collect::<Vec<_>>(),
        }));
    } else {
        for (what, why, harms) in &damage {
            output.line(format_args!("{what}: {why}; harms {}", harms.join(", ")));
        }
        let share =
            format!("{} of {}", Count(report.objects), counted(report.objects_total, "object", "objects"));
        let snapshots = counted(report.snapshots, "snapshot", "snapshots");
        output.line(format_args!("read {share}, {}, in {snapshots}", report.bytes));
    }
    match damage.len() {
        0 => Ok(Exit::Done),
        count => Err(refuse(
            Reason::StoreDamaged,
            format!("{} damaged", counted(count as u64, "thing is", "things are")),
            "capture again, so that what is still right on the host is stored anew",
        )),
    }
}
