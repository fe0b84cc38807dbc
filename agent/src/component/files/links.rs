//! Paths that lead elsewhere: what is captured behind a root that is a link, and what a path beneath such a root means.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rfs_model::ComponentName;
use rfs_store::text::ByteText;
use rfs_store::{FilesSpec, Met, MetRoot, RootState, Way};

use super::Spec;
use crate::commander::Selection;
use crate::component::ComponentError;
use crate::component::choices::literal;
use crate::config::{ComponentSpec, Config};

/// A path of another component.
#[derive(Debug, Clone)]
pub struct Neighbour {
    component: ComponentName,
    path: PathBuf,
    follows: bool,
}

impl Neighbour {
    /// The paths of all components of files but this one.
    pub(crate) fn of(config: &Config, own: &ComponentName) -> Vec<Self> {
        let others = config.components.iter().filter(|other| other.name != *own);
        let paths = others.filter_map(|other| match &other.spec {
            ComponentSpec::Files(files) => Some((other, files)),
            ComponentSpec::Services(_) => None,
        });
        let neighbour = |(other, files): (&crate::config::ComponentConfig, &crate::config::FilesConfig)| {
            let (component, follows) = (other.name.clone(), files.follow_roots == Some(true));
            let of_path = |path: &PathBuf| Self { component: component.clone(), path: path.clone(), follows };
            files.paths.iter().map(of_path).collect::<Vec<_>>()
        };
        paths.flat_map(neighbour).collect()
    }
}

/// Where a root stands, and what is captured because of it.
struct Reached {
    /// The root, by a path with no link in it.
    place: PathBuf,
    /// What it leads to, where it is a link that is followed: the last place, then the links between.
    behind: Vec<PathBuf>,
}

impl Reached {
    fn now(root: &Path, follows: bool) -> Self {
        let place = Way::above(root).path();
        let is_link = || root.symlink_metadata().is_ok_and(|found| found.is_symlink());
        if !follows || !is_link() {
            return Self { place, behind: Vec::new() };
        }
        let way = Way::through(root);
        let path = |text: &ByteText| PathBuf::from(OsStr::from_bytes(&text.0));
        let links = way.links.iter().map(|link| path(&link.path)).skip_while(|link| *link != place).skip(1);
        // A link that leads nowhere has nothing behind it.
        let end = Some(way.path()).filter(|end| end.symlink_metadata().is_ok());
        let behind = end.into_iter().chain(links).collect();
        Self { place, behind }
    }
}

fn meet(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Adds a path that was found behind a link, unless it meets one of the paths, or another component's.
pub(super) fn add_behind(files: &mut FilesSpec, path: &Path, link: &Path, others: &[Neighbour]) {
    let is_taken = files.paths.iter().any(|known| meet(known, path))
        || others.iter().any(|other| meet(&other.path, path));
    if !is_taken {
        files.paths.push(path.to_owned());
        files.behind.push((path.to_owned(), link.to_owned()));
    }
}

impl Spec {
    /// What is behind the roots that are links now, where that is followed: each path with its link.
    pub(super) fn behind(&self) -> Vec<(PathBuf, PathBuf)> {
        let follows = self.follow == Some(true);
        let of = |link: &PathBuf| {
            let reached = Reached::now(link, follows);
            reached.behind.into_iter().map(|path| (path, link.clone())).collect::<Vec<_>>()
        };
        self.files.paths.iter().flat_map(of).collect()
    }

    /// The agent's own files as the trees name them, wherever links lead to them: certbot's `live/key` is one, and so is the
    /// file in `archive` that it points to.
    pub(super) fn own_places(&self) -> Vec<Vec<u8>> {
        let roots: Vec<(&PathBuf, PathBuf)> =
            self.files.paths.iter().map(|root| (root, Way::above(root).path())).collect();
        let mut places = Vec::new();
        for own in &self.own {
            let way = Way::through(own);
            // A link to a folder on the way belongs to the tree, and the file that it leads to then is another one.
            let links = way.links.iter().map(|link| as_path(&link.path)).filter(|link| link.is_file());
            for place in links.chain([way.path()]) {
                places.extend(roots.iter().filter_map(|(root, at)| {
                    let rest = place.strip_prefix(at).ok()?;
                    let named = if rest.as_os_str().is_empty() { (*root).clone() } else { root.join(rest) };
                    Some(named.into_os_string().into_encoded_bytes())
                }));
            }
        }
        places
    }

    /// Refuses paths that are apart as they are written, and lead into one another: one file belongs to one component, and is
    /// captured once.
    pub(super) fn check_apart(&self) -> Result<(), ComponentError> {
        let follows = self.follow == Some(true);
        let own: Vec<(&PathBuf, Reached)> =
            self.files.paths.iter().map(|path| (path, Reached::now(path, follows))).collect();
        let refuse = |path: &Path, place: &Path, other: &Path, owner: &ComponentName| {
            let text = |path: &Path| ByteText::from(path.as_os_str().as_bytes());
            Err(ComponentError::LedTogether {
                component: self.name.clone(),
                path: text(path),
                place: text(place),
                other: format!("{} of {owner}", shown(other)),
            })
        };
        for (at, (path, reached)) in own.iter().enumerate() {
            for (other, theirs) in &own[at + 1..] {
                if meet(&reached.place, &theirs.place) {
                    return refuse(path, &reached.place, other, &self.name);
                }
            }
            for place in &reached.behind {
                for (other, theirs) in own.iter().filter(|(other, _)| other != path) {
                    // Two links to one place are captured once.
                    let nested = theirs.behind.iter().any(|there| there != place && meet(there, place));
                    if meet(&theirs.place, place) || nested {
                        return refuse(path, place, other, &self.name);
                    }
                }
            }
            for other in &self.others {
                let theirs = Reached::now(&other.path, other.follows);
                for place in std::iter::once(&reached.place).chain(&reached.behind) {
                    if std::iter::once(&theirs.place).chain(&theirs.behind).any(|there| meet(there, place)) {
                        return refuse(path, place, &other.path, &other.component);
                    }
                }
            }
        }
        Ok(())
    }

    /// The selected paths that lie in this component, as they are named in its trees, and what must be said of it.
    pub(super) fn selected(
        &self,
        selection: &Selection,
        taken: Option<&Met>,
        met: &Met,
    ) -> Result<(Vec<String>, Vec<String>), ComponentError> {
        let behind =
            taken.into_iter().chain([met]).flat_map(|met| &met.roots).filter(|root| root.behind.is_some());
        let roots: Vec<PathBuf> =
            self.files.paths.iter().cloned().chain(behind.map(|root| as_path(&root.path))).collect();
        let (mut patterns, mut notes) = (Vec::new(), Vec::new());
        for path in &selection.paths {
            if !roots.iter().any(|root| meet(root, path)) {
                continue;
            }
            let is_link = |met: &Met, root: &Path| matches!(state(met, root), Some(RootState::Link(_)));
            let link = self
                .files
                .paths
                .iter()
                .find(|root| path.starts_with(root) && taken.is_some_and(|taken| is_link(taken, root)));
            match link {
                Some(link) if link == path => {
                    patterns.push(literal(path));
                    let with = taken.into_iter().flat_map(|taken| all_behind(taken, link));
                    patterns.extend(with.map(|root| literal(&as_path(&root.path))));
                }
                Some(link) => {
                    let meant = self.behind_link(path, link, taken, met)?;
                    notes.push(format!(
                        "{} is {}, behind the link {}",
                        shown(path),
                        shown(&meant),
                        shown(link)
                    ));
                    patterns.push(literal(&meant));
                }
                None => patterns.push(literal(path)),
            }
        }
        Ok((patterns, notes))
    }

    /// What a path beneath a root that is a link means: the same path behind it, if it led there at the capture and does now.
    fn behind_link(
        &self,
        path: &Path,
        link: &Path,
        taken: Option<&Met>,
        met: &Met,
    ) -> Result<PathBuf, ComponentError> {
        let text = |path: &Path| ByteText::from(path.as_os_str().as_bytes());
        let end = |met: &Met| {
            all_behind(met, link)
                .find(|root| !matches!(root.state, RootState::Link(_)))
                .map(|root| as_path(&root.path))
        };
        let Some(then) = taken.and_then(end) else {
            let component = self.name.clone();
            return Err(ComponentError::NotBehind { component, path: text(path), link: text(link) });
        };
        let rest = path.strip_prefix(link).unwrap_or(path);
        let meant = then.join(rest);
        let now = Some(Way::through(link).path()).filter(|now| now != link && state(met, link).is_some());
        if now.as_ref() != Some(&then) {
            return Err(ComponentError::OtherBehind {
                path: text(path),
                link: text(link),
                then: text(&then),
                now: now.map_or_else(|| "nowhere".to_owned(), |now| shown(&now)),
            });
        }
        Ok(meant)
    }
}

/// The roots that were found behind this link.
fn all_behind<'m>(met: &'m Met, link: &Path) -> impl Iterator<Item = &'m MetRoot> {
    let link = link.as_os_str().as_bytes().to_vec();
    met.roots.iter().filter(move |root| root.behind.as_ref().is_some_and(|behind| behind.0 == link))
}

fn state<'m>(met: &'m Met, root: &Path) -> Option<&'m RootState> {
    met.root(root.as_os_str().as_bytes()).map(|root| &root.state)
}

fn as_path(text: &ByteText) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&text.0))
}

fn shown(path: &Path) -> String {
    ByteText::from(path.as_os_str().as_bytes()).to_string()
}
