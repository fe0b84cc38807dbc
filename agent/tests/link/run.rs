//! The whole agent around a played engine: what it does first, what it serves, and how it ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rfs_agent::config::{self, Config};
use rfs_agent::engine::Phase;
use rfs_agent::local::LocalClient;
use rfs_agent::run::{Opened, SOCKET, run_until};
use rfs_link::Failure;
use rfs_model::time::SystemClock;
use rfs_proto::v1;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Fleet, Manner, SOON, agent};
use crate::host::{Played, operation};

fn config(dir: &Path, link: &str) -> Config {
    let text = format!(
        "[host]\nname = \"web-1\"\nlabels = {{ role = \"web\" }}\n{link}\n[store]\npath = \"{dir}/store\"\n\
         [[component]]\nname = \"site\"\nkind = \"files\"\npaths = [\"{dir}/site\"]\n\
         [[health]]\nname = \"up\"\nkind = \"command\"\ncommand = \"true\"\ninterval = \"1s\"\nhealthy_after = 1\n",
        dir = dir.display()
    );
    config::parse(&text, &dir.join("agent.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn link(fleet: &Fleet, endpoint: &str) -> String {
    let files = fleet.issue(&agent("web-1"));
    format!(
        "[coordinator]\nendpoints = [\"{endpoint}\"]\n\
         [tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        files.ca.display(),
        files.certificate.display(),
        files.key.display()
    )
}

type Ending = tokio::task::JoinHandle<Result<(), Failure>>;

fn start(config: Config, played: &Arc<Played>, recovered: &Arc<AtomicBool>) -> (Ending, CancellationToken) {
    let stop = CancellationToken::new();
    let (played, recovered) = (played.clone(), recovered.clone());
    let ending = tokio::spawn({
        let stop = stop.clone();
        async move {
            let open = move |_health| {
                recovered.store(true, Ordering::SeqCst);
                let instance = crate::host::instance();
                Ok(Opened { instance, intake: played.clone(), administration: played, collector: None })
            };
            run_until(&config, Arc::new(SystemClock), open, stop).await
        }
    });
    (ending, stop)
}

async fn ended(ending: Ending, within: Duration) -> Result<(), Failure> {
    tokio::time::timeout(within, ending).await.expect("it ends in time").expect("no panic")
}

#[tokio::test]
async fn it_connects_serves_its_socket_and_stops_when_it_is_told() {
    let (fleet, dir) = (Fleet::new(), tempfile::tempdir().expect("a folder"));
    let mut coordinator = Coordinator::start(&fleet, Manner::default()).await;
    let config = config(dir.path(), &link(&fleet, &format!("https://{}", coordinator.addr)));
    let played = Arc::new(Played::default());
    let (ending, stop) = start(config, &played, &Arc::default());

    let mut session = coordinator.session().await;
    assert_eq!((session.hello.host.as_str(), session.hello.components[0].name.as_str()), ("web-1", "site"));
    let begun = Instant::now();
    while session.health().await.health() != v1::Health::Good {}
    assert!(begun.elapsed() < SOON);
    let path = dir.path().join("store").join(SOCKET);
    let status = tokio::task::spawn_blocking(move || {
        LocalClient::connect(&path).expect("it answers").expect("it serves").status()
    });
    let status = status.await.expect("no panic").expect("status");
    assert!(status.connected, "{}", status.link);
    assert_eq!(status.checks[0].name, "up");

    stop.cancel();
    ended(ending, Duration::from_secs(8)).await.expect("a good end");
    assert!(!dir.path().join("store").join(SOCKET).exists());
}

#[tokio::test]
async fn a_restore_at_work_is_let_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let played = Arc::new(Played::default());
    played.restoring(operation(), Phase::Flipping, 3);
    let (ending, stop) = start(config(dir.path(), ""), &played, &Arc::default());
    let socket = dir.path().join("store").join(SOCKET);
    while !socket.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    while !played.closing.load(Ordering::SeqCst) || socket.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!ending.is_finished(), "it waits");
    played.notes().state.activity = None;
    ended(ending, Duration::from_secs(5)).await.expect("a good end");
}

#[tokio::test]
async fn what_a_crash_left_is_recovered_also_when_the_link_cannot_be_set_up() {
    let (fleet, dir) = (Fleet::new(), tempfile::tempdir().expect("a folder"));
    let good = link(&fleet, "https://127.0.0.1:1");
    for (link, expected) in [
        (good.replace("web-1.key", "absent.key"), "cannot read "),
        (
            good.replace("web-1.", "main."),
            "the certificate is of coordinator/main, but the configured host is web-1",
        ),
    ] {
        fleet.issue(&rfs_link::Identity::Coordinator("main".parse().expect("a valid name")));
        let recovered = Arc::new(AtomicBool::new(false));
        let (ending, _stop) = start(config(dir.path(), &link), &Arc::default(), &recovered);
        let failure = ended(ending, SOON).await.expect_err("the link cannot be set up");
        assert!(failure.message.starts_with(expected), "{failure}");
        assert!(recovered.load(Ordering::SeqCst), "recovered before");
    }
}
