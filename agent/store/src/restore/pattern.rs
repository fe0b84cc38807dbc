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
    /// The folders in which a name may match.
    folders: Holders,
}

/// The folders in which a pattern may match a name.
#[derive(Debug, Clone)]
enum Holders {
    /// Perhaps any.
    Any,
    /// This one, absolute or beneath a root as the pattern is.
    One(Vec<u8>),
    /// Those that match one of these.
    Matching(Vec<GlobMatcher>),
    /// None: it names no name in a folder.
    Nothing,
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

    /// The set with these absolute paths added.
    pub fn with_paths<'p>(mut self, paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        self.patterns.extend(paths.into_iter().map(|path| Pattern {
            text: text::encode(path).into_owned(),
            rule: Rule::Absolute(path.to_vec()),
            folders: Holders::of_path(path),
        }));
        self
    }

    /// The set with the patterns of another added.
    pub fn with(mut self, other: &Self) -> Self {
        self.patterns.extend(other.patterns.iter().cloned());
        self
    }

    /// True when it holds this absolute path, or a folder above it. `root` is what patterns that are not absolute begin at.
    pub fn holds(&self, root: &[u8], path: &[u8]) -> bool {
        let beneath = path.strip_prefix(root).map(|rest| rest.strip_prefix(b"/").unwrap_or(rest));
        beneath.is_some_and(|beneath| Cover::new(self, root).holds(beneath))
    }

    /// True when a pattern may match a name that stands in this folder beneath `root`, so that such names may have come and
    /// gone there.
    pub(super) fn may_match_in(&self, root: &[u8], folder: &[u8]) -> bool {
        let absolute = absolute(root, folder);
        self.patterns.iter().any(|pattern| {
            let path = match &pattern.rule {
                Rule::Absolute(_) | Rule::AbsoluteGlob(_) => &absolute[..],
                Rule::Beneath(_) | Rule::BeneathGlob(_) => folder,
            };
            match &pattern.folders {
                Holders::Any => true,
                Holders::Nothing => false,
                Holders::One(wanted) => wanted == path,
                Holders::Matching(globs) => {
                    globs.iter().any(|glob| glob.is_match(Path::new(OsStr::from_bytes(path))))
                }
            }
        })
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
        let (rule, folders) = if trimmed.contains(['*', '?', '[', '{']) {
            let glob = glob(trimmed).map_err(|error| PatternError::Glob {
                text: written.to_owned(),
                reason: error.kind().to_string(),
            })?;
            let rule = if absolute { Rule::AbsoluteGlob(glob) } else { Rule::BeneathGlob(glob) };
            (rule, Holders::of_glob(trimmed))
        } else {
            let bytes = text::decode(trimmed).ok_or_else(|| PatternError::Escape(written.to_owned()))?;
            let folders = Holders::of_path(&bytes);
            let rule = match absolute {
                true if bytes.is_empty() => Rule::Absolute(b"/".to_vec()),
                true => Rule::Absolute(bytes),
                false => Rule::Beneath(bytes),
            };
            (rule, folders)
        };
        Ok(Self { text: written.to_owned(), rule, folders })
    }
}

impl Holders {
    fn of_path(path: &[u8]) -> Self {
        match parent(path) {
            // The folder of a path such as `/srv`.
            Some(b"") if path.starts_with(b"/") => Self::One(b"/".to_vec()),
            Some(folder) => Self::One(folder.to_vec()),
            None => Self::Nothing,
        }
    }

    fn of_glob(text: &str) -> Self {
        // A slash within braces belongs to the alternatives, and so to no folder that could be told.
        if text.contains('{') && text.contains('/') {
            return Self::Any;
        }
        match text.rsplit_once('/') {
            None => Self::One(Vec::new()),
            Some(("", _)) => Self::One(b"/".to_vec()),
            Some(("**", _)) => Self::Any,
            Some((above, _)) => {
                // `a/**/b` also means `a/b`, whose folder is `a`.
                let texts = [Some(above), above.strip_suffix("/**")];
                texts
                    .into_iter()
                    .flatten()
                    .map(glob)
                    .collect::<Result<_, _>>()
                    .map_or(Self::Any, Self::Matching)
            }
        }
    }
}

fn glob(text: &str) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()?;
    Ok(glob.compile_matcher())
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
    fn a_set_says_in_which_folders_its_names_may_come_and_go() {
        let check = |pattern: &str, folders: &[&str], others: &[&str]| {
            let set = PathSet::new(&[pattern]).expect("a pattern");
            let may = |folder: &&&str| set.may_match_in(b"/srv/site", folder.as_bytes());
            assert_eq!(folders.iter().find(|folder| !may(folder)), None, "{pattern} may match there");
            assert_eq!(others.iter().find(may), None, "{pattern} cannot match there");
        };
        check("**/*.log", &["", "a", "a/b"], &[]);
        check("*.log", &[""], &["a"]);
        check("run/**", &["run"], &["", "a/run"]);
        check("**/run/*.pid", &["run", "a/run"], &["", "run/a"]);
        check("a/**/b.log", &["a", "a/x", "a/x/y"], &["", "b"]);
        check("/srv/site/run/app.pid", &["run"], &["", "a"]);
        check("/srv/site/*/tmp/**", &["a/tmp"], &["tmp", "a"]);
        check("cache", &[""], &["cache", "a"]);
        check("{a,b}/*.log", &["", "a"], &[]);
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
