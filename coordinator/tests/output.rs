//! What every command of `rfs` says reaches its reader, or the exit code says that it did not.

mod support;

use std::fs::File;
use std::process::{Command, Output, Stdio};

use support::{Fleet, until};

/// `rfs` as alice types it.
fn typed(arguments: &str, fleet: &Fleet) -> Command {
    let credentials = fleet.issue("operator/alice", &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rfs"));
    command.args(arguments.split(' ')).stdin(Stdio::null());
    command.env("RFS_SERVER", fleet.target().to_string()).env("RFS_CA", credentials.ca);
    command.env("RFS_CERTIFICATE", credentials.certificate).env("RFS_KEY", credentials.key);
    command
}

fn rfs(fleet: &Fleet, arguments: &str, out: Stdio) -> Output {
    typed(arguments, fleet).stdout(out).output().expect("the program runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_written_is_a_failure_of_every_command() {
    let fleet = Fleet::start().await;
    let _agent = fleet.agent("web-1", &[]);
    let ask = |arguments: &str, out: Stdio| tokio::task::block_in_place(|| rfs(&fleet, arguments, out));
    until("the host is connected", async || {
        let listed = ask("host list", Stdio::piped());
        String::from_utf8_lossy(&listed.stdout).contains("yes").then_some(())
    })
    .await;
    let made = ask("checkpoint create", Stdio::null());
    assert!(made.status.success(), "{made:?}");
    let commands = [
        "--help",
        "--version",
        "host --help",
        "completions bash",
        "host list",
        "host show web-1",
        "host health",
        "checkpoint list",
        "checkpoint show latest",
        "rollback plan --checkpoint latest",
        "rollback list",
    ];
    for command in commands {
        let has_a_result =
            !command.starts_with('-') && !command.contains("--help") && !command.contains("completions");
        for output in if has_a_result { &["", " --output json"][..] } else { &[""] } {
            let full = File::options().write(true).open("/dev/full").expect("there");
            let (reader, closed) = std::io::pipe().expect("a pipe");
            drop(reader);
            for out in [Stdio::from(full), closed.into()] {
                let ended = ask(&format!("{command}{output}"), out);
                assert_eq!(ended.status.code(), Some(1), "{command}{output}: {ended:?}");
                let error = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert!(!error.contains("panicked"), "{command}{output}: {error}");
            }
        }
    }
    // What has begun goes on.
    for command in ["checkpoint create", "rollback start --checkpoint latest --yes"] {
        let full = File::options().write(true).open("/dev/full").expect("there");
        let ended = ask(command, full.into());
        assert_eq!(ended.status.code(), Some(1), "{command}: {ended:?}");
    }
    // What goes wrong is said by the exit code alone where standard error is closed too.
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = typed("host show nobody", &fleet);
    let ended = tokio::task::block_in_place(|| command.stderr(closed).status()).expect("the program runs");
    assert!(matches!(ended.code(), Some(1..=5)), "{ended:?}");
}
