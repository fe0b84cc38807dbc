//! What is captured is what was there, and what was there can be read back from the store alone.

mod common;

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::sync::Arc;

use common::{Stop, StopAtEnd, capture, contents, note, open, site, spec};
use rfs_model::ComponentKind;
use rfs_model::time::ManualClock;
use rfs_store::{Cancel, CaptureError, EntryKind, Extent, Store, StoreError};

fn content_of(store: &Store, extents: &[Extent]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    store.write_content(extents, file.as_file()).expect("writes");
    fs::read(file.path()).expect("reads")
}

#[test]
fn a_captured_tree_reads_back_from_a_store_opened_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir_all(live.join("a/empty")).expect("makes");
    fs::write(live.join("a/one"), "one").expect("writes");
    fs::write(live.join("a-b"), "sorted between").expect("writes");
    fs::write(live.join("empty"), "").expect("writes");
    fs::write(live.join("noise.log"), "left out").expect("writes");
    fs::hard_link(live.join("a/one"), live.join("two")).expect("links");
    symlink("a/one", live.join("link")).expect("links");
    let odd = std::ffi::OsString::from_vec(vec![0xff, b'x', 0xfe]);
    fs::write(live.join(odd), "no text").expect("writes");
    fs::set_permissions(live.join("a/one"), fs::Permissions::from_mode(0o4750)).expect("sets");
    let large: Vec<u8> =
        (0..9_000_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    fs::write(live.join("large"), &large).expect("writes");
    let sparse = fs::File::create(live.join("sparse")).expect("makes");
    sparse.write_all_at(b"data", 1 << 20).expect("writes");
    sparse.set_len(3 << 20).expect("grows");

    let store = open(&dir.path().join("store"));
    let (id, tree) = capture(&store, &live);
    let paths: Vec<_> =
        tree.roots[0].entries.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect();
    assert_eq!(
        paths,
        ["", "a", "a-b", "a/empty", "a/one", "empty", "large", "link", "sparse", "two", "\u{fffd}x\u{fffd}"]
    );
    assert!(tree.roots[0].entries.is_sorted_by(|a, b| a.path < b.path));
    drop(store);

    let store = open(&dir.path().join("store"));
    let snapshot = store.snapshot(id).expect("opens");
    assert_eq!(snapshot.tree(&site()).expect("reads"), tree);
    assert_eq!(store.scan(&spec(&live), &Cancel::new()).expect("scans"), tree);
    assert_eq!(store.resolve_prefix(&id.to_string()[..9]).expect("finds"), id);
    let find =
        |name: &str| tree.roots[0].entries.iter().find(|e| e.path == name.as_bytes()).expect("is there");
    let EntryKind::File { content, size, .. } = &find("large").kind else { panic!("a file") };
    assert!(content.len() > 5 && *size == large.len() as u64, "chunked: {}", content.len());
    assert!(content_of(&store, content) == large);
    let EntryKind::File { content, .. } = &find("sparse").kind else { panic!("a file") };
    assert!(
        matches!(
            content[..],
            [Extent::Hole { length: 1_048_576 }, Extent::Data { length: 4096, .. }, Extent::Hole { .. }]
        ),
        "{content:?}"
    );
    assert_eq!(content_of(&store, content).len(), 3 << 20);
    let links: Vec<_> = ["a/one", "two"]
        .map(|name| match &find(name).kind {
            EntryKind::File { link, .. } => *link,
            _ => None,
        })
        .into();
    assert_eq!(links, [Some(0), Some(0)]);
    assert_eq!(find("a/one").meta.mode, 0o4750);
}

#[test]
fn what_is_unchanged_is_not_stored_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir(&live).expect("makes");
    for i in 0..300 {
        fs::write(live.join(format!("f{i}")), format!("content {i}").repeat(50)).expect("writes");
    }
    let store = open(&dir.path().join("store"));
    capture(&store, &live);
    fs::write(live.join("f7"), "changed").expect("writes");
    let again = store.begin().expect("begins");
    let (_, stats) = again.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
    assert_eq!(stats.entries, 301);
    assert!((2..=3).contains(&stats.objects_new), "{stats:?}");
}

#[test]
fn a_value_reads_back_and_a_component_is_captured_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let capture = store.begin().expect("begins");
    let value: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    capture.value(&site(), ComponentKind::Services, &value).expect("keeps");
    let twice = capture.value(&site(), ComponentKind::Services, b"").expect_err("is there");
    assert_eq!(twice.to_string(), "component site: it was captured into this snapshot already");
    let info = capture.commit(note("backup")).expect("commits");
    assert_eq!(store.snapshot(info.id).expect("opens").value(&site()).expect("reads"), value);
    assert_eq!(store.snapshots().expect("lists"), [info]);
}

#[test]
fn one_process_writes_and_others_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let clock = Arc::new(ManualClock::default());
    assert!(matches!(Store::open(dir.path(), clock), Err(StoreError::Locked { .. })));
    let reader = Store::open_read_only(dir.path()).expect("opens");
    assert!(matches!(reader.begin(), Err(StoreError::ReadOnly { .. })));
    let live = dir.path().join("format");
    let (id, tree) = capture(&store, &live);
    assert_eq!(reader.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
}

#[test]
fn what_is_not_there_is_an_empty_root_and_a_bad_store_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("store"));
    let (_, tree) = capture(&store, &dir.path().join("nothing"));
    assert!(tree.roots[0].entries.is_empty());
    fs::write(dir.path().join("something"), "").expect("writes");
    let error = Store::open(dir.path(), Arc::new(ManualClock::default())).expect_err("no store");
    assert!(error.to_string().ends_with("is not a store: it has no file named format"), "{error}");
}

#[test]
fn cancelled_work_stops_and_commits_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("store"));
    let cancel = Cancel::new();
    cancel.cancel();
    let error = store.begin().expect("begins").files(&site(), &spec(dir.path()), &cancel).expect_err("stops");
    assert!(matches!(error, CaptureError::Stopped(_)), "{error}");
    assert_eq!(store.snapshots().expect("lists"), []);
}

#[test]
fn only_what_changed_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir_all(live.join("sub")).expect("makes");
    for name in ["a", "b", "sub/c", "sub/d"] {
        fs::write(live.join(name), format!("content of {name}")).expect("writes");
    }
    symlink("a", live.join("link")).expect("links");
    let store = open(&path);
    let read = |store: &Store| {
        let making = store.begin().expect("begins");
        let (tree, stats) = making.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
        let id = making.commit(note("test")).expect("commits").id;
        assert_eq!(store.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
        assert_eq!(common::contents(store, &tree).expect("reads").len(), 4);
        (stats.files_read, stats.objects_new, tree)
    };
    // What was written a moment ago is read again, until it is old enough to trust.
    let settle = |store: &Store| {
        let begun = std::time::Instant::now();
        while read(store).0 > 0 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "is trusted some time");
        }
    };
    let (files, _, first) = read(&store);
    assert_eq!(files, 4);
    settle(&store);
    assert_eq!(read(&store), (0, 0, first.clone()));

    // The same length, and the time put back: the change time tells.
    let before = fs::metadata(live.join("sub/c")).expect("is there").modified().expect("has a time");
    fs::write(live.join("sub/c"), "CONTENT OF sub/c").expect("writes");
    fs::File::options()
        .write(true)
        .open(live.join("sub/c"))
        .expect("opens")
        .set_modified(before)
        .expect("sets");
    let (files, new, changed) = read(&store);
    assert_eq!((files, new), (1, 3), "the file, its segment, the list");
    assert_ne!(changed, first);
    settle(&store);
    fs::rename(live.join("a"), live.join("moved")).expect("renames");
    assert_eq!(read(&store).0, 1, "it has another name");

    settle(&store);
    drop(store);
    for cache in common::files_beneath(&path.join("cache")) {
        let mut bytes = fs::read(&cache).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&cache, bytes).expect("writes");
    }
    let store = open(&path);
    assert_eq!(read(&store).0, 4, "a damaged cache is as good as none");
    assert_eq!(read(&store).0, 0);
    drop(store);
    for pack in common::files_beneath(&path.join("packs")) {
        fs::remove_file(pack).expect("removes");
    }
    assert_eq!(read(&open(&path)).0, 4, "what the store has lost is read again");
}

#[test]
fn a_file_that_keeps_changing_is_named_and_never_kept_torn() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir(&live).expect("makes");
    let file = fs::File::create(live.join("busy")).expect("makes");
    let block = |byte: u8| vec![byte; 1 << 20];
    file.write_all_at(&block(0).repeat(6), 0).expect("writes");
    let store = open(&dir.path().join("store"));
    let stop = Stop::default();
    std::thread::scope(|threads| {
        let at_end = StopAtEnd(&stop);
        threads.spawn(|| {
            for round in (0u8..=255).cycle().take_while(|_| !stop.is_set()) {
                for part in 0..6 {
                    file.write_all_at(&block(round), part << 20).expect("writes");
                }
            }
        });
        // A writer that does not get the processor leaves the file still for the length of a read.
        let named = (0..100).any(|_| {
            let making = store.begin().expect("begins");
            match making.files(&site(), &spec(&live), &Cancel::new()) {
                Err(CaptureError::Unstable { path }) => {
                    assert!(path.ends_with("busy"), "{}", path.display());
                    true
                }
                Err(error) => panic!("{error}"),
                Ok((tree, _)) => {
                    making.commit(note("test")).expect("commits");
                    let kept = contents(&store, &tree).expect("it is all there");
                    // The writer goes from front to back, so that at any moment there is at most one edge.
                    let edges = kept[0].1.windows(2).filter(|pair| pair[0] != pair[1]).count();
                    assert!(edges <= 1, "{edges} edges: the file was never that at one moment");
                    false
                }
            }
        });
        assert!(named, "in none of 100 captures did the file change");
        drop(at_end);
    });
    let (_, tree) = capture(&store, &live);
    assert_eq!(tree.roots[0].entries.len(), 2, "once its writer rests, it is captured");
}

#[test]
fn paths_longer_than_the_kernel_takes_at_once_are_captured() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir(&live).expect("makes");
    let mut folder = fs::File::open(&live).expect("opens");
    let name = "d".repeat(200);
    for _ in 0..30 {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        mkdirat(&folder, &*name, Mode::from_raw_mode(0o755)).expect("makes");
        folder =
            openat(&folder, &*name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opens").into();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file =
        rustix::fs::openat(&folder, "deep", flags, rustix::fs::Mode::from_raw_mode(0o644)).expect("makes");
    rustix::io::write(&file, b"deep down").expect("writes");
    let store = open(&dir.path().join("store"));
    let (_, tree) = capture(&store, &live);
    let last = tree.roots[0].entries.last().expect("is there");
    assert_eq!(last.path.len(), 30 * 201 + 4);
    assert_eq!(common::contents(&store, &tree).expect("reads")[0].1, b"deep down");
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, secret) = (dir.path().join("live"), dir.path().join("secret"));
    fs::create_dir_all(live.join("sub")).expect("makes");
    fs::create_dir(&secret).expect("makes");
    fs::write(live.join("sub/file"), "ours").expect("writes");
    fs::write(secret.join("file"), "not ours").expect("writes");
    symlink(&secret, dir.path().join("link")).expect("links");
    let store = open(&dir.path().join("store"));
    let stop = Stop::default();
    std::thread::scope(|threads| {
        let _at_end = StopAtEnd(&stop);
        threads.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let (link, sub) = (dir.path().join("link"), live.join("sub"));
            while !stop.is_set() {
                rustix::fs::renameat_with(rustix::fs::CWD, &link, rustix::fs::CWD, &sub, flags)
                    .expect("swaps");
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..400 {
            let making = store.begin().expect("begins");
            match making.files(&site(), &spec(&live), &Cancel::new()) {
                Ok((tree, _)) => {
                    making.commit(note("test")).expect("commits");
                    for (path, content) in common::contents(&store, &tree).expect("reads") {
                        assert_eq!(content, b"ours", "{} in round {round}", String::from_utf8_lossy(&path));
                    }
                    seen.insert(tree.roots[0].entries.len());
                }
                Err(CaptureError::Unstable { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(!seen.is_empty());
    });
}
