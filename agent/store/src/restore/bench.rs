//! Live roots and staging folders, opened again from what was staged, and what each path and its slot hold.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use rustix::fs::{RenameFlags, renameat_with};

use super::error::FlipError;
use super::fault::{Action, Fault};
use super::live::{LiveRoot, above};
use super::look::{Look, look, look_at};
use super::pattern::absolute;
use super::plan::Place;
use super::site::on_ground;
use super::staged::{Staged, Swap, SwapKind, Yard};
use super::yard::OpenYard;
use crate::text::ByteText;

/// One low-level operation of a flip or of its inverse, about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The staging folders are marked, so that they are not swept.
    Mark,
    /// A path and its slot change places.
    Swap(&'a Place),
    /// One of owner, mode, attributes and time is set.
    Set(&'a Place),
    /// A folder's time is put right.
    Time(&'a Place),
}

/// Asked before every operation; a break stops there, with [`FlipError::Interrupted`].
pub type Watch<'a> = &'a mut dyn FnMut(Operation<'_>) -> ControlFlow<()>;

/// Everything that a flip works on.
pub(super) struct Bench<'a> {
    pub(super) staged: &'a Staged,
    live: BTreeMap<usize, LiveRoot>,
    yards: Vec<OpenYard>,
}

/// What a path and its slot hold.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    pub(super) live: Option<Look>,
    pub(super) slot: Option<Look>,
}

impl<'a> Bench<'a> {
    /// Opens the roots and the yards, each of which must be the one that was staged with.
    pub(super) fn open(staged: &'a Staged) -> Result<Self, FlipError> {
        let mut live = open_roots(staged)?;
        let mut yards = Vec::with_capacity(staged.yards.len());
        for yard in &staged.yards {
            match find_yard(staged, &mut live, yard)? {
                Ok(open) => yards.push(open),
                Err(path) => {
                    return Err(FlipError::Lost { slot: ByteText(path.clone()), path: ByteText(path) });
                }
            }
        }
        Ok(Self { staged, live, yards })
    }

    /// True when a flip has left its mark.
    pub(super) fn is_marked(&self) -> Result<bool, FlipError> {
        for yard in &self.yards {
            if yard.is_flipping()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The staging folders.
    pub(super) fn yards(&self) -> &[OpenYard] {
        &self.yards
    }

    /// The absolute path, for messages.
    pub(super) fn shown(&self, at: &Place) -> ByteText {
        let root = self.staged.roots.get(&at.root).map_or(&b""[..], |root| &root.path.0);
        ByteText(absolute(root, &at.path.0))
    }

    /// Looks at both sides.
    pub(super) fn sides(&mut self, swap: &Swap) -> Result<Sides, FlipError> {
        let (holder, name, shard, slot) = self.ends(swap)?;
        let (live, slot) = (look(holder, name), look(shard, slot.as_bytes()));
        let fault = |errno| Fault::new(Action::Look, self.shown(&swap.at).0, errno);
        Ok(Sides { live: live.map_err(fault)?, slot: slot.map_err(fault)? })
    }

    /// Looks at what is live.
    pub(super) fn look(&mut self, at: &Place) -> Result<Option<Look>, FlipError> {
        let (holder, name) = self.holder(at)?;
        look(holder, name).map_err(|errno| Fault::new(Action::Look, self.shown(at).0, errno).into())
    }

    /// Looks at the slot alone.
    pub(super) fn slot(&mut self, swap: &Swap) -> Result<Option<Look>, FlipError> {
        let (shard, slot) = self.yards[swap.slot.yard].slot(swap.slot)?;
        look(shard, slot.as_bytes())
            .map_err(|errno| Fault::new(Action::Look, self.shown(&swap.at).0, errno).into())
    }

    /// Exchanges the two.
    pub(super) fn exchange(&mut self, swap: &Swap) -> Result<(), FlipError> {
        self.rename(swap, RenameFlags::EXCHANGE, false)
    }

    /// Moves the live entry into its empty slot.
    pub(super) fn take_away(&mut self, swap: &Swap) -> Result<(), FlipError> {
        self.rename(swap, RenameFlags::NOREPLACE, false)
    }

    /// Moves what is in the slot to the path, where nothing is.
    pub(super) fn put(&mut self, swap: &Swap) -> Result<(), FlipError> {
        self.rename(swap, RenameFlags::NOREPLACE, true)
    }

    fn rename(&mut self, swap: &Swap, flags: RenameFlags, put: bool) -> Result<(), FlipError> {
        let (holder, name, shard, slot) = self.ends(swap)?;
        let renamed = match put {
            true => renameat_with(shard, &slot[..], holder, name, flags),
            false => renameat_with(holder, name, shard, &slot[..], flags),
        };
        renamed.map_err(|errno| Fault::new(Action::Exchange, self.shown(&swap.at).0, errno).into())
    }

    /// The folder that holds a path and its name there.
    pub(super) fn holder<'b>(&'b mut self, at: &'b Place) -> Result<(BorrowedFd<'b>, &'b [u8]), FlipError> {
        Ok(live_root(&mut self.live, at.root, &at.path)?.holder(&at.path.0)?)
    }

    /// The folder at a path.
    pub(super) fn folder(&mut self, at: &Place) -> Result<BorrowedFd<'_>, FlipError> {
        Ok(live_root(&mut self.live, at.root, &at.path)?.folder(&at.path.0)?)
    }

    /// The folder that a swap's slot is in.
    pub(super) fn shard(&mut self, swap: &Swap) -> Result<BorrowedFd<'_>, FlipError> {
        Ok(self.yards[swap.slot.yard].slot(swap.slot)?.0)
    }

    /// Puts a new empty file into an empty slot.
    pub(super) fn fill(&mut self, swap: &Swap) -> Result<(), FlipError> {
        let yard = &mut self.yards[swap.slot.yard];
        Ok(yard.fill(swap.slot)?)
    }

    fn ends<'b>(
        &'b mut self,
        swap: &'b Swap,
    ) -> Result<(BorrowedFd<'b>, &'b [u8], BorrowedFd<'b>, String), FlipError> {
        let (holder, name) =
            live_root(&mut self.live, swap.at.root, &swap.at.path)?.holder(&swap.at.path.0)?;
        let (shard, slot) = self.yards[swap.slot.yard].slot(swap.slot)?;
        Ok((holder, name, shard, slot))
    }
}

fn live_root<'b>(
    live: &'b mut BTreeMap<usize, LiveRoot>,
    root: usize,
    path: &ByteText,
) -> Result<&'b mut LiveRoot, FlipError> {
    live.get_mut(&root).ok_or_else(|| FlipError::NotAFolder { path: path.clone() })
}

/// Opens the roots, whose holding folders must be those that they were.
pub(super) fn open_roots(staged: &Staged) -> Result<BTreeMap<usize, LiveRoot>, FlipError> {
    let mut live = BTreeMap::new();
    for (&at, root) in &staged.roots {
        let open = LiveRoot::open(&root.path.0)?;
        let folder = above(&root.path.0);
        let found = look_at(open.above()).map_err(|errno| Fault::new(Action::Look, folder, errno))?;
        if found.inode != root.above {
            return Err(FlipError::NotAFolder { path: ByteText::from(folder) });
        }
        live.insert(at, open);
    }
    Ok(live)
}

/// Opens a yard, or says at which path it is not.
pub(super) fn find_yard(
    staged: &Staged,
    live: &mut BTreeMap<usize, LiveRoot>,
    yard: &Yard,
) -> Result<Result<OpenYard, Vec<u8>>, FlipError> {
    let live = live_root(live, yard.place.root(), &ByteText::default())?;
    on_ground(live, &yard.place, |ground| {
        let path = absolute(ground.shown, staged.name.as_str().as_bytes());
        let found = OpenYard::find(ground, &staged.name)?;
        Ok(match found {
            Some(open) if open.inode()? == yard.inode => Ok(open),
            Some(_) | None => Err(path),
        })
    })
}

impl Sides {
    pub(super) fn live_is(&self, inode: u64) -> bool {
        self.live.as_ref().is_some_and(|found| found.inode == inode)
    }

    pub(super) fn slot_is(&self, inode: u64) -> bool {
        self.slot.as_ref().is_some_and(|found| found.inode == inode)
    }

    /// True when the path has been flipped, whatever was made of it since.
    pub(super) fn is_flipped(&self, kind: &SwapKind) -> bool {
        match kind {
            SwapKind::Create { .. } => self.slot.is_none(),
            SwapKind::Replace { ready, displaced } => {
                self.slot_is(displaced.inode) || self.live_is(ready.inode)
            }
            SwapKind::Delete { displaced } => {
                self.slot_is(displaced.inode) || (self.slot.is_some() && self.live.is_none())
            }
        }
    }
}
