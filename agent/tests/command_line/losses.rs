//! What goes is named, what is typed is understood, and a result that nobody got is a failure.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use crate::host::Host;

#[test]
fn a_plan_and_a_result_name_what_goes_and_how_it_comes_back() {
    let host = Host::new("touch up");
    let id = host.capture();
    host.write("site/upload 1", "photo\n");
    let plan = host.run(&["restore", &id, "--plan"]);
    assert!(plan.out.contains("1 entry that the snapshot does not have, 6 B"), "{plan:?}");
    let said = host.run(&["restore", &id]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("removed") && said.out.contains("site/upload 1"), "{said:?}");
    let line = said.out.lines().find(|line| line.contains("bring back")).expect("it says how");
    let backup = line.split_whitespace().nth(4).expect("an id");
    assert!(line.ends_with("site/upload 1'"), "a path with a blank is one word: {line}");
    let path = host.file("site/upload 1");
    let back = host.run(&["restore", backup, "--path", path.to_str().expect("text")]);
    assert_eq!((back.code, host.read("site/upload 1")), (Some(0), "photo\n".into()), "{back:?}");
}

#[test]
fn an_extra_that_is_refused_is_exit_code_3_and_accepted_by_name() {
    let host = Host::new("touch up");
    host.write(
        "agent.toml",
        &host.read("agent.toml").replace("kind = \"files\"", "kind = \"files\"\nextras = \"refuse\""),
    );
    let id = host.capture();
    host.write("site/rows.db", "rows");
    let said = host.run(&["restore", &id]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.error.contains("--accept-loss"), "{said:?}");
    let said = host.run(&["restore", &id, "--accept-loss", "*.db"]);
    assert_eq!((said.code, host.file("site/rows.db").exists()), (Some(0), false), "{said:?}");
}

#[test]
fn a_path_is_taken_as_it_is_typed_and_as_it_is_printed() {
    let host = Host::new("touch up");
    let name = std::ffi::OsStr::from_bytes(b"site/caf\xe9");
    let write = |text: &str| std::fs::write(host.path().join(name), text).expect("writable");
    write("v1");
    let id = host.capture();
    let folder = host.path().to_str().expect("text").to_owned();
    for _daemon in [None, Some(host.daemon())] {
        write("v2");
        let mut typed = host.agent(&["restore", &id]);
        let said = typed.arg("--path").arg(host.path().join(name)).output().expect("runs");
        assert!(said.status.success(), "{said:?}");
        assert_eq!(std::fs::read(host.path().join(name)).expect("there"), b"v1");
        write("v2");
        let said = host.run(&["restore", &id, "--path", &format!("{folder}/site/caf%E9")]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(std::fs::read(host.path().join(name)).expect("there"), b"v1");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let host = Host::new("touch up");
    host.capture();
    for arguments in
        [&["snapshots", "list"][..], &["snapshots", "list", "--output", "json"], &["status"], &["space"]]
    {
        let full = File::options().write(true).open("/dev/full").expect("there");
        let ended = host.agent(arguments).stdout(full).output().expect("runs");
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("could not be written"), "{ended:?}");
    }
}
