//! Makes a golden store anew: everything that the format can hold, in a few dozen KiB, with the listing to judge it by.
//!
//! The store that a version of the format is tested against is made once, by the first program that writes it, and then
//! only read. See `golden/main.rs`.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rfs_model::time::ManualClock;
use rfs_model::{ComponentKind, ComponentName, Generation, HostId, OperationId, SnapshotId, Timestamp};
use rfs_store::journal::{CommandKey, Journal, NewRun, Quiet, StoredCommand};
use rfs_store::{Cancel, FilesSpec, KeepPolicy, SnapshotNote, Store};
use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags};
use uuid::Uuid;

use crate::listing::{Owners, list};

/// The components of every golden snapshot.
pub(crate) const SITE: &str = "site";
pub(crate) const APP: &str = "app";
/// Two seconds of the year 2023.
const TIME: i64 = 1_700_000_000;

/// An id that is the same each time.
pub(crate) fn operation(number: u128) -> OperationId {
    OperationId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn name(text: &str) -> ComponentName {
    ComponentName::new(text).expect("a name")
}

/// Fills `into`, which is empty: a store, and `ID.listing` for each of its snapshots.
pub(crate) fn make(into: &Path) {
    let live = tempfile::Builder::new().prefix("golden-").tempdir().expect("a folder");
    let path = into.join("store");
    let clock = Arc::new(ManualClock::at(Timestamp(TIME * 1000)));
    let store = Store::open(&path, clock).expect("makes");
    let site = live.path().join("site");

    first_tree(&site);
    let scrap = capture(&store, &site, "soon forgotten", None);
    fs::remove_file(site.join("text/only in the first")).expect("was made");
    settle(&site);
    let first = capture(&store, &site, "before release 7", None);
    fs::write(into.join(format!("{first}.listing")), list(&site, Owners::Shown)).expect("writes");
    second_tree(&site);
    let second = capture(&store, &site, "backup", Some(operation(7)));
    fs::write(into.join(format!("{second}.listing")), list(&site, Owners::Shown)).expect("writes");

    // What was forgotten leaves a pack of which a part is needed, so that it is written anew, and the index too.
    store.forget(scrap).expect("forgets");
    let keep = KeepPolicy { last: 10, hourly: 0, daily: 0, weekly: 0, monthly: 0, backups: 10 };
    store.collect(&keep, &Cancel::new()).expect("collects");
    fs::remove_dir_all(&site).expect("goes");
    let third = capture(&store, &site, "after the site was removed", None);
    fs::write(into.join(format!("{third}.listing")), "").expect("writes");

    store.pin(first, "the auditor's").expect("pins");
    store.protect(second, "rollback-7", "the way back of a restore").expect("protects");
    store.prove(second, Timestamp(TIME * 1000 + 5), Duration::from_millis(42)).expect("proves");
    let shown = crate::shown(&store);
    drop(store);
    journal(&path);
    fs::remove_file(path.join("journal.ballast")).expect("a megabyte of nothing");
    fs::remove_file(path.join("lock")).expect("is made when it is needed");
    fs::write(into.join("SNAPSHOTS"), shown).expect("writes");
}

fn capture(store: &Store, site: &Path, label: &str, operation: Option<OperationId>) -> SnapshotId {
    let capture = store.begin().expect("begins");
    let spec = FilesSpec {
        paths: vec![site.to_owned()],
        exclude: vec!["**/*.log".to_owned()],
        ..FilesSpec::default()
    };
    capture.files(&name(SITE), &spec, &Cancel::new()).expect("captures");
    let value = format!("the state of the application: {label}\n");
    capture.value(&name(APP), ComponentKind::Services, value.as_bytes()).expect("keeps");
    let host = HostId::new("web-1").expect("a name");
    capture.commit(SnapshotNote { host, label: label.to_owned(), operation }).expect("commits").id
}

/// One of each kind of entry, content and attribute that needs no privilege, and enough entries for several segments.
fn first_tree(site: &Path) {
    let folder = |path: &str| fs::create_dir_all(site.join(path)).expect("makes");
    let write = |path: &[u8], content: &[u8]| {
        fs::write(site.join(OsStr::from_bytes(path)), content).expect("writes");
    };
    ["text", "empty", "deep/er/and/deeper", "many", "closed", "sticky"].into_iter().for_each(folder);
    write(b"empty file", b"");
    write(b"text/short", b"short");
    write(b"text/compressible", "again and again, ".repeat(200).as_bytes());
    let noise: Vec<u8> =
        (0..2_000_u32).flat_map(|number| crc32fast::hash(&number.to_le_bytes()).to_le_bytes()).collect();
    write(b"text/only in the first", &noise);
    write("text/käse".as_bytes(), b"UTF-8");
    write(b"text/not \xff UTF-8", b"bytes");
    write(b"text/two\nlines %", b"escaped");
    write(&[b"text/", &[b'n'; 255][..]].concat(), b"the longest name");
    write(b"deep/er/and/deeper/file", b"deep");
    write(b"set-user-id", b"#!/bin/sh\n");
    for number in 0..120 {
        write(format!("many/{number:03}").as_bytes(), format!("number {}", number % 70).as_bytes());
    }
    let lines: String = (0..140_000).map(|number| format!("line {:>16}\n", number % 977)).collect();
    write(b"in several pieces", lines.as_bytes());
    let sparse = File::create(site.join("sparse")).expect("makes");
    sparse.write_all_at(b"begins", 0).expect("writes");
    sparse.write_all_at(b"and ends", 1 << 20).expect("writes");
    sparse.set_len((1 << 20) + (256 << 10)).expect("a hole at its end");
    fs::hard_link(site.join("text/short"), site.join("deep/another name")).expect("links");
    symlink("text/short", site.join("link")).expect("links");
    symlink("/nowhere/\n", site.join("dangling")).expect("links");
    rustix::fs::mknodat(rustix::fs::CWD, site.join("pipe"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .expect("makes");
    for (attribute, value) in [("user.owner", &b"alice"[..]), ("user.bytes", b"\0\xff")] {
        rustix::fs::lsetxattr(site.join("text/short"), attribute, value, XattrFlags::empty()).expect("sets");
    }
    rustix::fs::lsetxattr(site.join("empty"), "user.of-a-folder", b"", XattrFlags::empty()).expect("sets");
    for (path, mode) in [("set-user-id", 0o4755), ("closed", 0o500), ("sticky", 0o1777), ("empty", 0o2750)] {
        fs::set_permissions(site.join(path), Permissions::from_mode(mode)).expect("sets");
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(site.join("link"), Some(1001), Some(1002)).expect("gives");
        std::os::unix::fs::chown(site.join("text"), Some(1003), Some(1004)).expect("gives");
    }
    settle(site);
}

fn second_tree(site: &Path) {
    let text = |path: &str| fs::read_to_string(site.join(path)).expect("reads");
    fs::write(site.join("in several pieces"), text("in several pieces").replacen("976\n", "else\n", 1))
        .expect("writes");
    fs::remove_dir_all(site.join("deep/er")).expect("goes");
    fs::remove_file(site.join("link")).expect("goes");
    fs::create_dir(site.join("link")).expect("a folder where a link was");
    fs::write(site.join("link/inside"), "new").expect("writes");
    fs::write(site.join("many/075"), "another number").expect("writes");
    fs::set_permissions(site.join("set-user-id"), Permissions::from_mode(0o755)).expect("sets");
    rustix::fs::lsetxattr(site.join("text/short"), "user.owner", b"bob", XattrFlags::empty()).expect("sets");
    settle(site);
}

/// Gives every entry a time of its own, long past, that depends on its path alone.
fn settle(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        let entries = fs::read_dir(path).expect("lists").map(|entry| entry.expect("is readable").path());
        entries.collect::<Vec<PathBuf>>().iter().for_each(|entry| settle(entry));
    }
    let hash = crc32fast::hash(path.file_name().expect("has a name").as_bytes());
    let (seconds, nanos) = (TIME - i64::from(hash % 1_000_000), hash % 1_000_000_000);
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("sets");
}

/// One of each thing that a journal keeps.
fn journal(store: &Path) {
    let journal = Journal::open(store).expect("makes");
    let command = |number: u128, step: &str| StoredCommand {
        key: CommandKey {
            operation: operation(number),
            generation: Generation(number as u64),
            step: step.to_owned(),
        },
        arrived_at: Timestamp(TIME * 1000),
        deadline: Timestamp(TIME * 1000 + 300_000),
        body: format!("do {step}"),
    };
    for (number, step) in [(6, "prepare"), (6, "cut"), (7, "apply")] {
        journal.admit(&command(number, step)).expect("admits");
    }
    journal.report(&command(6, "prepare").key, Timestamp(TIME * 1000 + 1), &"prepared").expect("reports");
    let sequence =
        journal.report(&command(6, "cut").key, Timestamp(TIME * 1000 + 2), &"cut").expect("reports");
    journal.acknowledge(sequence).expect("acknowledges");
    let new = |number| NewRun {
        operation: operation(number),
        started_at: Timestamp(TIME * 1000),
        deadline: Timestamp(TIME * 1000 + 300_000),
        body: format!("restore {number}"),
    };
    let run = journal.begin(&new(5), "accepted").expect("begins");
    journal
        .end(run, "ended", Timestamp(TIME * 1000 + 9), &"receipt", Some("a person must look"))
        .expect("ends");
    let run = journal.begin(&new(7), "accepted").expect("begins");
    journal
        .advance(run, "staging", Timestamp(TIME * 1000 + 3), &[("backup", "\"b\"".to_owned())])
        .expect("advances");
    let quiet = Quiet { component: name(APP), operation: operation(6), until: Timestamp(TIME * 1000 + 7) };
    journal.quiet(&quiet).expect("notes");
}
