//! Certificates, keys and roots change under a running server and its clients.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use crate::fixture::{
    DAY, Fleet, IN_USE, agent, append, call, check, coordinator, open, open_at, serve, within,
};
use rfs_link::{Credentials, Limits, LiveCredentials, pki};
use rfs_model::Clock as _;
use rfs_model::time::{ManualClock, SystemClock};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_rotated_certificate_is_in_use_within_five_seconds_at_both_ends() {
    let fleet = Fleet::new("fleet.test");
    let server_files = fleet.issue("coordinator", &coordinator());
    let client_files = fleet.issue("web-1", &agent("web-1"));
    let (server, client) = (open(server_files.clone()), open(client_files.clone()));
    let mut server = serve(server, Limits::default()).await;
    let standing = call(&server.target(), client.clone()).await.expect("let in");
    let first = server.peer().await.serial;

    let (mut server_own, mut client_own) = (server.credentials.own(), client.own());
    fleet.issue("coordinator", &coordinator());
    fleet.issue("web-1", &agent("web-1"));
    for own in [&mut server_own, &mut client_own] {
        let changed = tokio::time::timeout(IN_USE, own.changed()).await;
        changed.expect("noticed in time").expect("the credentials live");
    }
    call(&server.target(), client.clone()).await.expect("let in with the new one");
    let second = server.peer().await.serial;
    assert_ne!(second, first);
    let on_disk = &pki::show(&client_files.certificate).expect("a certificate")[0].serial;
    assert_eq!(second, *on_disk, "the serial that the server saw is that of the new file");
    check(&standing).await.expect("a connection that stands is not disturbed by a rotation");
}

#[tokio::test]
async fn a_removed_root_shuts_its_holders_out_also_those_already_connected() {
    let (ours, theirs) = (Fleet::new("fleet.test"), Fleet::new("fleet.test"));
    let files = ours.issue("coordinator", &coordinator());
    append(&files.ca, &theirs.ca());
    let mut server = serve(open(files.clone()), Limits::default()).await;
    let insider = open(ours.issue("web-1", &agent("web-1")));
    let outsider = open(Credentials { ca: ours.ca(), ..theirs.issue("web-2", &agent("web-2")) });
    let stays = call(&server.target(), insider).await.expect("let in");
    let leaves = call(&server.target(), outsider.clone()).await.expect("let in while the root is there");
    assert_eq!(
        (server.peer().await.identity, server.peer().await.identity),
        (agent("web-1"), agent("web-2"))
    );
    let watching = HealthClient::new(leaves.channel()).watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("a stream").into_inner();
    assert!(watching.message().await.expect("a first message").is_some());

    fs::copy(ours.ca(), &files.ca).expect("the root is removed");
    let ended = tokio::time::timeout(IN_USE, watching.message()).await.expect("cut in time");
    assert!(ended.is_err(), "the open stream ends with an error: {ended:?}");
    let error = call(&server.target(), outsider).await.expect_err("not let in again");
    assert!(error.contains("refused this end's certificate"), "{error}");
    check(&stays).await.expect("who is still trusted is not disturbed");
    within(IN_USE, "only one connection is open", || async { server.credentials.open_connections() == 1 })
        .await;
}

#[tokio::test]
async fn a_root_that_is_added_lets_its_holders_in() {
    let (ours, theirs) = (Fleet::new("fleet.test"), Fleet::new("fleet.test"));
    let files = ours.issue("coordinator", &coordinator());
    let server = serve(open(files.clone()), Limits::default()).await;
    let newcomer = open(Credentials { ca: ours.ca(), ..theirs.issue("web-2", &agent("web-2")) });
    call(&server.target(), newcomer.clone()).await.expect_err("not trusted yet");
    append(&files.ca, &theirs.ca());
    within(IN_USE, "the new root is in use", || async {
        call(&server.target(), newcomer.clone()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_client_leaves_a_server_whose_root_it_no_longer_trusts() {
    let (ours, theirs) = (Fleet::new("fleet.test"), Fleet::new("fleet.test"));
    let server_files = ours.issue("coordinator", &coordinator());
    append(&server_files.ca, &theirs.ca());
    let server = serve(open(server_files), Limits::default()).await;
    let mut files = theirs.issue("web-1", &agent("web-1"));
    files.ca = theirs.path("trusted.pem");
    fs::copy(ours.ca(), &files.ca).expect("it trusts our root at first");
    let client = open(files.clone());
    let connection = call(&server.target(), client.clone()).await.expect("let in");
    fs::copy(theirs.ca(), &files.ca).expect("and then only theirs");
    within(IN_USE, "the connection is closed", || async { client.open_connections() == 0 }).await;
    let status = check(&connection).await.expect_err("the server is no longer trusted");
    let failure = connection.failure(&status);
    assert!(failure.message.contains("is not trusted"), "{failure}");
}

#[tokio::test]
async fn a_half_written_pair_keeps_the_old_one_in_use() {
    let fleet = Fleet::new("fleet.test");
    let files = fleet.issue("coordinator", &coordinator());
    let server = serve(open(files.clone()), Limits::default()).await;
    let client = open(fleet.issue("web-1", &agent("web-1")));
    let before = server.credentials.own().borrow().serial.clone();

    let old_key = fs::read(&files.key).expect("the old key");
    fleet.issue("coordinator", &coordinator());
    let new_key = fs::read(&files.key).expect("the new key");
    for torn in [old_key.as_slice(), b"", b"-----BEGIN PRIVATE KEY-----\n", &new_key[..new_key.len() / 2]] {
        fs::write(&files.key, torn).expect("half of a pair");
        // Two looks pass, and neither takes it.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        call(&server.target(), client.clone()).await.expect("the old pair still serves");
        assert_eq!(server.credentials.own().borrow().serial, before);
    }
    fs::write(&files.key, new_key).expect("the other half");
    within(IN_USE, "the whole pair is in use", || async {
        server.credentials.own().borrow().serial != before
    })
    .await;
    call(&server.target(), client).await.expect("the new pair serves");
}

#[tokio::test]
async fn an_expired_certificate_is_not_let_in_and_not_kept() {
    let fleet = Fleet::new("fleet.test");
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server =
        serve(open_at(fleet.issue("coordinator", &coordinator()), clock.clone()), Limits::default()).await;
    let client = open(fleet.issue("web-1", &agent("web-1")));
    let connection = call(&server.target(), client.clone()).await.expect("let in while it is valid");
    clock.advance(2 * DAY);
    within(IN_USE, "the open connection is closed", || async { server.credentials.open_connections() == 0 })
        .await;
    let status = check(&connection).await.expect_err("expired");
    assert_eq!(connection.failure(&status).reason, rfs_model::Reason::Unauthenticated);
    let error = call(&server.target(), client).await.expect_err("expired");
    assert!(
        error.ends_with("refused this end's certificate: received fatal alert: CertificateExpired"),
        "{error}"
    );
}

#[test]
fn credentials_that_cannot_be_used_say_which_file_and_what_to_do() {
    let fleet = Fleet::new("fleet.test");
    let good = fleet.issue("web-1", &agent("web-1"));
    let other = fleet.issue("web-2", &agent("web-2"));
    let no_identity = fleet.forge("odd", |_| {});
    let empty = fleet.path("empty");
    fs::write(&empty, "").expect("a file");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).expect("closed to others");
    let check = |files: Credentials, expected: &str| {
        let error = LiveCredentials::open(files, Arc::new(SystemClock)).expect_err("must not be usable");
        let text = format!("{}; {}", rfs_link::Chain(&error), error.next_step());
        let text = text.replace(&format!("{}/", fleet.dir.path().display()), "");
        assert!(text.starts_with(expected), "{text:?} does not start with {expected:?}");
    };
    let absent = fleet.path("absent");
    check(Credentials { key: absent, ..good.clone() }, "cannot read absent: No such file or directory");
    check(Credentials { ca: empty.clone(), ..good.clone() }, "empty holds no certificate in PEM form");
    check(Credentials { key: empty, ..good.clone() }, "empty holds no private key in PEM form");
    check(
        Credentials { key: other.key, ..good },
        "the key in web-2.key is not that of the certificate in web-1.pem: keys may not be consistent: KeyMismatch; \
         give the certificate and the key that were issued together",
    );
    check(
        no_identity,
        "the certificate in odd.pem cannot be used: the certificate has no URI name; one spiffe://DOMAIN/",
    );
}
