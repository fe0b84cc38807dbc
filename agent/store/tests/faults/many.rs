//! Very many files in one folder: time grows no faster than their number, and memory by the entry.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rfs_store::{Cancel, Share};
use rustix::time::{ClockId, clock_gettime};

use crate::common::{note, open, site, spec};

/// The share of a tenth and the whole of them.
fn numbers() -> [usize; 2] {
    let most = if std::env::var_os("RFS_LONG").is_some() { 1_000_000 } else { 50_000 };
    [most / 10, most]
}

/// Each step, and how many bytes of memory it may take for an entry. The aim is [`AIM`] for all: a capture holds a folder's
/// listing and the tree that is made of it at once, and a drill the trees of both sides.
const STEPS: [(&str, u64); 5] =
    [("capture", 420), ("again", 420), ("drill", 900), ("verify", 50), ("collect", 50)];
const AIM: u64 = 200;
/// What is there whatever the number: code, buffers, threads.
const BASE: u64 = 50 << 20;

/// What one step took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Of all its threads at work, which does not depend on who else is at work on the machine.
    seconds: f64,
    peak: u64,
}

#[test]
fn ten_times_the_files_cost_ten_times_the_time_and_memory_by_the_entry() {
    // In memory where that can be: ext4 takes up to thirty times the CPU to make a file after many were removed, whoever
    // removed them, and that would be what is measured.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let mut costs = Vec::new();
    for number in numbers() {
        let folder = dir.path().join(number.to_string());
        fs::create_dir_all(folder.join("live")).expect("a folder");
        for file in 0..number {
            // One in a hundred has content: it is the names that are many.
            let path = folder.join("live").join(format!("{file:07}"));
            if file.is_multiple_of(100) {
                fs::write(path, file.to_string()).expect("written");
            } else {
                File::create(path).expect("made");
            }
        }
        costs.push(STEPS.map(|(step, _)| run(step, &folder)));
        fs::remove_dir_all(folder).expect("removed");
    }
    let [few, many] = numbers();
    for ((step, _), (few_cost, many_cost)) in STEPS.iter().zip(costs[0].iter().zip(&costs[1])) {
        println!(
            "{step:8} {few}: {:.2} s, {} MiB; {many}: {:.2} s, {} MiB; {} bytes an entry beyond {} MiB, where {AIM} are the aim",
            few_cost.seconds,
            few_cost.peak >> 20,
            many_cost.seconds,
            many_cost.peak >> 20,
            many_cost.peak.saturating_sub(BASE) / many as u64,
            BASE >> 20
        );
    }
    for ((step, by_entry), (few_cost, many_cost)) in STEPS.iter().zip(costs[0].iter().zip(&costs[1])) {
        // Twice for the machine's moods, and a second in which nothing can be told.
        assert!(many_cost.seconds < 20.0 * few_cost.seconds + 1.0, "{step}: {few_cost:?}, {many_cost:?}");
        let most = BASE + by_entry * many as u64;
        assert!(many_cost.peak <= most, "{step}: {} bytes at the peak, of {most}", many_cost.peak);
    }
}

/// Runs a step in a program of its own, so that its memory is its own.
#[expect(clippy::disallowed_methods, reason = "a test runs the program that it measures")]
fn run(step: &str, folder: &Path) -> Cost {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "many::takes_one_step", "--nocapture"])
        .env("RFS_STEP", step)
        .env("RFS_FOLDER", folder)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.split_once('@').and_then(|(_, rest)| rest.lines().next());
    let line = line.unwrap_or_else(|| panic!("{step}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let (seconds, peak) = line.split_once(' ').expect("two numbers");
    Cost { seconds: seconds.parse().expect("a number"), peak: peak.parse().expect("a number") }
}

#[test]
#[ignore = "run by ten_times_the_files_cost_ten_times_the_time_and_memory_by_the_entry"]
fn takes_one_step() {
    let folder = std::env::var_os("RFS_FOLDER").expect("the other test says where");
    let folder = Path::new(&folder);
    let (store, live) = (open(&folder.join("store")), folder.join("live"));
    let newest = || store.snapshots().expect("lists").pop().expect("one was captured").id;
    match std::env::var("RFS_STEP").as_deref() {
        Ok("capture" | "again") => {
            let making = store.begin().expect("begins");
            making.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
            making.commit(note("many")).expect("commits");
        }
        Ok("drill") => {
            store.drill(newest(), &folder.join("scratch"), &Cancel::new()).expect("comes back");
        }
        Ok("verify") => {
            let report = store.verify(Share::Whole, &Cancel::new()).expect("verifies");
            assert_eq!(report.damage, []);
        }
        Ok("collect") => {
            let report = store.collect(&rfs_store::KeepPolicy::NOTHING, &Cancel::new()).expect("collects");
            assert_eq!(report.forgotten.len(), 1, "the second is the newest, and proven");
        }
        other => panic!("{other:?} is no step"),
    }
    let worked = clock_gettime(ClockId::ProcessCPUTime);
    let seconds =
        Duration::new(worked.tv_sec.unsigned_abs(), worked.tv_nsec.unsigned_abs() as u32).as_secs_f64();
    let status = fs::read_to_string("/proc/self/status").expect("reads");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says it");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    println!("@{seconds} {}", kilobytes << 10);
}
