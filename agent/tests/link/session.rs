//! What the coordinator sees of a session, and what is left on the host when it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rfs_agent::commander::{Outcome, StepKind};
use rfs_agent::engine::Phase;
use rfs_agent::session::{LinkState, Session};
use rfs_link::{Failure, LiveCredentials, Target};
use rfs_model::{Generation, Health, Reason, RestoreNumber, Standing};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Fleet, Manner, SOON, agent, follow};
use crate::host::{Played, host, operation, snapshot_id, well};

/// An agent that runs until it is dropped.
struct Running {
    played: Arc<Played>,
    health: watch::Sender<rfs_agent::health::HostHealth>,
    state: watch::Receiver<LinkState>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn run(credentials: Arc<LiveCredentials>, targets: Vec<Target>) -> Running {
    let played = Arc::new(Played::default());
    played.notes().state.generation = Generation(6);
    let (health, receiver) = watch::channel(well(Health::Unknown));
    let session = Session::new(host(&played, receiver), credentials, targets).expect("a session");
    let (state, stop) = (session.state(), CancellationToken::new());
    tokio::spawn(session.run(stop.clone()));
    Running { played, health, state, stop }
}

async fn start(manner: Manner) -> (Fleet, Coordinator, Running) {
    let fleet = Fleet::new();
    let coordinator = Coordinator::start(&fleet, manner).await;
    let running = run(fleet.open(&agent("web-1")), vec![coordinator.target()]);
    (fleet, coordinator, running)
}

fn command(step: link::Step) -> link::Command {
    link::Command {
        key: Some(link::CommandKey {
            operation_id: operation().to_string(),
            generation: 7,
            step: step.into(),
        }),
        timeout: Some(rfs_proto::convert::to_wire_duration(Duration::from_secs(300))),
        selection: None,
        snapshot: snapshot_id(1).to_string(),
        reason: "release 3 is broken".to_owned(),
        quiesce_timeout: None,
        choices: None,
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_agent_introduces_itself_and_is_connected_once_it_is_welcomed() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    running.played.notes().state.inconsistent = None;
    let session = coordinator.session().await;
    assert_eq!(session.peer.identity, agent("web-1"));
    let hello = &session.hello;
    assert_eq!((hello.protocol, hello.host.as_str(), hello.generation), (1, "web-1", 6));
    assert_eq!(hello.labels.get("role").map(String::as_str), Some("web"));
    assert_eq!((hello.components[0].name.as_str(), hello.components[0].kind.as_str()), ("site", "files"));
    assert_eq!((hello.in_flight.as_ref(), hello.inconsistent), (None, false));
    let mut state = running.state.clone();
    let connected = tokio::time::timeout(SOON, state.wait_for(LinkState::is_connected)).await;
    let shown = connected.expect("in time").expect("the session runs").to_string();
    assert!(
        shown.starts_with(&format!("connected to https://{} (version 1.2.3) since ", coordinator.addr)),
        "{shown}"
    );
}

#[tokio::test]
async fn a_command_reaches_the_host_and_its_report_comes_until_it_is_acknowledged() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    session.say(Down::Command(command(link::Step::Apply))).await;
    session.heard().await;
    let taken = running.played.notes().commands[0].clone();
    assert_eq!(
        (taken.step.kind(), taken.generation, taken.reason.as_str()),
        (StepKind::Apply, Generation(7), "release 3 is broken")
    );

    running.played.report(1, operation(), StepKind::Apply, cancelled());
    running.played.report(2, operation(), StepKind::Cancel, Outcome::Finished);
    let report = session.report().await;
    assert_eq!(report.sequence, 1);
    let Some(link::report::Outcome::Restored(restored)) = report.outcome else { panic!("{report:?}") };
    assert_eq!(restored.standing(), link::restored::Standing::Before);
    assert_eq!(restored.backup, snapshot_id(9).to_string());
    assert_eq!(session.report().await.sequence, 2);
    session.say(Down::ReportAck(link::ReportAck { sequence: 1 })).await;
    session.heard().await;
    assert_eq!(running.played.notes().acknowledged, [1]);

    // The coordinator is lost before it has acknowledged the second: it comes again, and the first does not.
    drop(session);
    let mut session = coordinator.session().await;
    assert_eq!(session.report().await.sequence, 2);
    session.say(Down::ReportAck(link::ReportAck { sequence: 2 })).await;
    session.heard().await;
    assert!(running.played.notes().unacknowledged.is_empty());
}

#[tokio::test]
async fn what_the_fleet_needs_reaches_the_host_whole_or_not_at_all() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    let id = operation().to_string();
    let say = |needed: &str| {
        Down::Checkpoints(link::Checkpoints { needed: vec![needed.to_owned()], deleted: vec![id.clone()] })
    };
    session.say(say("not an id")).await;
    session.say(say(&id)).await;
    session.heard().await;
    let one = std::collections::BTreeSet::from([operation()]);
    assert_eq!(running.played.notes().heeded, [(one.clone(), one)]);
}

fn cancelled() -> Outcome {
    Outcome::Cancelled { standing: Standing::Before, backup: Some(snapshot_id(9)), restore: RestoreNumber(3) }
}

#[tokio::test]
async fn a_repeated_command_has_its_report_sent_again_in_the_same_session() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    running.played.report(1, operation(), StepKind::Apply, cancelled());
    assert_eq!(session.report().await.sequence, 1);
    session.say(Down::Command(command(link::Step::Apply))).await;
    assert_eq!(session.report().await.sequence, 1, "the same report, for the repetition");
}

#[tokio::test]
async fn a_command_that_cannot_be_read_is_refused_and_never_reaches_the_host() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    session
        .say(Down::Command(link::Command { snapshot: "x".to_owned(), ..command(link::Step::Apply) }))
        .await;
    let report = session.report().await;
    assert_eq!((report.sequence, report.key), (0, command(link::Step::Apply).key));
    let Some(link::report::Outcome::Refused(refused)) = report.outcome else { panic!("not refused") };
    assert_eq!(refused.reason, "INVALID_ARGUMENT");
    assert_eq!(refused.message, "snapshot: \"x\" is not a digest: 64 hexadecimal digits are needed");
    assert!(running.played.notes().commands.is_empty());
}

#[tokio::test]
async fn what_the_journal_did_not_take_ends_the_session_so_that_it_is_sent_again() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    running.played.journal_fails.store(true, Ordering::SeqCst);
    let mut session = coordinator.session().await;
    session.say(Down::Command(command(link::Step::Cut))).await;
    let ended = async { while let Ok(Some(_)) = session.up.message().await {} };
    tokio::time::timeout(SOON, ended).await.expect("the agent ends the session");
    running.played.journal_fails.store(false, Ordering::SeqCst);
    let mut session = coordinator.session().await;
    session.say(Down::Command(command(link::Step::Cut))).await;
    session.heard().await;
    assert_eq!(running.played.notes().commands.len(), 1);
}

#[tokio::test]
async fn progress_and_what_is_in_flight_are_told() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    running.played.restoring(operation(), Phase::Staging, 3);
    let progress = session.next(|message| if let Up::Progress(p) = message { Some(p) } else { None }).await;
    assert_eq!((progress.phase.as_str(), progress.steps_done, progress.steps_total), ("staging", 3, 10));
    drop(session);
    let session = coordinator.session().await;
    assert_eq!(
        session.hello.in_flight,
        command(link::Step::Apply).key,
        "the restore goes on without a session"
    );
}

#[tokio::test]
async fn health_is_told_when_it_changes_and_at_the_interval_that_the_coordinator_wants() {
    // Longer than anything here waits: what is told is told because it changed.
    let manner = Manner { health_interval: Some(Duration::from_secs(3600)), ..Manner::default() };
    let (_fleet, mut coordinator, running) = start(manner).await;
    let mut session = coordinator.session().await;
    assert_eq!(session.health().await.health(), v1::Health::Unknown);
    for (known, told) in [(Health::Good, v1::Health::Good), (Health::Bad, v1::Health::Bad)] {
        running.health.send_replace(well(known));
        while session.health().await.health() != told {}
    }
    drop((session, running));

    let manner = Manner { health_interval: Some(Duration::from_millis(100)), ..Manner::default() };
    let (_fleet, mut coordinator, _running) = start(manner).await;
    let mut session = coordinator.session().await;
    for _ in 0..5 {
        session.health().await;
    }
}

#[tokio::test]
async fn a_question_is_answered_without_being_journalled() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    let mut ask = async |snapshot: &str| {
        let selection = Some(v1::Selection { components: vec!["site".to_owned()], paths: Vec::new() });
        let question = link::PlanRestore { snapshot: snapshot.to_owned(), selection, choices: None };
        let question = Some(link::query::Question::PlanRestore(question));
        session.say(Down::Query(link::Query { query_id: snapshot.to_owned(), question })).await;
        let answer =
            session.next(|message| if let Up::QueryResult(r) = message { Some(r) } else { None }).await;
        assert_eq!(answer.query_id, snapshot);
        answer.answer.expect("an answer")
    };
    let link::query_result::Answer::Plan(plan) = ask("present").await else { panic!("no plan") };
    assert_eq!((plan.host.as_str(), plan.step_count, plan.bytes_to_write), ("web-1", 1, 1200));
    assert_eq!(plan.steps[0].description, "write /srv/site/index.html (1.2 KiB)");
    let link::query_result::Answer::Failure(failure) = ask("absent").await else { panic!("no failure") };
    assert_eq!(
        (failure.reason.as_str(), failure.message.as_str()),
        ("SNAPSHOT_NOT_FOUND", "snapshot \"absent\" is not in the store")
    );
    assert!(running.played.notes().commands.is_empty());
}

#[tokio::test]
async fn an_agent_comes_back_to_a_coordinator_that_was_restarted() {
    let (fleet, mut coordinator, running) = start(Manner::default()).await;
    let session = coordinator.session().await;
    let addr = coordinator.addr;
    drop((session, coordinator));
    let mut state = running.state.clone();
    let lost = tokio::time::timeout(SOON, state.wait_for(|state| !state.is_connected())).await;
    lost.expect("noticed in time").expect("the session runs");
    running.played.report(1, operation(), StepKind::Apply, cancelled());
    until("the agent finds nobody", || running.state.borrow().to_string().contains("cannot be reached"))
        .await;
    let shown = running.state.borrow().to_string();
    assert!(shown.starts_with("not connected since "), "{shown}");

    let mut coordinator = Coordinator::start_at(&fleet, Manner::default(), addr).await;
    let mut session = coordinator.session().await;
    assert_eq!(session.report().await.sequence, 1, "what was finished meanwhile is told");
}

#[tokio::test]
async fn the_coordinator_paces_who_comes_back() {
    let manner = Manner::default();
    let overloaded = Failure::new(Reason::Overloaded, "ten thousand agents are coming back");
    manner.refuse.lock().expect("no panic").push(overloaded.retry_after(Duration::from_millis(1500)));
    let start_time = Instant::now();
    let (_fleet, mut coordinator, running) = start(manner).await;
    until("refused once", || running.state.borrow().to_string().contains("ten thousand agents")).await;
    coordinator.session().await;
    assert!(start_time.elapsed() >= Duration::from_millis(1500), "never sooner than asked for");
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_one_does_not_answer() {
    let fleet = Fleet::new();
    let mut coordinator = Coordinator::start(&fleet, Manner::default()).await;
    let nobody = Target::parse("https://127.0.0.1:1").expect("a valid address");
    let _running = run(fleet.open(&agent("web-1")), vec![nobody, coordinator.target()]);
    coordinator.session().await;
}

#[tokio::test]
async fn a_new_certificate_is_used_within_five_seconds() {
    let (fleet, mut coordinator, _running) = start(Manner::default()).await;
    let first = coordinator.session().await;
    fleet.issue(&agent("web-1"));
    let second = coordinator.session_within(Duration::from_secs(5)).await.expect("connected anew in time");
    assert_ne!(second.peer.serial, first.peer.serial);
    assert_eq!(second.peer.identity, agent("web-1"));
}

#[tokio::test]
async fn an_expired_certificate_is_named_whenever_it_is_asked_and_a_new_one_connects_by_itself() {
    let fleet = Fleet::new();
    let mut coordinator = Coordinator::start(&fleet, Manner::default()).await;
    let credentials = fleet.issue_for(&agent("web-1"), Duration::from_secs(1));
    let begun = Instant::now();
    until("it has expired", || begun.elapsed() > Duration::from_secs(2)).await;
    let running = run(follow(credentials), vec![coordinator.target()]);
    let mut state = running.state.clone();
    let is_named = |state: &LinkState| state.to_string().contains("xpire");
    tokio::time::timeout(SOON, state.wait_for(is_named)).await.expect("in time").expect("it runs");
    // While it tries again and again, too.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(is_named(&state.borrow()), "{}", *state.borrow());
    }
    fleet.issue(&agent("web-1"));
    coordinator.session().await;
}

#[tokio::test]
async fn an_agent_does_not_speak_for_another_host() {
    let fleet = Fleet::new();
    let nobody = vec![Target::parse("https://127.0.0.1:1").expect("a valid address")];
    let (_health, receiver) = watch::channel(well(Health::Unknown));
    let played = Arc::new(Played::default());
    let refused = Session::new(host(&played, receiver), fleet.open(&agent("web-2")), nobody);
    let failure = refused.err().expect("must be refused");
    assert_eq!(failure.message, "the certificate is of agent/web-2, but the configured host is web-1");
}

#[tokio::test]
async fn an_agent_that_stops_ends_its_session() {
    let (_fleet, mut coordinator, running) = start(Manner::default()).await;
    let mut session = coordinator.session().await;
    running.stop.cancel();
    let ended = async { while let Ok(Some(_)) = session.up.message().await {} };
    tokio::time::timeout(SOON, ended).await.expect("the session ends");
    until("it says so", || *running.state.borrow() == LinkState::Stopped).await;
}
