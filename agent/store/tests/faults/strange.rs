//! Things that are no files, and names and paths as long and as odd as the kernel allows.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rfs_store::{Cancel, EntryKind};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat};

use crate::common::{capture, open, site};

#[test]
fn pipes_sockets_and_devices_are_captured_without_being_opened_and_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir(&live).expect("a folder");
    let _listener = UnixListener::bind(live.join("socket")).expect("a socket");
    let node = |name, kind, device| mknodat(CWD, live.join(name), kind, Mode::RUSR, device);
    node("pipe", FileType::Fifo, 0).expect("a pipe");
    let mut kinds = vec![("pipe", EntryKind::Fifo), ("socket", EntryKind::Socket)];
    // The second would wind a tape if it were opened.
    let devices = node("null", FileType::CharacterDevice, makedev(1, 3))
        .and_then(|()| node("tape", FileType::CharacterDevice, makedev(9, 0)))
        .and_then(|()| node("disk", FileType::BlockDevice, makedev(7, 250)));
    match devices {
        Ok(()) => kinds.extend([
            ("disk", EntryKind::BlockDevice { major: 7, minor: 250 }),
            ("null", EntryKind::CharDevice { major: 1, minor: 3 }),
            ("tape", EntryKind::CharDevice { major: 9, minor: 0 }),
        ]),
        Err(error) => crate::common::skip(&format!("device files cannot be made here: {error}")),
    }
    kinds.sort_by_key(|(name, _)| *name);
    let store = open(&dir.path().join("store"));
    let (id, tree) = capture(&store, &live);
    let found: Vec<_> = tree.roots[0].entries[1..]
        .iter()
        .map(|entry| (std::str::from_utf8(&entry.path).expect("text"), entry.kind.clone()))
        .collect();
    assert_eq!(found, kinds);
    let report = store.drill(id, &dir.path().join("scratch"), &Cancel::new()).expect("comes back");
    assert_eq!(report.entries, kinds.len() as u64 + 1);
}

#[test]
fn the_longest_names_and_a_path_of_4096_bytes_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir(&live).expect("a folder");
    // Every byte that a name may have, in names of 255 bytes.
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let mut all = bytes.clone();
    all.push(b'x');
    let long = [all, vec![b'n'; 255], vec![0xff; 255], "ü".repeat(127).into_bytes()];
    for name in &long {
        fs::write(live.join(OsStr::from_bytes(name)), name).expect("written");
    }
    // Folders of 255 bytes, and the rest: together, beneath the root, exactly the longest path of the kernel.
    let mut folders: Vec<Vec<u8>> = (0..15).map(|number| vec![b'a' + number; 255]).collect();
    folders.push(vec![b'y'; 100]);
    let last = [b'z'; 4096 - 15 * 256 - 101];
    let mut at = openat(CWD, &live, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("opens");
    for name in &folders {
        at = deeper(at, name);
    }
    let file =
        openat(&at, &last[..], OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR).expect("made");
    rustix::io::write(&file, b"at the end").expect("written");
    let store = open(&dir.path().join("store"));
    let (id, tree) = capture(&store, &live);
    let entries = &tree.roots[0].entries;
    assert_eq!(entries.len(), 1 + 4 + 16 + 1);
    assert_eq!(entries.iter().map(|entry| entry.path.len()).max(), Some(4096));
    for name in &long {
        assert!(entries.iter().any(|entry| entry.path == *name));
    }
    drop(store);
    let store = open(&dir.path().join("store"));
    assert_eq!(store.snapshot(id).and_then(|snapshot| snapshot.tree(&site())).expect("reads"), tree);
    assert_eq!(store.drill(id, &dir.path().join("scratch"), &Cancel::new()).expect("comes back").entries, 22);
    assert_eq!(fs::read_dir(dir.path().join("scratch")).expect("lists").count(), 0);
}

fn deeper(at: OwnedFd, name: &[u8]) -> OwnedFd {
    mkdirat(&at, name, Mode::RWXU).expect("a folder");
    openat(&at, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("opens")
}

#[test]
fn a_root_that_is_reached_through_a_link_is_the_link_and_not_what_it_names() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("elsewhere")).expect("a folder");
    fs::write(dir.path().join("elsewhere/secret"), "not ours").expect("written");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("elsewhere", &link).expect("a link");
    let store = open(&dir.path().join("store"));
    let (_, tree) = capture(&store, &link);
    let kinds: Vec<_> = tree.roots[0].entries.iter().map(|entry| &entry.kind).collect();
    assert_eq!(kinds, [&EntryKind::Symlink(Path::new("elsewhere").as_os_str().as_bytes().to_vec())]);
}
