//! Compares trees without any code of ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tools;

/// How two trees differ, as `rsync` sees it: contents, modes, owners, times, attributes, ACLs, hardlinks, extras.
/// Empty when they are equal; none when `rsync` is not installed.
pub fn difference(left: &Path, right: &Path) -> Option<String> {
    let rsync = tools::judge("rsync")?;
    if !left.exists() && !right.exists() {
        return Some(String::new());
    }
    let one_way = |from: &Path, to: &Path| {
        let output = Command::new(&rsync)
            .args(["-aHAXn", "--checksum", "--delete", "--itemize-changes"])
            .arg(format!("{}/", from.display()))
            .arg(format!("{}/", to.display()))
            .output()
            .expect("rsync starts");
        assert!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    Some(one_way(left, right) + &one_way(right, left))
}

/// A digest over names, kinds, modes, targets of links and contents of a tree, made by `find` and `sha256sum` alone.
pub fn digest(root: &Path) -> String {
    let (digest, complaint) = digest_now(root);
    assert!(complaint.is_empty(), "{}: {complaint}", root.display());
    digest
}

/// The same of a tree that may be changing: then it is the digest of nothing that ever was.
pub fn digest_if_still(root: &Path) -> String {
    digest_now(root).0
}

fn digest_now(root: &Path) -> (String, String) {
    let script = "{ find . -printf '%y %m %p %l\\n' && find . -type f -exec sha256sum {} +; } | LC_ALL=C sort | sha256sum";
    let output = Command::new("sh").args(["-c", script]).current_dir(root).output().expect("sh starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Copies a tree with all that `cp` can keep.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}

/// The contents of a tree as lines of path and text, for small trees that a person reads in a failed test.
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    collect(root, root, &mut lines);
    lines.sort();
    lines
}

fn collect(root: &Path, folder: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if path.is_dir() && !path.is_symlink() {
            lines.push(format!("{name}/"));
            collect(root, &path, lines);
        } else {
            let text = fs::read(&path).unwrap_or_default();
            lines.push(format!("{name}: {}", String::from_utf8_lossy(&text).trim_end()));
        }
    }
}
