//! The coordinator's store is put back to an older copy, from a time when a rollback was under way that is over for the hosts:
//! it goes on with nothing until a person has looked.

use std::thread;
use std::time::Duration;

use rfs_tests::bed::{Bed, brief, hosts_of};
use rfs_tests::tree;

fn digests(bed: &Bed) -> Vec<String> {
    bed.hosts.iter().map(|host| tree::digest(&host.site_files())).collect()
}

#[test]
fn a_store_that_was_put_back_sends_nothing_to_hosts_that_are_ahead_of_it() {
    let mut bed = Bed::started(3);
    let checkpoint = bed.checkpoint();
    let at_checkpoint = digests(&bed);
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    let at_release = digests(&bed);
    bed.await_connected(3);

    let said = bed.rfs([
        "rollback",
        "start",
        "--checkpoint",
        "latest",
        "--canary",
        "web-1",
        "--wave",
        "1",
        "--min-healthy",
        "3s",
        "--healthy-deadline",
        "20s",
        "--yes",
        "--no-wait",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let rollback = bed.await_host_in_rollback("web-1", &["APPLIED"]);
    let name = rollback["name"].as_str().expect("it has a name").to_owned();
    bed.kill_coordinator();
    let copy = bed.path().join("copy");
    bed.copy_store(&copy);
    bed.start_coordinator();
    let rollback = bed.await_rollback_within(Duration::from_secs(60), "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert_eq!(digests(&bed), at_checkpoint);

    // It was the wrong thing to do, and is undone: the fleet is at the release, and well.
    let said = bed.rfs(["rollback", "undo", "latest", "--min-healthy", "300ms", "--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(digests(&bed), at_release);
    bed.await_connected(3);
    for host in &bed.hosts {
        host.count_starts_and_stops();
    }

    bed.coordinator.take().expect("it runs").stop();
    bed.put_store_back(&copy);
    bed.start_coordinator();
    let rollback = bed.await_rollback_within(Duration::from_secs(30), "PAUSED");
    assert_eq!(rollback["name"], name.as_str(), "the one that was under way: {}", brief(&rollback));
    assert_eq!(rollback["cause"]["reason"], "STORE_REWOUND", "{}", brief(&rollback));
    bed.await_connected(3);
    // What each host is at is compared, and said: none is where the old copy has it.
    let rollback = rfs_tests::wait::until("every host is compared", || {
        let compared = |(_, host): &(u64, &serde_json::Value)| host["failure"]["reason"] == "STORE_REWOUND";
        Some(bed.rollback()).filter(|rollback| hosts_of(rollback).iter().all(compared))
    });
    for (_, host) in hosts_of(&rollback) {
        assert_eq!(host["failure"]["reason"], "STORE_REWOUND", "{}", brief(&rollback));
        let message = host["failure"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("it is at snapshot"), "{message}");
    }
    // Time in which it could have done something.
    thread::sleep(Duration::from_secs(8));
    assert_eq!(bed.rollback()["state"], "PAUSED");
    for host in &bed.hosts {
        assert_eq!(host.count_starts_and_stops(), (0, 0), "{} was told something", host.name);
    }
    assert_eq!(digests(&bed), at_release, "no host was touched");

    // A person looks, and ends it; and the hosts obey what is asked from then on.
    assert_eq!(bed.rfs(["rollback", "abort", &name]).code, 0);
    let rollback = bed.await_rollback_within(Duration::from_secs(30), "FINISHED");
    assert_ne!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert_eq!(digests(&bed), at_release, "an end is no command");
    let said = bed.rfs(["rollback", "start", "--checkpoint", &checkpoint, "--min-healthy", "300ms", "--yes"]);
    assert_eq!(said.code, 0, "{said:?}: {}", brief(&bed.rollback()));
    assert_eq!(bed.rollback()["outcome"], "SUCCEEDED");
    assert_eq!(digests(&bed), at_checkpoint);
}
