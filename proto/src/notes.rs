//! What a capture has to say, bounded as it travels: sentences for a person, each of a host that nobody need trust.

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

#[cfg(test)]
mod tests {
    use super::*;

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
