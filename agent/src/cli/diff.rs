//! `rfs-agent snapshots diff`: what differs between two snapshots, or between one and the live host.

use std::collections::BTreeMap;

use rfs_link::{Chain, Exit};
use rfs_model::{ComponentName, SnapshotId};
use rfs_store::text::encode;
use rfs_store::{Cancel, ComponentDiff, FileChange, FileDiff, Store};
use serde_json::{Value, json};

use super::Ended;
use super::output::Output;
use super::words::counted;
use crate::commander::{Refusal, Selection};
use crate::component::choices::Choices;
use crate::component::{self, capture_reason, files_spec};
use crate::config::{ComponentSpec, Config};
use crate::engine::cause::refuse_for;
use crate::engine::refuse_snapshot;

/// One difference, as it is shown.
struct Line {
    change: &'static str,
    component: ComponentName,
    /// The path, or nothing where the component as a whole differs.
    path: Option<String>,
    /// What of it.
    aspects: Vec<String>,
}

pub(super) fn run(
    config: &Config,
    store: &Store,
    first: SnapshotId,
    other: Option<SnapshotId>,
    output: &Output,
) -> Ended {
    let mut lines = Vec::new();
    match other {
        Some(other) => {
            let diffs = store.diff(first, other).map_err(|error| refuse_snapshot(&error))?;
            lines_of(&diffs, &mut lines);
        }
        None => live(config, store, first, &mut lines)?,
    }
    if output.is_json() {
        output.document(&json!({ "changes": lines.iter().map(document).collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    let against = if other.is_some() { "the second snapshot" } else { "the live host" };
    if lines.is_empty() {
        output.line(format_args!("no difference from {} to {against}", first.0.short()));
        return Ok(Exit::Done);
    }
    for line in &lines {
        let path = line.path.as_ref().map(|path| format!("  {path}")).unwrap_or_default();
        let aspects = match line.aspects.as_slice() {
            [] => String::new(),
            aspects => format!(" ({})", aspects.join(", ")),
        };
        output.line(format_args!("{:<8} {}{path}{aspects}", line.change, line.component));
    }
    let count = counted(lines.len() as u64, "difference", "differences");
    output.line(format_args!("{count} from {} to {against}", first.0.short()));
    Ok(Exit::Done)
}

fn document(line: &Line) -> Value {
    json!({ "change": line.change, "component": line.component, "path": line.path, "aspects": line.aspects })
}

fn lines_of(diffs: &BTreeMap<ComponentName, ComponentDiff>, lines: &mut Vec<Line>) {
    for (name, diff) in diffs {
        let whole = |change| Line { change, component: name.clone(), path: None, aspects: Vec::new() };
        match diff {
            ComponentDiff::Added => lines.push(whole("added")),
            ComponentDiff::Removed => lines.push(whole("removed")),
            ComponentDiff::Value | ComponentDiff::OtherKind => lines.push(whole("changed")),
            ComponentDiff::Files(files) => lines.extend(files.iter().map(|file| line_of(name, file))),
        }
    }
}

fn line_of(component: &ComponentName, file: &FileDiff) -> Line {
    let mut path = file.root.clone();
    if !file.path.is_empty() {
        path.push(b'/');
        path.extend(&file.path);
    }
    let (change, aspects) = match &file.change {
        FileChange::Added => ("added", Vec::new()),
        FileChange::Removed => ("removed", Vec::new()),
        FileChange::Changed(aspects) => ("changed", aspects.iter().map(ToString::to_string).collect()),
    };
    Line { change, component: component.clone(), path: Some(encode(&path).into_owned()), aspects }
}

/// What differs from the snapshot to the live host: files, and which services run.
fn live(config: &Config, store: &Store, first: SnapshotId, lines: &mut Vec<Line>) -> Result<(), Refusal> {
    let snapshot = store.snapshot(first).map_err(|error| refuse_snapshot(&error))?;
    let files = config.components.iter().filter_map(|component| match &component.spec {
        ComponentSpec::Files(files) => Some((component.name.clone(), files_spec(files))),
        ComponentSpec::Services(_) => None,
    });
    let files: Vec<_> = files.collect();
    let drift = store
        .drift(first, &files, &Cancel::new())
        .map_err(|error| refuse_for(capture_reason(&error), Chain(&error).to_string()))?;
    lines_of(&drift, lines);
    let whole = |change, component: &ComponentName, aspects| {
        let component = component.clone();
        Line { change, component, path: None, aspects }
    };
    let captured: Vec<&ComponentName> = snapshot.components().map(|(name, _)| name).collect();
    for component in component::all(config) {
        if component.service().is_none() {
            continue;
        }
        let name = component.name();
        if !captured.contains(&name) {
            lines.push(whole("added", name, Vec::new()));
            continue;
        }
        let failed = |error: component::ComponentError| refuse_for(error.reason(), Chain(&error).to_string());
        let present = component.observe(store, &Cancel::new()).map_err(failed)?;
        let turn =
            present.plan(&snapshot, &Selection::default(), &Choices::default()).map_err(failed)?.turn();
        if let Some(turn) = turn.filter(|turn| turn.before != turn.after) {
            let now = if turn.before { "runs now" } else { "does not run now" };
            lines.push(whole("changed", name, vec![now.to_owned()]));
        }
    }
    for name in captured.into_iter().filter(|name| config.component(name).is_none()) {
        lines.push(whole("removed", name, Vec::new()));
    }
    Ok(())
}
