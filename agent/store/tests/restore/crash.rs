//! A crash before any low-level operation of a flip, or of its inverse, leaves both directions open.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rfs_store::restore::{
    FilesStanding, FlipError, Operation, Staged, discard, flip, flip_watched, standing, unflip,
    unflip_watched,
};
use rfs_store::tree::Tree;

use crate::forest::{change, grow};
use crate::lab::{Lab, ROOTS, assert_equal, program};
use crate::random::{Random, seeds};

#[test]
fn a_flip_that_stops_anywhere_goes_on_or_back() {
    seeds(12).into_iter().for_each(|seed| flip_stops_anywhere(&std::env::temp_dir(), seed));
}

#[test]
fn an_inverse_that_stops_anywhere_goes_on_or_forward_again() {
    seeds(12).into_iter().for_each(|seed| inverse_stops_anywhere(&std::env::temp_dir(), seed));
}

/// So many paths are flipped by all cores at once.
const MANY: usize = 1500;
/// Which staging the worker flips.
const STAGED: &str = "RFS_TEST_STAGED";
/// Past this, nothing comes any more.
const HANG: Duration = Duration::from_secs(60);

#[test]
fn many_paths_that_are_flipped_at_once_go_on_or_back_after_a_kill() {
    let lab = Lab::within(&std::env::temp_dir(), &["site"]);
    let sides = ["one", "other"].map(|side| {
        write_many(&lab, side);
        (side, lab.capture())
    });
    let (mut live, mut between) = (&sides[1], 0);
    for seed in seeds(6) {
        let target = if live.0 == "one" { &sides[1] } else { &sides[0] };
        let staged = lab.stage(&lab.plan(&target.1));
        killed(&lab, &staged, Random::new(seed).below(MANY), target.0);
        let half = reread(&staged);
        between += u32::from(standing(&half).expect("a standing") == FilesStanding::Between);
        if seed % 2 == 0 {
            flip(&half).expect("flipped onward");
            live = target;
        } else {
            unflip(&half).expect("flipped back");
        }
        assert_equal(&lab.capture(), &live.1, &format!("seed {seed}"));
        discard(&half).expect("discarded");
    }
    assert!(between > 0, "each was killed before it had begun or after it had ended");
}

#[test]
#[ignore = "is run by another test, which kills it"]
fn flips_what_is_staged() {
    let path = std::env::var_os(STAGED).expect("the other test says what");
    flip(&serde_json::from_slice(&fs::read(path).expect("reads")).expect("JSON")).expect("flipped");
}

/// Has a process flip what is staged, and kills it once it has come to the file of this number.
fn killed(lab: &Lab, staged: &Staged, number: usize, side: &str) {
    let path = lab.top.path().join("staged.json");
    fs::write(&path, serde_json::to_vec(staged).expect("JSON")).expect("written");
    let mut flipping = program(std::env::current_exe().expect("this program").to_str().expect("UTF-8"));
    flipping.args(["--exact", "--ignored", "crash::flips_what_is_staged"]).env(STAGED, path);
    let mut flipping = flipping.stdout(Stdio::null()).spawn().expect("it starts");
    let (watched, since) = (file_of(lab, number), Instant::now());
    while !fs::read_to_string(&watched).expect("reads").starts_with(side) {
        assert!(since.elapsed() < HANG, "{number} is not flipped");
    }
    flipping.kill().expect("it can be killed, also once it has ended");
    flipping.wait().expect("it has ended");
}

fn file_of(lab: &Lab, number: usize) -> PathBuf {
    lab.site(&format!("{}/{number}", number / 100))
}

fn write_many(lab: &Lab, text: &str) {
    for number in 0..MANY {
        let path = file_of(lab, number);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, format!("{text} {number}")).expect("written");
    }
}

pub(crate) fn flip_stops_anywhere(folder: &Path, seed: u64) {
    let trial = Trial::new(folder, seed);
    for stop in 0.. {
        let (onward, done) = trial.staged();
        let finished = stops(stop, |watch| flip_watched(&onward, watch));
        trial.cut_power(stop);
        let half = reread(&onward);
        flip(&half).expect("flipped onward");
        trial.expect(&trial.target, &half, FilesStanding::Target, stop);
        done();

        let (back, done) = trial.staged();
        assert_eq!(stops(stop, |watch| flip_watched(&back, watch)), finished);
        trial.cut_power(stop);
        let half = reread(&back);
        unflip(&half).expect("flipped back");
        trial.expect(&trial.before, &half, FilesStanding::Before, stop);
        done();
        if finished {
            break;
        }
    }
}

pub(crate) fn inverse_stops_anywhere(folder: &Path, seed: u64) {
    let trial = Trial::new(folder, seed);
    for stop in 0.. {
        let (onward, done) = trial.staged();
        flip(&onward).expect("flipped");
        let finished = stops(stop, |watch| unflip_watched(&onward, watch).map(drop));
        let half = reread(&onward);
        unflip(&half).expect("flipped back");
        trial.expect(&trial.before, &half, FilesStanding::Before, stop);
        done();

        let (forward, done) = trial.staged();
        flip(&forward).expect("flipped");
        stops(stop, |watch| unflip_watched(&forward, watch).map(drop));
        let half = reread(&forward);
        flip(&half).expect("flipped forward again");
        trial.expect(&trial.target, &half, FilesStanding::Target, stop);
        done();
        if finished {
            break;
        }
    }
}

/// A changed tree that is staged again and again.
struct Trial {
    seed: u64,
    lab: Lab,
    copy: PathBuf,
    target: Tree,
    before: Tree,
}

impl Trial {
    fn new(folder: &Path, seed: u64) -> Self {
        let (mut random, lab) = (Random::new(seed), Lab::within(folder, &ROOTS));
        grow(&mut random, &lab.live());
        let target = lab.capture();
        while lab.capture() == target {
            change(&mut random, &lab.live());
        }
        let (before, copy) = (lab.capture(), lab.copy("before"));
        Self { seed, lab, copy, target, before }
    }

    /// The tree before, staged; the second part cleans up.
    fn staged(&self) -> (Staged, impl FnOnce()) {
        self.lab.reset(&self.copy);
        let staged = self.lab.stage(&self.lab.plan(&self.target));
        let copy = staged.clone();
        (staged, move || discard(&copy).expect("discarded"))
    }

    /// Every third time it was a power cut, and the file system had not kept the mark of the flip.
    fn cut_power(&self, stop: usize) {
        if stop % 3 == 2 {
            fs::remove_file(self.lab.live().join(".rfs-test/flipping")).expect("the mark");
        }
    }

    fn expect(&self, tree: &Tree, staged: &Staged, stands: FilesStanding, stop: usize) {
        let what = format!("seed {}, stopped before operation {stop}", self.seed);
        assert_equal(&self.lab.capture(), tree, &what);
        assert_eq!(standing(staged).expect("a standing"), stands, "{what}");
    }
}

/// Lets `stop` operations happen. True when that was all of them.
fn stops(
    stop: usize,
    work: impl FnOnce(&mut dyn FnMut(Operation<'_>) -> ControlFlow<()>) -> Result<(), FlipError>,
) -> bool {
    let mut left = stop;
    let done = work(&mut |_| match left.checked_sub(1) {
        Some(fewer) => {
            left = fewer;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    });
    match done {
        Ok(()) => true,
        Err(FlipError::Interrupted) => false,
        Err(error) => panic!("stopped before operation {stop}: {error}"),
    }
}

/// What a journal gives back after a crash.
fn reread(staged: &Staged) -> Staged {
    serde_json::from_slice(&serde_json::to_vec(staged).expect("JSON")).expect("the same")
}
