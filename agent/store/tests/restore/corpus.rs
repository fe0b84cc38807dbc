//! The figures of a restore of real files, beside a plain copy in the same run.
//!
//! `RFS_CORPUS=/some/tree cargo test -p rfs-store --test restore -- --ignored corpus --nocapture`

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rfs_store::restore::{Progress, Rules, Unmanaged, discard, flip, plan, stage, sync};
use rfs_store::{Cancel, FilesSpec, Store};

use crate::common::{note, open, site};
use crate::lab::{Lab, program, run, staging};

#[test]
#[ignore = "reads the tree that RFS_CORPUS names"]
fn a_restore_of_a_corpus_beside_a_plain_copy() {
    let corpus = std::env::var("RFS_CORPUS").expect("RFS_CORPUS names a tree");
    let lab = Lab::within(&std::env::temp_dir(), &["site"]);
    let ((), copied) = time(|| run(program("cp").arg("-a").arg(&corpus).arg(lab.site(""))));
    let store = open(&lab.top.path().join("store"));
    let spec = FilesSpec { paths: vec![lab.site("")], exclude: Vec::new(), ..FilesSpec::default() };
    let capture = store.begin().expect("begins");
    let ((target, _), captured) = time(|| capture.files(&site(), &spec, &Cancel::new()).expect("captured"));
    capture.commit(note("corpus")).expect("committed");
    let ((), aside) = time(|| fs::rename(lab.site(""), lab.top.path().join("aside")).expect("moved"));
    eprintln!("cp -a {copied:?}, capture {captured:?}, move {aside:?}");
    restore(&store, &spec, &target, "into empty");
    let changed = change(&lab.site(""));
    restore(&store, &spec, &target, &format!("{changed} changed, in place"));
}

fn restore(store: &Store, spec: &FilesSpec, target: &rfs_store::Tree, what: &str) {
    let (current, scanned) = time(|| store.scan(spec, &Cancel::new()).expect("scanned"));
    let (plan, planned) = time(|| plan(&current, target, &Rules::default()).expect("a plan"));
    let (staged, staged_in) =
        time(|| stage(&plan, store, &staging(), Unmanaged::Refuse, &Progress::default()).expect("staged"));
    let ((), flipped) = time(|| flip(&staged).expect("flipped"));
    let ((), synced) = time(|| sync(&staged).expect("durable"));
    let ((), discarded) = time(|| discard(&staged).expect("discarded"));
    eprintln!(
        "{what}: scan {scanned:?}, plan {planned:?}, stage {staged_in:?}, flip {flipped:?}, sync {synced:?}, \
         discard {discarded:?}, journal {} KiB, peak memory {}",
        serde_json::to_vec(&staged).expect("JSON").len() >> 10,
        peak()
    );
}

/// The most memory that this process has had.
fn peak() -> String {
    let text = fs::read_to_string("/proc/self/status").expect("Linux");
    text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_owned()
}

/// Changes every hundredth file.
fn change(folder: &Path) -> usize {
    let mut pending = vec![folder.to_owned()];
    let (mut seen, mut changed) = (0, 0);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                seen += 1;
                if seen % 100 == 0 {
                    fs::write(entry.path(), "changed").expect("written");
                    changed += 1;
                }
            }
        }
    }
    changed
}

fn time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}
