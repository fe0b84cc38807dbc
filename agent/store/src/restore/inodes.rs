//! Hard links: which inodes stay, and under which names.
//!
//! A target inode keeps at most one present inode of the same content, and a present inode serves at most one target
//! inode; so every other name of it is displaced, and changing its metadata in place changes nothing else.

use std::collections::HashMap;

use super::plan::Place;

/// A present inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Present {
    Shared(u32),
    Single(Place),
}

/// An inode that should be there afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Future {
    /// The present one, whatever else happens.
    Kept,
    Shared(u32),
    Single(Place),
}

/// A path that is a file before and after.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) at: Place,
    pub(super) present: Present,
    pub(super) future: Future,
    pub(super) same_content: bool,
}

/// For every name, in their order, whether its present inode stays.
pub(super) fn staying(names: &[Name]) -> Vec<bool> {
    let mut serves: HashMap<&Present, &Future> = HashMap::new();
    for name in names.iter().filter(|name| name.future == Future::Kept) {
        serves.insert(&name.present, &name.future);
    }
    let mut order: Vec<&Future> = Vec::new();
    let mut overlaps: HashMap<&Future, Vec<(&Present, usize)>> = HashMap::new();
    for name in names.iter().filter(|name| name.same_content && name.future != Future::Kept) {
        let found = overlaps.entry(&name.future).or_insert_with(|| {
            order.push(&name.future);
            Vec::new()
        });
        match found.iter_mut().find(|(present, _)| *present == &name.present) {
            Some((_, count)) => *count += 1,
            None => found.push((&name.present, 1)),
        }
    }
    for future in order {
        let free = overlaps[future].iter().filter(|(present, _)| !serves.contains_key(present));
        // The first of those with the most names in common.
        if let Some((present, _)) = free.rev().max_by_key(|(_, count)| *count) {
            serves.insert(present, future);
        }
    }
    names.iter().map(|name| serves.get(&name.present) == Some(&&name.future)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::ByteText;

    /// Names are written `path:present>future`, with `!` for another content; those that stay are expected.
    fn check(names: &str, expected: &str) {
        let place = |path: &str| Place { root: 0, path: ByteText::from(path.as_bytes()) };
        let names: Vec<Name> = names
            .split(' ')
            .map(|text| {
                let (path, inodes) = text.split_once(':').expect("path");
                let (present, future) = inodes.split_once('>').expect("inodes");
                Name {
                    at: place(path),
                    present: present.parse().map_or(Present::Single(place(path)), Present::Shared),
                    future: match future.trim_end_matches('!') {
                        "kept" => Future::Kept,
                        number => number.parse().map_or(Future::Single(place(path)), Future::Shared),
                    },
                    same_content: !future.ends_with('!'),
                }
            })
            .collect();
        let stay: Vec<String> = staying(&names)
            .into_iter()
            .zip(&names)
            .filter(|(stays, _)| *stays)
            .map(|(_, name)| name.at.path.to_string())
            .collect();
        assert_eq!(stay.join(" "), expected);
    }

    #[test]
    fn an_inode_stays_where_its_names_and_content_do() {
        check("a:1>1 b:1>1", "a b");
        check("a:1>1! b:1>1!", "");
        check("a:->-", "a");
    }

    #[test]
    fn an_inode_that_splits_stays_once() {
        check("a:1>- b:1>-", "a");
        check("a:1>2 b:1>3 c:1>3", "a");
    }

    #[test]
    fn inodes_that_merge_keep_the_one_with_the_most_names() {
        check("a:->9 b:2>9 c:2>9", "b c");
        check("a:->9 b:->9", "a");
    }

    #[test]
    fn an_inode_with_a_kept_name_serves_no_other() {
        check("a:1>kept b:1>5 c:->5", "a c");
    }
}
