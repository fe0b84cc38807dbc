//! A checkpoint that rests on a snapshot which a host's own rules forgot is offered no longer, and says which host dropped it.

use std::time::Duration;

use rfs_tests::bed::{Bed, Layout};
use rfs_tests::wait::within;

#[test]
fn a_checkpoint_that_lost_a_snapshot_is_no_target_and_says_which_host_dropped_it() {
    let mut bed = Bed::laid_out(&Layout {
        hosts: 2,
        retention: "keep_last = 1\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\nautomatic = false",
        ..Layout::default()
    });
    bed.start();
    bed.await_connected(2);
    let taken: Vec<_> = ["v1", "v2", "v3"]
        .into_iter()
        .map(|version| {
            bed.hosts.iter().for_each(|host| host.release(version, "ok"));
            bed.checkpoint()
        })
        .collect();
    let states = |bed: &Bed| -> Vec<String> {
        let state =
            |name: &String| bed.show_checkpoint(name)["state"].as_str().unwrap_or_default().to_owned();
        taken.iter().map(state).collect()
    };
    assert_eq!(states(&bed), ["COMPLETE"; 3], "nothing was forgotten yet");

    // Only web-1 cleans up. Until it is told that the newest one is needed it keeps the one that was.
    within(Duration::from_secs(30), "the older two are no longer complete", || {
        let said = bed.hosts[0].rfs_agent(["collect"]);
        assert_eq!(said.code, 0, "{said:?}");
        (states(&bed) == ["INCOMPLETE", "INCOMPLETE", "COMPLETE"]).then_some(())
    });
    for name in &taken[..2] {
        let checkpoint = bed.show_checkpoint(name);
        let parts = checkpoint["snapshots"].as_array().expect("a checkpoint has parts");
        for part in parts {
            if part["host"] == "web-1" {
                assert_eq!(part["state"], "FAILED", "{part}");
                assert_eq!(part["failure"]["reason"], "SNAPSHOT_NOT_FOUND", "{part}");
                let message = part["failure"]["message"].as_str().unwrap_or_default();
                assert!(message.contains("web-1") && message.contains("no longer has it"), "{part}");
            } else {
                assert_eq!(part["state"], "DURABLE", "web-2 has its own still: {part}");
            }
        }
        let said = bed.rfs(["rollback", "start", "--checkpoint", name, "--yes"]);
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.err.contains("web-1"), "it names the host: {said:?}");
        assert!(said.err.contains("--host web-2"), "and those that can go there: {said:?}");
        let said = bed.rfs(["rollback", "plan", "--checkpoint", name, "--host", "web-2"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let listed = bed.rfs(["checkpoint", "list", "--output", "json"]).json().expect("a list");
    let listed: Vec<_> =
        listed["checkpoints"].as_array().into_iter().flatten().map(|one| &one["state"]).collect();
    assert_eq!(listed, ["COMPLETE", "INCOMPLETE", "INCOMPLETE"]);

    // Also after a restart, and the one that is whole is a target as ever.
    bed.kill_coordinator();
    bed.start_coordinator();
    bed.await_connected(2);
    assert_eq!(states(&bed), ["INCOMPLETE", "INCOMPLETE", "COMPLETE"]);
    bed.hosts.iter().for_each(|host| host.release("bad", "broken"));
    let said = bed.rfs(["rollback", "start", "--checkpoint", "latest", "--min-healthy", "300ms", "--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
}
