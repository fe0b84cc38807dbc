//! The way to a path: which symbolic links the kernel follows, and which place it reaches.
//!
//! A link above a path decides which tree is captured and which one is restored, although it belongs to neither. So the
//! links are recorded, and a restore compares them.
//!
//! Invariant: links are looked up by one function that the caller gives, so that the present way and a recorded one are
//! followed by the same rules.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::text::ByteText;

/// A symbolic link, and where it points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetLink {
    /// Its absolute path, with no link in it.
    pub path: ByteText,
    /// What it holds, as it is written.
    pub to: ByteText,
}

impl fmt::Display for MetLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.path, self.to)
    }
}

/// How a path is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The links, in the order in which they are followed.
    pub links: Vec<MetLink>,
    /// Where the path ends, with no link in it. Perhaps nothing is there.
    pub place: Vec<u8>,
}

/// The kernel follows no more links than that.
const MOST: usize = 40;

impl Way {
    /// The present way to the folder that holds `path`; the last name is not followed.
    pub fn above(path: &Path) -> Self {
        Self::above_by(path.as_os_str().as_bytes(), &read_link)
    }

    /// The present way to what `path` leads to; a link in its last name is followed too.
    pub fn through(path: &Path) -> Self {
        Self::follow(path.as_os_str().as_bytes(), true, &read_link)
    }

    /// The way to the folder that holds `path` over these links and no others.
    pub fn recorded(path: &[u8], links: &[MetLink]) -> Self {
        Self::above_by(path, &|at: &[u8]| {
            links.iter().find(|link| link.path.0 == at).map(|link| link.to.0.clone())
        })
    }

    /// The place as a path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.place))
    }

    fn above_by(path: &[u8], link: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Self {
        Self::follow(path, false, link)
    }

    fn follow(path: &[u8], last: bool, link: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Self {
        let mut rest: VecDeque<Vec<u8>> = names(path).collect();
        let (mut links, mut place) = (Vec::new(), Vec::new());
        while let Some(name) = rest.pop_front() {
            match &name[..] {
                b".." => place.truncate(place.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
                name => {
                    let at = [&place[..], b"/", name].concat();
                    let is_followed = (last || !rest.is_empty()) && links.len() < MOST;
                    let Some(to) = is_followed.then(|| link(&at)).flatten() else {
                        place = at;
                        continue;
                    };
                    if to.starts_with(b"/") {
                        place.clear();
                    }
                    for name in names(&to).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(name);
                    }
                    links.push(MetLink { path: ByteText(at), to: ByteText(to) });
                }
            }
        }
        if place.is_empty() {
            place.push(b'/');
        }
        Self { links, place }
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

fn read_link(path: &[u8]) -> Option<Vec<u8>> {
    let target = std::fs::read_link(OsStr::from_bytes(path)).ok()?;
    Some(target.into_os_string().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link((path, to): &(&str, &str)) -> MetLink {
        MetLink { path: ByteText::from(path.as_bytes()), to: ByteText::from(to.as_bytes()) }
    }

    fn check(links: &[(&str, &str)], path: &str, place: &str, met: &[&str]) {
        let links: Vec<MetLink> = links.iter().map(link).collect();
        let way = Way::recorded(path.as_bytes(), &links);
        assert_eq!(String::from_utf8_lossy(&way.place), place, "{path}");
        let shown: Vec<String> = way.links.iter().map(ToString::to_string).collect();
        assert_eq!(shown, met, "{path}");
        assert_eq!(
            Way::recorded(path.as_bytes(), &way.links),
            way,
            "what was recorded leads to the same place"
        );
    }

    #[test]
    fn links_above_a_path_are_followed_as_the_kernel_does() {
        check(&[], "/srv/site", "/srv/site", &[]);
        let current = ("/srv/current", "releases/1");
        check(&[current], "/srv/current/site", "/srv/releases/1/site", &["/srv/current -> releases/1"]);
        // The last name is the root's own, and is captured.
        check(&[current], "/srv/current", "/srv/current", &[]);
        let chain = [("/a", "/b/./c"), ("/b", "x/../y"), ("/y/c", "../z/")];
        check(&chain, "/a/site", "/z/site", &["/a -> /b/./c", "/b -> x/../y", "/y/c -> ../z/"]);
        check(&[("/a", "..")], "/a/a/site", "/site", &["/a -> ..", "/a -> .."]);
        check(&[("/www", "/")], "/www", "/www", &[]);
    }

    #[test]
    fn links_that_go_round_come_to_an_end() {
        let around = [link(&("/a", "a"))];
        assert_eq!(Way::recorded(b"/a/site", &around).links.len(), MOST);
    }

    #[test]
    fn the_present_way_is_the_one_on_the_disk() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let base = folder.path().canonicalize().expect("it is there");
        std::fs::create_dir_all(base.join("releases/1")).expect("writable");
        for (name, to) in [("stable", "releases/1"), ("current", "stable")] {
            std::os::unix::fs::symlink(to, base.join(name)).expect("writable");
        }
        let way = Way::through(&base.join("current"));
        assert_eq!(way.path(), base.join("releases/1"));
        assert_eq!(way.links.len(), 2);
        assert_eq!(Way::above(&base.join("current/site")).path(), base.join("releases/1/site"));
        assert!(Way::above(&base.join("current")).links.is_empty());
    }
}
