//! The name that a file system has on its disk. It survives a reboot, a move to another port and another mount point.
//!
//! It is read from the disk itself, for the links of `/dev/disk/by-uuid` need a running udev.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Where a kind of file system has its mark, and where its name.
struct Layout {
    mark_at: u64,
    mark: &'static [u8],
    uuid_at: u64,
}

/// XFS, ext2 to ext4, btrfs and f2fs.
const LAYOUTS: [Layout; 4] = [
    Layout { mark_at: 0, mark: b"XFSB", uuid_at: 32 },
    Layout { mark_at: 1024 + 56, mark: &[0x53, 0xef], uuid_at: 1024 + 104 },
    Layout { mark_at: 65_536 + 64, mark: b"_BHRfS_M", uuid_at: 65_536 + 32 },
    Layout { mark_at: 1024, mark: &[0x10, 0x20, 0xf5, 0xf2], uuid_at: 1024 + 108 },
];

/// The name of the file system on that device; none where it cannot be read, or where there is no device.
pub(super) fn uuid(source: &[u8]) -> Option<String> {
    if !source.starts_with(b"/dev/") {
        return None;
    }
    let device = Path::new(OsStr::from_bytes(source));
    let on_disk = open(device).ok().and_then(|device| read(&device));
    on_disk.or_else(|| linked(device))
}

/// Opens a disk. What a mount calls its source is any text, and a user may have chosen it: nothing but a block device is opened,
/// for to open a pipe may last for ever, and to open a watchdog may restart the machine.
fn open(device: &Path) -> io::Result<File> {
    let flags = |flags: OFlags| i32::try_from(flags.bits()).unwrap_or_default();
    let found = File::options().read(true).custom_flags(flags(OFlags::PATH)).open(device)?;
    if !found.metadata()?.file_type().is_block_device() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The same file, whatever has its name by now.
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    File::options().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(same)
}

fn read(device: &File) -> Option<String> {
    let at = |place: u64, length: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        device.read_exact_at(&mut bytes, place)?;
        Ok(bytes)
    };
    let is_marked =
        |layout: &&Layout| at(layout.mark_at, layout.mark.len()).is_ok_and(|found| found == layout.mark);
    let layout = LAYOUTS.iter().find(is_marked)?;
    at(layout.uuid_at, 16).ok().map(|bytes| print(&bytes))
}

/// As every tool prints it.
fn print(bytes: &[u8]) -> String {
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parts = [0..4, 4..6, 6..8, 8..10, 10..16];
    parts.map(|part| hex(&bytes[part])).join("-")
}

/// The name that udev found, for other kinds and for who may not read the disk.
fn linked(device: &Path) -> Option<String> {
    let device = device.canonicalize().ok()?;
    let links = fs::read_dir("/dev/disk/by-uuid").ok()?.flatten();
    let mut named = links.filter(|link| link.path().canonicalize().is_ok_and(|to| to == device));
    named.next()?.file_name().into_string().ok().map(|name| name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_from_where_each_kind_has_it() {
        let uuid: Vec<u8> = (1..=16).collect();
        for layout in &LAYOUTS {
            let disk = tempfile::tempfile().expect("a file");
            disk.write_all_at(&[0; 70_000], 0).expect("writable");
            assert_eq!(read(&disk), None, "an empty disk has no name");
            disk.write_all_at(layout.mark, layout.mark_at).expect("writable");
            disk.write_all_at(&uuid, layout.uuid_at).expect("writable");
            assert_eq!(read(&disk).as_deref(), Some("01020304-0506-0708-090a-0b0c0d0e0f10"));
        }
    }

    /// Nobody writes to the pipe, so that to open it would last for ever.
    #[test]
    fn nothing_but_a_disk_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a pipe");
        fs::write(&file, "").expect("writable");
        for path in [&pipe, &file, Path::new("/dev/null")] {
            assert_eq!(open(path).expect_err("no disk").kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
    }

    #[test]
    fn what_is_no_device_has_no_name() {
        for source in ["tmpfs", "none", "server:/export", "overlay", "/dev/no-such-device"] {
            assert_eq!(uuid(source.as_bytes()), None, "{source}");
        }
    }
}
