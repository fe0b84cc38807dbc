//! Compares a live tree with a target and makes the plan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::check::{check_selection, check_trees};
use super::error::PlanError;
use super::inodes::{Future, Name, Present, staying};
use super::pattern::{PathSet, Selection, absolute, name, parent};
use super::plan::{Adjustment, Change, Donor, FilesPlan, FolderTime, New, Place, Step, mtime};
use super::wanted::{Wanted, find, is_folder, is_socket, wanted};
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind, Meta, Root, Tree};

/// What a plan must respect.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Which paths are brought to the target.
    pub selection: Selection,
    /// Paths that no restore touches, even where the selection holds them.
    pub protect: PathSet,
    /// Device files may be created.
    pub devices: bool,
    /// Of what the target does not have, this stays.
    pub keep: PathSet,
    /// Absolute paths of live things that are no entries, such as files that the component excludes: they stay, with the
    /// folders above them.
    pub stays: Vec<ByteText>,
    /// Absolute paths whose own metadata stays, such as those of mounts: what is beneath them is brought to the target.
    pub as_is: Vec<ByteText>,
}

impl Rules {
    /// Whether names that are none of the restore's may come and go in a folder, so that its time says nothing.
    fn is_restless(&self, root: &[u8], folder: &[u8]) -> bool {
        self.protect.may_match_in(root, folder) || self.keep.may_match_in(root, folder)
    }
}

/// Plans what brings `current`, a scan of the live trees, to `target`. Pure: touches nothing.
///
/// A whole new folder is one step, and so is a folder that goes. Sockets are neither created nor deleted for their own
/// sake, and a folder that holds one stays. Access times are ignored.
pub fn plan(current: &Tree, target: &Tree, rules: &Rules) -> Result<FilesPlan, PlanError> {
    check_trees(current, target)?;
    check_selection(&rules.selection, current, target)?;
    let mut draft = Draft::default();
    let mut wants = Vec::with_capacity(target.roots.len());
    for (current, target) in current.roots.iter().zip(&target.roots) {
        wants.push(wanted(current, target, rules)?);
    }
    for (at, root) in current.roots.iter().enumerate() {
        Comparison { root: at, path: &root.path, current: &root.entries, wanted: &wants[at], rules }
            .add_to(&mut draft);
    }
    draft.settle_links(current, &wants, rules);
    let plan = draft.finish(current, &wants);
    match plan.steps.iter().find_map(|step| device_in(&plan, step)) {
        Some(path) if !rules.devices => Err(PlanError::Device { path: ByteText(path) }),
        Some(_) | None => Ok(plan),
    }
}

fn device_in(plan: &FilesPlan, step: &Step) -> Option<Vec<u8>> {
    let device =
        step.change.brings()?.entries.iter().find(|entry| {
            matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. })
        })?;
    Some(absolute(&plan.roots[step.at.root].0, &device.path))
}

/// One root before and after.
struct Comparison<'a> {
    root: usize,
    path: &'a [u8],
    current: &'a [Entry],
    wanted: &'a [Wanted<'a>],
    rules: &'a Rules,
}

/// A plan in the making.
#[derive(Default)]
struct Draft<'a> {
    steps: Vec<Step>,
    /// Names of files that have, or should have, several: decided together.
    names: Vec<Name>,
    pairs: Vec<(&'a Entry, &'a Entry)>,
    donors: BTreeMap<u32, Donor>,
    /// Folders whose time alone differs and says nothing: it is put right beside other steps, and is none itself.
    restless: Vec<FolderTime>,
}

impl<'a> Comparison<'a> {
    fn add_to(&self, draft: &mut Draft<'a>) {
        let (mut now, mut then) = (self.current.iter().peekable(), self.wanted.iter().peekable());
        loop {
            let order = match (now.peek(), then.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(now), Some(then)) => now.path.cmp(&then.entry.path),
            };
            match order {
                std::cmp::Ordering::Less => now.next().into_iter().for_each(|old| self.gone(draft, old)),
                std::cmp::Ordering::Greater => then.next().into_iter().for_each(|new| self.come(draft, new)),
                std::cmp::Ordering::Equal => {
                    if let (Some(old), Some(new)) = (now.next(), then.next()) {
                        self.both(draft, old, new);
                    }
                }
            }
        }
    }

    fn gone(&self, draft: &mut Draft<'a>, old: &Entry) {
        let alone = parent(&old.path).is_none_or(|folder| self.find_wanted(folder).is_some_and(is_folder));
        if alone && !is_socket(old) {
            draft.steps.push(self.step(&old.path, Change::Delete { old: self.whole_current(old) }));
        }
    }

    fn come(&self, draft: &mut Draft<'a>, new: &Wanted<'a>) {
        let alone =
            parent(&new.entry.path).is_none_or(|folder| find(self.current, folder).is_some_and(is_folder));
        if alone {
            draft.steps.push(self.step(&new.entry.path, Change::Create(self.whole_wanted(new.entry))));
        }
    }

    fn both(&self, draft: &mut Draft<'a>, old: &'a Entry, new: &Wanted<'a>) {
        match (&old.kind, &new.entry.kind) {
            (EntryKind::File { link: before, .. }, EntryKind::File { link: after, .. })
                if before.is_some() || (after.is_some() && !new.kept) =>
            {
                let at = self.place(&old.path);
                draft.names.push(Name {
                    present: before.map_or_else(|| Present::Single(at.clone()), Present::Shared),
                    future: match (new.kept, after) {
                        (true, _) => Future::Kept,
                        (false, Some(link)) => Future::Shared(*link),
                        (false, None) => Future::Single(at.clone()),
                    },
                    same_content: same_kind(&old.kind, &new.entry.kind) && !is_handed_over(old, new.entry),
                    at,
                });
                draft.pairs.push((old, new.entry));
            }
            _ if new.kept => {}
            (before, after) if !same_kind(before, after) || is_handed_over(old, new.entry) => {
                draft.steps.push(self.replace(old, new.entry));
            }
            _ if !same_meta(old, new.entry) => {
                let restless = is_folder(new.entry) && self.rules.is_restless(self.path, &old.path);
                if restless && differs_in_time_alone(&old.meta, &new.entry.meta) {
                    let at = self.place(&old.path);
                    let (old, new) = (mtime(&old.meta), mtime(&new.entry.meta));
                    draft.restless.push(FolderTime { at, old, new });
                    return;
                }
                let names = vec![self.place(&old.path)];
                let mut change = adjust(old, new.entry, names, 1);
                if let Change::Adjust(adjustment) = &mut change {
                    adjustment.restless = restless;
                }
                draft.steps.push(self.step(&old.path, change));
            }
            _ => {}
        }
    }

    fn replace(&self, old: &Entry, new: &Entry) -> Step {
        self.step(&old.path, Change::Replace { old: self.whole_current(old), new: self.whole_wanted(new) })
    }

    fn step(&self, path: &[u8], change: Change) -> Step {
        Step { shown: ByteText(absolute(self.path, path)), at: self.place(path), change }
    }

    fn place(&self, path: &[u8]) -> Place {
        Place { root: self.root, path: ByteText::from(path) }
    }

    fn find_wanted(&self, path: &[u8]) -> Option<&'a Entry> {
        find_wanted(self.wanted, path)
    }

    fn whole_current(&self, top: &Entry) -> Vec<Entry> {
        whole(self.current, top, |entry| entry)
    }

    fn whole_wanted(&self, top: &Entry) -> New {
        New { entries: whole(self.wanted, top, |wanted| wanted.entry), link_to: None }
    }
}

/// `top` and all beneath it, from items sorted by path.
fn whole<T>(sorted: &[T], top: &Entry, entry: impl Fn(&T) -> &Entry) -> Vec<Entry> {
    if !is_folder(top) {
        return vec![top.clone()];
    }
    let prefix = if top.path.is_empty() { Vec::new() } else { [&top.path[..], b"/"].concat() };
    let first = sorted.partition_point(|item| entry(item).path[..] < prefix[..]);
    let beneath = sorted[first..].iter().map(&entry).take_while(|entry| entry.path.starts_with(&prefix));
    // An empty prefix also finds the top itself.
    std::iter::once(top).chain(beneath.filter(|entry| entry.path != top.path)).cloned().collect()
}

fn find_wanted<'a>(wanted: &[Wanted<'a>], path: &[u8]) -> Option<&'a Entry> {
    wanted.binary_search_by(|w| w.entry.path.as_slice().cmp(path)).ok().map(|at| wanted[at].entry)
}

/// Equal in all that an adjustment in place can't change. Link numbers are decided apart.
fn same_kind(old: &EntryKind, new: &EntryKind) -> bool {
    match (old, new) {
        (
            EntryKind::File { size, content, .. },
            EntryKind::File { size: new_size, content: new_content, .. },
        ) => size == new_size && content == new_content,
        _ => old == new,
    }
}

/// Equal metadata, as far as it can be set: a symbolic link has no mode of its own.
fn same_meta(old: &Entry, new: &Entry) -> bool {
    match old.kind {
        EntryKind::Symlink(_) => Meta { mode: new.meta.mode, ..old.meta.clone() } == new.meta,
        EntryKind::Directory
        | EntryKind::File { .. }
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. } => old.meta == new.meta,
    }
}

/// Whether an inode may not become the other one in place, either way: somebody who may write to the one must not write to the
/// other, or would gain by it, and a descriptor that is open, or mapped, outlives every change of owner and mode. Then the new one
/// is written anew, and the way back finds the old one as it was.
fn is_handed_over(old: &Entry, new: &Entry) -> bool {
    let holds_data = matches!(new.kind, EntryKind::File { .. } | EntryKind::Fifo);
    holds_data
        && old.meta != new.meta
        && (is_entrusted(&old.meta, &new.meta) || is_entrusted(&new.meta, &old.meta))
}

/// Whether there may be writers of the inode `before` who are none of it `after`, or who gain by its privilege.
fn is_entrusted(before: &Meta, after: &Meta) -> bool {
    const SET_ID: u32 = 0o6000;
    const GROUP_WRITES: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;
    fn xattr<'m>(meta: &'m Meta, name: &[u8]) -> Option<&'m [u8]> {
        meta.xattrs.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }
    let differs = |name: &[u8]| xattr(before, name) != xattr(after, name);
    let other_group = before.gid != after.gid;
    let gains_privilege = after.mode & SET_ID & !before.mode != 0
        || (after.mode & SET_ID != 0 && other_group)
        || (xattr(after, b"security.capability").is_some() && differs(b"security.capability"));
    // Of the group 0 is root.
    let loses_group =
        before.gid != 0 && before.mode & GROUP_WRITES != 0 && (other_group || after.mode & GROUP_WRITES == 0);
    let loses_others = before.mode & OTHERS_WRITE & !after.mode != 0;
    let loses_named =
        xattr(before, b"system.posix_acl_access").is_some() && differs(b"system.posix_acl_access");
    before.uid != after.uid || gains_privilege || loses_group || loses_others || loses_named
}

fn adjust(old: &Entry, new: &Entry, names: Vec<Place>, links: u32) -> Change {
    let (old, new) = (old.meta.clone(), new.clone());
    Change::Adjust(Box::new(Adjustment { old, new, names, links, restless: false }))
}

fn donor(at: Place, entry: &Entry) -> Donor {
    let size = match entry.kind {
        EntryKind::File { size, .. } => size,
        EntryKind::Directory
        | EntryKind::Symlink(_)
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. } => 0,
    };
    Donor { at, size, mtime: mtime(&entry.meta) }
}

impl Draft<'_> {
    /// Decides which inodes with several names stay, and makes steps of the rest.
    fn settle_links(&mut self, current: &Tree, wants: &[Vec<Wanted<'_>>], rules: &Rules) {
        let stays = staying(&self.names);
        let links = count_links(current);
        let mut adjusted: HashMap<&Present, usize> = HashMap::new();
        for ((stays, name), (old, new)) in stays.iter().zip(&self.names).zip(&self.pairs) {
            if name.future == Future::Kept {
                continue;
            }
            let root = name.at.root;
            let comparison = Comparison {
                root,
                path: &current.roots[root].path,
                current: &current.roots[root].entries,
                wanted: &wants[root],
                rules,
            };
            if !stays {
                self.steps.push(comparison.replace(old, new));
                continue;
            }
            if let Future::Shared(link) = name.future {
                self.donors.entry(link).or_insert_with(|| donor(name.at.clone(), old));
            }
            if same_meta(old, new) {
                continue;
            }
            match adjusted.get(&name.present).map(|&at| &mut self.steps[at].change) {
                Some(Change::Adjust(adjustment)) => adjustment.names.push(name.at.clone()),
                Some(_) | None => {
                    adjusted.insert(&name.present, self.steps.len());
                    let count = match name.present {
                        Present::Shared(link) => links.get(&link).copied().unwrap_or(1),
                        Present::Single(_) => 1,
                    };
                    let change = adjust(old, new, vec![name.at.clone()], count);
                    self.steps.push(comparison.step(&old.path, change));
                }
            }
        }
    }

    fn finish(mut self, current: &Tree, wants: &[Vec<Wanted<'_>>]) -> FilesPlan {
        let mut folders = self.folders(current, wants);
        if !self.steps.is_empty() {
            let restless = std::mem::take(&mut self.restless);
            folders.extend(restless.into_iter().map(|folder| (folder.at.clone(), folder)));
        }
        self.steps.retain(|step| !only_disturbed(step, &folders));
        let mut plan = FilesPlan {
            roots: current.roots.iter().map(|root| ByteText(root.path.clone())).collect(),
            steps: self.steps,
            folders: folders.into_values().collect(),
            donors: self.donors,
        };
        plan.put_in_order();
        plan
    }

    /// The folders that stay and in which a name comes, goes or is exchanged.
    fn folders(&self, current: &Tree, wants: &[Vec<Wanted<'_>>]) -> BTreeMap<Place, FolderTime> {
        let mut folders: BTreeMap<Place, FolderTime> = BTreeMap::new();
        for step in self.steps.iter().filter(|step| !matches!(step.change, Change::Adjust(_))) {
            let Some(folder) = parent(&step.at.path.0) else { continue };
            let at = Place { root: step.at.root, path: ByteText::from(folder) };
            if folders.contains_key(&at) {
                continue;
            }
            let old = find(&current.roots[at.root].entries, folder);
            let new = find_wanted(&wants[at.root], folder);
            if let (Some(old), Some(new)) = (old, new) {
                folders.insert(at.clone(), FolderTime { at, old: mtime(&old.meta), new: mtime(&new.meta) });
            }
        }
        folders
    }
}

/// True for a change of time alone, of a folder that the other steps disturb anyway.
fn only_disturbed(step: &Step, folders: &BTreeMap<Place, FolderTime>) -> bool {
    let Change::Adjust(adjustment) = &step.change else { return false };
    let Adjustment { old, new, .. } = &**adjustment;
    is_folder(new) && differs_in_time_alone(old, &new.meta) && folders.contains_key(&step.at)
}

fn differs_in_time_alone(old: &Meta, new: &Meta) -> bool {
    Meta { mtime_seconds: new.mtime_seconds, mtime_nanos: new.mtime_nanos, ..old.clone() } == *new
}

fn order(step: &Step) -> (usize, Option<&[u8]>, &[u8]) {
    (step.at.root, parent(&step.at.path.0), name(&step.at.path.0))
}

/// How many names each inode with several has.
fn count_links(tree: &Tree) -> HashMap<u32, u32> {
    let mut links = HashMap::new();
    for entry in tree.roots.iter().flat_map(|root: &Root| &root.entries) {
        if let EntryKind::File { link: Some(link), .. } = entry.kind {
            *links.entry(link).or_default() += 1;
        }
    }
    links
}

impl FilesPlan {
    /// Sorts the steps by root, folder and name, which is the cheapest order, and names their links.
    pub(super) fn put_in_order(&mut self) {
        self.steps.sort_by(|a, b| order(a).cmp(&order(b)));
        self.name_links();
    }

    /// Says of every step that is one more name of a file which file that is, and forgets donors that serve none.
    fn name_links(&mut self) {
        let mut first: HashMap<u32, ByteText> = HashMap::new();
        for (link, Donor { at, .. }) in &self.donors {
            first.insert(*link, ByteText(absolute(&self.roots[at.root].0, &at.path.0)));
        }
        let mut needed = BTreeSet::new();
        for step in &mut self.steps {
            let (Change::Create(new) | Change::Replace { new, .. }) = &mut step.change else { continue };
            let top = &new.entries[0];
            if let EntryKind::File { link: Some(link), .. } = &top.kind {
                new.link_to = first.get(link).cloned();
            }
            for entry in &new.entries {
                if let EntryKind::File { link: Some(link), .. } = entry.kind {
                    needed.insert(link);
                    let path = || ByteText(absolute(&self.roots[step.at.root].0, &entry.path));
                    first.entry(link).or_insert_with(path);
                }
            }
        }
        self.donors.retain(|link, _| needed.contains(link));
    }
}
