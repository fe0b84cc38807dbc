//! What a capture or a restore has to say, bounded as it travels: sentences for a person, each of a host that nobody need trust.

use crate::v1;

/// How many notes travel with one snapshot.
pub const MOST_NOTES: usize = 20;
/// How long one may be, in bytes.
pub const LONGEST_NOTE: usize = 300;

/// The notes as they travel: the first ones, each cut to its length, and how many more there are.
pub fn bounded<T: AsRef<str>>(notes: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut notes = notes.into_iter();
    let mut kept: Vec<String> = notes.by_ref().take(MOST_NOTES).map(|note| cut(note.as_ref())).collect();
    let more = notes.count();
    if more > 0 {
        // The last one that has room says what has none.
        kept[MOST_NOTES - 1] = format!("and {} more", more + 1);
    }
    kept
}

fn cut(note: &str) -> String {
    const DOTS: char = '…';
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let end = note.floor_char_boundary(LONGEST_NOTE - DOTS.len_utf8());
    format!("{}{DOTS}", &note[..end])
}

/// How many paths of one kind travel with a restore.
pub const MOST_NAMED: usize = 10;

/// Paths as they travel: all counted, the first of them named. One that is too long to be named is counted all the same.
pub fn listed<T: AsRef<str>>(
    count: u64,
    bytes: u64,
    first: impl IntoIterator<Item = T>,
) -> Option<v1::ListedPaths> {
    let short = first.into_iter().filter(|path| path.as_ref().len() <= LONGEST_NOTE);
    let first = short.take(MOST_NAMED).map(|path| path.as_ref().to_owned()).collect();
    (count > 0).then_some(v1::ListedPaths { count, bytes, first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_paths_are_named_and_all_are_counted() {
        let paths = (0..50).map(|number| if number == 1 { "x".repeat(301) } else { format!("/{number}") });
        let listed = listed(50, 7, paths).expect("there are some");
        assert_eq!((listed.count, listed.bytes, listed.first.len()), (50, 7, MOST_NAMED));
        assert_eq!(listed.first[..2], ["/0", "/2"]);
        assert_eq!(super::listed(0, 0, Vec::<String>::new()), None);
    }

    #[test]
    fn few_and_short_notes_travel_as_they_are() {
        assert_eq!(bounded(["/srv/stie is not there"]), ["/srv/stie is not there"]);
        assert!(bounded(Vec::<String>::new()).is_empty());
        let full: Vec<String> = (0..MOST_NOTES).map(|number| number.to_string()).collect();
        assert_eq!(bounded(&full), full);
    }

    #[test]
    fn many_and_long_notes_are_cut_and_said_to_be() {
        let notes = bounded((0..500).map(|number| format!("{number} {}", "ä".repeat(500))));
        assert_eq!(notes.len(), MOST_NOTES);
        assert!(notes.iter().all(|note| note.len() <= LONGEST_NOTE));
        assert!(notes[0].starts_with("0 ä") && notes[0].ends_with('…'));
        assert_eq!(notes[MOST_NOTES - 1], "and 481 more");
    }
}
