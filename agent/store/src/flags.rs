//! The flags that `chattr` sets, kept as if they were one more extended attribute, `inode.flags`, with the letters that
//! `lsattr` shows.
//!
//! Kept are those that a person sets and that can be set again. The others say how a file system has laid a file out.

use std::os::fd::AsFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

/// The name under which they are kept. No file system has an attribute of this name.
pub(crate) const NAME: &[u8] = b"inode.flags";

/// What an entry that has these cannot be: renamed, linked, or changed. So they are set last.
const FIXED: &[u8] = b"ai";
/// Only an empty file takes it.
const NO_COPY_ON_WRITE: u8 = b'C';

/// Each letter with its bit, in the order of the letters.
const LETTERS: [(u8, u32); 16] = [
    (b'A', 0x80),
    (NO_COPY_ON_WRITE, 0x0080_0000),
    (b'D', 0x0001_0000),
    (b'P', 0x2000_0000),
    (b'S', 0x08),
    (b'T', 0x0002_0000),
    (b'a', 0x20),
    (b'c', 0x04),
    (b'd', 0x40),
    (b'i', 0x10),
    (b'j', 0x4000),
    (b'm', 0x0400),
    (b's', 0x01),
    (b't', 0x8000),
    (b'u', 0x02),
    (b'x', 0x0200_0000),
];

/// What a person set, and cannot be given to an entry that is written anew: encrypted, with names of either case, sealed by
/// fs-verity.
const NOT_KEPT: [(u8, u32); 3] = [(b'E', 0x0800), (b'F', 0x4000_0000), (b'V', 0x0010_0000)];

/// The name under which these are noted until a scan has told them. They are no part of an entry.
pub(crate) const NOT_KEPT_NAME: &[u8] = b"inode.flags.lost";

/// The letters of the flags of an open file or folder; none where the file system has no flags.
pub(crate) fn read(open: impl AsFd) -> Vec<u8> {
    read_both(open).0
}

/// The same, and the letters of those that cannot be kept.
pub(crate) fn read_both(open: impl AsFd) -> (Vec<u8>, Vec<u8>) {
    let bits = ioctl_getflags(open).map_or(0, |flags| flags.bits());
    let among = |letters: &[(u8, u32)]| {
        letters.iter().filter(|(_, bit)| bits & bit != 0).map(|(letter, _)| *letter).collect()
    };
    (among(&LETTERS), among(&NOT_KEPT))
}

/// Gives an open file or folder these flags, and takes the others that are kept away.
pub(crate) fn write(open: impl AsFd, letters: &[u8]) -> Result<(), Errno> {
    let present = match ioctl_getflags(&open) {
        Ok(flags) => flags,
        // There is nothing to take away.
        Err(_) if letters.is_empty() => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let bits = |letters: &[u8]| {
        LETTERS.iter().filter(|(letter, _)| letters.contains(letter)).map(|(_, bit)| bit).sum::<u32>()
    };
    let kept: u32 = LETTERS.iter().map(|(_, bit)| bit).sum();
    let wanted = IFlags::from_bits_retain((present.bits() & !kept) | bits(letters));
    if wanted == present { Ok(()) } else { ioctl_setflags(open, wanted) }
}

/// The flags without those that are set last.
pub(crate) fn loose(letters: &[u8]) -> Vec<u8> {
    letters.iter().copied().filter(|letter| !FIXED.contains(letter)).collect()
}

/// Whether some of them are set last.
pub(crate) fn are_fixed(letters: &[u8]) -> bool {
    letters.iter().any(|letter| FIXED.contains(letter))
}

/// Whether a file must be made with one of them before it has any content.
pub(crate) fn come_first(letters: &[u8]) -> bool {
    letters.contains(&NO_COPY_ON_WRITE)
}

/// Those that cannot be kept, among what a scan noted.
pub(crate) fn not_kept(xattrs: &[(Vec<u8>, Vec<u8>)]) -> &[u8] {
    xattrs.iter().find(|(name, _)| name == NOT_KEPT_NAME).map_or(&[], |(_, letters)| letters)
}

/// The flags among an entry's attributes.
pub(crate) fn among(xattrs: &[(Vec<u8>, Vec<u8>)]) -> &[u8] {
    xattrs.iter().find(|(name, _)| name == NAME).map_or(&[], |(_, letters)| letters)
}

/// Whether what is in a folder with these belongs to the folder's project.
pub(crate) fn give_a_project(letters: &[u8]) -> bool {
    letters.contains(&b'P')
}

/// Whether nothing comes into this folder by a rename from outside: what is in it belongs to its project, or is encrypted with
/// its key.
pub(crate) fn is_closed(open: impl AsFd) -> bool {
    let (letters, lost) = read_both(open);
    give_a_project(&letters) || lost.contains(&b'E')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_letters_and_those_that_bind_come_last() {
        assert_eq!(loose(b"AaCi"), b"AC");
        assert!(are_fixed(b"Aa") && are_fixed(b"i") && !are_fixed(b"AC"));
        assert!(come_first(b"AC") && !come_first(b"A"));
        let xattrs = vec![(NAME.to_vec(), b"Ad".to_vec()), (b"user.a".to_vec(), b"1".to_vec())];
        assert_eq!((among(&xattrs), among(&[])), (&b"Ad"[..], &b""[..]));
        assert!(LETTERS.windows(2).all(|pair| pair[0].0 < pair[1].0), "equal flags are equal letters");
        let bits = |letters: &[(u8, u32)]| letters.iter().fold(0, |sum, (_, bit)| sum | bit);
        assert_eq!(bits(&LETTERS).count_ones() + bits(&NOT_KEPT).count_ones(), 19, "each flag has its bit");
        assert_eq!(bits(&LETTERS) & bits(&NOT_KEPT), 0);
    }

    #[test]
    fn a_file_gets_its_flags_where_its_file_system_has_them() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        match write(&file, b"Ad") {
            Ok(()) => {
                assert_eq!(read(&file), b"Ad");
                write(&file, b"").expect("they are taken away");
            }
            Err(errno) => println!("skipped: this file system has no flags: {errno}"),
        }
        assert_eq!(read(&file), b"");
    }
}
