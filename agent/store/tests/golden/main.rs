//! Stores that earlier programs wrote are kept, and every later one does all its work on a copy of them.
//!
//! `golden/v1` holds a store of format 1 as its writer left it (without the journal's ballast, and the lock), and beside it
//! what each of its snapshots held, as another means than the store listed it. It is never written again: a change of the
//! format that makes this suite fail is a change that would lose snapshots. A new format gets a folder of its own, made by
//! `RFS_GOLDEN=$PWD/agent/store/tests/golden/vN cargo test -p rfs-store --test golden -- --ignored makes`.

#[path = "../common/mod.rs"]
mod common;

mod listing;
mod maker;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::{files_beneath, note, open};
use listing::{Owners, list};
use maker::{APP, SITE, name, operation};
use rfs_model::{ComponentKind, Generation, SnapshotId};
use rfs_store::journal::{Admission, CommandKey, Journal, StoredCommand};
use rfs_store::restore::{
    Progress, Rules, StagingName, Unmanaged, discard, flip, plan, stage, standing, sync,
};
use rfs_store::{Cancel, ComponentDiff, FilesSpec, KeepPolicy, Share, SnapshotInfo, Store, Tree};

#[test]
#[ignore = "makes a golden store where RFS_GOLDEN says"]
fn makes_a_golden_store() {
    let into = PathBuf::from(std::env::var_os("RFS_GOLDEN").expect("RFS_GOLDEN names a folder"));
    fs::create_dir_all(&into).expect("makes");
    maker::make(&into);
    fs::write(into.join("SUMS"), sums(&into)).expect("writes");
}

/// The digest of every file beneath, but the list of them.
fn sums(folder: &Path) -> String {
    let files = files_beneath(folder).into_iter().filter(|file| !file.ends_with("SUMS"));
    let line = |file: PathBuf| {
        let sum = blake3::hash(&fs::read(&file).expect("reads"));
        format!("{sum}  {}\n", file.strip_prefix(folder).expect("beneath").display())
    };
    files.map(line).collect()
}

/// A copy of a golden store, and where it came from.
struct Golden {
    from: PathBuf,
    folder: tempfile::TempDir,
}

impl Golden {
    fn v1() -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
        let folder = tempfile::tempdir().expect("a folder");
        for file in files_beneath(&from.join("store")) {
            let to = folder.path().join(file.strip_prefix(&from).expect("beneath"));
            fs::create_dir_all(to.parent().expect("a folder")).expect("makes");
            fs::copy(&file, to).expect("copies");
        }
        Self { from, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// What the snapshot held, without owners unless they can be restored.
    fn listing(&self, id: SnapshotId) -> String {
        let text = fs::read_to_string(self.from.join(format!("{id}.listing"))).expect("is kept");
        match owners() {
            Owners::Shown => text,
            Owners::Hidden => text.lines().map(without_owner).collect(),
        }
    }
}

/// Only root may give a file away.
fn owners() -> Owners {
    if rustix::process::geteuid().is_root() { Owners::Shown } else { Owners::Hidden }
}

/// A line of a listing without its owner: the word with digits on both sides of a colon, after the mode.
fn without_owner(line: &str) -> String {
    let is_owner = |word: &str| {
        word.split_once(':')
            .is_some_and(|(uid, gid)| uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok())
    };
    let mut words: Vec<&str> = line.split(' ').collect();
    if let Some(at) = words.iter().position(|word| is_owner(word)) {
        words.remove(at);
    }
    format!("{}\n", words.join(" "))
}

/// The tree with its root at another path, and as its restorer may own it.
fn moved(mut tree: Tree, to: &Path) -> Tree {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for root in &mut tree.roots {
        root.path = to.as_os_str().as_bytes().to_vec();
        for entry in root.entries.iter_mut().filter(|_| owners() == Owners::Hidden) {
            (entry.meta.uid, entry.meta.gid) = (uid, gid);
        }
    }
    tree
}

fn restore(store: &Store, target: &Tree, site: &Path) {
    let spec = FilesSpec { paths: vec![site.to_owned()], exclude: Vec::new(), ..FilesSpec::default() };
    let live = store.scan(&spec, &Cancel::new()).expect("scans");
    let plan = plan(&live, target, &Rules::default()).expect("plans");
    let staging = StagingName::new("golden").expect("a name");
    let staged = stage(&plan, store, &staging, Unmanaged::Refuse, &Progress::default()).expect("stages");
    flip(&staged).expect("flips");
    sync(&staged).expect("syncs");
    standing(&staged).expect("stands");
    discard(&staged).expect("discards");
}

fn damage(store: &Store) -> Vec<String> {
    let report = store.verify(Share::Whole, &Cancel::new()).expect("verifies");
    assert!(report.objects > 50, "{report:?}");
    report.damage.iter().map(|damage| format!("{}: {}", damage.what, damage.reason)).collect()
}

fn by_label(store: &Store) -> BTreeMap<String, SnapshotInfo> {
    store.snapshots().expect("lists").into_iter().map(|info| (info.label.clone(), info)).collect()
}

/// Every snapshot in a line, as a list shows it.
fn shown(store: &Store) -> String {
    let lines: Vec<String> = store
        .snapshots()
        .expect("lists")
        .iter()
        .map(|info| {
            let parts: Vec<String> = info
                .components
                .iter()
                .map(|part| format!("{} {} {} {}", part.name, part.kind, part.entries, part.size.0))
                .collect();
            let marks = &info.marks;
            let proof = marks.proof.map(|proof| (proof.verified_at.0, proof.restore_millis));
            format!(
                "{} {} {} {:?} {} | {} | {:?} {:?} {proof:?}",
                info.sequence,
                info.host,
                info.taken_at.0,
                info.label,
                info.operation.map_or("-".to_owned(), |operation| operation.to_string()),
                parts.join(", "),
                marks.pinned,
                marks.in_use
            )
        })
        .collect();
    lines.join("\n") + "\n"
}

#[test]
fn a_store_of_format_1_verifies_clean_and_lists_what_it_held() {
    let golden = Golden::v1();
    let store = Store::open_read_only(&golden.path()).expect("opens beside a writer");
    assert_eq!(damage(&store), [""; 0]);
    drop(store);
    let store = open(&golden.path());
    assert_eq!(damage(&store), [""; 0]);
    let expected = fs::read_to_string(golden.from.join("SNAPSHOTS")).expect("is kept");
    assert_eq!(shown(&store), expected);
}

#[test]
fn every_snapshot_of_format_1_restores_to_what_it_held() {
    let golden = Golden::v1();
    let store = Store::open_read_only(&golden.path()).expect("opens");
    let live = tempfile::tempdir().expect("a folder");
    let site = live.path().join("site");
    let ids: Vec<SnapshotId> = store.snapshots().expect("lists").iter().map(|info| info.id).collect();
    assert_eq!(ids.len(), 3);
    // Each from nothing, and then each after the one before it.
    for id in ids.iter().chain(ids.iter().rev()) {
        let snapshot = store.snapshot(*id).expect("opens");
        let target = moved(snapshot.tree(&name(SITE)).expect("reads"), &site);
        restore(&store, &target, &site);
        let found = if site.exists() { list(&site, owners()) } else { String::new() };
        assert_eq!(found, golden.listing(*id), "{id}");
        let value = String::from_utf8(snapshot.value(&name(APP)).expect("reads")).expect("is text");
        let label = snapshot.info().expect("reads").label;
        assert_eq!(value, format!("the state of the application: {label}\n"));
    }
}

#[test]
fn snapshots_of_format_1_are_compared_with_one_another() {
    let golden = Golden::v1();
    let store = open(&golden.path());
    let snapshots = by_label(&store);
    let (first, second) = (snapshots["before release 7"].id, snapshots["backup"].id);
    let diffs = store.diff(first, second).expect("compares");
    assert_eq!(diffs[&name(APP)], ComponentDiff::Value);
    let ComponentDiff::Files(files) = &diffs[&name(SITE)] else { panic!("{diffs:?}") };
    let shown: Vec<String> = files
        .iter()
        .map(|diff| {
            let path = String::from_utf8_lossy(&diff.path).into_owned();
            format!("{:?} {path}", diff.change)
        })
        .collect();
    assert!(
        shown.iter().any(|line| line.ends_with("/link/inside") || line.ends_with(" link/inside")),
        "{shown:?}"
    );
    assert!(shown.iter().any(|line| line.contains("many/075")), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("many/074")), "{shown:?}");
}

#[test]
fn a_store_of_format_1_goes_on_captures_and_collects() {
    let golden = Golden::v1();
    let store = open(&golden.path());
    let snapshots = by_label(&store);
    let (first, second) = (&snapshots["before release 7"], &snapshots["backup"]);
    let live = tempfile::tempdir().expect("a folder");
    let site = live.path().join("site");
    let tree = store.snapshot(first.id).expect("opens").tree(&name(SITE)).expect("reads");
    restore(&store, &moved(tree, &site), &site);

    let capture = store.begin().expect("begins");
    let spec = FilesSpec { paths: vec![site.clone()], exclude: Vec::new(), ..FilesSpec::default() };
    let (_, stats) = capture.files(&name(SITE), &spec, &Cancel::new()).expect("captures");
    capture.value(&name(APP), ComponentKind::Services, b"on").expect("keeps");
    let fourth = capture.commit(note("one more")).expect("commits");
    assert_eq!(fourth.sequence, 1 + snapshots.values().map(|info| info.sequence).max().expect("some"));
    // All content is there already, and the entries too where owners are what they were; the root's path is another.
    let most = if owners() == Owners::Shown { 3 } else { 20 };
    assert!(stats.files_read > 100 && stats.objects_new <= most, "{stats:?}");

    let keep = KeepPolicy { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, backups: 10 };
    let report = store.collect(&keep, &Cancel::new()).expect("collects");
    let kept: Vec<SnapshotId> = store.snapshots().expect("lists").iter().map(|info| info.id).collect();
    assert_eq!(kept, [first.id, second.id, fourth.id], "pinned, in use, newest: {report:?}");
    assert_eq!(damage(&store), [""; 0]);
    drop(store);
    let store = open(&golden.path());
    assert_eq!(damage(&store), [""; 0]);
    fs::remove_dir_all(&site).expect("goes");
    let target = store.snapshot(fourth.id).expect("opens").tree(&name(SITE)).expect("reads");
    restore(&store, &target, &site);
    assert_eq!(list(&site, owners()), golden.listing(first.id));
}

#[test]
fn a_journal_of_format_1_is_read_and_written_on() {
    let golden = Golden::v1();
    let journal = Journal::open(&golden.path()).expect("opens");
    assert_eq!(journal.generation().expect("reads"), Generation(7));
    let pending = journal.pending::<String>().expect("reads");
    assert_eq!(pending.iter().map(|command| command.body.as_str()).collect::<Vec<_>>(), ["do apply"]);
    let reports = journal.unacknowledged::<String>().expect("reads");
    assert_eq!(reports.iter().map(|report| report.body.as_str()).collect::<Vec<_>>(), ["prepared"]);
    let run = journal.open_run::<String>().expect("reads").expect("is open");
    assert_eq!((run.body.as_str(), run.operation), ("restore 7", operation(7)));
    assert_eq!(
        run.arrows.iter().map(|arrow| arrow.phase.as_str()).collect::<Vec<_>>(),
        ["accepted", "staging"]
    );
    assert_eq!(journal.fact::<String>(run.id, "backup").expect("reads").as_deref(), Some("b"));
    assert_eq!(
        journal.held().expect("reads").map(|held| held.message).as_deref(),
        Some("a person must look")
    );
    assert_eq!(journal.receipts::<String>(9).expect("reads"), ["receipt"]);
    assert_eq!(journal.all_quiet().expect("reads").len(), 1);
    let key = CommandKey { operation: operation(8), generation: Generation(8), step: "apply".to_owned() };
    let (arrived_at, deadline) = (run.started_at, run.deadline);
    let command = StoredCommand { key, arrived_at, deadline, body: "more" };
    assert_eq!(journal.admit(&command).expect("admits"), Admission::New);
    drop(journal);
    assert_eq!(damage(&open(&golden.path())), [""; 0]);
}

#[test]
fn the_golden_store_is_as_it_was_committed() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    assert_eq!(
        sums(&from),
        fs::read_to_string(from.join("SUMS")).expect("is kept"),
        "no test may write to it"
    );
}
