//! Every file of a store is flipped byte by byte, cut at every length, removed, and exchanged with every other.
//!
//! After each of these: whatever restores, restores to exactly what was captured, by a true restore that is compared by
//! means that ask nobody else. And either the store says that something is wrong, or everything that it holds is still as
//! it was: what each snapshot restores to, its marks, what a scan says of the live files, what the journal says. What was
//! changed is then dead space, and the tally says which.
//!
//! Three things may vanish without a word, for nothing else names them: a manifest, marks, the journal.
//!
//! With `RFS_LONG=1` the journal is treated byte by byte too, which is mostly empty pages; else at a share of its bytes.

#[path = "../common/mod.rs"]
mod common;
#[path = "../golden/listing.rs"]
mod listing;

mod lab;
mod tally;

use std::fs;
use std::path::Path;

use lab::{Kind, Lab, Verdict};
use tally::Tally;

/// Which bytes of a file, or lengths, are tried.
fn every(kind: Kind, length: usize) -> impl Iterator<Item = usize> {
    let is_long = std::env::var_os("RFS_LONG").is_some();
    let is_tried = move |at: usize| match kind {
        // The first rows of a page stand at its end.
        Kind::Journal => is_long || at.is_multiple_of(101) || at % 4096 >= 4070,
        // Zeros that nothing reads.
        Kind::Ballast => at.is_multiple_of(65_537),
        _ => true,
    };
    (0..length).filter(move |at| is_tried(*at))
}

/// Makes each change of the list in turn, judges the store, and takes it back; the work is shared by two threads.
fn for_each<T: Sync>(lab: &Lab, changes: &[T], change: impl Fn(&Path, &T) -> (Kind, String) + Sync) -> Tally {
    let half = |odd: usize| {
        let lab = lab.copy();
        let mut tally = Tally::default();
        for this in changes.iter().skip(odd).step_by(2) {
            let (kind, what) = change(lab.store(), this);
            let verdict = lab.judge(kind, &what);
            tally.count(kind, &verdict);
            if let Verdict::Silent(difference) = verdict {
                assert!(
                    what.starts_with("without") && kind.may_vanish(),
                    "{what} goes unnoticed: {difference}"
                );
            }
            lab.mend();
        }
        tally
    };
    let half = &half;
    std::thread::scope(|threads| {
        let other = threads.spawn(move || half(1));
        let mut tally = half(0);
        tally.add(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        tally
    })
}

#[test]
fn a_flipped_byte_is_found_or_means_nothing() {
    let lab = Lab::new();
    let mut flips = Vec::new();
    for (name, kind, bytes) in lab.files() {
        flips.extend(every(*kind, bytes.len()).map(|at| (name, *kind, bytes, at)));
    }
    let tally = for_each(&lab, &flips, |store, (name, kind, bytes, at)| {
        let mut bytes = (*bytes).clone();
        // A bit that its place chooses, so that all bits have their turn.
        bytes[*at] ^= 1 << (at % 8);
        fs::write(store.join(name), bytes).expect("writes");
        (*kind, format!("byte {at} of {}", name.display()))
    });
    println!("flipped bytes\n{tally}");
    for kind in [Kind::Format, Kind::Pack, Kind::Manifest, Kind::Marks, Kind::Index] {
        assert_eq!(tally.harmless(kind), 0, "every byte of {kind:?} means something");
    }
    assert!(tally.total(Kind::Pack) > 1_500 && tally.total(Kind::Index) > 400, "{tally}");
}

#[test]
fn a_file_that_is_cut_short_is_found_or_means_nothing() {
    let lab = Lab::new();
    let mut cuts = Vec::new();
    for (name, kind, bytes) in lab.files() {
        cuts.extend(every(*kind, bytes.len()).map(|length| (name, *kind, bytes, length)));
    }
    let tally = for_each(&lab, &cuts, |store, (name, kind, bytes, length)| {
        fs::write(store.join(name), &bytes[..*length]).expect("writes");
        (*kind, format!("{} cut to {length}", name.display()))
    });
    println!("cut short\n{tally}");
    for kind in [Kind::Format, Kind::Pack, Kind::Manifest, Kind::Marks, Kind::Index] {
        assert_eq!(tally.harmless(kind), 0, "every length of {kind:?} is missed");
    }
}

#[test]
fn a_missing_file_harms_nothing_else() {
    let lab = Lab::new();
    let tally = for_each(&lab, lab.files(), |store, (name, kind, _)| {
        fs::remove_file(store.join(name)).expect("removes");
        (*kind, format!("without {}", name.display()))
    });
    println!("missing\n{tally}");
}

#[test]
fn files_that_were_exchanged_are_found_or_mean_nothing() {
    let lab = Lab::new();
    let mut pairs = Vec::new();
    for (number, one) in lab.files().iter().enumerate() {
        pairs.extend(lab.files()[..number].iter().filter(|other| other.2 != one.2).map(|other| (one, other)));
    }
    let tally = for_each(&lab, &pairs, |store, ((one, kind, bytes), (other, _, others))| {
        fs::write(store.join(one), others).expect("writes");
        fs::write(store.join(other), bytes).expect("writes");
        (*kind, format!("{} exchanged with {}", one.display(), other.display()))
    });
    println!("exchanged\n{tally}");
}
