//! From the live state to a [`Tree`]: walk, read what is not known, put in order.
//!
//! ```text
//! stat cache ─┐
//! root ───────┴▶ listings ─▶ what changed is read ─▶ stat cache, written anew if anything changed
//!                                                └─▶ entries in the order of their paths
//! ```

mod assemble;
mod file;
mod reading;

use std::path::Path;

use crate::cache::{self, Cache, CacheWriter, Grain, Trust};
use crate::cancel::Cancel;
use crate::content::Sink;
use crate::error::CaptureError;
use crate::flags;
use crate::met::{FileSystem, LostFlags, Met, MetMount, MetRoot, READ_ONLY_SUBVOLUME, RootState};
use crate::proofs::Proofs;
use crate::spec::Scope;
use crate::text::ByteText;
use crate::tree::{EntryKind, Root, Tree};
use crate::walk::{self, Found, Listing, Live, LiveRoot, Mount, Mounts, Xattrs};
use crate::way::Way;

use assemble::Links;
use reading::Reading;

/// What a capture did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureStats {
    /// Files, folders, links and nodes.
    pub entries: u64,
    /// The length of all content.
    pub size: u64,
    /// Files whose content was read.
    pub files_read: u64,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How many objects were new.
    pub objects_new: u64,
    /// The room that the new objects take in the store.
    pub bytes_stored: u64,
}

/// What a scan goes by.
pub(crate) struct Scan<'a> {
    pub(crate) scope: &'a Scope,
    /// The folder of stat caches, and whether they may be written.
    pub(crate) caches: Option<(&'a Path, bool)>,
    pub(crate) sink: &'a dyn Sink,
    /// What need not be read, for it was proven a moment ago.
    pub(crate) proofs: Option<&'a Proofs>,
    pub(crate) cancel: &'a Cancel,
}

/// A root and what is beneath it.
pub(crate) struct Walked {
    pub(crate) root: LiveRoot,
    pub(crate) top: Live,
    /// The links that led to it when it was opened.
    way: Way,
    /// What the root is, unless it is a folder.
    pub(crate) itself: Option<(Xattrs, EntryKind)>,
    /// The root's own listing is the first. A folder that vanished has none.
    pub(crate) listings: Vec<Option<Listing>>,
    grain: Grain,
    /// What could be trusted when the walk began.
    trust: Trust,
    changed: bool,
}

impl Walked {
    fn met(&self, mounts: &Mounts) -> MetRoot {
        let root = self.root.path.as_os_str().as_encoded_bytes();
        let beneath = |folder: &[u8], name: &[u8]| {
            ByteText(walk::join(root.strip_suffix(b"/").unwrap_or(root), &walk::join(folder, name)))
        };
        let kind = |mount: u64| mounts.kind(mount);
        let mut met = MetRoot {
            path: ByteText::from(root),
            state: self.state(),
            file_system: Some(file_system(&self.root, &self.top, mounts, &self.way)),
            mounts: Vec::new(),
            subvolumes: Vec::new(),
            passed: Vec::new(),
            behind: None,
            way: self.way.links.clone(),
            lost_flags: None,
            project: None,
        };
        self.note_flags(&mut met);
        // On which mount each listed folder is.
        let mut at = vec![self.top.mount; self.listings.len()];
        for child in self.listings.iter().flatten().flat_map(|listing| &listing.children) {
            if let Some(below) = child.below {
                at[below.listing as usize] = child.live.mount;
            }
        }
        for (number, listing) in self.listings.iter().enumerate() {
            let Some(listing) = listing else { continue };
            met.passed.extend(listing.excluded.iter().map(|name| beneath(&listing.path, name)));
            let over_files = listing.covered.iter().map(|(name, mount)| (&name[..], *mount, false));
            let folders = || listing.children.iter().filter_map(|child| Some((child, child.below?)));
            let over_folders = folders()
                .filter(|(child, _)| child.live.mount != at[number])
                .map(|(child, below)| (listing.name(child), child.live.mount, !below.mounted));
            met.mounts.extend(over_files.chain(over_folders).map(|(name, mount, taken_in)| {
                let path = beneath(&listing.path, name);
                let file_system = taken_in.then(|| mounts.get(mount)).flatten().map(|found| FileSystem {
                    kind: found.kind.clone(),
                    mounted_at: ByteText(found.point.clone()),
                    number: 0,
                    uuid: found.uuid(),
                    within: found.within(&found.point).map(ByteText),
                });
                MetMount { path, kind: kind(mount), taken_in, file_system }
            }));
            for (child, below) in folders().filter(|(_, below)| below.subvolume) {
                let path = beneath(&listing.path, listing.name(child));
                match below.mounted {
                    true => met.mounts.push(MetMount {
                        path,
                        kind: READ_ONLY_SUBVOLUME.to_owned(),
                        taken_in: false,
                        file_system: None,
                    }),
                    false => met.subvolumes.push(path),
                }
            }
        }
        met.subvolumes.sort();
        met.passed.sort();
        met.mounts.sort_by(|a, b| a.path.cmp(&b.path));
        met
    }

    /// Notes the flags that cannot be kept, and whether entries inherit a project.
    fn note_flags(&self, met: &mut MetRoot) {
        let root = &met.path.0[..];
        let shown = |path: &[u8]| match path.is_empty() {
            true => ByteText::from(root),
            false => ByteText(walk::join(root.strip_suffix(b"/").unwrap_or(root), path)),
        };
        let mut lost: Option<LostFlags> = None;
        let mut note = |path: &dyn Fn() -> Vec<u8>, xattrs: &Xattrs| {
            let letters = flags::not_kept(xattrs);
            if letters.is_empty() {
                return;
            }
            let lost = lost.get_or_insert_with(|| LostFlags {
                first: shown(&path()),
                count: 0,
                letters: String::new(),
            });
            lost.count += 1;
            let new = letters.iter().map(|letter| char::from(*letter));
            let new: String = new.filter(|letter| !lost.letters.contains(*letter)).collect();
            lost.letters.push_str(&new);
        };
        if let Some((xattrs, _)) = &self.itself {
            note(&Vec::new, xattrs);
        }
        for listing in self.listings.iter().flatten() {
            note(&|| listing.path.clone(), &listing.xattrs);
            if met.project.is_none() && flags::give_a_project(flags::among(&listing.xattrs)) {
                met.project = Some(shown(&listing.path));
            }
            for child in &listing.children {
                if let Some((xattrs, _)) = &child.resolved {
                    note(&|| walk::join(&listing.path, listing.name(child)), xattrs);
                }
            }
        }
        met.lost_flags = lost;
    }

    fn state(&self) -> RootState {
        match (&self.itself, self.top.found) {
            (Some((_, EntryKind::Symlink(to))), _) => RootState::Link(ByteText(to.clone())),
            (_, Found::Directory) => {
                let first = self.listings.first().and_then(Option::as_ref);
                let is_empty =
                    first.is_some_and(|first| first.children.is_empty() && first.excluded.is_none());
                if is_empty { RootState::Empty } else { RootState::Folder }
            }
            _ => RootState::File,
        }
    }
}

/// The file system of what is open there, for the path at the end of that way.
fn file_system(open: &LiveRoot, live: &Live, mounts: &Mounts, way: &Way) -> FileSystem {
    let mount = mounts.get(live.mount);
    FileSystem {
        kind: mounts.kind(live.mount),
        mounted_at: mount.map(|mount| ByteText(mount.point.clone())).unwrap_or_default(),
        number: open.file_system(),
        uuid: mount.and_then(Mount::uuid),
        within: mount.and_then(|mount| mount.within(&way.place)).map(ByteText),
    }
}

/// The file system of the nearest folder that is there above a path where nothing is: the path would be made on it.
fn file_system_above(path: &Path, mounts: &Mounts) -> Option<FileSystem> {
    let (root, live) = path.ancestors().skip(1).find_map(|above| LiveRoot::open(above).ok().flatten())?;
    Some(file_system(&root, &live, mounts, &Way::above(path)))
}

impl Scan<'_> {
    /// Scans all roots.
    pub(crate) fn run(&self) -> Result<(Tree, Met, CaptureStats), CaptureError> {
        let mut roots = Vec::new();
        for root in self.scope.roots() {
            roots.push(self.walk(root)?);
        }
        let mut walked: Vec<&mut Walked> = roots.iter_mut().flatten().collect();
        let reading = Reading::new(self, &mut walked)?;
        self.sink.expect(&|| reading.expected())?;
        let (files_read, bytes_read) = reading.run()?;
        let mut links = Links::default();
        for walked in roots.iter().flatten() {
            links.count(walked);
            self.write_cache(walked);
        }
        // What was read is told by the way that led there, so that must not have become another in the meantime.
        if let Some(moved) = roots.iter().flatten().find(|walked| walked.way != Way::above(&walked.root.path))
        {
            return Err(CaptureError::Unstable { path: moved.root.path.clone() });
        }
        let met = self.met(&roots);
        let mut tree = Tree::default();
        for (walked, path) in roots.into_iter().zip(self.scope.roots()) {
            let path = path.as_os_str().as_encoded_bytes().to_vec();
            let entries = walked.map_or_else(Vec::new, |walked| assemble::assemble(walked, &mut links));
            tree.roots.push(Root { path, entries });
        }
        let (entries, size) = crate::segment::totals(&tree);
        Ok((tree, met, CaptureStats { entries, size, files_read, bytes_read, ..CaptureStats::default() }))
    }

    /// What was met beside the entries.
    fn met(&self, roots: &[Option<Walked>]) -> Met {
        let mounts = Mounts::now();
        let root = |(walked, path): (&Option<Walked>, &std::path::PathBuf)| match walked {
            Some(walked) => MetRoot {
                behind: self
                    .scope
                    .link_to(path)
                    .map(|link| ByteText::from(link.as_os_str().as_encoded_bytes())),
                ..walked.met(&mounts)
            },
            None => MetRoot {
                path: ByteText::from(path.as_os_str().as_encoded_bytes()),
                state: RootState::Absent,
                file_system: file_system_above(path, &mounts),
                mounts: Vec::new(),
                subvolumes: Vec::new(),
                passed: Vec::new(),
                behind: None,
                way: Way::above(path).links,
                lost_flags: None,
                project: None,
            },
        };
        let roots = roots.iter().zip(self.scope.roots()).map(root).collect();
        Met { exclude: self.scope.exclude().to_vec(), roots }
    }

    fn walk(&self, path: &Path) -> Result<Option<Walked>, CaptureError> {
        let way = Way::above(path);
        let Some((mut root, top)) = LiveRoot::open(path)? else { return Ok(None) };
        root.crosses = self.scope.takes_mounts_in();
        // What is mounted beneath may tell times apart less finely than the root does.
        let grain = if root.crosses { Grain::Steps } else { root.grain() };
        let trust = Trust::now(grain);
        let cache = self
            .caches
            .and_then(|(folder, _)| Cache::load(&cache::path(folder, path), path, root.file_system()));
        if top.found == Found::Directory {
            let listings = walk::walk(self.scope, &root, &top, cache.as_ref(), self.sink, self.cancel)?;
            let changed = listings.iter().flatten().any(|listing| listing.changed)
                || listings.iter().any(Option::is_none);
            return Ok(Some(Walked { root, top, way, itself: None, listings, grain, trust, changed }));
        }
        let cached =
            cache.as_ref().and_then(Cache::top).filter(|cached| !cached.young && cached.live.is(&top));
        let itself =
            cache.as_ref().zip(cached).and_then(|(cache, c)| cache.resolve(top.found, top.size, c.at));
        let itself = itself.filter(|(_, kind)| self.is_known(kind));
        let changed = itself.is_none();
        Ok(Some(Walked { root, top, way, itself, listings: Vec::new(), grain, trust, changed }))
    }

    fn is_known(&self, kind: &EntryKind) -> bool {
        let mut is_known = true;
        self.sink.known(&mut |known| is_known = walk::content_is_known(kind, known));
        is_known
    }

    /// Writes the stat cache, if anything has changed. That it fails only makes the next scan slower.
    fn write_cache(&self, walked: &Walked) {
        let Some((folder, true)) = self.caches else { return };
        if !walked.changed {
            return;
        }
        let root = &walked.root.path;
        let mut writer = CacheWriter::new(root, walked.root.file_system(), walked.listings.len());
        let young = |live: &Live| walked.trust.is_fresh(live);
        writer.top();
        match &walked.itself {
            Some((xattrs, kind)) => writer.entry(b"", &walked.top, young(&walked.top), xattrs, kind),
            None => writer.folder(b"", &walked.top, young(&walked.top), 0),
        }
        for listing in &walked.listings {
            let Some(listing) = listing else {
                writer.group(&[], 0);
                continue;
            };
            writer.group(&listing.xattrs, listing.children.iter().filter(|child| child.is_there()).count());
            for child in listing.children.iter().filter(|child| child.is_there()) {
                let (name, live) = (listing.name(child), &child.live);
                match (&child.below, &child.resolved) {
                    (Some(below), _) => writer.folder(name, live, young(live), below.listing),
                    (None, Some((xattrs, kind))) => writer.entry(name, live, young(live), xattrs, kind),
                    (None, None) => {}
                }
            }
        }
        if let Err(error) = writer.finish(&cache::path(folder, root)) {
            tracing::debug!(root = %root.display(), %error, "stat cache not written");
        }
    }
}
