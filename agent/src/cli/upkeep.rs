//! `rfs-agent snapshots verify|repair|drill|pin|unpin|delete`: what keeps the store worth trusting, and small.

use std::path::Path;

use rfs_link::{Chain, Exit};
use rfs_model::{Reason, SnapshotId};
use rfs_store::{Cancel, Share, Store};
use serde_json::json;
use uuid::Uuid;

use super::arguments::Sample;
use super::output::Output;
use super::words::{Count, Length, counted};
use super::{Ended, door, snapshots};
use crate::component::store_reason;
use crate::config::Config;
use crate::engine::cause::{refuse, refuse_for};

pub(super) fn verify(store: &Store, sample: Option<Sample>, output: &Output) -> Ended {
    let share = match sample {
        None => Share::Whole,
        Some(Sample(share)) => Share::PerMille { share, seed: Uuid::now_v7().as_u64_pair().1 },
    };
    let report = store
        .verify(share, &Cancel::new())
        .map_err(|error| refuse_for(store_reason(&error), Chain(&error).to_string()))?;
    let asked = match sample {
        None => "all".to_owned(),
        Some(sample) => sample.to_string(),
    };
    if output.is_json() {
        let damage = report.damage.iter().map(|damage| {
            json!({
                "what": damage.what.to_string(),
                "path": damage.path.to_string_lossy(),
                "why": damage.reason,
                "harms": damage.harms.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        output.document(&json!({
            "share": asked,
            "objects": report.objects,
            "objects_total": report.objects_total,
            "bytes": report.bytes.0,
            "snapshots": report.snapshots,
            "damage": damage.collect::<Vec<_>>(),
        }));
    } else {
        for damage in &report.damage {
            output.line(format_args!("{damage}; {}", harms(damage.harms.iter())));
        }
        let objects = counted(report.objects_total, "object", "objects");
        let read = match sample {
            None => format!("all {objects}"),
            Some(sample) => format!("a sample of {sample}: {} of {objects}", Count(report.objects)),
        };
        let snapshots = counted(report.snapshots, "snapshot", "snapshots");
        output.line(format_args!("read {read}, {}, of {snapshots}", report.bytes));
    }
    match report.damage.len() as u64 {
        0 => Ok(Exit::Done),
        count => Err(refuse(
            Reason::StoreDamaged,
            format!("{} damaged", counted(count, "thing is", "things are")),
            "set the damage aside, and take back what the live files still have, with: rfs-agent snapshots repair",
        )),
    }
}

fn harms<'a>(snapshots: impl Iterator<Item = &'a SnapshotId>) -> String {
    let ids: Vec<String> = snapshots.map(|id| id.0.short()).collect();
    if ids.is_empty() { "harms no snapshot".to_owned() } else { format!("harms {}", ids.join(", ")) }
}

pub(super) fn repair(config: &Config, output: &Output) -> Ended {
    let repaired = door::open_to_work(config)?.administration().repair()?;
    if output.is_json() {
        output.document(&json!({
            "quarantined": repaired.quarantined.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "restored_objects": repaired.restored,
            "damage": repaired.damage,
            "harmed": repaired.harmed,
        }));
    } else {
        for path in &repaired.quarantined {
            output.line(format_args!("set aside {}", path.display()));
        }
        if repaired.restored > 0 {
            let objects = counted(repaired.restored, "lost object", "lost objects");
            output.line(format_args!("took {objects} back from the live files"));
        }
        for damage in &repaired.damage {
            output.line(format_args!("still wrong: {damage}"));
        }
        if repaired.damage.is_empty() {
            output.line("the store is whole");
        }
    }
    if repaired.damage.is_empty() {
        return Ok(Exit::Done);
    }
    let harmed = harms(repaired.harmed.iter());
    Err(refuse(
        Reason::StoreDamaged,
        format!("not everything could be repaired; what is left {harmed}"),
        "restore from another snapshot; delete the harmed ones with: rfs-agent snapshots delete SNAPSHOT",
    ))
}

pub(super) fn drill(config: &Config, snapshot: &str, scratch: Option<&Path>, output: &Output) -> Ended {
    let scratch = scratch.map(std::path::absolute).transpose().map_err(|error| {
        refuse(Reason::InvalidArgument, format!("--scratch: {error}"), "name a folder with --scratch")
    })?;
    let drilled = door::open_to_work(config)?.administration().drill(snapshot, scratch.as_deref())?;
    if output.is_json() {
        output.document(&json!({
            "snapshot": drilled.snapshot,
            "verify_time": drilled.verified_at.to_string(),
            "restore_seconds": drilled.restore_time.as_secs_f64(),
            "entries": drilled.entries,
            "bytes": drilled.bytes.0,
        }));
        return Ok(Exit::Done);
    }
    output.heading(format_args!("{} restores to what was captured", drilled.snapshot.0.short()));
    let entries = counted(drilled.entries, "entry", "entries");
    output.field("proven", format_args!("{entries}, {}", drilled.bytes));
    output.field("took", Length(drilled.restore_time));
    Ok(Exit::Done)
}

pub(super) fn pin(config: &Config, snapshot: &str, reason: &str, output: &Output) -> Ended {
    let pinned = door::open(config)?.administration().pin(snapshot, reason)?;
    if output.is_json() {
        output.document(&json!({ "snapshot": snapshots::document(&pinned) }));
        return Ok(Exit::Done);
    }
    output.line(format_args!("{} is pinned, and stays until it is unpinned", pinned.id.0.short()));
    Ok(Exit::Done)
}

pub(super) fn unpin(config: &Config, snapshot: &str, output: &Output) -> Ended {
    let unpinned = door::open(config)?.administration().unpin(snapshot)?;
    if output.is_json() {
        output.document(&json!({ "snapshot": snapshots::document(&unpinned) }));
        return Ok(Exit::Done);
    }
    let stays = match &unpinned.held {
        Some(why) => format!("and stays, for {why}"),
        None => "and stays for as long as the keep rules want it".to_owned(),
    };
    output.line(format_args!("{} is not pinned any more, {stays}", unpinned.id.0.short()));
    Ok(Exit::Done)
}

pub(super) fn delete(config: &Config, snapshot: &str, output: &Output) -> Ended {
    door::open(config)?.administration().delete(snapshot)?;
    if output.is_json() {
        output.document(&json!({}));
        return Ok(Exit::Done);
    }
    output.line("deleted; the next collection frees its room, or at once: rfs-agent collect");
    Ok(Exit::Done)
}
