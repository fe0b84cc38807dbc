//! Removes staging folders, with what they hold: staged entries that are not needed any more, or displaced ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use super::bench::{find_yard, open_roots};
use super::error::{DiscardError, FlipError};
use super::fault::Fault;
use super::flip::standing;
use super::journalled::parse_yards;
use super::live::LiveRoot;
use super::pattern::absolute;
use super::plan::Place;
use super::site::{on_ground, remove_made};
use super::staged::{FilesStanding, FurtherYard, Staged, StagingName, YardPlace};
use super::yard::{OpenYard, remove_rest};
use crate::text::ByteText;

/// Removes the staging folders with all that they hold. Safe to call again.
///
/// Refused between the two states, when what they hold is still needed. Displaced content goes for good: a backup of it
/// must exist.
pub fn discard(staged: &Staged) -> Result<(), DiscardError> {
    let mut live = open_roots(staged).map_err(DiscardError::Roots)?;
    let mut found = Vec::with_capacity(staged.yards.len());
    for yard in &staged.yards {
        found.push(find_yard(staged, &mut live, yard).map_err(DiscardError::Roots)?.ok());
    }
    // Once one is gone, an earlier call has seen that none is needed.
    if !found.is_empty() && found.iter().all(Option::is_some) {
        let standing = standing(staged).map_err(DiscardError::Roots)?;
        if let (FilesStanding::Between, Some(yard)) = (standing, found.iter().flatten().next()) {
            return Err(DiscardError::StillNeeded { path: ByteText(yard.path().to_vec()) });
        }
    }
    discard_decided(staged)
}

/// The same for a caller who knows that neither version is needed: the target is committed, and a backup has what was displaced;
/// or the way back has ended. What was written since to what was restored changes nothing of that.
pub fn discard_decided(staged: &Staged) -> Result<(), DiscardError> {
    let mut live = open_roots(staged).map_err(DiscardError::Roots)?;
    for yard in staged.yards.iter().rev() {
        let open = find_yard(staged, &mut live, yard).map_err(DiscardError::Roots)?.ok();
        let Some(live) = live.get_mut(&yard.place.root()) else { continue };
        on_ground(live, &yard.place, |ground| match open {
            Some(open) => open.remove(ground, &staged.name),
            None => remove_rest(ground, &staged.name),
        })?;
    }
    staged.roots.values().for_each(remove_made);
    Ok(())
}

/// Removes what a crash during [`stage`](super::stage()) left behind, when no [`Staged`] was kept.
///
/// `roots` are those of the plan, in any order. Refused once a flip has begun: then a [`Staged`] exists.
pub fn sweep(roots: &[&[u8]], name: &StagingName) -> Result<(), DiscardError> {
    let mut live: BTreeMap<usize, LiveRoot> = BTreeMap::new();
    for (at, path) in roots.iter().enumerate() {
        match LiveRoot::open(path) {
            Ok(open) => drop(live.insert(at, open)),
            // Nothing can have been staged beside a root that has no place.
            Err(fault) if fault.errno == rustix::io::Errno::NOENT => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    for at in live.keys().copied().collect::<Vec<_>>() {
        let within = YardPlace::Within(Place { root: at, path: ByteText::default() });
        for place in [YardPlace::Beside(at), within] {
            for further in further_yards(&mut live, &place, name)? {
                sweep_one(&mut live, &further, name)?;
            }
            sweep_one(&mut live, &place, name)?;
        }
    }
    Ok(())
}

fn sweep_one(
    live: &mut BTreeMap<usize, LiveRoot>,
    place: &YardPlace,
    name: &StagingName,
) -> Result<(), DiscardError> {
    with_yard(
        live,
        place,
        |ground, open| match open {
            Some(open) if open.is_flipping()? => {
                let path = absolute(ground.shown, name.as_str().as_bytes());
                Err(DiscardError::StillNeeded { path: ByteText(path) })
            }
            Some(open) => Ok(open.remove(ground, name)?),
            None => Ok(remove_rest(ground, name)?),
        },
        name,
    )
    .map(Option::unwrap_or_default)
}

/// The further yards that a yard lists.
fn further_yards(
    live: &mut BTreeMap<usize, LiveRoot>,
    place: &YardPlace,
    name: &StagingName,
) -> Result<Vec<YardPlace>, DiscardError> {
    let listed = with_yard(
        live,
        place,
        |_, open| {
            Ok(match open {
                Some(open) => open.list()?.map(|list| (File::from(list), open.path().to_vec())),
                None => None,
            })
        },
        name,
    )?;
    let Some((mut file, path)) = listed.flatten() else { return Ok(Vec::new()) };
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|source| DiscardError::System { path: ByteText(path), source })?;
    // A list that a crash cut short was written before the yards that it names were made.
    let listed = parse_yards(&text).unwrap_or_default();
    let place = |listed: FurtherYard| {
        let root = live.iter().find(|(_, root)| root.path() == listed.root.0).map(|(at, _)| *at)?;
        Some(YardPlace::Within(Place { root, path: listed.path }))
    };
    Ok(listed.into_iter().filter_map(place).collect())
}

/// Does `work` where a yard may stand; not at all where the folder for it is gone.
fn with_yard<T>(
    live: &mut BTreeMap<usize, LiveRoot>,
    place: &YardPlace,
    work: impl FnOnce(super::yard::Ground<'_>, Option<OpenYard>) -> Result<T, DiscardError>,
    name: &StagingName,
) -> Result<Option<T>, DiscardError> {
    use rustix::io::Errno;

    let Some(root) = live.get_mut(&place.root()) else { return Ok(None) };
    let done = on_ground(root, place, |ground| {
        Ok(OpenYard::find(ground, name).map_err(DiscardError::from).and_then(|open| work(ground, open)))
    });
    match done {
        Ok(done) => done.map(Some),
        Err(Fault { errno: Errno::NOENT | Errno::NOTDIR | Errno::LOOP, .. }) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

impl From<FlipError> for DiscardError {
    fn from(error: FlipError) -> Self {
        Self::Roots(error)
    }
}
