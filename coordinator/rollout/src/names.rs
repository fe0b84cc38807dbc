//! Names of hosts in a sentence, cut short where there are many.

/// How many names are printed before the rest is counted.
const SHOWN: usize = 6;

/// The first names, and how many there are beyond.
pub fn some_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let first = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::some_names;

    #[test]
    fn many_names_are_cut_short() {
        let check = |names: &[&str], expected: &str| assert_eq!(some_names(names.iter().copied()), expected);
        check(&[], "");
        check(&["a", "b"], "a, b");
        check(&["a", "b", "c", "d", "e", "f"], "a, b, c, d, e, f");
        check(&["a", "b", "c", "d", "e", "f", "g", "h"], "a, b, c, d, e, f and 2 more");
    }
}
