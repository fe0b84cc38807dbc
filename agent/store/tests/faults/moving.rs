//! Files that move while they are read: they grow, shrink, vanish, are replaced by another, or by something else. What is
//! captured was there at one moment, or the capture says which file does not rest; it never waits for what never comes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rfs_store::{Cancel, CaptureError, EntryKind, Store};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::common::{Stop, StopAtEnd, contents, note, open, site, spec};

/// Large enough that reading it takes several calls.
const LENGTH: usize = 3 << 20;

/// Captures again and again while `moves` is at work on a file, until it was seen to succeed and to see `wanted` states.
/// `state` names what was captured of the file; `None`: it was not there.
fn watch(
    moves: impl Fn(&Path, u64) + Sync,
    state: impl Fn(Option<(&EntryKind, Option<&[u8]>)>) -> String,
    wanted: &[&str],
) {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("live/moving"));
    fs::create_dir(&live).expect("a folder");
    fs::write(live.join("still"), "at rest").expect("written");
    moves(&path, 0);
    let store = open(&dir.path().join("store"));
    let stop = Stop::default();
    let mut seen = BTreeSet::new();
    std::thread::scope(|threads| {
        let _at_end = StopAtEnd(&stop);
        threads.spawn(|| {
            for turn in 1.. {
                if stop.is_set() {
                    break;
                }
                moves(&path, turn);
            }
        });
        let begun = Instant::now();
        while !wanted.iter().all(|wanted| seen.contains(*wanted)) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{wanted:?} were not seen, but {seen:?}");
            seen.extend(captured(&store, &live, &path, &state));
        }
    });
    // Once it rests, it is captured.
    assert!(captured(&store, &live, &path, &state).is_some());
}

fn captured(
    store: &Store,
    live: &Path,
    path: &Path,
    state: &impl Fn(Option<(&EntryKind, Option<&[u8]>)>) -> String,
) -> Option<String> {
    let making = store.begin().expect("begins");
    let tree = match making.files(&site(), &spec(live), &Cancel::new()) {
        Ok((tree, _)) => tree,
        Err(error) => {
            let wanted = format!(
                "{} kept changing while it was read; quiesce its writer or exclude it",
                path.display()
            );
            assert!(matches!(error, CaptureError::Unstable { .. }), "{error:?}");
            assert_eq!(error.to_string(), wanted);
            return None;
        }
    };
    making.commit(note("moving")).expect("commits");
    let read = contents(store, &tree).expect("all is there");
    let content = |name: &[u8]| read.iter().find(|(path, _)| path == name).map(|(_, content)| &content[..]);
    assert_eq!(content(b"still"), Some(&b"at rest"[..]));
    let entry = tree.roots[0].entries.iter().find(|entry| entry.path == b"moving");
    Some(state(entry.map(|entry| (&entry.kind, content(b"moving")))))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_le_bytes()).take(length).collect()
}

/// The content of a file, which must be the beginning of the pattern.
fn beginning(found: Option<(&EntryKind, Option<&[u8]>)>, whole: &[u8]) -> String {
    let (_, content) = found.expect("it never goes");
    let content = content.expect("it is a file");
    assert!(whole.starts_with(content), "{} bytes were never there at one moment", content.len());
    match content.len() {
        length if length < whole.len() / 2 => "short".to_owned(),
        _ => "long".to_owned(),
    }
}

/// Lets a capture come to its end now and then.
fn rest(turn: u64) {
    if turn.is_multiple_of(16) {
        std::thread::sleep(Duration::from_millis(60));
    }
}

#[test]
fn a_file_that_grows_is_kept_as_it_was_at_one_moment() {
    let whole = pattern(LENGTH);
    let grows = |path: &Path, turn: u64| {
        let step = LENGTH / 32;
        let at = turn as usize % 32 * step;
        let mut file = File::options().append(true).create(true).open(path).expect("opens");
        if at == 0 {
            file.set_len(0).expect("empties");
        }
        file.write_all(&whole[at..at + step]).expect("written");
        rest(turn);
    };
    watch(grows, |found| beginning(found, &whole), &["short", "long"]);
}

#[test]
fn a_log_that_is_written_to_all_the_time_is_kept_as_it_was_at_one_moment() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("live/busy"));
    fs::create_dir(&live).expect("a folder");
    fs::write(&path, "").expect("written");
    let store = open(&dir.path().join("store"));
    let stop = Stop::default();
    std::thread::scope(|threads| {
        let _at_end = StopAtEnd(&stop);
        threads.spawn(|| {
            let mut log = File::options().append(true).open(&path).expect("opens");
            for line in 0.. {
                if stop.is_set() {
                    break;
                }
                log.write_all(format!("line {line}\n").as_bytes()).expect("written");
                // Thousands of lines a second, and none of the times between them is as long as it takes to read them all.
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let mut longest = 0;
        for _ in 0..8 {
            let making = store.begin().expect("begins");
            let (tree, _) = making.files(&site(), &spec(&live), &Cancel::new()).expect("captured");
            making.commit(note("busy")).expect("commits");
            let read = contents(&store, &tree).expect("all is there");
            let (_, log) = read.iter().find(|(path, _)| path == b"busy").expect("it never goes");
            let text = std::str::from_utf8(log).expect("lines");
            assert!(text.is_empty() || text.ends_with('\n'), "a torn line: {:?}", text.lines().last());
            let lines = text.lines().enumerate().all(|(number, line)| line == format!("line {number}"));
            assert!(lines, "lines that were never there at one moment");
            assert!(text.len() >= longest, "it was longer before");
            longest = text.len();
        }
        assert!(longest > 0, "nothing was written");
    });
}

#[test]
fn a_file_that_shrinks_is_kept_as_it_was_at_one_moment() {
    let whole = pattern(LENGTH);
    let shrinks = |path: &Path, turn: u64| {
        let left = 31 - turn as usize % 32;
        match left {
            31 => fs::write(path.with_extension("log"), &whole)
                .and_then(|()| fs::rename(path.with_extension("log"), path))
                .expect("written"),
            left => File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len((left * LENGTH / 32) as u64))
                .expect("shorter"),
        }
        rest(turn);
    };
    watch(shrinks, |found| beginning(found, &whole), &["short", "long"]);
}

#[test]
fn a_file_that_vanishes_is_kept_whole_or_not_at_all() {
    let whole = pattern(LENGTH);
    let comes_and_goes = |path: &Path, turn: u64| {
        match turn % 2 {
            0 => {
                // The suite leaves logs out, so that only whole files are captured.
                let beside = path.with_extension("log");
                fs::write(&beside, &whole).and_then(|()| fs::rename(&beside, path)).expect("written");
            }
            _ => fs::remove_file(path).expect("removed"),
        }
        rest(turn / 2);
    };
    let state = |found: Option<(&EntryKind, Option<&[u8]>)>| match found {
        Some((_, Some(content))) => {
            assert!(content == whole, "it was captured in part");
            "there".to_owned()
        }
        other => format!("{:?}", other.map(drop)),
    };
    watch(comes_and_goes, state, &["there", "None"]);
}

#[test]
fn a_file_that_is_replaced_is_one_or_the_other() {
    let (one, other) = (vec![1; LENGTH], vec![2; LENGTH - 5]);
    let replaces = |path: &Path, turn: u64| {
        let beside = path.with_extension("log");
        let content = if turn.is_multiple_of(2) { &one } else { &other };
        fs::write(&beside, content).and_then(|()| fs::rename(&beside, path)).expect("written");
        rest(turn / 2);
    };
    let state = |found: Option<(&EntryKind, Option<&[u8]>)>| {
        let content = found.and_then(|(_, content)| content).expect("one is always there");
        assert!(content == one || content == other, "it is of both");
        content[0].to_string()
    };
    watch(replaces, state, &["1", "2"]);
}

#[test]
fn a_file_that_becomes_a_pipe_a_folder_or_a_link_is_never_waited_for_nor_followed() {
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("secret"), "not ours").expect("written");
    let turns = |path: &Path, turn: u64| {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(path);
        match turn % 4 {
            0 => fs::write(path, "a file").expect("written"),
            1 => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).expect("a pipe"),
            2 => fs::create_dir(path).expect("a folder"),
            _ => std::os::unix::fs::symlink(outside.path().join("secret"), path).expect("a link"),
        }
        rest(turn / 4 * 16 + turn % 4);
        if turn.is_multiple_of(3) {
            std::thread::sleep(Duration::from_millis(3));
        }
    };
    let state = |found: Option<(&EntryKind, Option<&[u8]>)>| match found {
        None => "nothing".to_owned(),
        Some((EntryKind::File { .. }, content)) => {
            assert!(content.is_some_and(|content| b"a file".starts_with(content)), "{content:?}");
            "a file".to_owned()
        }
        Some((EntryKind::Fifo, _)) => "a pipe".to_owned(),
        Some((EntryKind::Directory, _)) => "a folder".to_owned(),
        Some((EntryKind::Symlink(to), _)) => {
            assert_eq!(
                PathBuf::from(String::from_utf8_lossy(to).into_owned()),
                outside.path().join("secret")
            );
            "a link".to_owned()
        }
        Some((other, _)) => panic!("{other:?}"),
    };
    watch(turns, state, &["a file", "a pipe", "a folder", "a link"]);
}
