//! Metadata that changes in place, on the very inode that was staged for.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, openat};

use super::bench::{Bench, Operation, Watch};
use super::error::FlipError;
use super::fault::{Action, Fault};
use super::flip::ask;
use super::look::{FORMAT, look_at};
use super::meta::{Held, HeldKind, get_attribute, set, settings};
use super::staged::Adjust;
use crate::flags;
use crate::tree::Meta;

/// The entry must be the one that was staged for.
pub(super) fn check_adjust(bench: &mut Bench<'_>, adjust: &Adjust, fresh: bool) -> Result<(), FlipError> {
    match bench.look(&adjust.at)? {
        Some(found)
            if found.inode == adjust.inode && (!fresh || adjust.restless || found.ctime == adjust.ctime) =>
        {
            Ok(())
        }
        Some(_) | None => Err(FlipError::Changed { path: bench.shown(&adjust.at) }),
    }
}

/// Brings metadata from one state to the other. False: another inode has the path now, and is left alone.
pub(super) fn apply(
    bench: &mut Bench<'_>,
    adjust: &Adjust,
    from: &Meta,
    to: &Meta,
    watch: Watch<'_>,
) -> Result<bool, FlipError> {
    let shown = bench.shown(&adjust.at);
    let (holder, name) = bench.holder(&adjust.at)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = match openat(holder, name, flags, Mode::empty()) {
        Ok(open) => open,
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(Fault::new(Action::Look, shown.0, errno).into()),
    };
    let found = look_at(&open).map_err(|errno| Fault::new(Action::Look, &shown.0[..], errno))?;
    if found.inode != adjust.inode {
        return Ok(false);
    }
    let kind = if found.is_link() { HeldKind::Link } else { HeldKind::Path };
    for setting in settings(Some(from), to, found.is_link()) {
        ask(watch, Operation::Set(&adjust.at))?;
        set(Held { open: open.as_fd(), kind, shown: &shown.0 }, &setting)?;
    }
    Ok(true)
}

/// Whether any of the fields that an adjustment changes has its old value, and whether any has its new one.
pub(super) fn fields(bench: &mut Bench<'_>, adjust: &Adjust) -> Result<(bool, bool), FlipError> {
    let found = bench.look(&adjust.at)?;
    let Some(found) = found.filter(|found| found.inode == adjust.inode) else { return Ok((false, false)) };
    let of = |meta: &Meta| {
        [meta.mode, meta.uid, meta.gid]
            .map(i64::from)
            .into_iter()
            .chain([meta.mtime_seconds, meta.mtime_nanos.into()])
    };
    let mode = if found.is_link() { adjust.new.mode } else { found.mode & !FORMAT };
    let now =
        [mode, found.uid, found.gid].map(i64::from).into_iter().chain([found.mtime.0, found.mtime.1.into()]);
    let (mut old, mut new) = (false, false);
    for ((before, after), now) in of(&adjust.old).zip(of(&adjust.new)).zip(now) {
        old |= before != after && now == before;
        new |= before != after && now == after;
    }
    for change in attribute_changes(&adjust.old, &adjust.new) {
        let now = attribute(bench, adjust, change.name)?;
        old |= now.as_deref() == change.old;
        new |= now.as_deref() == change.new;
    }
    Ok((old, new))
}

/// An attribute that differs.
struct AttributeChange<'a> {
    name: &'a [u8],
    old: Option<&'a [u8]>,
    new: Option<&'a [u8]>,
}

fn attribute_changes<'a>(old: &'a Meta, new: &'a Meta) -> Vec<AttributeChange<'a>> {
    let value = |meta: &'a Meta, wanted: &[u8]| {
        meta.xattrs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice())
    };
    let gone = old.xattrs.iter().filter(|(name, _)| value(new, name).is_none());
    let names = gone.chain(&new.xattrs).map(|(name, _)| name.as_slice());
    // Flags are bits of an inode, and are asked for in another way; whether a change of them is done need not be known.
    names
        .filter(|name| *name != flags::NAME)
        .map(|name| AttributeChange { name, old: value(old, name), new: value(new, name) })
        .filter(|change| change.old != change.new)
        .collect()
}

fn attribute(bench: &mut Bench<'_>, adjust: &Adjust, attribute: &[u8]) -> Result<Option<Vec<u8>>, FlipError> {
    let shown = bench.shown(&adjust.at);
    let fault = |errno| Fault::new(Action::Look, shown.0.clone(), errno);
    let (holder, name) = bench.holder(&adjust.at)?;
    let open = openat(holder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(fault)?;
    Ok(get_attribute(open.as_fd(), attribute).map_err(fault)?)
}
