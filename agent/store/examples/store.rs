//! The store from a shell, for measuring it: one process, one step, one line of figures.
//!
//! `store capture STORE PATH…`, `scan STORE PATH…`, `verify STORE`, `collect STORE`, `load STORE`, `drill STORE SCRATCH`,
//! `restore STORE EMPTY-FOLDER`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rfs_model::time::SystemClock;
use rfs_model::{ComponentName, HostId};
use rfs_store::restore;
use rfs_store::{Cancel, FilesSpec, KeepPolicy, Share, SnapshotNote, Store};

type Outcome = Result<String, Box<dyn std::error::Error>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [step, path, rest @ ..] = &words[..] else { return Err("store STEP STORE [PATH…]".into()) };
    let begun = Instant::now();
    let store = Store::open(Path::new(path), Arc::new(SystemClock))?;
    let opened = begun.elapsed();
    let spec = FilesSpec {
        paths: rest.iter().map(PathBuf::from).collect(),
        exclude: Vec::new(),
        ..FilesSpec::default()
    };
    let figures = match step.as_str() {
        "capture" => capture(&store, &spec)?,
        "scan" => format!(
            "{} entries",
            store.scan(&spec, &Cancel::new())?.roots.iter().map(|r| r.entries.len()).sum::<usize>()
        ),
        "verify" => verify(&store)?,
        "collect" => format!(
            "{:?}",
            store.collect(&KeepPolicy { last: 1, ..KeepPolicy::NOTHING }, &Cancel::new())?.freed
        ),
        "load" => load(&store)?,
        "drill" => drill(&store, &spec)?,
        "restore" => restore(&store, rest.first().ok_or("no folder")?)?,
        _ => return Err("an unknown step".into()),
    };
    println!(
        "{step} {:.3} s, opened in {:.3} s: {figures}",
        begun.elapsed().as_secs_f64(),
        opened.as_secs_f64()
    );
    Ok(())
}

fn capture(store: &Store, spec: &FilesSpec) -> Outcome {
    let begun = Instant::now();
    let capture = store.begin()?;
    let (_, stats) = capture.files(&ComponentName::new("bench")?, spec, &Cancel::new())?;
    let read = begun.elapsed();
    capture.commit(SnapshotNote {
        host: HostId::new("bench")?,
        label: "bench".to_owned(),
        operation: None,
    })?;
    Ok(format!("{stats:?}, files {:.3} s", read.as_secs_f64()))
}

fn verify(store: &Store) -> Outcome {
    let report = store.verify(Share::Whole, &Cancel::new())?;
    Ok(format!("{} objects, {}, {} damaged", report.objects, report.bytes, report.damage.len()))
}

fn load(store: &Store) -> Outcome {
    let last = store.snapshots()?.pop().ok_or("no snapshot")?;
    let begun = Instant::now();
    let tree = store.snapshot(last.id)?.tree(&ComponentName::new("bench")?)?;
    Ok(format!("{} entries, tree {:.3} s", tree.roots[0].entries.len(), begun.elapsed().as_secs_f64()))
}

fn drill(store: &Store, spec: &FilesSpec) -> Outcome {
    let last = store.snapshots()?.pop().ok_or("no snapshot")?;
    Ok(format!("{:?}", store.drill(last.id, spec.paths.first().ok_or("no scratch")?, &Cancel::new())?))
}

/// Restores the last snapshot, its roots moved into a folder.
fn restore(store: &Store, folder: &str) -> Outcome {
    let last = store.snapshots()?.pop().ok_or("no snapshot")?;
    let mut target = store.snapshot(last.id)?.tree(&ComponentName::new("bench")?)?;
    for (number, root) in target.roots.iter_mut().enumerate() {
        root.path = format!("{folder}/{number:06}").into_bytes();
    }
    let paths = target.roots.iter().map(|root| Ok(PathBuf::from(String::from_utf8(root.path.clone())?)));
    let paths: Vec<PathBuf> = paths.collect::<Result<_, std::string::FromUtf8Error>>()?;
    let present =
        store.scan(&FilesSpec { paths, exclude: Vec::new(), ..FilesSpec::default() }, &Cancel::new())?;
    let rules = restore::Rules { devices: true, ..restore::Rules::default() };
    let plan = restore::plan(&present, &target, &rules)?;
    let steps = plan.steps().len();
    drop((present, target));
    let name = restore::StagingName::new("bench")?;
    let staged =
        restore::stage(&plan, store, &name, restore::Unmanaged::Refuse, &restore::Progress::default())?;
    restore::flip(&staged)?;
    restore::sync(&staged)?;
    restore::discard(&staged)?;
    Ok(format!("{steps} steps"))
}
