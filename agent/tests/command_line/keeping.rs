//! What an administrator does for the store: looks, pins, deletes, proves, repairs, and frees room.

use std::fs;

use crate::host::Host;

const START: &str = "touch up";

fn ids(host: &Host) -> Vec<String> {
    let listed = host.json(&["snapshots", "list"]);
    let snapshots = listed["snapshots"].as_array().expect("a list");
    snapshots.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

/// Captures releases 1, 2, … and returns their ids.
fn releases(host: &Host, count: usize) -> Vec<String> {
    let release = |number: usize| {
        host.write("site/index.html", &format!("v{number}\n"));
        host.capture()
    };
    (1..=count).map(release).collect()
}

#[test]
fn what_would_go_is_foretold_and_then_goes() {
    for with_daemon in [false, true] {
        let host = Host::new(START);
        let _daemon = with_daemon.then(|| host.daemon());
        let all = releases(&host, 4);
        let said = host.run(&["snapshots", "pin", &all[0][..10], "--reason", "the audit"]);
        assert_eq!(said.out, format!("{} is pinned, and stays until it is unpinned\n", &all[0][..12]));

        let said = host.run(&["collect", "--dry-run"]);
        let line = |id: &str| {
            let line = said.out.lines().find(|line| line.starts_with(&id[..12]));
            line.unwrap_or_else(|| panic!("{id} is not in {said:?}")).to_owned()
        };
        assert!(line(&all[3]).contains("stays: it is the newest"), "{said:?}");
        assert!(line(&all[2]).contains("stays: it is kept by the rule last"), "{said:?}");
        assert!(line(&all[1]).contains("goes: no rule keeps it"), "{said:?}");
        assert!(line(&all[0]).contains("stays: it is pinned: the audit"), "{said:?}");
        assert!(said.out.contains("would forget 1 snapshot"), "{said:?}");
        let foretold = host.json(&["collect", "--dry-run"]);
        assert_eq!(foretold["would_forget"][0]["id"], all[1].as_str());
        assert_eq!(ids(&host).len(), 4, "nothing was touched");

        let collected = host.json(&["collect"]);
        assert_eq!(collected["forgotten"].as_array().map(Vec::len), Some(1), "{collected}");
        assert_eq!(ids(&host), [&all[3], &all[2], &all[0]].map(String::clone));

        let refused = host.run(&["snapshots", "delete", &all[0]]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.error.contains("stays: it is pinned: the audit"), "{refused:?}");
        assert!(refused.error.contains("rfs-agent snapshots unpin"), "{refused:?}");
        assert_eq!(host.run(&["snapshots", "unpin", &all[0]]).code, Some(0));
        assert_eq!(host.run(&["snapshots", "delete", &all[0]]).code, Some(0));
        assert_eq!(ids(&host), [&all[3], &all[2]].map(String::clone));
    }
}

#[test]
fn a_drill_is_proven_and_stays_known() {
    for with_daemon in [false, true] {
        let host = Host::new(START);
        let _daemon = with_daemon.then(|| host.daemon());
        let all = releases(&host, 2);
        let drilled = host.json(&["snapshots", "drill", &all[0]]);
        assert_eq!((&drilled["snapshot"], &drilled["entries"]), (&all[0].as_str().into(), &2.into()));
        let shown = host.json(&["snapshots", "show", &all[0]]);
        assert_eq!(shown["verify_time"], drilled["verify_time"]);
        assert_eq!(shown["in_use"], serde_json::json!({}), "a drill that has ended holds nothing");
        assert!(!host.file("store/drill").exists());
        let listed = host.run(&["snapshots", "list"]);
        assert!(listed.out.contains("[proven] by hand"), "{listed:?}");
        let refused = host.run(&["snapshots", "delete", &all[0]]);
        assert!(refused.error.contains("the last one proven to restore"), "{refused:?}");

        fs::create_dir(host.file("scratch")).expect("writable");
        let scratch = host.file("scratch").display().to_string();
        assert_eq!(host.run(&["snapshots", "drill", &all[1], "--scratch", &scratch]).code, Some(0));
        host.write("scratch/mine", "");
        let refused = host.run(&["snapshots", "drill", &all[1], "--scratch", &scratch]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.error.contains("is not empty"), "{refused:?}");
        let site = host.file("site/drill").display().to_string();
        let refused = host.run(&["snapshots", "drill", &all[1], "--scratch", &site]);
        assert!(refused.code == Some(2) && refused.error.contains("overlaps with"), "{refused:?}");
    }
}

#[test]
fn damage_is_found_in_a_sample_of_all_and_repaired_from_the_live_files() {
    for with_daemon in [false, true] {
        let host = Host::new(START);
        let text = "kept as it is, for it is short";
        host.write("site/short", text);
        let snapshot = host.capture();
        let packs = fs::read_dir(host.file("store/packs")).expect("readable").flatten();
        for pack in packs.map(|entry| entry.path()) {
            let mut bytes = fs::read(&pack).expect("readable");
            if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
                bytes[at] ^= 1;
                fs::write(&pack, bytes).expect("writable");
            }
        }
        let _daemon = with_daemon.then(|| host.daemon());
        let said = host.run(&["snapshots", "verify", "--sample", "100%"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.out.contains(&format!("; harms {}", &snapshot[..12])), "{said:?}");
        assert!(said.out.contains("read a sample of 100%: "), "{said:?}");
        assert!(said.error.contains("with: rfs-agent snapshots repair"), "{said:?}");

        let repaired = host.json(&["snapshots", "repair"]);
        assert_eq!((&repaired["restored_objects"], &repaired["damage"]), (&1.into(), &serde_json::json!([])));
        let verified = host.json(&["snapshots", "verify"]);
        assert_eq!((&verified["share"], &verified["damage"]), (&"all".into(), &serde_json::json!([])));
        assert_eq!(host.json(&["restore", &snapshot])["standing"], "TARGET");
        let space = host.json(&["space"]);
        assert!(space["quarantine_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{space}");
    }
}

#[test]
fn what_cannot_be_repaired_is_named_with_what_it_harms() {
    let host = Host::new(START);
    host.write("site/short", "gone by then, and short enough");
    let snapshot = host.capture();
    let packs = fs::read_dir(host.file("store/packs")).expect("readable").flatten();
    for pack in packs.map(|entry| entry.path()) {
        let mut bytes = fs::read(&pack).expect("readable");
        if let Some(at) = bytes.windows(9).position(|window| window == b"gone by t") {
            bytes[at] ^= 1;
            fs::write(&pack, bytes).expect("writable");
        }
    }
    fs::remove_file(host.file("site/short")).expect("it was there");
    let said = host.run(&["snapshots", "repair"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("still wrong: missing object"), "{said:?}");
    assert!(said.error.contains(&format!("what is left harms {}", &snapshot[..12])), "{said:?}");
    // A collection goes on: what the harmed snapshot needs and is there is known.
    let said = host.run(&["collect"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn the_room_of_a_store_is_shown_by_snapshot() {
    let host = Host::new(START);
    let said = host.run(&["space"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.error.contains("and the store with it, with: rfs-agent capture"), "{said:?}");
    let all = releases(&host, 2);
    let space = host.json(&["space"]);
    let alone = space["snapshots"].as_array().expect("a list");
    assert_eq!(alone.iter().map(|s| s["id"].as_str().expect("an id")).collect::<Vec<_>>(), all);
    assert!(alone.iter().all(|s| s["alone_bytes"].as_u64().is_some_and(|bytes| bytes > 0)), "{space}");
    let sum = |names: &[&str]| names.iter().map(|name| space[name].as_u64().expect("a number")).sum::<u64>();
    let alone: u64 = alone.iter().filter_map(|s| s["alone_bytes"].as_u64()).sum();
    assert_eq!(sum(&["packs_bytes"]), sum(&["shared_bytes", "unneeded_bytes"]) + alone, "{space}");
}

#[test]
fn a_service_that_stopped_is_a_difference_from_the_live_host() {
    let host = Host::new(START);
    let snapshot = host.capture();
    let said = host.run(&["snapshots", "diff", &snapshot]);
    assert_eq!(said.out, format!("no difference from {} to the live host\n", &snapshot[..12]));
    fs::remove_file(host.file("up")).expect("it was there");
    let said = host.run(&["snapshots", "diff", &snapshot]);
    assert!(said.out.starts_with("changed  app (does not run now)\n"), "{said:?}");
    let document = host.json(&["snapshots", "diff", &snapshot]);
    assert_eq!(document["changes"][0]["component"], "app");
}

#[test]
fn the_latest_snapshot_is_the_newest_that_is_no_backup() {
    let host = Host::new(START);
    let all = releases(&host, 2);
    let latest = || host.json(&["snapshots", "show", "latest"])["id"].as_str().expect("an id").to_owned();
    assert_eq!(latest(), all[1]);
    let said = host.run(&["restore", &all[0]]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(ids(&host).len(), 3, "with the backup of the restore");
    assert_eq!(latest(), all[1], "the way back is not what a person means");
}
