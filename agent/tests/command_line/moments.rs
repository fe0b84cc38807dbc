//! The program is killed at random moments: captures, restores and looks at the store leave it whole, and the host on one
//! side.

use std::process::Stdio;
use std::thread;
use std::time::Instant;

use crate::host::Host;

/// How many kills.
fn kills() -> u32 {
    if std::env::var_os("RFS_LONG").is_some() { 500 } else { 40 }
}

#[test]
fn a_program_that_is_killed_at_random_moments_leaves_one_side_and_a_whole_store() {
    let seed = std::env::var("RFS_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("RFS_KILL_SEED={seed}");
    let mut dice = Dice(seed);
    let host = Host::new("cat site/index.html > served; touch up");
    let release = |version: &str| {
        host.write("site/index.html", version);
        for i in 0..300 {
            host.write(&format!("site/{version}-{}.css", i % 150), &format!("{version} {i}"));
            host.write(&format!("site/{i}.html"), &format!("{version} {i}"));
        }
    };
    release("v1");
    let ours = host.capture();
    for i in 0..150 {
        std::fs::remove_file(host.file(&format!("site/v1-{i}.css"))).expect("it was there");
    }
    release("v2");
    let theirs = host.capture();
    let begun = Instant::now();
    assert_eq!(host.json(&["restore", &ours])["standing"], "TARGET");
    let length = begun.elapsed();

    let (mut at_target, mut before) = (0, 0);
    let mut here = &ours;
    for kill in 0..kills() {
        let there = if here == &ours { &theirs } else { &ours };
        let arguments = match dice.below(4) {
            0 => vec!["capture"],
            _ => vec!["restore", there.as_str()],
        };
        let mut program =
            host.agent(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        // The random moment is the point here; nothing is awaited.
        thread::sleep(length.mul_f64(dice.below(1100) as f64 / 1000.0));
        program.kill().expect("it is ours");
        program.wait().expect("it is ours");

        let status = host.json(&["status"]);
        assert!(status["inconsistent"].is_null(), "{kill}: {status}");
        let is_at = |snapshot: &str| {
            let diff = host.json(&["snapshots", "diff", snapshot]);
            diff["changes"].as_array().is_some_and(Vec::is_empty)
        };
        let side = [here, there].into_iter().find(|side| is_at(side));
        let side = side.unwrap_or_else(|| panic!("{kill} of {arguments:?}: between the two: {status}"));
        match status["recovered"]["standing"].as_str() {
            Some("BEFORE") => assert_eq!(side, here, "{kill}: {status}"),
            Some("TARGET") => assert_eq!(side, there, "{kill}: {status}"),
            _ => {}
        }
        if side == here {
            before += 1
        } else {
            at_target += 1
        }
        here = side;
        assert!(host.file("up").exists(), "{kill}: the service runs");
        if kill % 10 == 9 {
            let verified = host.json(&["snapshots", "verify"]);
            assert_eq!(verified["damage"].as_array().map(Vec::len), Some(0), "{kill}: {verified}");
        }
        let left: Vec<_> = std::fs::read_dir(host.path())
            .expect("readable")
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with(".rfs-"))
            .collect();
        assert!(left.is_empty(), "{kill}: {left:?}");
    }
    println!("{} kills over {length:?}: {before} as before, {at_target} at the target", kills());
    assert!(before > 0 && at_target > 0, "the moments fall on both sides");
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}
