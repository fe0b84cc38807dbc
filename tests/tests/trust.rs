//! Certificates: rotation without a restart, a root that is removed, and who may call what.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rfs_tests::bed::{Bed, run};
use rfs_tests::tools::program;
use rfs_tests::wait::until;
use rfs_tests::{skip, tools};

/// The serial number of the certificate that the coordinator shows to a client that trusts nobody.
fn served_serial(bed: &Bed, openssl: &std::path::Path) -> Option<String> {
    let address = bed.address().to_string();
    let folder = bed.path().display();
    let script = format!(
        "{openssl} s_client -connect {address} -cert {folder}/alice.pem -key {folder}/alice.key -CAfile {folder}/ca.pem \
         </dev/null 2>/dev/null | {openssl} x509 -noout -serial",
        openssl = openssl.display(),
    );
    let said = run(Command::new("sh").args(["-c", &script]));
    (said.code == 0).then(|| said.out.trim().to_owned())
}

#[test]
fn a_rotated_certificate_is_in_use_within_five_seconds_without_a_restart() {
    let Some(openssl) = tools::judge("openssl") else {
        return skip("trust: rotation", "openssl is not installed");
    };
    let mut bed = Bed::started(1);
    let before = served_serial(&bed, &openssl).expect("the coordinator shows a certificate");
    bed.pki(&["issue", "coordinator", "main", "--dns", "localhost,127.0.0.1", "--force"]);
    let rotated = Instant::now();
    until("the new certificate is served", || {
        served_serial(&bed, &openssl).filter(|serial| *serial != before)
    });
    let took = rotated.elapsed();
    assert!(took < Duration::from_secs(5), "in use after {took:?}");
    assert!(bed.coordinator.as_mut().is_some_and(|c| c.is_running()), "without a restart");
    assert!(bed.hosts[0].agent.as_mut().is_some_and(|a| a.is_running()));
    bed.await_connected(1);
}

#[test]
fn a_removed_root_shuts_its_holders_out_even_those_that_are_connected() {
    let bed = Bed::started(1);
    // A second authority is trusted beside the first, and an operator of it is let in.
    let other = bed.path().join("other");
    let folder = other.display().to_string();
    let domain = rfs_tests::bed::TRUST_DOMAIN;
    for arguments in [
        vec!["init", "--trust-domain", domain, "--dir", &folder],
        vec!["issue", "operator", "alice", "--ca-dir", &folder],
    ] {
        assert_eq!(run(Command::new(program("rfs")).arg("pki").args(&arguments)).code, 0, "{arguments:?}");
    }
    let first = fs::read_to_string(bed.path().join("ca.pem")).expect("the first root");
    let second = fs::read_to_string(other.join("ca.pem")).expect("the second root");
    let replace = |text: &str| {
        let new = bed.path().join("ca.new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, bed.path().join("ca.pem"))).expect("the roots");
    };
    replace(&format!("{first}{second}"));
    let as_other = |arguments: &[&str]| {
        let mut command = bed.rfs_as("alice", arguments);
        command.env("RFS_CERTIFICATE", other.join("alice.pem")).env("RFS_KEY", other.join("alice.key"));
        command
    };
    until("the second root is trusted", || (run(&mut as_other(&["host", "list"])).code == 0).then_some(()));
    // One of its holders watches, over a connection that is open when the root goes.
    let mut watcher = rfs_tests::process::Running::start(
        "a watcher",
        as_other(&["host", "health", "--watch", "--output", "json"]),
        &bed.path().join("watcher.log"),
    );
    until("the watcher sees the fleet", || (!watcher.log().is_empty()).then_some(()));
    replace(&first);
    let removed = Instant::now();
    until("the second root is not trusted any more", || {
        (run(&mut as_other(&["host", "list"])).code != 0).then_some(())
    });
    let took = removed.elapsed();
    assert!(took < Duration::from_secs(5), "shut out after {took:?}");
    let status = watcher.wait();
    assert!(!status.success(), "the open connection was closed: {}", watcher.log());
    bed.await_connected(1);
}

#[test]
fn without_a_certificate_there_is_no_answer_and_with_the_wrong_one_a_clear_refusal() {
    let bed = Bed::started(1);
    assert!(TcpStream::connect(bed.address()).is_ok(), "somebody listens");
    // A root that nobody trusts.
    let other = bed.path().join("foreign");
    let folder = other.display().to_string();
    for arguments in [
        vec!["init", "--trust-domain", rfs_tests::bed::TRUST_DOMAIN, "--dir", &folder],
        vec!["issue", "operator", "alice", "--ca-dir", &folder],
    ] {
        assert_eq!(run(Command::new(program("rfs")).arg("pki").args(&arguments)).code, 0, "{arguments:?}");
    }
    let mut foreign = bed.rfs_as("alice", ["host", "list"]);
    foreign.env("RFS_CERTIFICATE", other.join("alice.pem")).env("RFS_KEY", other.join("alice.key"));
    let said = run(&mut foreign);
    assert!(said.code == 4 || said.code == 3, "{said:?}");
    assert!(said.err.contains("next:"), "{said:?}");
    // An agent's certificate does not open an operator's method.
    let said = run(&mut bed.rfs_as("web-1", ["host", "list"]));
    assert_eq!(said.code, 3, "{said:?}");
    // A viewer sees, and changes nothing.
    assert_eq!(run(&mut bed.rfs_as("viewer", ["host", "list"])).code, 0);
    let said = run(&mut bed.rfs_as("viewer", ["checkpoint", "create"]));
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("viewer"), "it says who was refused: {said:?}");
}
