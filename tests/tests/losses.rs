//! What a rollback would remove is said before, decided about, and told afterwards with the way back of each file: by the command
//! line alone, and measured on the hosts' own files.

use std::fs;

use rfs_tests::bed::{Bed, Said, brief, state_of};
use serde_json::Value;

#[track_caller]
fn assert_says(said: &Said, code: i32, texts: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    let all = format!("{}\n{}", said.out, said.err);
    for text in texts {
        assert!(all.contains(text), "{text:?} is not said: {said:?}");
    }
}

fn host<'r>(rollback: &'r Value, name: &str) -> &'r Value {
    let waves = rollback["waves"].as_array().expect("waves");
    let mut hosts = waves.iter().flat_map(|wave| wave["hosts"].as_array().expect("hosts"));
    hosts.find(|host| host["host"] == name).expect("it is part of it")
}

/// Two hosts with a checkpoint of what is well; web-2 gives nothing up. Then a bad release, and a person uploads.
fn broken_fleet() -> Bed {
    let mut bed = Bed::new(2);
    let config = bed.hosts[1].path().join("agent.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replacen("kind = \"files\"\n", "kind = \"files\"\nextras = \"refuse\"\n", 1))
        .expect("written");
    bed.start();
    bed.await_connected(2);
    bed.checkpoint();
    for host in &bed.hosts {
        host.release("bad", "broken");
        fs::create_dir(host.site_files().join("uploads")).expect("the site can be written to");
        fs::write(host.site_files().join("uploads/photo one.jpg"), "a photo").expect("written");
    }
    bed
}

#[test]
fn nothing_is_lost_without_a_word() {
    let bed = broken_fleet();
    let to = ["--checkpoint", "latest", "--canary", "web-1", "--wave", "1", "--min-healthy", "300ms"];
    let planned = bed.rfs(["rollback", "plan"].iter().chain(&to));
    assert_says(
        &planned,
        3,
        &[
            "would be lost: ",
            "uploads/photo one.jpg",
            "to leave some in place: --keep",
            "refuses the loss of",
        ],
    );

    let said = bed.rfs(["rollback", "start", "--yes"].iter().chain(&to));
    let rollback = bed.rollback();
    let id = rollback["name"].as_str().and_then(|name| name.strip_prefix("rollbacks/")).expect("a name");
    let retry = format!("rfs rollback retry {id} --host web-2 --keep PATTERN");
    assert_says(&said, 5, &["1 host refused a loss that was not accepted", &retry]);
    assert_eq!(state_of(&rollback, "web-2"), "REFUSED", "{}", brief(&rollback));
    let photo = |index: usize| {
        let path: std::path::PathBuf = bed.hosts[index].site_files().join("uploads/photo one.jpg");
        fs::read_to_string(path).unwrap_or_default()
    };
    assert_eq!((photo(0).as_str(), photo(1).as_str()), ("", "a photo"), "who refuses is as it was");
    assert_eq!(
        bed.hosts[1].ask("/index.html").map(|(code, _)| code),
        Some(200),
        "its service was not stopped"
    );

    let decided = ["--host", "web-2", "--keep", "uploads", "--accept-loss", "**"];
    let retried = bed.rfs(["rollback", "retry", "latest"].iter().chain(&decided));
    assert_says(&retried, 0, &["tries web-2 again", "keep uploads; accept the loss of **"]);
    let watched = bed.rfs(["rollback", "watch", "latest"]);
    assert_says(
        &watched,
        0,
        &["SUCCEEDED", "removed on web-1: ", "at least until the next restore of the host", "are kept"],
    );
    assert_eq!((photo(0).as_str(), photo(1).as_str()), ("", "a photo"));

    // What is said can be typed, and brings one back.
    let rollback = bed.rollback();
    let lost = host(&rollback, "web-1");
    let first = lost["lost"]["first"].as_array().expect("some are named");
    let photo_path = first.iter().filter_map(Value::as_str).find(|path| path.ends_with("photo one.jpg"));
    let photo_path = photo_path.unwrap_or_else(|| panic!("the photo is named: {lost}"));
    let backup = lost["loss_backup"].as_str().expect("a backup");
    assert!(lost["bring_back"].as_str().is_some_and(|line| line.starts_with("rfs-agent restore ")), "{lost}");
    let back = bed.hosts[0].rfs_agent(["restore", backup, "--path", photo_path]);
    assert_eq!((back.code, photo(0).as_str()), (0, "a photo"), "{back:?}");
    let listed = bed.hosts[0].rfs_agent(["snapshots", "list", "--output", "json"]);
    let listed = listed.json().expect("a list");
    let snapshots = listed["snapshots"].as_array().expect("snapshots");
    let kept = snapshots.iter().find(|one| one["id"] == backup).expect("it is there");
    let checkpoint =
        rollback["spec"]["checkpoint"].as_str().and_then(|name| name.strip_prefix("checkpoints/"));
    assert_eq!(kept["checkpoint"].as_str(), checkpoint, "{kept}");
    assert!(kept["stays"].as_str().is_some_and(|why| !why.is_empty()), "{kept}");
}
