//! A store whose disk others have filled to the last byte, or to the last file: the agent opens, is reached, plans and collects.

use std::fs;
use std::path::Path;

use rfs_agent::local::LocalServer;
use rfs_model::Reason;
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, operation, restore};
use crate::space::{Mount, shell};
use crate::taken::reached;

/// A host whose store is on a disk of that kind, with three snapshots of which retention keeps one.
struct Host {
    bed: Bed,
    _disk: Mount,
}

impl Host {
    fn new(kind: &str, size: &str, more: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let disk = Mount::image(kind, &root.join("store"), size, more)?;
        // A store begins with an empty folder.
        let _ = fs::remove_dir(root.join("store/lost+found"));
        let mut bed = Bed::within(folder, root);
        bed.more = "[retention]\nkeep_last = 1\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\nautomatic = false\n".into();
        bed.reserve = "reserve = \"1MiB\"".into();
        let engine = bed.engine();
        for _ in 0..3 {
            assert!(shell(&format!("head -c 2000000 /dev/urandom > {}", bed.path("site/large").display())));
            capture(&engine);
        }
        drop(engine);
        Some(Self { bed, _disk: disk })
    }

    fn check(&self, kind: &str, count: usize) {
        let bed = &self.bed;
        let engine = bed.engine();
        let snapshots = engine.store().snapshots().expect("lists");
        let newest = snapshots.last().expect("three of them").id;
        assert_eq!(snapshots.len(), count, "{kind}");
        bed.deploy("v2");
        let plan = engine.plan(newest, &everything(), &Cancel::new()).expect("plans");
        assert!(plan.step_count > 0, "{kind}");
        // The daemon is reached.
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let socket = runtime.block_on(async { LocalServer::bind(&bed.path("store/agent.sock")).map(drop) });
        socket.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        assert_eq!(engine.collect(&Cancel::new()).expect("collects").forgotten.len(), count - 1, "{kind}");
        drop(engine);
        // With the filler away all is as before.
        assert!(shell(&format!("rm -rf {}", bed.path("store/filler").display())));
        reached(&restore(&bed.engine(), newest));
        assert_eq!(bed.read("site/index.html"), "v1", "{kind}");
    }
}

/// Leaves not a byte, whatever the size of a file.
fn fill(store: &Path) {
    let folder = store.join("filler");
    assert!(shell(&format!("mkdir {0} && (cat /dev/zero > {0}/large; true) 2>/dev/null", folder.display())));
    for (size, name) in [(4096usize, "page"), (64, "small"), (0, "empty")] {
        for number in 0..3000 {
            if fs::write(folder.join(format!("{name}{number}")), vec![1u8; size]).is_err() {
                break;
            }
        }
        assert!(shell(&format!("sync -f {}", folder.display())));
    }
    assert!(fs::write(folder.join("last"), [1u8; 4096]).is_err(), "the disk is not full");
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_keeps_no_agent_from_its_work() {
    for (kind, size) in [("ext4", "40m"), ("xfs", "320m"), ("btrfs", "200m")] {
        let Some(host) = Host::new(kind, size, "") else { continue };
        fill(&host.bed.path("store"));
        host.check(kind, 3);
    }
}

#[test]
fn a_disk_without_inodes_keeps_no_agent_from_its_work_and_is_called_so() {
    let Some(host) = Host::new("ext4", "60m", "-N 400") else { return };
    let filler = host.bed.path("store/filler");
    fs::create_dir(&filler).expect("writable");
    (0..).take_while(|number| fs::write(filler.join(format!("{number}")), "").is_ok()).for_each(drop);
    let engine = host.bed.engine();
    host.bed.write("site/new", "something new");
    let refusal = engine.capture(&Default::default(), "test", operation(1), &Cancel::new());
    // It may go through, with what the store kept for that.
    let count = match refusal {
        Ok(_) => 4,
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::NoSpace, "{refusal:?}");
            assert!(refusal.message.contains("free inode"), "{refusal:?}");
            3
        }
    };
    drop(engine);
    host.check("ext4 without inodes", count);
}

#[test]
fn what_cannot_be_staged_for_lack_of_inodes_is_refused_as_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_disk) = Mount::image("ext4", &disk, "60m", "-N 400") else { return };
    let mut bed = Bed::new();
    bed.more =
        format!("[[component]]\nname = \"vol\"\nkind = \"files\"\npaths = [\"{}/app\"]", disk.display());
    fs::create_dir(disk.join("app")).expect("writable");
    for number in 0..50 {
        fs::write(disk.join(format!("app/{number}")), "v1").expect("writable");
    }
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    fs::remove_dir_all(disk.join("app")).expect("ours");
    fs::create_dir(disk.join("app")).expect("writable");
    (0..).take_while(|number| fs::write(disk.join(format!("x{number}")), "").is_ok()).for_each(drop);
    let receipt = restore(&engine, good);
    let failure = receipt.failure.expect("it has no room");
    assert_eq!(failure.reason, Reason::NoSpace);
    assert!(failure.message.contains("free inodes") && failure.message.contains("needs 5"), "{failure:?}");
    assert_eq!(bed.told(), Vec::<String>::new(), "no service was stopped");
}
