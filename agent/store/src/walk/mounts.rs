//! What the kernel says of mounts: which stands where, and of which kind it is.

use std::collections::HashMap;
use std::fs;

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
    let point = unescape(fields.nth(3)?);
    // Optional fields end with a dash.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((number, Mount { point, kind: String::from_utf8_lossy(kind).into_owned() }))
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
        let mount = |point: &str, kind: &str| Mount { point: point.into(), kind: kind.into() };
        assert_eq!(mounts.get(28), Some(&mount("/", "ext4")));
        assert_eq!(mounts.get(99), Some(&mount("/srv/with blank", "xfs")));
        assert_eq!(mounts.0.len(), 3);
    }
}
