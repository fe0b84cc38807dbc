//! What every server of RFS has: health, reflection, a unix socket with known peers, and an end in time.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::fixture::{Fleet, agent, call, check, coordinator, open, patience, serve, within};
use rfs_link::server::{self as serving, Limits};
use rfs_link::{Connection, LocalPeer, LocalSocket, incoming};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_server_that_is_told_to_stop_ends_in_time_although_a_stream_is_open() {
    let fleet = Fleet::new("fleet.test");
    let limits = Limits { drain: Duration::from_millis(500), ..Limits::default() };
    let mut server = serve(open(fleet.issue("coordinator", &coordinator())), limits).await;
    let client = open(fleet.issue("web-1", &agent("web-1")));
    let connection = call(&server.target(), client).await.expect("let in");
    let watching = HealthClient::new(connection.channel()).watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("a stream").into_inner();
    assert!(watching.message().await.expect("a first message").is_some());

    let start = Instant::now();
    server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut server.ended).await;
    ended.expect("in time").expect("no panic").expect("no failure");
    assert!(start.elapsed() >= Duration::from_millis(500), "open calls have the drain to end");
    let last = tokio::time::timeout(Duration::from_secs(1), watching.message()).await.expect("cut");
    assert!(last.is_err(), "{last:?}");
    within(Duration::from_secs(1), "no connection is left", || async {
        server.credentials.open_connections() == 0
    })
    .await;
}

#[tokio::test]
async fn reflection_in_both_versions_lists_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let fleet = Fleet::new("fleet.test");
    let server = serve(open(fleet.issue("coordinator", &coordinator())), Limits::default()).await;
    let client = open(fleet.issue("web-1", &agent("web-1")));
    let connection = call(&server.target(), client).await.expect("let in");

    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut newer = v1::server_reflection_client::ServerReflectionClient::new(connection.channel());
    let answers = newer.server_reflection_info(tokio_stream::once(ask)).await.expect("reflection");
    let answer = answers.into_inner().message().await.expect("an answer").expect("an answer");
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("not a list: {answer:?}");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");

    // Older clients, grpcurl up to 1.8 among them, know only this one. They ask for the details of errors, too.
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "google.rpc.ErrorInfo".to_owned(),
        )),
    };
    let mut older = v1alpha::server_reflection_client::ServerReflectionClient::new(connection.channel());
    let answers = older.server_reflection_info(tokio_stream::once(ask)).await.expect("reflection");
    let answer = answers.into_inner().message().await.expect("an answer").expect("an answer");
    assert!(
        matches!(
            answer.message_response,
            Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_unix_socket_is_closed_to_others_knows_its_peer_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("agent.sock");
    std::os::unix::net::UnixListener::bind(&path).expect("a socket that an earlier process left");
    let socket = LocalSocket::bind(&path).expect("the socket is replaced");
    assert_eq!(path.metadata().expect("the socket").permissions().mode() & 0o777, 0o600);

    let (sender, mut peers) = mpsc::unbounded_channel();
    let note = tower::util::MapRequestLayer::new(move |request: http::Request<tonic::body::Body>| {
        sender.send(*request.extensions().get::<LocalPeer>().expect("a peer")).expect("the test waits");
        request
    });
    let limits = Limits { drain: Duration::from_secs(1), ..Limits::default() };
    let (routes, _health) = serving::standard(&[]).expect("valid descriptors");
    let router = serving::builder(&limits).layer(note).add_routes(routes);
    let (stop, close) = (CancellationToken::new(), CancellationToken::new());
    let incoming = incoming::local(socket, close.clone());
    let serving = tokio::spawn({
        let stop = stop.clone();
        async move { serving::serve(router, incoming, &limits, stop, close).await }
    });

    let connection = Connection::open_local(&path, &patience()).await.expect("connected");
    check(&connection).await.expect("served");
    let peer = peers.recv().await.expect("a peer");
    assert_eq!(peer.pid, Some(i32::try_from(std::process::id()).expect("a small number")));

    stop.cancel();
    serving.await.expect("no panic").expect("no failure");
    within(Duration::from_secs(1), "the socket is removed", || async { !path.exists() }).await;
    let error = Connection::open_local(&path, &patience()).await.expect_err("nobody serves");
    assert_eq!(error.failure().next_step(), "start the agent: systemctl start rfs-agent");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("agent.sock");
    std::fs::write(&path, "precious").expect("a file");
    LocalSocket::bind(&path).expect_err("not ours to remove");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "precious");
}
