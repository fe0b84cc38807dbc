//! What a `files` component keeps: paths, and patterns that leave something out.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::CaptureError;

/// Which files a component keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilesSpec {
    /// Absolute paths, of folders or of single files. None may lie beneath another.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out, with everything beneath it. One that begins with `/` is compared with the absolute
    /// path, any other with the path beneath its root: `**/*.log`, `cache/**`, `/srv/site/tmp`.
    pub exclude: Vec<String>,
    /// What is mounted beneath a path is its content too.
    pub mounts: bool,
    /// Paths among these that were found behind a link, each with the link.
    pub behind: Vec<(PathBuf, PathBuf)>,
}

/// A spec that was checked.
#[derive(Debug)]
pub struct Scope {
    roots: Vec<PathBuf>,
    relative: GlobSet,
    absolute: GlobSet,
    exclude: Vec<String>,
    mounts: bool,
    behind: Vec<(PathBuf, PathBuf)>,
}

impl Scope {
    /// Checks the paths and the patterns.
    pub fn new(spec: &FilesSpec) -> Result<Self, CaptureError> {
        let roots = check_roots(&spec.paths)?;
        let (absolute, relative): (Vec<_>, Vec<_>) =
            spec.exclude.iter().partition(|pattern| pattern.starts_with('/'));
        let exclude = spec.exclude.clone();
        let (relative, absolute) = (globs(&relative)?, globs(&absolute)?);
        Ok(Self { roots, relative, absolute, exclude, mounts: spec.mounts, behind: spec.behind.clone() })
    }

    /// The roots, sorted.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The patterns, as they were written.
    pub(crate) fn exclude(&self) -> &[String] {
        &self.exclude
    }

    /// Whether mounts beneath a root are its content.
    pub(crate) fn takes_mounts_in(&self) -> bool {
        self.mounts
    }

    /// The link through which a root was found, if it was.
    pub(crate) fn link_to(&self, root: &Path) -> Option<&Path> {
        self.behind.iter().find(|(path, _)| path == root).map(|(_, link)| link.as_path())
    }

    pub(crate) fn has_patterns(&self) -> bool {
        !self.relative.is_empty() || !self.absolute.is_empty()
    }

    /// Whether the path beneath the root is left out by itself. What is beneath a path that is left out is left out too.
    pub fn excludes(&self, root: &Path, path: &[u8]) -> bool {
        if path.is_empty() || !self.has_patterns() {
            return false;
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        self.relative.is_match(path) || (!self.absolute.is_empty() && self.absolute.is_match(root.join(path)))
    }

    /// Whether the path beneath the root, or a folder above it, is left out.
    pub fn excludes_beneath(&self, root: &Path, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        ends.chain([path.len()]).any(|end| self.excludes(root, &path[..end]))
    }
}

fn check_roots(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CaptureError> {
    let bad = |path: &Path, reason| Err(CaptureError::BadPath { path: path.to_owned(), reason });
    let mut roots = Vec::with_capacity(paths.len());
    for path in paths {
        if !path.is_absolute() {
            return bad(path, "it is not absolute");
        }
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return bad(path, "it contains ..");
        }
        // Collecting drops double slashes, `.` and a slash at the end.
        roots.push(path.components().collect::<PathBuf>());
    }
    roots.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    for (i, inner) in roots.iter().enumerate() {
        if roots.iter().enumerate().any(|(j, outer)| i != j && inner.starts_with(outer)) {
            return bad(inner, "it lies beneath another path of the same component");
        }
    }
    Ok(roots)
}

fn globs(patterns: &[&String]) -> Result<GlobSet, CaptureError> {
    let bad = |pattern: &str| {
        let pattern = pattern.to_owned();
        move |source| CaptureError::BadPattern { pattern, source }
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(bad(pattern))?);
    }
    set.build().map_err(bad(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exclude: &[&str], path: &str, expected: bool) {
        let exclude = exclude.iter().map(ToString::to_string).collect();
        let spec = FilesSpec { paths: vec!["/srv/site".into()], exclude, ..FilesSpec::default() };
        let scope = Scope::new(&spec).expect("a valid spec");
        assert_eq!(
            scope.excludes_beneath(Path::new("/srv/site"), path.as_bytes()),
            expected,
            "{path} {:?}",
            spec.exclude
        );
    }

    #[test]
    fn a_pattern_leaves_out_a_path_and_all_beneath_it() {
        check(&[], "a.log", false);
        check(&["**/*.log"], "a.log", true);
        check(&["**/*.log"], "x/y/a.log", true);
        check(&["*.log"], "x/a.log", false);
        check(&["cache"], "cache/a/b", true);
        check(&["cache/**"], "cache", false);
        check(&["cache/**"], "cache/a", true);
        check(&["/srv/site/tmp"], "tmp/x", true);
        check(&["/srv/other/tmp"], "tmp/x", false);
    }

    #[test]
    fn a_path_that_cannot_be_a_root_is_named() {
        let check = |paths: &[&str], expected: &str| {
            let spec = FilesSpec {
                paths: paths.iter().map(PathBuf::from).collect(),
                exclude: Vec::new(),
                ..FilesSpec::default()
            };
            let error = Scope::new(&spec).expect_err("not a valid spec");
            assert_eq!(error.to_string(), expected);
        };
        check(&["srv"], "path srv cannot be captured: it is not absolute");
        check(&["/srv/../etc"], "path /srv/../etc cannot be captured: it contains ..");
        check(
            &["/srv", "/srv/a"],
            "path /srv/a cannot be captured: it lies beneath another path of the same component",
        );
        check(
            &["/a", "/a/"],
            "path /a cannot be captured: it lies beneath another path of the same component",
        );
    }
}
