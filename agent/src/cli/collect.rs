//! `rfs-agent collect` and `rfs-agent space`: what goes, what stays and why, and where the room is.

use std::collections::BTreeMap;

use rfs_link::Exit;
use rfs_model::{ByteCount, SnapshotId, Timestamp};
use rfs_store::{Cancel, SnapshotInfo, Store, StoreError};
use serde_json::json;

use super::output::Output;
use super::words::{counted, moment};
use super::{Ended, door};
use crate::commander::Refusal;
use crate::config::Config;
use crate::engine::{label, refuse_snapshot};

pub(super) fn run(config: &Config, is_dry: bool, output: &Output) -> Ended {
    if is_dry {
        return foretell(config, output);
    }
    let collected = door::open_to_work(config)?.administration().collect()?;
    if output.is_json() {
        let kept = collected.kept.iter().map(|(id, why)| json!({ "id": id, "why": why }));
        output.document(&json!({
            "forgotten": collected.forgotten,
            "kept": kept.collect::<Vec<_>>(),
            "freed_bytes": collected.freed.0,
        }));
        return Ok(Exit::Done);
    }
    for id in &collected.forgotten {
        output.line(format_args!("forgot {}", id.0.short()));
    }
    let gone = counted(collected.forgotten.len() as u64, "snapshot", "snapshots");
    let kept = counted(collected.kept.len() as u64, "snapshot stays", "snapshots stay");
    output.line(format_args!("{gone} forgotten, {} freed, {kept}", collected.freed));
    Ok(Exit::Done)
}

/// Says what a collection would do now.
fn foretell(config: &Config, output: &Output) -> Ended {
    let store = door::look(&config.store)?;
    let failed = |error: StoreError| refuse_snapshot(&error);
    let mut expiry = store.expiry(&config.retention.keep).map_err(failed)?;
    let pinned = |info: &SnapshotInfo| config.retention.pinned.contains(&info.id);
    let mut staying: Vec<(SnapshotInfo, String)> =
        expiry.staying.into_iter().map(|(info, why)| (info, why.to_string())).collect();
    for info in expiry.going.extract_if(.., |info| pinned(info)) {
        staying.push((info, "the configuration pins it".to_owned()));
    }
    staying.sort_by_key(|(info, _)| info.sequence);
    let ids: Vec<SnapshotId> = staying.iter().map(|(info, _)| info.id).collect();
    let freed = store.would_free(&ids, &Cancel::new()).map_err(failed)?;
    if output.is_json() {
        let row = |info: &SnapshotInfo| {
            let (kind, reason) = label::read(&info.label);
            json!({
                "id": info.id,
                "create_time": info.taken_at.to_string(),
                "kind": kind.as_str(),
                "checkpoint": label::checkpoint(&info.label, info.operation),
                "reason": reason,
            })
        };
        let stays = staying.iter().map(|(info, why)| {
            let mut row = row(info);
            row["why"] = json!(why);
            row
        });
        output.document(&json!({
            "would_forget": expiry.going.iter().map(row).collect::<Vec<_>>(),
            "would_keep": stays.collect::<Vec<_>>(),
            "would_free_bytes": freed.0,
        }));
        return Ok(Exit::Done);
    }
    if expiry.going.is_empty() && staying.is_empty() {
        output.line("no snapshot yet; make one with: rfs-agent capture");
        return Ok(Exit::Done);
    }
    let row = |info: &SnapshotInfo, what: String| {
        let (kind, reason) = label::read(&info.label);
        let checkpoint = label::checkpoint(&info.label, info.operation);
        vec![
            info.id.0.short(),
            moment(info.taken_at),
            kind.as_str().to_owned(),
            checkpoint.map(|id| id.to_string()).unwrap_or_default(),
            what,
            reason.to_owned(),
        ]
    };
    let going = expiry.going.iter().map(|info| (info, "goes: no rule keeps it".to_owned()));
    let stays = staying.iter().map(|(info, why)| (info, format!("stays: {why}")));
    let mut all: Vec<_> = going.chain(stays).collect();
    all.sort_by_key(|(info, _)| std::cmp::Reverse(info.sequence));
    output.table(
        &["SNAPSHOT", "CREATED", "KIND", "CHECKPOINT", "WHAT AND WHY", "REASON"],
        all.into_iter().map(|(info, what)| row(info, what)),
    );
    let gone = counted(expiry.going.len() as u64, "snapshot", "snapshots");
    output.line(format_args!(
        "a collection would forget {gone} and free about {freed}; to do so: rfs-agent collect"
    ));
    Ok(Exit::Done)
}

pub(super) fn space(config: &Config, output: &Output) -> Ended {
    let store = open_as_configured(config)?;
    let usage = store.usage(&Cancel::new()).map_err(|error| refuse_snapshot(&error))?;
    let infos = store.snapshots().map_err(|error| refuse_snapshot(&error))?;
    let taken: BTreeMap<SnapshotId, Timestamp> = infos.iter().map(|info| (info.id, info.taken_at)).collect();
    let alone: u64 = usage.alone.iter().map(|(_, bytes)| bytes.0).sum();
    let shared = ByteCount(usage.packs.0.saturating_sub(usage.unneeded.0).saturating_sub(alone));
    let usable = ByteCount(usage.available.0.saturating_sub(usage.reserve.0));
    if output.is_json() {
        let each = usage.alone.iter().map(|(id, bytes)| json!({ "id": id, "alone_bytes": bytes.0 }));
        output.document(&json!({
            "total_bytes": usage.total.0,
            "packs_bytes": usage.packs.0,
            "shared_bytes": shared.0,
            "unneeded_bytes": usage.unneeded.0,
            "quarantine_bytes": usage.quarantine.0,
            "clones_bytes": usage.clones.0,
            "available_bytes": usage.available.0,
            "reserve_bytes": usage.reserve.0,
            "usable_bytes": usable.0,
            "snapshots": each.collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    output.heading(format_args!("{} takes {}", config.store.display(), usage.total));
    output.field("shared", format_args!("{shared} that several snapshots need"));
    output.field("alone", format_args!("{} that one snapshot needs, listed below", ByteCount(alone)));
    output.field("unneeded", format_args!("{} that the next collection looks at", usage.unneeded));
    if usage.quarantine.0 > 0 {
        let folder = config.store.join("quarantine");
        output.field("damaged", format_args!("{}; may be deleted: {}", usage.quarantine, folder.display()));
    }
    if usage.clones.0 > 0 {
        let note = "not counted above: they take room only for what is live no longer, and go first";
        output.field("clones", format_args!("{} of large files; {note}", usage.clones));
    }
    output.field(
        "free",
        format_args!("{usable} to use, of {} free; {} stay in reserve", usage.available, usage.reserve),
    );
    let row = |(id, bytes): &(SnapshotId, ByteCount)| {
        vec![id.0.short(), taken.get(id).map(|at| moment(*at)).unwrap_or_default(), bytes.to_string()]
    };
    if !usage.alone.is_empty() {
        output.line("");
        output.table(&["SNAPSHOT", "CREATED", "FREED IF IT GOES"], usage.alone.iter().rev().map(row));
    }
    Ok(Exit::Done)
}

fn open_as_configured(config: &Config) -> Result<Store, Refusal> {
    Store::open_read_only_with_reserve(&config.store, config.reserve).map_err(|error| refuse_snapshot(&error))
}
