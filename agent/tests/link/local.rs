//! The unix socket, as an administrator and as a tool sees it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rfs_agent::commander::{Refusal, Selection};
use rfs_agent::engine::Phase;
use rfs_agent::local::{
    Administration as _, LocalClient, LocalHost, LocalServer, PlanPart, Progress, RestoreOrder,
};
use rfs_agent::session::LinkState;
use rfs_link::{Connection, Patience};
use rfs_model::{Health, Reason};
use rfs_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::host::{
    Played, about, collected, drilled, operation, plan, repaired, restored, site, snapshot, unknown_snapshot,
    well,
};

struct Serving {
    path: PathBuf,
    played: Arc<Played>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
    _ends: (watch::Sender<rfs_agent::health::HostHealth>, watch::Sender<LinkState>),
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn serve() -> Serving {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("run/agent.sock");
    let played = Arc::new(Played::default());
    let (health, health_end) = watch::channel(well(Health::Good));
    let (link, link_end) = watch::channel(LinkState::NotConfigured);
    let host = LocalHost {
        about: about(),
        administration: played.clone(),
        intake: played.clone(),
        health: health_end,
        link: link_end,
        clock: Arc::new(rfs_model::time::SystemClock),
    };
    let stop = CancellationToken::new();
    let server = LocalServer::bind(&path).expect("the socket is free");
    tokio::spawn(server.serve(host, stop.clone()));
    Serving { path, played, stop, _dir: dir, _ends: (health, link) }
}

/// Runs `ask` with a client, as the command line does: without a runtime.
async fn ask<T: Send + 'static>(
    serving: &Serving,
    ask: impl FnOnce(&LocalClient) -> T + Send + 'static,
) -> T {
    let path = serving.path.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let client = LocalClient::connect(&path).expect("the socket answers").expect("somebody serves it");
        ask(&client)
    });
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("in time").expect("no panic")
}

#[tokio::test]
async fn status_says_where_the_host_stands() {
    let serving = serve();
    serving.played.restoring(operation(), Phase::Flipping, 2);
    let status = ask(&serving, LocalClient::status).await.expect("status");
    assert_eq!((status.host.as_str(), status.connected), ("web-1", false));
    assert_eq!(status.link, "no coordinator is configured");
    assert_eq!(status.operation, format!("apply of {}", operation()));
    assert_eq!((status.phase.as_str(), status.health()), ("flipping", v1::Health::Good));
    assert_eq!(status.last_restore, "at target");
}

#[tokio::test]
async fn every_call_answers_as_the_engine_itself_would() {
    let serving = serve();
    let all = ask(&serving, |client| client.snapshots()).await.expect("snapshots");
    assert_eq!(all, (0..250).rev().map(snapshot).collect::<Vec<_>>(), "all pages, in order");
    let captured = ask(&serving, |client| client.capture(&BTreeSet::from([site()]), "by hand")).await;
    assert_eq!(captured.expect("a snapshot").reason, "by hand");
    let selection = Selection { components: BTreeSet::from([site()]), ..Selection::default() };
    let planned = ask(&serving, {
        let selection = selection.clone();
        move |client| client.plan("abc", &selection)
    });
    assert_eq!(planned.await.expect("a plan"), plan());
    let whole = ask(&serving, {
        let selection = selection.clone();
        move |client| {
            let mut parts = Vec::new();
            let planned =
                client.plan_all("abc", &selection, &Default::default(), &mut |part| parts.push(part));
            planned.map(|()| parts)
        }
    });
    let mut expected = vec![PlanPart::Whole(plan().without_lines())];
    expected.extend(plan().steps.into_iter().map(PlanPart::Step));
    expected.extend(plan().losses.into_iter().map(PlanPart::Loss));
    assert_eq!(whole.await.expect("a plan"), expected);
    let refused = ask(&serving, move |client| client.plan("absent", &selection)).await;
    assert_eq!(refused, Err(unknown_snapshot("absent")));
}

#[tokio::test]
async fn what_is_done_for_the_store_answers_as_the_engine_itself_would() {
    let serving = serve();
    let pinned = ask(&serving, |client| client.pin("abc", "the audit")).await.expect("pins");
    assert_eq!((pinned.id, pinned.held), (snapshot(1).id, Some("the audit".to_owned())));
    assert_eq!(ask(&serving, |client| client.unpin("abc")).await, Ok(snapshot(2)));
    assert_eq!(ask(&serving, |client| client.delete("abc")).await, Ok(()));
    assert_eq!(ask(&serving, |client| client.delete("absent")).await, Err(unknown_snapshot("absent")));
    assert_eq!(ask(&serving, |client| client.drill("abc", None)).await, Ok(drilled(None)));
    let scratch = ask(&serving, |client| client.drill("abc", Some(Path::new("/scratch")))).await;
    assert_eq!(scratch, Ok(drilled(Some(Path::new("/scratch")))));
    let relative = ask(&serving, |client| client.drill("abc", Some(Path::new("scratch")))).await;
    assert_eq!(relative.expect_err("relative").message, "scratch: must be absolute");
    assert_eq!(ask(&serving, |client| client.collect()).await, Ok(collected()));
    assert_eq!(ask(&serving, |client| client.repair()).await, Ok(repaired()));
    let unnamed = ask(&serving, |client| client.unpin("")).await.expect_err("not valid");
    assert_eq!(unnamed.message, "snapshot: is required");
}

fn order(snapshot: &str) -> RestoreOrder {
    RestoreOrder {
        snapshot: snapshot.to_owned(),
        selection: Selection::default(),
        timeout: None,
        force: false,
        choices: Default::default(),
    }
}

#[tokio::test]
async fn a_restore_shows_its_progress_and_ends_with_its_result() {
    let serving = serve();
    let (seen, view) = ask(&serving, |client| {
        let seen = Mutex::new(Vec::new());
        let view = client.restore(&order("abc"), &|progress| seen.lock().expect("no panic").push(progress));
        (seen.into_inner().expect("no panic"), view)
    })
    .await;
    assert_eq!(seen, [Progress { phase: Phase::Staging, steps_done: 1, steps_total: 4 }]);
    assert_eq!(view, Ok(restored()));
    let refused = ask(&serving, |client| client.restore(&order("absent"), &|_| {})).await;
    assert_eq!(refused, Err(unknown_snapshot("absent")));
    let empty = ask(&serving, |client| client.restore(&order(""), &|_| {})).await.expect_err("not valid");
    assert_eq!(empty.message, "snapshot: is required");
}

#[tokio::test]
async fn a_client_that_goes_away_stops_no_restore() {
    let serving = serve();
    let go_on = serving.played.hold_restore();
    let connection = Connection::open_local(&serving.path, &Patience::default()).await.expect("connected");
    let mut client =
        rfs_proto::agent::v1::local_service_client::LocalServiceClient::new(connection.channel());
    let request = rfs_proto::agent::v1::RestoreRequest { snapshot: "abc".to_owned(), ..Default::default() };
    let mut messages = client.restore(request).await.expect("begun").into_inner();
    assert!(messages.message().await.expect("progress").is_some());
    drop((messages, client));
    connection.close();
    go_on.send(()).expect("the restore waits");
    let start = std::time::Instant::now();
    while serving.played.notes().restores_ended == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "the restore goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn where_no_daemon_serves_there_is_no_client_and_no_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("agent.sock");
    let absent = tokio::task::spawn_blocking({
        let path = path.clone();
        move || LocalClient::connect(&path).map(|client| client.is_none())
    });
    assert_eq!(absent.await.expect("no panic"), Ok(true));
    // A socket that a killed daemon left.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let left =
        tokio::task::spawn_blocking(move || LocalClient::connect(&path).map(|client| client.is_none()));
    assert_eq!(left.await.expect("no panic"), Ok(true));
}

#[tokio::test]
async fn a_daemon_that_dies_during_a_restore_leaves_the_next_thing_to_type() {
    let serving = serve();
    let go_on = serving.played.hold_restore();
    let stop = serving.stop.clone();
    let refusal: Refusal = ask(&serving, move |client| {
        client.restore(&order("abc"), &|_| stop.cancel()).expect_err("the daemon went away")
    })
    .await;
    assert_eq!(refusal.reason, Reason::Unreachable);
    assert!(refusal.next.ends_with("see: rfs-agent status"), "{}", refusal.next);
    go_on.send(()).expect("the restore waits");
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_nothing_else() {
    use tonic_reflection::pb::v1;
    let serving = serve();
    let connection = Connection::open_local(&serving.path, &Patience::default()).await.expect("connected");
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(connection.channel());
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await.expect("reflection");
    let answer = answers.into_inner().message().await.expect("an answer").expect("an answer");
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("not a list: {answer:?}");
    };
    let names: BTreeSet<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "rfs.agent.v1.LocalService",
    ];
    assert_eq!(names, BTreeSet::from(expected));
}
