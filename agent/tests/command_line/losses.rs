//! What goes is named, what is typed is understood, and a result that nobody got is a failure.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

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
fn a_plan_of_any_size_is_printed_whole_with_the_agent_running_and_without() {
    const MANY: usize = 2500;
    let host = Host::new("touch up");
    let id = host.capture();
    for number in 0..MANY {
        host.write(&format!("site/upload-{number:04}"), "x");
    }
    let check = || {
        let cut = host.run(&["restore", &id, "--plan"]);
        assert!(cut.out.contains("; all of them: --plan --all"), "{:?}", cut.out.lines().last());
        let said = host.run(&["restore", &id, "--plan", "--all"]);
        let lines = |text: &str| said.out.lines().filter(|line| line.contains(text)).count();
        assert_eq!((said.code, lines("delete "), lines("/site/upload-")), (Some(0), MANY, 2 * MANY));
        assert!(said.out.contains("2,500 entries that the snapshot does not have"), "{said:?}");
        let document = host.json(&["restore", &id, "--plan", "--all"]);
        let count = |field: &str| document[field].as_array().map(Vec::len);
        assert_eq!((count("losses"), &document["loss_count"]), (Some(MANY), &MANY.into()));
        assert_eq!(count("steps").map(Value::from), Some(document["step_count"].clone()));
    };
    check();
    let _daemon = host.daemon();
    check();
    let nothing = host.run(&["restore", &host.capture(), "--plan", "--all"]);
    assert!(nothing.out.contains("nothing to do"), "{nothing:?}");
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
fn what_others_named_moves_no_cursor_and_forges_no_line() {
    let host = Host::new("touch up");
    let name = "site/a\u{1b}[31mred\nline\r\t\u{7}";
    host.write(name, "x");
    let id = host.capture();
    std::fs::remove_file(host.file(name)).expect("ours");
    let show: [&[&str]; 3] =
        [&["snapshots", "show", &id, "--entries"], &["snapshots", "diff", &id], &["restore", &id, "--plan"]];
    let mut said: Vec<_> = show.iter().map(|arguments| host.run(arguments)).collect();
    // In an error too: it is in the way of a file.
    std::fs::create_dir(host.file(name)).expect("writable");
    said.push(host.run(&["restore", &id, "--path", host.file("site/no such\u{1b}").to_str().expect("text")]));
    for said in said {
        let text = format!("{}{}", said.out, said.error);
        assert!(text.contains("red") || text.contains("no such"), "{said:?}");
        let is_raw = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(is_raw) && text.lines().all(|line| !line.starts_with("line")), "{said:?}");
    }
}

#[test]
fn a_plan_of_many_long_paths_comes_through_the_daemon() {
    let host = Host::new("touch up");
    // As deep as a path that can be written at once may be.
    let mut folder = host.file("site");
    while folder.as_os_str().len() + 250 < 3900 {
        folder.push("d".repeat(240));
    }
    std::fs::create_dir_all(&folder).expect("writable");
    let file = |number: usize| folder.join(format!("f{number:0>60}"));
    let write = |number: usize, text: &str| std::fs::write(file(number), text).expect("writable");
    (0..1500).for_each(|number| write(number, "v1"));
    let _daemon = host.daemon();
    let id = host.capture();
    (0..1500).for_each(|number| write(number, "v2"));
    (2000..3500).for_each(|number| write(number, "new"));
    let plan = host.run(&["restore", &id, "--plan"]);
    assert_eq!(plan.code, Some(0), "{}", plan.error);
    assert!(plan.out.contains("1,500 entries that the snapshot does not have"), "{:?}", plan.out.get(..300));
    let document = host.json(&["restore", &id, "--plan"]);
    assert_eq!((&document["loss_count"], &document["step_count"]), (&1500.into(), &3002.into()));
}

/// What every command says, and what it needs to say it.
fn every_command(id: &str) -> Vec<Vec<&str>> {
    let typed = [
        "capture",
        "check",
        "status",
        "space",
        "collect --dry-run",
        "collect",
        "snapshots list",
        "snapshots show ID",
        "snapshots show ID --entries",
        "snapshots diff ID",
        "snapshots verify",
        "snapshots drill ID",
        "snapshots pin ID",
        "snapshots unpin ID",
        "snapshots repair",
        "restore ID --plan",
        "restore ID",
    ];
    let words =
        |line: &'static str| line.split(' ').map(|word| if word == "ID" { id } else { word }).collect();
    typed.into_iter().map(words).collect()
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_of_every_command() {
    let host = Host::new("touch up");
    let id = host.capture();
    assert_eq!(host.run(&["snapshots", "pin", &id]).code, Some(0), "a collection must not take it");
    for arguments in every_command(&id) {
        for json in [false, true] {
            let arguments = [&arguments[..], if json { &["--output", "json"] } else { &[] }].concat();
            let full = File::options().write(true).open("/dev/full").expect("there");
            let (reader, closed) = std::io::pipe().expect("a pipe");
            drop(reader);
            for out in [std::process::Stdio::from(full), closed.into()] {
                let ended = host.agent(&arguments).stdout(out).output().expect("runs");
                assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
                let error = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert!(error.contains("could not be written"), "{arguments:?}: {error}");
            }
        }
    }
}

#[test]
fn help_and_scripts_that_cannot_be_written_are_failures_too() {
    for arguments in [&["--help"][..], &["--version"], &["snapshots", "--help"], &["completions", "bash"]] {
        let full = File::options().write(true).open("/dev/full").expect("there");
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        for (out, code) in
            [(std::process::Stdio::from(full), 1), (closed.into(), 1), (std::process::Stdio::null(), 0)]
        {
            let ended = crate::host::program().args(arguments).stdout(out).output().expect("runs");
            assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {ended:?}");
        }
    }
}
