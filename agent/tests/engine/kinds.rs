//! Whatever kind of thing is lost, it is named, and what no backup brings back is refused until it is accepted by name.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rfs_agent::component::choices::Choices;
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, restore, try_restore};
use crate::mounted::assert_refused;
use crate::space::{shell, skip};
use crate::taken::{notes_of_plan, reached, with};

fn accept(pattern: &str) -> Choices {
    Choices { accept_loss: vec![pattern.into()], ..Choices::default() }
}

/// Whether the daemon behind the socket answers.
fn answers(listener: &UnixListener, path: &Path) -> bool {
    let Ok(mut asks) = UnixStream::connect(path) else { return false };
    let (mut daemon, _) = listener.accept().expect("somebody has connected");
    daemon.write_all(b"hello").expect("connected");
    drop(daemon);
    let mut said = String::new();
    asks.read_to_string(&mut said).is_ok() && said == "hello"
}

#[test]
fn a_daemon_that_listens_in_the_tree_is_reached_after_the_restore() {
    let bed = Bed::new();
    fs::create_dir(bed.path("site/run")).expect("writable");
    let old = bed.path("site/run/old.sock");
    let first = UnixListener::bind(&old).expect("listens");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    // It starts again, and another one in a folder that the bad release made.
    drop(first);
    fs::remove_file(&old).expect("ours");
    let again = UnixListener::bind(&old).expect("listens");
    fs::create_dir_all(bed.path("site/new/run")).expect("writable");
    bed.write("site/new/code", "code");
    let new = bed.path("site/new/run/new.sock");
    let other = UnixListener::bind(&new).expect("listens");
    bed.deploy("v2");
    let notes = notes_of_plan(&engine, good);
    assert!(notes.contains("new/run/new.sock is a socket and stays, with the folders above it"), "{notes}");
    reached(&restore(&engine, good));
    assert!(answers(&again, &old) && answers(&other, &new));
    assert_eq!((bed.read("site/index.html"), bed.path("site/new/code").exists()), ("v1".into(), false));
    assert_eq!(engine.plan(good, &everything(), &Cancel::new()).expect("plans").step_count, 0);
}

#[test]
fn a_socket_in_the_place_of_a_file_is_refused_until_its_loss_is_accepted() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let path = bed.path("site/index.html");
    fs::remove_file(&path).expect("ours");
    let listener = UnixListener::bind(&path).expect("listens");
    assert_refused(&engine, good, "index.html of site is a socket or a device file");
    assert!(answers(&listener, &path));
    reached(&try_restore(&engine, with(accept("index.html"), good)).expect("begins"));
    assert_eq!(bed.read("site/index.html"), "v1");
}

#[test]
fn pipes_links_and_empty_folders_are_named_as_they_go_and_come_back() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let site = bed.path("site");
    let made = format!(
        "cd {} && mkfifo -m 620 queue && mkdir -p new/empty && mkfifo new/q && ln -s nowhere dangling",
        site.display()
    );
    assert!(shell(&made));
    let names = ["dangling", "new", "new/empty", "new/q", "queue"];
    let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    let receipt = restore(&engine, good);
    reached(&receipt);
    let shown = names.map(|name| site.join(name).display().to_string());
    assert_eq!((plan.losses, plan.loss_count), (shown.to_vec(), 5));
    assert_eq!((receipt.lost.first, receipt.lost.count), (shown.to_vec(), 5));
    assert!(!site.join("queue").exists() && !site.join("new").exists());
    reached(&restore(&engine, receipt.backup.expect("a backup")));
    for pipe in ["queue", "new/q"] {
        assert!(fs::symlink_metadata(site.join(pipe)).expect("there").file_type().is_fifo(), "{pipe}");
    }
    assert!(site.join("new/empty").is_dir() && site.join("dangling").is_symlink());
}

#[test]
fn a_name_that_staging_could_have_is_content_like_any_other() {
    let bed = Bed::new();
    fs::create_dir(bed.path("site/.rfs-2.0-site")).expect("new");
    bed.write("site/.rfs-2.0-site/dump", "the only copy");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    fs::remove_dir_all(bed.path("site/.rfs-2.0-site")).expect("ours");
    bed.deploy("v2");
    reached(&restore(&engine, good));
    assert_eq!(bed.read("site/.rfs-2.0-site/dump"), "the only copy");
}

#[test]
fn a_path_that_a_glob_would_read_otherwise_is_kept_and_accepted_as_it_is_printed() {
    let mut bed = Bed::new();
    bed.site_keys = "extras = \"refuse\"".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    for name in ["photo[1].jpg", "plan {a,b} *.jpg"] {
        bed.write(&format!("site/{name}"), "dear");
        let printed =
            rfs_store::text::encode(bed.path("site").join(name).as_os_str().as_encoded_bytes()).into_owned();
        assert_refused(&engine, good, &format!("--accept-loss '{printed}'"));
        let kept = Choices { keep: vec![printed.clone()], ..Choices::default() };
        reached(&try_restore(&engine, with(kept, good)).expect("begins"));
        assert_eq!(bed.read(&format!("site/{name}")), "dear");
        reached(&try_restore(&engine, with(accept(&printed), good)).expect("begins"));
        assert!(!bed.path("site").join(name).exists());
    }
}

#[test]
fn a_device_file_goes_only_where_it_can_come_back_or_is_given_up_by_name() {
    let mut bed = Bed::new();
    let device = bed.path("site/null");
    let is_device = || fs::symlink_metadata(&device).is_ok_and(|found| found.file_type().is_char_device());
    let good = capture(&bed.engine()).info.id;
    if !shell(&format!("mknod {} c 1 3", device.display())) {
        return skip("this user may not make device files");
    }
    {
        let engine = bed.engine();
        assert_refused(&engine, good, "null of site is a socket or a device file");
        assert!(is_device());
        let receipt = try_restore(&engine, with(accept("null"), good)).expect("begins");
        reached(&receipt);
        assert!(!is_device());
        assert!(
            receipt
                .notes
                .iter()
                .any(|note| note.starts_with("no backup keeps") && note.ends_with("site/null")),
            "{receipt:?}"
        );
        assert_eq!(receipt.lost.count, 0, "what is lost, the backup keeps: {receipt:?}");
        // The backup has it, and cannot make it; all else can be undone.
        bed.write("site/index.html", "v3");
        let backup = receipt.backup.expect("a backup");
        assert_refused(&engine, backup, "devices = true");
        reached(&try_restore(&engine, with(accept("null"), backup)).expect("begins"));
        assert_eq!((bed.read("site/index.html"), is_device()), ("v1".into(), false));
    }
    bed.site_keys = "devices = true".into();
    let engine = bed.engine();
    assert!(shell(&format!("mknod {} c 1 3", device.display())));
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert!(!is_device() && receipt.lost.first[0].ends_with("site/null"), "{receipt:#?}");
    reached(&restore(&engine, receipt.backup.expect("a backup")));
    assert!(is_device());
}

#[test]
fn extras_of_every_kind_are_kept_or_refused_by_their_patterns() {
    let mut bed = Bed::new();
    bed.site_keys = "extras = { \"up/**\" = \"keep\", \"**/*.fifo\" = \"refuse\" }".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let site = bed.path("site").display().to_string();
    assert!(shell(&format!(
        "cd {site} && mkdir -p up/empty && mkfifo up/q && ln -s nowhere up/dangling && echo x > other"
    )));
    bed.deploy("v2");
    reached(&restore(&engine, good));
    for kept in ["up/q", "up/dangling", "up/empty"] {
        assert!(fs::symlink_metadata(bed.path("site").join(kept)).is_ok(), "{kept} is kept");
    }
    assert!(!bed.path("site/other").exists());
    assert!(shell(&format!("mkfifo {site}/x.fifo")));
    assert_refused(&engine, good, "x.fifo");
    reached(&try_restore(&engine, with(accept("*.fifo"), good)).expect("begins"));
    assert!(!bed.path("site/x.fifo").exists());
}

#[test]
fn what_came_after_the_plan_is_moved_aside_into_the_backup_and_named() {
    let mut bed = Bed::new();
    // The last words of the service that the bad release left.
    bed.stop = "echo late > site/late; mkdir -p site/gone/x; echo too > site/gone/x/late; \
                mkfifo site/late-pipe; echo stop >> log; rm -f up"
        .into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    fs::create_dir(bed.path("site/gone")).expect("writable");
    bed.write("site/gone/code", "code");
    bed.deploy("v2");
    let receipt = restore(&engine, good);
    reached(&receipt);
    let lost = receipt.lost.first.join("\n");
    for name in ["site/late", "site/gone/x/late", "site/late-pipe", "site/gone/code"] {
        assert!(lost.contains(name), "{name} is not named: {lost}");
        assert!(!bed.path(name).exists(), "{name} stays");
    }
    let paths = [bed.path("site/late"), bed.path("site/gone")].into();
    let selection = rfs_agent::commander::Selection { paths, ..Default::default() };
    let backup = receipt.backup.expect("a backup");
    reached(&try_restore(&engine, crate::bed::order(backup, selection)).expect("begins"));
    assert_eq!((bed.read("site/late"), bed.read("site/gone/x/late")), ("late\n".into(), "too\n".into()));
}
