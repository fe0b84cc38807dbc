//! The live roots of a plan and the staging folders that serve them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;

use super::error::StageError;
use super::fault::{Action, Fault};
use super::folders::readable;
use super::journalled::print_yards;
use super::live::{LiveRoot, above, make_above};
use super::look::{Mount, look_at};
use super::pattern::parent;
use super::plan::{FilesPlan, Place};
use super::staged::{FurtherYard, Slot, StagedRoot, StagingName, Yard, YardPlace};
use super::yard::{Ground, OpenYard, make};
use crate::flags;
use crate::text::ByteText;

/// What is open and what was made while a plan is staged.
#[derive(Debug)]
pub(super) struct Site {
    name: StagingName,
    live: BTreeMap<usize, LiveRoot>,
    roots: BTreeMap<usize, StagedRoot>,
    yards: Vec<(YardPlace, OpenYard)>,
    serving: HashMap<Mount, usize>,
}

impl Site {
    pub(super) fn new(name: &StagingName) -> Self {
        let name = name.clone();
        Self {
            name,
            live: BTreeMap::new(),
            roots: BTreeMap::new(),
            yards: Vec::new(),
            serving: HashMap::new(),
        }
    }

    /// Opens the roots that have steps; folders that are missing above them are made.
    pub(super) fn open_roots(&mut self, plan: &FilesPlan) -> Result<(), StageError> {
        for step in &plan.steps {
            let at = step.at.root;
            if self.live.contains_key(&at) {
                continue;
            }
            let path = &plan.roots[at];
            let made = make_above(&path.0)?.into_iter().map(ByteText).collect();
            // Noted at once, so that a failure removes them.
            let root = self.roots.entry(at).or_insert(StagedRoot { path: path.clone(), above: 0, made });
            let live = LiveRoot::open(&path.0)?;
            root.above =
                look_at(live.above()).map_err(|errno| Fault::new(Action::Look, above(&path.0), errno))?.inode;
            self.live.insert(at, live);
        }
        Ok(())
    }

    /// A root that has steps.
    pub(super) fn live(&mut self, root: usize) -> Result<&mut LiveRoot, StageError> {
        self.live.get_mut(&root).ok_or(StageError::Cancelled)
    }

    /// The yard on `mount`, the mount of the folder that holds `at`.
    pub(super) fn yard(&mut self, at: &Place, mount: Mount) -> Result<usize, StageError> {
        if let Some(&yard) = self.serving.get(&mount) {
            return Ok(yard);
        }
        let place = self.choose(at, mount)?;
        if let YardPlace::Within(Place { root, path }) = &place
            && !path.0.is_empty()
        {
            self.list_further(*root, &place)?;
        }
        self.make_yard(place, mount)
    }

    /// The open yards, in the order of their numbers.
    pub(super) fn yards(&self) -> impl Iterator<Item = &OpenYard> {
        self.yards.iter().map(|(_, yard)| yard)
    }

    /// The yard that a slot is in.
    pub(super) fn yard_of(&self, slot: Slot) -> &OpenYard {
        &self.yards[slot.yard].1
    }

    /// The folders that the yards stand in, each with its absolute path.
    pub(super) fn grounds(
        &mut self,
        work: &mut dyn FnMut(BorrowedFd<'_>, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for (place, _) in &self.yards {
            let Some(live) = self.live.get_mut(&place.root()) else { continue };
            on_ground(live, place, |ground| work(ground.folder, ground.shown))?;
        }
        Ok(())
    }

    /// What a [`Staged`](super::Staged) keeps of the roots and yards.
    pub(super) fn record(&self) -> Result<(BTreeMap<usize, StagedRoot>, Vec<Yard>), StageError> {
        let yards =
            self.yards.iter().map(|(place, yard)| Ok(Yard { place: place.clone(), inode: yard.inode()? }));
        Ok((self.roots.clone(), yards.collect::<Result<_, Fault>>()?))
    }

    /// Removes all that was made, as far as it can be.
    pub(super) fn clear(mut self) {
        for (place, yard) in std::mem::take(&mut self.yards).into_iter().rev() {
            let Some(live) = self.live.get_mut(&place.root()) else { continue };
            let removed = on_ground(live, &place, |ground| yard.remove(ground, &self.name));
            if let Err(fault) = removed {
                tracing::warn!(path = %ByteText(fault.path), error = %fault.errno, "staging folder is left behind");
            }
        }
        self.roots.values().for_each(remove_made);
    }

    fn choose(&mut self, at: &Place, mount: Mount) -> Result<YardPlace, StageError> {
        let live = self.live(at.root)?;
        let beside = mount_of(live, None)?;
        let Some(mut folder) = parent(&at.path.0) else { return Ok(YardPlace::Beside(at.root)) };
        if beside == mount && mount_of(live, Some(b""))? == mount {
            // What is made in a folder of a project is of its project, and in an encrypted one it is encrypted.
            let is_closed = readable(live.folder(b"")?).is_ok_and(flags::is_closed);
            let within = YardPlace::Within(Place { root: at.root, path: ByteText::default() });
            return Ok(if is_closed { within } else { YardPlace::Beside(at.root) });
        }
        while let Some(higher) = parent(folder) {
            if mount_of(live, Some(higher))? != mount {
                break;
            }
            folder = higher;
        }
        Ok(YardPlace::Within(Place { root: at.root, path: ByteText::from(folder) }))
    }

    /// Lists a further yard in the one of its root before it is made, so that a sweep finds it.
    fn list_further(&mut self, root: usize, place: &YardPlace) -> Result<(), StageError> {
        let inside = Place { root, path: ByteText::from(&b"x"[..]) };
        let mount = mount_of(self.live(root)?, Some(b""))?;
        let first = self.yard(&inside, mount)?;
        let places = self.yards.iter().map(|(known, _)| known).chain([place]);
        let further: Vec<FurtherYard> = places.filter_map(|place| self.further(place)).collect();
        let (_, yard) = &self.yards[first];
        let shown = || ByteText(yard.path().to_vec());
        let text = print_yards(&further).map_err(|error| StageError::System {
            action: "write",
            path: shown(),
            source: error.into(),
        })?;
        let mut file = File::from(yard.make_list()?);
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(|source| StageError::System {
            action: "write",
            path: shown(),
            source,
        })
    }

    fn further(&self, place: &YardPlace) -> Option<FurtherYard> {
        let YardPlace::Within(Place { root, path }) = place else { return None };
        let root = self.roots.get(root).filter(|_| !path.0.is_empty())?;
        Some(FurtherYard { root: root.path.clone(), path: path.clone() })
    }

    fn make_yard(&mut self, place: YardPlace, mount: Mount) -> Result<usize, StageError> {
        let name = self.name.clone();
        let root = place.root();
        let live = self.live(root)?;
        let (place, yard) = match on_ground(live, &place, |ground| make(ground, &name)) {
            Err(error) if is_closed(&error) && matches!(place, YardPlace::Beside(_)) => {
                let within = YardPlace::Within(Place { root, path: ByteText::default() });
                // When the root is no folder, the first answer says more.
                match on_ground(live, &within, |ground| make(ground, &name)) {
                    Ok(yard) if look_at(yard.folder()).is_ok_and(|found| found.mount == mount) => {
                        (within, yard)
                    }
                    _ => return Err(error),
                }
            }
            made => (place, made?),
        };
        self.yards.push((place, yard));
        let number = self.yards.len() - 1;
        self.serving.insert(mount, number);
        self.yards[number].1.try_exchange()?;
        Ok(number)
    }
}

/// True when a folder can't be made where it should be, so that another place is worth trying.
fn is_closed(error: &StageError) -> bool {
    match error {
        StageError::ReadOnly { .. } => true,
        StageError::System { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

fn mount_of(live: &mut LiveRoot, folder: Option<&[u8]>) -> Result<Mount, Fault> {
    let shown = live.shown(folder.unwrap_or_default());
    let open = match folder {
        Some(folder) => live.folder(folder)?,
        None => live.above(),
    };
    look_at(open).map(|found| found.mount).map_err(|errno| Fault::new(Action::Look, shown, errno))
}

/// Does `work` in the folder that a yard stands in.
pub(super) fn on_ground<T, E: From<Fault>>(
    live: &mut LiveRoot,
    place: &YardPlace,
    work: impl FnOnce(Ground<'_>) -> Result<T, E>,
) -> Result<T, E> {
    match place {
        YardPlace::Beside(_) => work(Ground { folder: live.above(), shown: above(live.path()) }),
        YardPlace::Within(Place { path, .. }) => {
            let shown = live.shown(&path.0);
            work(Ground { folder: live.folder(&path.0)?, shown: &shown })
        }
    }
}

/// Removes the folders that were made above a root, if nothing is in them.
pub(super) fn remove_made(root: &StagedRoot) {
    for folder in root.made.iter().rev() {
        match unlinkat(CWD, &folder.0[..], AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Someone uses it.
            Err(_) => return,
        }
    }
}
