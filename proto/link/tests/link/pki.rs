//! The embedded authority: what it issues, what it refuses, and how it keeps its keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::fixture::{DAY, Fleet, agent, coordinator, operator};
use rfs_link::pki::{self as authority, Authority, Existing, Order, PkiError, Subject};
use rfs_model::Clock as _;
use rfs_model::time::{ManualClock, SystemClock};

fn order(identity: rfs_link::Identity, names: &[&str]) -> Order {
    Order { identity, names: names.iter().map(ToString::to_string).collect(), validity: DAY }
}

#[test]
fn what_is_issued_reads_back() {
    let fleet = Fleet::new("fleet.test");
    let ca = Authority::open(fleet.dir.path()).expect("the authority");
    let names = ["rfs.example.net", "10.0.0.1", "::1"];
    let issued = ca.issue(&order(coordinator(), &names), &SystemClock).expect("a certificate");
    let shown = issued.shown().expect("readable");
    assert_eq!(shown.subject.to_string(), "spiffe://fleet.test/coordinator/main");
    assert_eq!(shown.names, names);
    assert!(shown.not_before < SystemClock.now() && SystemClock.now() < shown.not_after);

    let root = &authority::show(&fleet.ca()).expect("readable")[0];
    assert_eq!(root.subject, Subject::Authority("fleet.test".parse().expect("a domain")));
    assert_eq!(root.issuer, shown.issuer);
    assert_ne!(root.serial, shown.serial);
}

#[test]
fn a_certificate_is_valid_for_a_machine_whose_clock_is_hours_back() {
    let fleet = Fleet::new("fleet.test");
    let ca = Authority::open(fleet.dir.path()).expect("the authority");
    let issued = ca.issue(&order(agent("web-1"), &[]), &SystemClock).expect("a certificate");
    let leaf = issued.shown().expect("readable");
    let root = &authority::show(&fleet.ca()).expect("readable")[0];
    let hours_back = rfs_model::Timestamp(SystemClock.now().0 - 12 * 3_600_000);
    assert!(leaf.not_before < hours_back, "{}", leaf.not_before);
    assert!(root.not_before < hours_back, "{}", root.not_before);
}

#[test]
fn keys_are_for_their_owner_alone_and_never_replaced_unasked() {
    let fleet = Fleet::new("fleet.test");
    let mode = |name: &str| fs::metadata(fleet.path(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("ca.pem")), (0o600, 0o644));

    let ca = Authority::open(fleet.dir.path()).expect("the authority");
    let write = |existing| {
        let issued = ca.issue(&order(agent("web-1"), &[]), &SystemClock).expect("a certificate");
        issued.write(&fleet.path("web-1.pem"), &fleet.path("web-1.key"), existing)
    };
    write(Existing::Keep).expect("nothing is there yet");
    assert_eq!(mode("web-1.key"), 0o600);
    let key = fs::read(fleet.path("web-1.key")).expect("the key");
    assert!(matches!(write(Existing::Keep), Err(PkiError::Exists(_))));
    fs::remove_file(fleet.path("web-1.pem")).expect("only the key is left");
    assert!(matches!(write(Existing::Keep), Err(PkiError::Exists(_))));
    assert_eq!(fs::read(fleet.path("web-1.key")).expect("the key"), key, "the key is as it was");
    assert!(!fleet.path("web-1.pem").exists(), "and no certificate stands beside it");
    write(Existing::Replace).expect("asked for");
    assert_ne!(fs::read(fleet.path("web-1.key")).expect("the key"), key);

    let domain = "fleet.test".parse().expect("a domain");
    let again = authority::init(fleet.dir.path(), &domain, DAY, Existing::Keep, &SystemClock);
    assert!(matches!(again, Err(PkiError::Exists(_))));
}

#[test]
fn what_cannot_be_issued_is_refused_with_what_to_do() {
    let fleet = Fleet::new("fleet.test");
    let ca = Authority::open(fleet.dir.path()).expect("the authority");
    let check = |order: Order, expected: &str| {
        let error = ca.issue(&order, &SystemClock).expect_err("must be refused");
        assert_eq!(format!("{error}; {}", error.next_step()), expected);
    };
    check(
        order(coordinator(), &[]),
        "a coordinator's certificate needs at least one host name or address; \
         give the names that agents dial: --dns rfs.example.net --dns 10.0.0.1",
    );
    check(
        order(coordinator(), &["not a name"]),
        "\"not a name\" is neither a host name nor an IP address; \
         write a host name such as rfs.example.net, or an address such as 10.0.0.1",
    );
    check(
        order(operator("alice"), &["localhost"]),
        "operator/alice is not dialled, so its certificate takes no host names; leave --dns out",
    );
    check(
        Order { validity: Duration::ZERO, ..order(agent("web-1"), &[]) },
        "a validity of 0ns cannot be given; give a number of days from 1 to 36500",
    );
}

#[test]
fn no_certificate_outlives_its_root() {
    let fleet = Fleet::new("fleet.test");
    let ca = Authority::open(fleet.dir.path()).expect("the authority");
    let long = Order { validity: 1000 * DAY, ..order(agent("web-1"), &[]) };
    let shown = ca.issue(&long, &SystemClock).expect("a certificate").shown().expect("readable");
    let root = &authority::show(&fleet.ca()).expect("readable")[0];
    assert_eq!(shown.not_after, root.not_after);

    let later = ManualClock::at(SystemClock.now().plus(11 * DAY));
    assert!(matches!(ca.issue(&long, &later), Err(PkiError::Expired(_))));
}

#[test]
fn a_folder_that_holds_no_authority_is_named_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |expected: &str| {
        let error = Authority::open(dir.path()).expect_err("no authority").to_string();
        let error = error.replace(&dir.path().display().to_string(), "DIR");
        assert!(error.starts_with(expected), "{error}");
    };
    check("DIR does not hold an authority of RFS: ca.pem: No such file or directory");
    fs::write(dir.path().join("ca.pem"), "nonsense").expect("a file");
    check("DIR does not hold an authority of RFS: ca.pem: not an X.509 certificate");
    let fleet = Fleet::new("fleet.test");
    let leaf = fleet.issue("web-1", &agent("web-1"));
    fs::copy(leaf.certificate, dir.path().join("ca.pem")).expect("a file");
    check("DIR does not hold an authority of RFS: ca.pem: the root names no trust domain");
    fs::copy(fleet.ca(), dir.path().join("ca.pem")).expect("a file");
    check("DIR does not hold an authority of RFS: ca.key: No such file or directory");
}
