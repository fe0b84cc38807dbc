//! What a restore costs: its operations are counted and judged, its processor time is printed.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use rfs_model::Digest;
use rfs_store::restore::{Operation, Rules, discard, flip_watched, plan, unflip_watched};
use rfs_store::tree::{Entry, EntryKind, Extent, Meta, Root, Tree};

use crate::lab::Lab;

/// Past this, something does not scale; it is a hundred times what was seen.
const HANG: Duration = Duration::from_secs(10);

#[test]
fn a_flip_costs_no_more_in_a_tree_ten_times_as_large() {
    compare(400);
}

#[test]
#[ignore = "makes 60,000 files, which can take a minute"]
fn a_flip_of_5000_paths_costs_no_more_in_a_tree_of_50_000() {
    compare(5000);
}

fn compare(changed: usize) {
    let (small, large) = (Flip::measure(changed, 0), Flip::measure(changed, changed * 9));
    for (unchanged, Flip { plan, stage, flip, unflip, .. }) in [(0, &small), (changed * 9, &large)] {
        eprintln!(
            "{changed} changed, {unchanged} unchanged: plan {plan:?}, stage {stage:?}, flip {flip:?}, unflip {unflip:?}"
        );
    }
    // One exchange for each changed path, and what its folders need; the unchanged rest costs nothing.
    assert_eq!(large.operations, small.operations, "forward and back");
    assert!(
        small.operations.0 >= changed && small.operations.0 <= changed + changed / 50 + 8,
        "{:?}",
        small.operations
    );
}

struct Flip {
    plan: Duration,
    stage: Duration,
    flip: Duration,
    unflip: Duration,
    /// How many operations the way there and the way back took.
    operations: (usize, usize),
}

impl Flip {
    /// Some files change beside some that do not.
    fn measure(changed: usize, unchanged: usize) -> Self {
        let lab = Lab::new();
        let site = lab.live().join("site");
        write(&site.join("app"), changed, "old");
        write(&site.join("rest"), unchanged, "same");
        let target = lab.capture();
        write(&site.join("app"), changed, "new");
        let current = lab.capture();
        let (plan, planned) = cost(|| plan(&current, &target, &Rules::default()).expect("a plan"));
        assert_eq!(plan.steps().len(), changed);
        let (staged, stage) = cost(|| lab.stage(&plan));
        let mut operations = (0, 0);
        let mut count = |_: Operation<'_>| {
            operations.0 += 1;
            ControlFlow::Continue(())
        };
        let ((), flipped) = cost(|| flip_watched(&staged, &mut count).expect("flipped"));
        let mut count = |_: Operation<'_>| {
            operations.1 += 1;
            ControlFlow::Continue(())
        };
        let (_, unflipped) = cost(|| unflip_watched(&staged, &mut count).expect("flipped back"));
        discard(&staged).expect("discarded");
        Self { plan: planned, stage, flip: flipped, unflip: unflipped, operations }
    }
}

/// Files in folders of 100.
fn write(folder: &Path, count: usize, content: &str) {
    for number in 0..count {
        let folder = folder.join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir_all(&folder).expect("a folder");
        }
        fs::write(folder.join(format!("{number}.txt")), format!("{content} {number}")).expect("written");
    }
}

#[test]
fn a_plan_of_100_000_entries_is_made_in_one_go() {
    let (current, mut target) = (large(0), large(0));
    let (same, spent) = cost(|| plan(&current, &target, &Rules::default()).expect("a plan"));
    assert!(same.is_empty());
    eprintln!("nothing changed: {spent:?}");
    assert!(spent < HANG, "nothing changed: {spent:?}");
    target = large(1);
    let (all, spent) = cost(|| plan(&current, &target, &Rules::default()).expect("a plan"));
    assert_eq!(all.steps().len(), 100_000);
    eprintln!("every file changed: {spent:?}");
    assert!(spent < HANG, "every file changed: {spent:?}");
}

/// 100,000 files in folders of 100.
fn large(version: u8) -> Tree {
    let meta = |mode| Meta { mode, uid: 0, gid: 0, mtime_seconds: 1, mtime_nanos: 0, xattrs: Vec::new() };
    let mut entries = vec![Entry { path: Vec::new(), meta: meta(0o755), kind: EntryKind::Directory }];
    for folder in 0..1000 {
        let folder = format!("folder-{folder:04}");
        entries.push(Entry { path: folder.clone().into(), meta: meta(0o755), kind: EntryKind::Directory });
        for file in 0..100 {
            let digest = Digest::from_bytes([version; 32]);
            let kind =
                EntryKind::File { size: 5, content: vec![Extent::Data { digest, length: 5 }], link: None };
            entries.push(Entry {
                path: format!("{folder}/file-{file:04}.txt").into(),
                meta: meta(0o644),
                kind,
            });
        }
    }
    Tree { roots: vec![Root { path: b"/srv/site".to_vec(), entries }] }
}

/// What `work` takes of this thread's processor time.
fn cost<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = spent();
    let done = work();
    (done, spent().saturating_sub(before))
}

fn spent() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).expect("nanoseconds"))
}
