//! The whole agent with its real engine, in the hands of a played coordinator.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_agent::administration::Administrator;
use rfs_agent::commander::Commander;
use rfs_agent::config::{self, Config};
use rfs_agent::engine::{Clocks, Engine, NoLocalHealth};
use rfs_agent::local::{Administration, LocalClient, RestoreOrder};
use rfs_agent::run::{Opened, SOCKET, run_until};
use rfs_link::Failure;
use rfs_model::SnapshotId;
use rfs_model::time::SystemClock;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::v1;
use rfs_store::Cancel;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Fleet, Manner, SOON, Session, agent};
use crate::host::operation;

/// A host with a site in a temporary folder, and an agent for it.
pub(crate) struct Real {
    dir: tempfile::TempDir,
    fleet: Fleet,
    pub(crate) coordinator: Coordinator,
    /// More keys of the component, and sections after it.
    more: String,
}

/// An agent that runs until it is stopped.
pub(crate) struct Running {
    stop: CancellationToken,
    ending: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(SOON, self.ending).await;
        ended.expect("it ends in time").expect("no panic").expect("a good end");
    }
}

impl Real {
    pub(crate) async fn new(more: &str, manner: Manner) -> Self {
        let (fleet, dir) = (Fleet::new(), tempfile::tempdir().expect("a folder"));
        let coordinator = Coordinator::start(&fleet, manner).await;
        fs::create_dir(dir.path().join("site")).expect("writable");
        let more = more.replace("ROOT", &dir.path().display().to_string());
        let real = Self { dir, fleet, coordinator, more };
        real.deploy("v1");
        real
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn deploy(&self, release: &str) {
        fs::write(self.path("site/release"), release).expect("writable");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    fn config(&self) -> Config {
        let files = self.fleet.issue(&agent("web-1"));
        let (dir, addr) = (self.dir.path().display(), self.coordinator.addr);
        let [ca, certificate, key] =
            [&files.ca, &files.certificate, &files.key].map(|path| path.display().to_string());
        let text = format!(
            "[host]\nname = \"web-1\"\n[coordinator]\nendpoints = [\"https://{addr}\"]\n\
             [tls]\nca = \"{ca}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
             [store]\npath = \"{dir}/store\"\n\
             [[component]]\nname = \"site\"\nkind = \"files\"\npaths = [\"{dir}/site\"]\n{}\n",
            self.more
        );
        config::parse(&text, Path::new("/etc/rfs/agent.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Captures, with no agent running.
    pub(crate) async fn capture(&self) -> SnapshotId {
        let config = self.config();
        let capture = move || {
            let clocks = Clocks::of_this_machine();
            let engine = Engine::open(config, clocks, Arc::new(NoLocalHealth)).expect("opens").engine;
            let taken = engine.capture(&Default::default(), "test", operation(), &Cancel::new());
            taken.expect("captures").info.id
        };
        tokio::task::spawn_blocking(capture).await.expect("no panic")
    }

    pub(crate) fn start(&self) -> Running {
        let config = self.config();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let ending = tokio::spawn(async move {
            let opened = config.clone();
            let open = move |health| {
                let engine = Engine::open(opened, Clocks::of_this_machine(), health)?.engine;
                let instance = engine.instance()?;
                let engine = Arc::new(engine);
                let intake = Commander::start(engine.clone()).expect("starts");
                let administration = Arc::new(Administrator::new(engine));
                Ok(Opened { instance, intake, administration, collector: None })
            };
            run_until(&config, Arc::new(SystemClock), open, stopping).await
        });
        Running { stop, ending }
    }

    /// Does something on the host, as the command line does: through the socket.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(LocalClient) -> T + Send + 'static,
    ) -> T {
        let socket = self.path("store").join(SOCKET);
        let ask = move || ask(LocalClient::connect(&socket).expect("it answers").expect("it serves"));
        tokio::task::spawn_blocking(ask).await.expect("no panic")
    }
}

pub(crate) fn command(step: link::Step, generation: u64, snapshot: &str) -> Down {
    let key = link::CommandKey { operation_id: operation().to_string(), generation, step: step.into() };
    Down::Command(link::Command {
        key: Some(key),
        timeout: Some(rfs_proto::convert::to_wire_duration(Duration::from_secs(300))),
        selection: None,
        snapshot: snapshot.to_owned(),
        reason: "test".to_owned(),
        quiesce_timeout: None,
        choices: None,
    })
}

pub(crate) fn restored(report: link::Report) -> link::Restored {
    match report.outcome {
        Some(link::report::Outcome::Restored(restored)) => restored,
        other => panic!("not restored: {other:?}"),
    }
}

async fn snapshots(session: &mut Session) -> Vec<String> {
    let list = session.next(|message| if let Up::Snapshots(list) = message { Some(list) } else { None });
    let list = list.await;
    assert!(!list.cut);
    let id = |id: Vec<u8>| SnapshotId(rfs_model::Digest::from_bytes(id.try_into().expect("32 bytes")));
    list.ids.into_iter().map(|bytes| id(bytes).to_string()).collect()
}

/// Sends health as often as it can be asked for.
fn often() -> Manner {
    Manner { health_interval: Some(Duration::from_millis(100)), ..Manner::default() }
}

/// With the defaults of a check: every 10 s, three bad in a row.
const WELL: &str = "[[health]]\nname = \"release\"\nkind = \"command\"\ncommand = \"grep -q good ROOT/site/release\"\nhealthy_after = 2\n";

#[tokio::test]
async fn nothing_that_was_measured_before_a_restore_is_told_after_its_report() {
    let mut real = Real::new(WELL, often()).await;
    real.deploy("ill");
    let ill = real.capture().await.to_string();
    real.deploy("good");
    let running = real.start();
    let mut session = real.coordinator.session().await;
    assert_eq!((session.hello.snapshot.as_str(), session.hello.in_flight.as_ref()), ("", None));
    let good = loop {
        let health = session.health().await;
        if health.health() == v1::Health::Good {
            break health;
        }
    };
    assert_eq!(good.after_restore, 0);
    assert!(good.measured_age.is_some() && good.health_age.is_some(), "{good:?}");

    session.say(command(link::Step::Apply, 7, &ill)).await;
    let told = restored(session.report().await);
    assert_eq!((told.standing(), told.restore), (link::restored::Standing::Target, 1));
    let begun = Instant::now();
    loop {
        let health = session.health().await;
        assert_ne!(health.health(), v1::Health::Good, "it was measured before the restore: {health:?}");
        assert_eq!(health.after_restore, told.restore, "{health:?}");
        let age = health.health_age.expect("it is told");
        assert!(u64::try_from(age.seconds).expect("an age") <= begun.elapsed().as_secs() + 1, "{age:?}");
        if health.health() == v1::Health::Bad {
            assert!(health.checks[0].begin_time.is_some() && health.measured_age.is_some());
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "three times, a second apart: {:?}", begun.elapsed());
    running.stop().await;

    // The next agent measures anew, after the same restore; and says where the host is, and that it is the same machine.
    let (instance, start) = (session.hello.instance_id.clone(), session.hello.start_id.clone());
    drop(session);
    let running = real.start();
    let mut session = real.coordinator.session().await;
    assert_eq!((&session.hello.instance_id, &session.hello.snapshot), (&instance, &ill));
    assert_ne!(session.hello.start_id, start);
    assert_eq!(session.health().await.after_restore, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_local_restore_makes_health_begin_anew_and_the_next_hello_names_its_target() {
    let mut real = Real::new(WELL, often()).await;
    real.deploy("good");
    let good = real.capture().await.to_string();
    let running = real.start();
    let mut session = real.coordinator.session().await;
    while session.health().await.health() != v1::Health::Good {}
    let order = RestoreOrder {
        snapshot: good.clone(),
        selection: Default::default(),
        timeout: None,
        force: false,
        choices: Default::default(),
    };
    real.ask(move |host| host.restore(&order, &|_| {})).await.expect("restores");
    let mut unknown = false;
    loop {
        let health = session.health().await;
        match (health.after_restore, health.health()) {
            (0, _) => assert!(!unknown),
            (1, v1::Health::Good) if unknown => break,
            (1, v1::Health::Unknown) => unknown = true,
            other => panic!("{other:?}: {health:?}"),
        }
    }
    drop(session);
    assert_eq!(real.coordinator.session().await.hello.snapshot, good);
    running.stop().await;
}

const KEEP_TWO: &str =
    "[retention]\nautomatic = false\nkeep_last = 2\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\n";

#[tokio::test]
async fn which_snapshots_are_there_is_told_first_and_whenever_one_is_lost() {
    let mut real = Real::new(KEEP_TWO, Manner::default()).await;
    let mut kept = vec![real.capture().await.to_string()];
    for release in ["two", "three", "four", "number five"] {
        real.deploy(release);
        kept.insert(0, real.capture().await.to_string());
    }
    let running = real.start();
    let mut session = real.coordinator.session().await;
    assert_eq!(snapshots(&mut session).await, kept, "the newest first");

    real.deploy("six");
    // What a report says was cut is in every list that is told after it.
    for step in [link::Step::Prepare, link::Step::Cut] {
        session.say(command(step, 7, "")).await;
        let report = session.report().await;
        if let Some(link::report::Outcome::Captured(cut)) = report.outcome {
            kept.insert(0, cut.snapshot);
        }
        session.say(Down::ReportAck(link::ReportAck { sequence: report.sequence })).await;
    }
    assert_eq!(kept.len(), 6);
    let deleted = kept.remove(3);
    real.ask(move |host| host.delete(&deleted)).await.expect("deletes");
    while snapshots(&mut session).await != kept {}
    session.say(command(link::Step::Finish, 7, "")).await;
    session.report().await;
    real.ask(|host| host.collect()).await.expect("collects");
    kept.truncate(2);
    while snapshots(&mut session).await != kept {}

    // The oldest loses its content, and a repair does not find it again.
    for pack in fs::read_dir(real.path("store/packs")).expect("readable").flatten() {
        let mut bytes = fs::read(pack.path()).expect("readable");
        if let Some(at) = bytes.windows(11).position(|found| found == b"number five") {
            bytes[at] ^= 1;
            fs::write(pack.path(), bytes).expect("writable");
        }
    }
    real.deploy("seven");
    let lost = real.ask(|host| host.repair()).await.expect("repairs").harmed;
    assert!(!lost.is_empty());
    kept.retain(|id| lost.iter().all(|lost| lost.to_string() != *id));
    while snapshots(&mut session).await != kept {}
    running.stop().await;

    drop(session);
    let running = real.start();
    let mut session = real.coordinator.session().await;
    assert_eq!(snapshots(&mut session).await, kept, "that is remembered");
    running.stop().await;
}

#[tokio::test]
async fn what_a_checkpoint_made_quiet_resumes_at_a_welcome_that_does_not_name_it() {
    let quiet = "quiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo resumed >> ROOT/log\"\n";
    let manner = Manner::default();
    let owner = manner.owner.clone();
    let mut real = Real::new(quiet, manner).await;
    let running = real.start();
    let mut session = real.coordinator.session().await;
    session.say(command(link::Step::Prepare, 7, "")).await;
    let report = session.report().await;
    assert!(matches!(report.outcome, Some(link::report::Outcome::Prepared(_))), "{report:?}");
    drop(session);
    // The coordinator goes on with it.
    *owner.lock().expect("no panic") = operation().to_string();
    let mut session = real.coordinator.session().await;
    session.say(command(link::Step::Cut, 7, "")).await;
    let is_cut = |message| match message {
        Up::Report(link::Report { outcome: Some(link::report::Outcome::Captured(_)), .. }) => Some(()),
        _ => None,
    };
    session.next(is_cut).await;
    assert_eq!(real.read("log"), "quiet\n");
    drop(session);
    // And now it knows nothing of it.
    owner.lock().expect("no panic").clear();
    let begun = Instant::now();
    let _session = real.coordinator.session().await;
    while real.read("log") != "quiet\nresumed\n" {
        assert!(begun.elapsed() < SOON, "it is quiet for as long as its time lasts");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.stop().await;
}
