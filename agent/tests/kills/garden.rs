//! The live tree: files of every usual kind, changed as deploys change them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use crate::dice::Dice;

/// Makes the tree: some hundred small files, one that is cut into chunks, one with holes, links of both kinds.
pub(crate) fn plant(dice: &mut Dice, live: &Path) {
    fs::create_dir_all(live.join("site/empty")).expect("a folder");
    for folder in 0..8 {
        fs::create_dir_all(live.join(format!("site/f{folder}/deeper"))).expect("a folder");
        for file in 0..24 {
            write(dice, &small(live, folder, file));
        }
    }
    let large = dice.bytes(5 << 20);
    fs::write(live.join("site/large"), large).expect("written");
    let sparse = File::create(live.join("site/sparse")).expect("a file");
    sparse.write_all_at(b"in the middle", 1 << 20).expect("written");
    sparse.set_len(2 << 20).expect("a length");
    fs::hard_link(small(live, 0, 0), live.join("site/again")).expect("a link");
    symlink("f0/deeper", live.join("site/link")).expect("a link");
    mknodat(CWD, live.join("site/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    fs::write(live.join("app.conf"), "release = 0\n").expect("written");
}

/// Changes some of it.
pub(crate) fn change(dice: &mut Dice, live: &Path) {
    let most = if dice.once_in(4) { 400 } else { 30 };
    for _ in 0..dice.below(most) + 1 {
        let (folder, file) = (dice.below(8), dice.below(24));
        let path = small(live, folder, file);
        match dice.below(10) {
            0 => drop(fs::remove_file(&path)),
            1 => {
                // The folder goes with all that is in it, and comes back smaller.
                let folder = live.join(format!("site/f{folder}"));
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir_all(folder.join("deeper")).expect("a folder");
                write(dice, &path);
            }
            2 => drop(fs::rename(&path, small(live, dice.below(8), dice.below(24)))),
            3 if path.exists() => {
                let mode = *dice.pick(&[0o644, 0o600, 0o755, 0o4755]);
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            }
            4 if path.exists() => {
                let value = dice.bytes(20);
                lsetxattr(&path, "user.release", &value, XattrFlags::empty()).expect("an attribute");
            }
            5 if path.exists() => {
                let other = small(live, dice.below(8), dice.below(24));
                let _ = fs::remove_file(&other);
                drop(fs::hard_link(&path, &other));
            }
            6 => {
                let large = File::options().write(true).open(live.join("site/large")).expect("a file");
                large.write_all_at(&dice.bytes(5_000), dice.below(5 << 20) as u64).expect("written");
            }
            7 => {
                let link = live.join("site/link");
                let _ = fs::remove_file(&link);
                symlink(format!("f{folder}"), link).expect("a link");
            }
            8 => fs::write(live.join("app.conf"), format!("release = {}\n", dice.next())).expect("written"),
            _ => write(dice, &path),
        }
    }
}

fn small(live: &Path, folder: usize, file: usize) -> PathBuf {
    let deeper = if file.is_multiple_of(3) { "/deeper" } else { "" };
    live.join(format!("site/f{folder}{deeper}/{file}"))
}

/// Writes a file anew, as programs save: beside, and renamed over.
fn write(dice: &mut Dice, path: &Path) {
    let length = dice.below(30_000);
    // Half of the contents come again and again, so that captures meet what the collector is about to remove.
    let content = match dice.once_in(2) {
        true => Dice(dice.below(40) as u64).bytes(20_000),
        false => dice.bytes(length),
    };
    let beside = path.with_extension("new");
    // A deploy before may have been killed before it had made the folder again.
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&beside, content).expect("written");
    fs::rename(beside, path).expect("renamed");
}
