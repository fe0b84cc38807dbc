//! Attributes that stand in the way are found in the plan, before a service is stopped; what cannot be kept is named.

use std::fs;

use rfs_model::{Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, restore};
use crate::mounted::notes_of;
use crate::space::{Mount, shell, skip};
use crate::taken::reached;

/// A mark on a path, taken away when it is dropped, so that the folder can be removed.
struct Marked(String, &'static str);

impl Marked {
    /// None where there are no such marks; that is said.
    fn new(mark: &'static str, path: &std::path::Path) -> Option<Self> {
        let path = path.display().to_string();
        if !shell(&format!("chattr +{mark} {path}")) {
            skip(&format!("chattr +{mark} does not work here"));
            return None;
        }
        Some(Self(path, mark))
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        shell(&format!("chattr -{} {}", self.1, self.0));
    }
}

#[test]
fn what_is_immutable_or_append_only_is_found_in_the_plan_and_no_service_is_stopped() {
    let cases: [(&str, &str, &dyn Fn(&Bed)); 5] = [
        ("i", "site/index.html", &|_| {}),
        ("a", "site/index.html", &|_| {}),
        ("a", "site/assets", &|_| {}),
        ("i", "site", &|_| {}),
        ("i", "site/new/deep/file", &|bed| {
            fs::create_dir_all(bed.path("site/new/deep")).expect("writable");
            bed.write("site/new/deep/file", "x");
        }),
    ];
    for (mark, path, prepare) in cases {
        let bed = Bed::new();
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        bed.deploy("v2");
        prepare(&bed);
        let Some(_marked) = Marked::new(mark, &bed.path(path)) else { return };
        let before = bed.state();
        let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
        let obstacle = plan.obstacle.unwrap_or_else(|| panic!("{path} +{mark} is not found in the plan"));
        assert!(obstacle.message.contains(path) && obstacle.message.contains("chattr"), "{obstacle:?}");
        let receipt = restore(&engine, good);
        assert_eq!(receipt.standing, Standing::Before, "{path} +{mark}");
        assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::Io), "{path} +{mark}");
        assert_eq!((bed.told(), bed.state()), (Vec::new(), before), "{path} +{mark}");
    }
}

#[test]
fn what_is_marked_and_not_in_the_way_is_in_nobodys_way() {
    let bed = Bed::new();
    bed.write("site/assets/fixed", "fixed");
    let Some(_marked) = Marked::new("i", &bed.path("site/assets/fixed")) else { return };
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    reached(&restore(&engine, good));
    assert_eq!((bed.read("site/index.html"), bed.read("site/assets/fixed")), ("v1".into(), "fixed".into()));
}

#[test]
fn an_encrypted_folder_is_named_at_the_capture_and_restored_within_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_disk) = Mount::image("ext4", &disk, "32m", "-O encrypt") else { return };
    let bed = Bed::within(folder, disk.clone());
    let site = bed.path("site").display().to_string();
    let encrypts = format!(
        "rm -r {site} && mkdir {site} && \
         id=$(printf 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef | xfs_io -c add_enckey {0} | grep -oE '[0-9a-f]{{32}}') && \
         xfs_io -c \"set_encpolicy -v 2 $id\" {site} && lsattr -d {site} | cut -d' ' -f1 | grep -q E",
        disk.display()
    );
    if !shell(&encrypts) {
        return skip("no folder can be encrypted here");
    }
    fs::create_dir(bed.path("site/assets")).expect("writable");
    bed.deploy("v1");
    let engine = bed.engine();
    let captured = capture(&engine);
    let said = notes_of(&captured);
    assert!(
        said.contains("site and") && said.contains("attributes of chattr that are not kept (E)"),
        "{said}"
    );
    bed.deploy("v2");
    fs::remove_dir_all(bed.path("site/assets")).expect("ours");
    reached(&restore(&engine, captured.info.id));
    assert_eq!(bed.read("site/index.html"), "v1");
    let encrypted =
        |path: &str| shell(&format!("lsattr -d {} | cut -d' ' -f1 | grep -q E", bed.path(path).display()));
    assert!(encrypted("site/index.html") && encrypted("site/assets"), "what is restored is encrypted again");
}
