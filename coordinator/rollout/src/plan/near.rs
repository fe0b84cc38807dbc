//! The known word that was probably meant by one that is not known.

/// How many letters may be wrong in a word of four letters or more.
const WRONG: usize = 2;

/// The word of `known` that is nearest to `word`, if one is near enough to have been meant. Of words that are equally near,
/// the first counts.
pub fn near<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let allowed = match word.chars().count() {
        0..=1 => 0,
        2..=3 => 1,
        _ => WRONG,
    };
    // Words of another length cannot be near; to compare them in full would take long in a large fleet.
    let length = word.chars().count();
    let known = known.into_iter().filter(|known| known.chars().count().abs_diff(length) <= allowed);
    let near = known.map(|known| (distance(word, known), known));
    near.filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `; did you mean X?`, or nothing.
pub(super) fn hint<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    near(word, known).map(|known| format!("; did you mean {known}?")).unwrap_or_default()
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn the_nearest_word_is_named_if_it_is_near_enough() {
        let known = ["zone", "role", "web-1", "web-10", "a"];
        let check = |word: &str, expected: Option<&str>| assert_eq!(near(word, known), expected, "{word}");
        check("zon", Some("zone"));
        check("rol", Some("role"));
        check("ozne", Some("zone"));
        check("web1", Some("web-1"));
        check("web-11", Some("web-1"));
        check("b", None);
        check("rack", None);
        check("", None);
    }
}
