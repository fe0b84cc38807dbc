//! What the kernel says of mounts: which stands where, of which kind it is, and which part of which file system it shows.

use std::collections::HashMap;
use std::fs;

use super::volume;

/// The mounts of this process, by the number that `statx` gives each file's mount.
#[derive(Debug, Default)]
pub(crate) struct Mounts(HashMap<u64, Mount>);

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it stands.
    pub(crate) point: Vec<u8>,
    /// The kind of its file system, such as `ext4`.
    pub(crate) kind: String,
    /// Which folder of its file system stands there: `/`, unless it is a bind mount or a subvolume.
    within: Vec<u8>,
    /// What was mounted, such as a device.
    source: Vec<u8>,
}

impl Mount {
    /// The path within the file system itself of an absolute path that lies in this mount.
    pub(crate) fn within(&self, path: &[u8]) -> Option<Vec<u8>> {
        let beneath = match &self.point[..] {
            b"/" => path,
            point => path.strip_prefix(point).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))?,
        };
        let folder = self.within.strip_suffix(b"/").unwrap_or(&self.within);
        let beneath = if beneath == b"/" { &b""[..] } else { beneath };
        let path = [folder, beneath].concat();
        Some(if path.is_empty() { b"/".to_vec() } else { path })
    }

    /// The name that its file system has on the disk, where it can be read.
    pub(crate) fn uuid(&self) -> Option<String> {
        volume::uuid(&self.source)
    }
}

impl Mounts {
    /// Reads the present mounts. A system that tells none has none by name; devices still tell file systems apart.
    pub(crate) fn now() -> Self {
        fs::read("/proc/self/mountinfo").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Reads the lines of `/proc/self/mountinfo`.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Mount> {
        self.0.get(&number)
    }

    /// The kind of its file system, for a person.
    pub(crate) fn kind(&self, number: u64) -> String {
        self.get(number).map_or_else(|| "unknown".to_owned(), |mount| mount.kind.clone())
    }
}

fn parse_line(line: &[u8]) -> Option<(u64, Mount)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let within = unescape(fields.nth(2)?);
    let point = unescape(fields.next()?);
    // Optional fields end with a dash.
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next().unwrap_or_default());
    Some((number, Mount { point, kind, within, source }))
}

/// A blank, a tab, a line feed and a backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match octal {
            Some(digits) => {
                bytes.push(
                    digits.iter().fold(0u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let text = b"22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
            28 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            99 28 8:17 /a /srv/with\\040blank rw - xfs /dev/sdb1 rw\nnonsense\n";
        let mounts = Mounts::parse(text);
        let mount = |point: &str, kind: &str, within: &str, source: &str| Mount {
            point: point.into(),
            kind: kind.into(),
            within: within.into(),
            source: source.into(),
        };
        assert_eq!(mounts.get(28), Some(&mount("/", "ext4", "/", "/dev/sda1")));
        assert_eq!(mounts.get(99), Some(&mount("/srv/with blank", "xfs", "/a", "/dev/sdb1")));
        assert_eq!(mounts.0.len(), 3);
    }

    #[test]
    fn a_path_is_told_by_its_place_within_its_file_system() {
        let text = b"28 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 28 8:1 /data/vol /srv/vol rw - ext4 /dev/sda1 rw\n\
            31 28 8:2 / /mnt rw - xfs /dev/sdb rw\n";
        let mounts = Mounts::parse(text);
        let within = |number, path: &str| {
            let path = mounts.get(number).expect("a mount").within(path.as_bytes());
            path.map(|path| String::from_utf8(path).expect("text"))
        };
        assert_eq!(within(28, "/srv/vol").as_deref(), Some("/srv/vol"));
        assert_eq!(within(28, "/").as_deref(), Some("/"));
        assert_eq!(within(30, "/srv/vol").as_deref(), Some("/data/vol"));
        assert_eq!(within(30, "/srv/vol/a").as_deref(), Some("/data/vol/a"));
        assert_eq!(within(31, "/mnt").as_deref(), Some("/"));
        assert_eq!(within(31, "/mnt/a").as_deref(), Some("/a"));
        assert_eq!(within(31, "/mntx"), None);
    }
}
