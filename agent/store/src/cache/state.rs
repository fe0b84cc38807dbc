//! An inode's state as it is kept, and which states are too young to trust.

use rustix::time::{ClockId, clock_gettime};

use crate::bytes::{Malformed, Reader};
use crate::walk::{Found, Live};

pub(super) const STATE: usize = 65;

/// Which states of inodes can be trusted to change with the next write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust {
    /// What the kernel would stamp an inode with at that time, in nanoseconds.
    now: i128,
    grain: Grain,
}

/// So long after a change, a write that began with it may still go on: the kernel stamps an inode when a write begins.
const WRITE: i128 = 2_000 * MILLISECOND;

/// How finely a file system tells times apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grain {
    /// Every change after a look at the inode has a time of its own (Linux 6.13 and later: ext4, XFS, btrfs, tmpfs).
    Exact,
    /// Changes within one step of a clock have the same time.
    Steps,
}

const MILLISECOND: i128 = 1_000_000;
/// Clocks of file systems go in steps of up to 10 ms.
const STEP: i128 = 20 * MILLISECOND;
/// Those that know no fractions of a second go in steps of up to two.
const COARSE_STEP: i128 = 2_000 * MILLISECOND;

impl Trust {
    /// What can be trusted now. The clock is the kernel's and not the program's, for it is compared with what the kernel
    /// stamped.
    pub(crate) fn now(grain: Grain) -> Self {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        Self { now: nanos((time.tv_sec, time.tv_nsec as u32)), grain }
    }

    /// Whether a write that began with the last change may still go on, or a later one leave the inode as it is. What is
    /// read now is not trusted later.
    pub(crate) fn is_fresh(&self, live: &Live) -> bool {
        self.is_young(live) || nanos(live.mtime).max(nanos(live.ctime)) >= self.now - WRITE
    }

    /// Whether a later write could leave the inode looking as it does.
    ///
    /// A time in the future, after the clock was set back, is young until it has passed.
    pub(crate) fn is_young(&self, live: &Live) -> bool {
        let step = match self.grain {
            Grain::Exact => return false,
            Grain::Steps if live.mtime.1 == 0 && live.ctime.1 == 0 => COARSE_STEP,
            Grain::Steps => STEP,
        };
        nanos(live.mtime).max(nanos(live.ctime)) >= self.now - step
    }
}

fn nanos((seconds, nanos): (i64, u32)) -> i128 {
    i128::from(seconds) * 1_000 * MILLISECOND + i128::from(nanos)
}

pub(super) fn encode(live: &Live, bytes: &mut Vec<u8>) {
    let (kind, major, minor) = match live.found {
        Found::Directory => (1, 0, 0),
        Found::File => (2, 0, 0),
        Found::Symlink => (3, 0, 0),
        Found::Fifo => (4, 0, 0),
        Found::Socket => (5, 0, 0),
        Found::CharDevice { major, minor } => (6, major, minor),
        Found::BlockDevice { major, minor } => (7, major, minor),
    };
    let mut state = [0; STATE];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        state[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&[kind]);
    put(&live.mode.to_le_bytes());
    put(&live.uid.to_le_bytes());
    put(&live.gid.to_le_bytes());
    put(&live.size.to_le_bytes());
    put(&live.ino.to_le_bytes());
    put(&live.links.to_le_bytes());
    for (seconds, nanos) in [live.mtime, live.ctime] {
        put(&seconds.to_le_bytes());
        put(&nanos.to_le_bytes());
    }
    put(&major.to_le_bytes());
    put(&minor.to_le_bytes());
    // The mount is not kept, for its number is given anew at every mount.
    bytes.extend_from_slice(&state);
}

pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Live, Malformed> {
    let mut state = Reader(reader.take(STATE)?);
    let kind = state.byte()?;
    let (mode, uid, gid) = (small(&mut state)?, small(&mut state)?, small(&mut state)?);
    let (size, ino, links) = (large(&mut state)?, large(&mut state)?, small(&mut state)?);
    let mtime = (large(&mut state)? as i64, small(&mut state)?);
    let ctime = (large(&mut state)? as i64, small(&mut state)?);
    let (major, minor) = (small(&mut state)?, small(&mut state)?);
    let found = match kind {
        1 => Found::Directory,
        2 => Found::File,
        3 => Found::Symlink,
        4 => Found::Fifo,
        5 => Found::Socket,
        6 => Found::CharDevice { major, minor },
        7 => Found::BlockDevice { major, minor },
        _ => return Err(Malformed("a kind is not known")),
    };
    Ok(Live { found, mode, uid, gid, size, ino, links, mtime, ctime, mount: 0 })
}

fn small(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    reader.array().map(u32::from_le_bytes)
}

fn large(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    reader.array().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(mtime: (i64, u32), ctime: (i64, u32)) -> Live {
        let found = Found::CharDevice { major: 5, minor: 1 };
        Live { found, mode: 0o644, uid: 1, gid: 2, size: 3, ino: 4, links: 5, mtime, ctime, mount: 0 }
    }

    #[test]
    fn a_state_reads_back_as_it_is_written() {
        let state = live((-5, 7), (1 << 40, 999_999_999));
        let mut bytes = Vec::new();
        encode(&state, &mut bytes);
        assert_eq!((bytes.len(), decode(&mut Reader(&bytes))), (STATE, Ok(state)));
    }

    #[test]
    fn what_was_just_written_is_not_trusted() {
        let trust = Trust { now: nanos((1_000, 500_000_000)), grain: Grain::Steps };
        let check = |mtime, ctime, expected| {
            let live = live(mtime, ctime);
            assert_eq!(trust.is_young(&live), expected, "{mtime:?} {ctime:?}");
            assert!(!Trust { grain: Grain::Exact, ..trust }.is_young(&live));
        };
        check((1_000, 490_000_000), (1_000, 490_000_000), true);
        check((900, 1), (1_000, 490_000_000), true);
        check((1_000, 470_000_000), (1_000, 470_000_000), false);
        check((2_000, 1), (900, 1), true);
        check((999, 0), (999, 0), true);
        check((998, 0), (998, 0), false);
        assert!(Trust { grain: Grain::Exact, ..trust }.is_fresh(&live((999, 1), (999, 1))));
        assert!(!trust.is_fresh(&live((998, 1), (998, 1))));
    }
}
