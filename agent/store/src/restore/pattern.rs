//! Which paths: what a person selects, and what a restore must never touch.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use crate::text;

/// Which paths a restore brings to the target; the others stay as they are.
#[derive(Debug, Clone, Default)]
pub enum Selection {
    /// All of them, extras deleted.
    #[default]
    Everything,
    /// Only these, and what lies beneath them.
    Only(PathSet),
}

/// A set of paths, each with everything beneath it.
#[derive(Debug, Clone, Default)]
pub struct PathSet {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    /// This absolute path.
    Absolute(Vec<u8>),
    /// This path beneath any root.
    Beneath(Vec<u8>),
    /// Absolute paths that match.
    AbsoluteGlob(GlobMatcher),
    /// Paths beneath a root that match.
    BeneathGlob(GlobMatcher),
}

/// A pattern that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing was written.
    #[error(
        "a path pattern is empty; write an absolute path, a path beneath a root, or a glob such as **/*.key"
    )]
    Empty,
    /// It has a `.` or `..`.
    #[error("path pattern {0:?} has a {1:?} in it; write the path without it")]
    Dots(String, &'static str),
    /// It is not a glob.
    #[error("path pattern {text:?} is not a glob: {reason}")]
    Glob {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `%` does not stand before two hexadecimal digits.
    #[error(
        "path pattern {0:?} has a % that is not followed by two hexadecimal digits; write %25 for a % sign"
    )]
    Escape(String),
}

impl PathSet {
    /// Reads patterns: an absolute path, a path beneath a root, or a glob of either kind.
    ///
    /// `*` and `?` stay within one name, `**` crosses folders. Bytes that are not UTF-8 are written `%FF`, as paths are
    /// shown.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, PatternError> {
        Ok(Self { patterns: patterns.iter().map(|p| Pattern::new(p.as_ref())).collect::<Result<_, _>>()? })
    }

    /// True when it has no pattern, and so holds no path.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.text.as_str())
    }

    /// The patterns that name one path, each with that path beneath `root` if it lies there.
    pub(super) fn named<'a>(&'a self, root: &'a [u8]) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        self.patterns.iter().filter_map(move |pattern| match &pattern.rule {
            Rule::Absolute(path) if is_beneath(root, path) => Some((pattern.text.as_str(), Some(&b""[..]))),
            Rule::Absolute(path) if is_beneath(path, root) => {
                let rest = &path[root.len()..];
                Some((pattern.text.as_str(), Some(rest.strip_prefix(b"/").unwrap_or(rest))))
            }
            Rule::Absolute(_) => Some((pattern.text.as_str(), None)),
            Rule::Beneath(path) => Some((pattern.text.as_str(), Some(path))),
            Rule::AbsoluteGlob(_) | Rule::BeneathGlob(_) => None,
        })
    }

    /// True when a pattern holds this very path.
    fn matches(&self, root: &[u8], path: &[u8], absolute: &[u8]) -> bool {
        let held = self.patterns.iter().any(|pattern| match &pattern.rule {
            Rule::Absolute(wanted) => absolute == wanted,
            Rule::Beneath(wanted) => path == wanted,
            Rule::AbsoluteGlob(glob) => glob.is_match(Path::new(OsStr::from_bytes(absolute))),
            Rule::BeneathGlob(glob) => !path.is_empty() && glob.is_match(Path::new(OsStr::from_bytes(path))),
        });
        held || (path.is_empty() && self.above(root))
    }

    /// True when a pattern names a folder above the root, so that the whole root is held.
    fn above(&self, root: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| match &pattern.rule {
            Rule::Absolute(wanted) => is_beneath(root, wanted),
            Rule::AbsoluteGlob(glob) => {
                ancestors(root).any(|p| glob.is_match(Path::new(OsStr::from_bytes(p))))
            }
            Rule::Beneath(_) | Rule::BeneathGlob(_) => false,
        })
    }
}

impl Pattern {
    fn new(written: &str) -> Result<Self, PatternError> {
        let trimmed = written.trim_end_matches('/');
        if written.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(dots) = trimmed.split('/').find(|part| matches!(*part, "." | "..")) {
            return Err(PatternError::Dots(written.to_owned(), if dots == "." { "." } else { ".." }));
        }
        let absolute = written.starts_with('/');
        let rule = if trimmed.contains(['*', '?', '[', '{']) {
            let glob = GlobBuilder::new(trimmed)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| PatternError::Glob {
                    text: written.to_owned(),
                    reason: error.kind().to_string(),
                })?
                .compile_matcher();
            if absolute { Rule::AbsoluteGlob(glob) } else { Rule::BeneathGlob(glob) }
        } else {
            let bytes = text::decode(trimmed).ok_or_else(|| PatternError::Escape(written.to_owned()))?;
            match absolute {
                true if bytes.is_empty() => Rule::Absolute(b"/".to_vec()),
                true => Rule::Absolute(bytes),
                false => Rule::Beneath(bytes),
            }
        };
        Ok(Self { text: written.to_owned(), rule })
    }
}

/// True when `path` is `folder` or lies beneath it.
pub(super) fn is_beneath(path: &[u8], folder: &[u8]) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) => rest.is_empty() || folder.is_empty() || folder == b"/" || rest.starts_with(b"/"),
        None => false,
    }
}

/// The folders above an absolute path, the nearest first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let at = rest.iter().rposition(|&b| b == b'/').filter(|&at| at > 0)?;
        rest = &rest[..at];
        Some(rest)
    })
}

/// Asks a set about the paths of one root, and remembers what it said about folders.
pub(super) struct Cover<'a> {
    set: &'a PathSet,
    root: &'a [u8],
    folders: HashMap<Vec<u8>, bool>,
}

impl<'a> Cover<'a> {
    pub(super) fn new(set: &'a PathSet, root: &'a [u8]) -> Self {
        Self { set, root, folders: HashMap::new() }
    }

    /// True when the set holds `path` or a folder above it.
    pub(super) fn holds(&mut self, path: &[u8]) -> bool {
        if self.set.is_empty() {
            return false;
        }
        let above = match parent(path) {
            None => false,
            Some(folder) => match self.folders.get(folder) {
                Some(&known) => known,
                None => {
                    let held = self.holds(folder);
                    self.folders.insert(folder.to_vec(), held);
                    held
                }
            },
        };
        above || self.set.matches(self.root, path, &absolute(self.root, path))
    }
}

/// The folder of a path beneath a root; the root has none.
pub(super) fn parent(path: &[u8]) -> Option<&[u8]> {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => Some(&path[..at]),
        None if path.is_empty() => None,
        None => Some(b""),
    }
}

/// The last name of a path.
pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

/// The absolute path of a path beneath a root.
pub(super) fn absolute(root: &[u8], path: &[u8]) -> Vec<u8> {
    match (path.is_empty(), root.ends_with(b"/")) {
        (true, _) => root.to_vec(),
        (false, true) => [root, path].concat(),
        (false, false) => [root, b"/", path].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], held: &[&str], not_held: &[&str]) {
        let set = PathSet::new(patterns).expect("patterns");
        let mut cover = Cover::new(&set, b"/srv/site");
        for path in held {
            assert!(cover.holds(path.as_bytes()), "{patterns:?} should hold {path}");
        }
        for path in not_held {
            assert!(!cover.holds(path.as_bytes()), "{patterns:?} should not hold {path}");
        }
    }

    #[test]
    fn a_set_holds_its_paths_and_all_beneath_them() {
        check(&["/srv/site/a"], &["a", "a/b/c"], &["", "ab", "b/a"]);
        check(&["a/b/"], &["a/b", "a/b/c"], &["a", "a/bc"]);
        check(&["/srv"], &["", "a", "a/b"], &[]);
        check(&["/srv/si*"], &["", "a"], &[]);
        check(&["**/*.key"], &["x.key", "a/b/x.key", "a.key/b"], &["x.keys", "a"]);
        check(&["*.log"], &["x.log"], &["a/x.log"]);
        check(&["/srv/site/*/tmp"], &["a/tmp", "a/tmp/x"], &["tmp", "a/b/tmp"]);
        check(&[], &[], &["", "a"]);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for (pattern, message) in [
            (
                "",
                "a path pattern is empty; write an absolute path, a path beneath a root, or a glob such as **/*.key",
            ),
            ("/srv/../etc", "path pattern \"/srv/../etc\" has a \"..\" in it; write the path without it"),
            ("a/./b", "path pattern \"a/./b\" has a \".\" in it; write the path without it"),
            ("a[", "path pattern \"a[\" is not a glob: unclosed character class; missing ']'"),
            (
                "a%4",
                "path pattern \"a%4\" has a % that is not followed by two hexadecimal digits; write %25 for a % sign",
            ),
        ] {
            assert_eq!(PathSet::new(&[pattern]).expect_err(pattern).to_string(), message);
        }
    }
}
