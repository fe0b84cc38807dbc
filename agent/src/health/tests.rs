//! Checks against real sockets, and a host whose checks change.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rfs_model::{Health, RestoreNumber};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{HealthCheck, Probe, Program};
use crate::engine::LocalHealth as _;

/// Ends every program as it was told to.
struct Scripted(Ended);

impl RunsPrograms for Scripted {
    fn run(&self, _program: &Program, _timeout: Duration) -> Ended {
        self.0.clone()
    }
}

fn nothing() -> Arc<dyn RunsPrograms> {
    Arc::new(Scripted(Ended::NotRun("not in this test".to_owned())))
}

/// A small HTTP service that answers with the status that it is set to; 0 is no answer at all.
async fn service(status: Arc<AtomicU16>, asked: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let addr = listener.local_addr().expect("a bound port");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            asked.fetch_add(1, Ordering::SeqCst);
            let status = status.load(Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = tcp.read(&mut request).await;
                if status == 0 {
                    return std::future::pending().await;
                }
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: /\r\n\r\n");
                let _ = tcp.write_all(answer.as_bytes()).await;
            });
        }
    });
    addr
}

fn check(name: &str, probe: Probe) -> HealthCheck {
    HealthCheck {
        name: name.to_owned(),
        probe,
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(200),
        healthy_after: 1,
        unhealthy_after: 1,
        required: true,
    }
}

fn http(url: String) -> HealthCheck {
    check("http", Probe::Http { url, status: None })
}

async fn measure(check: HealthCheck, programs: Arc<dyn RunsPrograms>) -> Measurement {
    let checks = [check];
    Prober::new(&checks, programs).measure(&checks[0]).await
}

#[tokio::test]
async fn an_http_answer_is_judged_by_its_status() {
    let status = Arc::new(AtomicU16::new(0));
    let addr = service(status.clone(), Arc::default()).await;
    let url = format!("http://{addr}/healthz");
    for (answer, expected) in
        [(200, Health::Good), (302, Health::Good), (404, Health::Bad), (503, Health::Bad)]
    {
        status.store(answer, Ordering::SeqCst);
        let measured = measure(http(url.clone()), nothing()).await;
        assert_eq!(measured.health, expected, "{answer}");
        assert!(measured.evidence.starts_with(&format!("GET {url} answered {answer} in ")), "{measured:?}");
    }
    let only_503 = Probe::Http { url: url.clone(), status: Some(BTreeSet::from([503])) };
    assert_eq!(measure(check("http", only_503), nothing()).await.health, Health::Good);

    status.store(0, Ordering::SeqCst);
    let measured = measure(http(url.clone()), nothing()).await;
    assert_eq!(measured.health, Health::Bad);
    assert_eq!(measured.evidence, format!("GET {url} did not answer within 200 ms"));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_bad_and_says_so() {
    let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let addr = free.local_addr().expect("a bound port");
    let tcp = || check("tcp", Probe::Tcp { address: addr.to_string() });
    let measured = measure(tcp(), nothing()).await;
    assert_eq!(measured.health, Health::Good);
    assert!(measured.evidence.starts_with(&format!("{addr} accepted in ")), "{measured:?}");
    drop(free);
    let measured = measure(tcp(), nothing()).await;
    assert_eq!(measured.health, Health::Bad);
    assert_eq!(measured.evidence, format!("{addr}: Connection refused (os error 111)"));
    let measured = measure(http(format!("http://{addr}/")), nothing()).await;
    assert_eq!(measured.health, Health::Bad);
    assert_eq!(measured.evidence, format!("GET http://{addr}/ failed: Connection refused (os error 111)"));
}

#[tokio::test]
async fn a_program_is_judged_by_how_it_ended() {
    let exit = |code, output: &str| Ended::Exit { code, output: output.to_owned() };
    let killed = Ended::Killed { by: "signal 9".to_owned(), output: String::new() };
    for (ended, health, evidence) in [
        (exit(0, ""), Health::Good, "probe exited with 0 in "),
        (exit(2, "first\nlast\n\n"), Health::Bad, "probe exited with 2: last"),
        (killed, Health::Bad, "probe was ended by signal 9"),
        (Ended::TimedOut, Health::Bad, "probe did not end within 200 ms and was killed"),
        (Ended::NotRun("no such file".to_owned()), Health::Unknown, "probe could not be run: no such file"),
    ] {
        let program = Program::from_argv(vec!["probe".to_owned()]).expect("a program");
        let measured = measure(check("command", Probe::Command { program }), Arc::new(Scripted(ended))).await;
        assert_eq!(measured.health, health, "{evidence}");
        assert!(measured.evidence.starts_with(evidence), "{measured:?}");
    }
}

#[tokio::test]
async fn a_program_on_this_host_is_run_and_killed_with_all_that_it_started() {
    let run = async |line: &str| {
        let program = Program::from_shell(line);
        measure(check("command", Probe::Command { program }), Arc::new(HostPrograms::default())).await
    };
    assert_eq!(run("true").await.health, Health::Good);
    let failed = run("echo lost; exit 3").await;
    assert_eq!(
        (failed.health, failed.evidence.as_str()),
        (Health::Bad, "echo lost; exit 3 exited with 3: lost")
    );
    let start = Instant::now();
    let late = run("sleep 60 & wait").await;
    assert_eq!(late.evidence, "sleep 60 & wait did not end within 200 ms and was killed");
    assert!(start.elapsed() < Duration::from_secs(5), "the timeout holds");

    let program = Program::from_argv(vec!["/nowhere/probe".to_owned()]).expect("a program");
    let missing = check("command", Probe::Command { program });
    let missing = measure(missing, Arc::new(HostPrograms::default())).await;
    let expected = "/nowhere/probe could not be run: No such file or directory (os error 2)";
    assert_eq!((missing.health, missing.evidence.as_str()), (Health::Unknown, expected));
}

fn start(checks: Vec<HealthCheck>) -> Monitor {
    let prober = Prober::new(&checks, nothing());
    Monitor::start(checks, &prober, &CancellationToken::new())
}

#[tokio::test]
async fn the_host_is_as_well_as_the_worst_of_its_required_checks() {
    let status = Arc::new(AtomicU16::new(200));
    let addr = service(status.clone(), Arc::default()).await;
    let advisory = check("advisory", Probe::Tcp { address: "127.0.0.1:1".to_owned() });
    let advisory = HealthCheck { required: false, ..advisory };
    let monitor = start(vec![http(format!("http://{addr}/")), advisory]);
    let mut health = monitor.health();
    let mut until = async |expected| {
        let found = tokio::time::timeout(Duration::from_secs(5), health.wait_for(|h| h.health == expected));
        found.await.expect("in time").expect("the monitor lives").clone()
    };
    assert_eq!(until(Health::Unknown).await.checks[0].evidence, "not measured yet");
    until(Health::Good).await;
    status.store(500, Ordering::SeqCst);
    let bad = until(Health::Bad).await;
    assert!(bad.checks[0].evidence.contains("answered 500"), "{bad:?}");
    assert_eq!((bad.checks[1].health, bad.checks[1].required), (Health::Bad, false));
    status.store(200, Ordering::SeqCst);
    until(Health::Good).await;
}

#[tokio::test]
async fn a_host_without_required_checks_is_unknown() {
    assert_eq!(start(Vec::new()).health().borrow().health, Health::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn waiting_for_good_counts_only_what_is_measured_from_then_on_and_hurries() {
    let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
    let addr = service(status.clone(), asked.clone()).await;
    let check = HealthCheck { interval: Duration::from_secs(3600), ..http(format!("http://{addr}/")) };
    let monitor = start(vec![check]);
    let wait = |limit: Duration, cancelled: bool| {
        let monitor = monitor.clone();
        tokio::task::spawn_blocking(move || {
            monitor.wait_until_good(Instant::now() + limit, &move || cancelled)
        })
    };
    wait(Duration::from_secs(5), false).await.expect("no panic").expect("good");
    let before = asked.load(Ordering::SeqCst);
    wait(Duration::from_secs(5), false).await.expect("no panic").expect("good again");
    assert!(asked.load(Ordering::SeqCst) > before, "the earlier measurement does not count");

    status.store(500, Ordering::SeqCst);
    let bad = wait(Duration::from_millis(700), false).await.expect("no panic").expect_err("bad");
    assert!(bad.summary.starts_with(&format!("http: GET http://{addr}/ answered 500 in ")), "{bad}");
    let recovering = wait(Duration::from_secs(10), false);
    status.store(200, Ordering::SeqCst);
    recovering.await.expect("no panic").expect("good in spite of an interval of an hour");

    status.store(500, Ordering::SeqCst);
    let start = Instant::now();
    wait(Duration::from_secs(60), true).await.expect("no panic").expect_err("cancelled");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn without_a_runtime_the_checks_run_on_a_thread_of_their_own() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound port").to_string();
    let checks = vec![check("tcp", Probe::Tcp { address })];
    let health = Background::start(checks, nothing()).expect("a thread");
    health.wait_until_good(Instant::now() + Duration::from_secs(5), &|| false).expect("good");
    drop(listener);
    health.wait_until_good(Instant::now() + Duration::from_millis(300), &|| false).expect_err("bad");
}

#[tokio::test]
async fn after_a_restore_everything_is_measured_at_once_and_then_each_second() {
    let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
    let addr = service(status.clone(), asked.clone()).await;
    let slow = HealthCheck {
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(600),
        healthy_after: 2,
        unhealthy_after: 3,
        ..http(format!("http://{addr}/"))
    };
    let monitor = start(vec![slow]);
    let mut health = monitor.health();
    let mut until = async |what: &str, so: &dyn Fn(&HostHealth) -> bool| {
        let found = tokio::time::timeout(Duration::from_secs(30), health.wait_for(|now| so(now)));
        found.await.unwrap_or_else(|_| panic!("not in time: {what}")).expect("the monitor lives").clone()
    };
    until("good", &|now| now.health == Health::Good).await;
    let before = asked.load(Ordering::SeqCst);

    status.store(503, Ordering::SeqCst);
    monitor.restore_ended(RestoreNumber(4));
    let ended = Instant::now();
    let unknown = until("forgotten", &|now| now.health == Health::Unknown).await;
    assert_eq!((unknown.after, unknown.measured), (RestoreNumber(4), None));
    let bad = until("bad", &|now| now.health == Health::Bad).await;
    assert!(bad.measured.is_some_and(|began| began >= ended), "{bad:?}");
    assert_eq!((bad.after, asked.load(Ordering::SeqCst) - before), (RestoreNumber(4), 3));
    assert!(ended.elapsed() >= Duration::from_secs(2), "the thresholds apply, a second apart");

    // What is being measured when the next restore ends never answers, and is not waited for.
    status.store(0, Ordering::SeqCst);
    monitor.restore_ended(RestoreNumber(5));
    let waits = asked.load(Ordering::SeqCst);
    while asked.load(Ordering::SeqCst) == waits {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    status.store(200, Ordering::SeqCst);
    monitor.restore_ended(RestoreNumber(6));
    let good = until("good again", &|now| now.health == Health::Good).await;
    assert_eq!(good.after, RestoreNumber(6));
}

/// Answers each run as the test says, and notes whether two ran at once.
struct Held {
    answers: std::sync::Mutex<std::sync::mpsc::Receiver<i32>>,
    began: std::sync::mpsc::Sender<()>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl RunsPrograms for Held {
    fn run(&self, _program: &Program, _timeout: Duration) -> Ended {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let _ = self.began.send(());
        let code = self.answers.lock().expect("no panic").recv().unwrap_or(0);
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ended::Exit { code, output: String::new() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_program_that_runs_when_a_restore_ends_is_let_end_and_what_it_says_is_thrown_away() {
    let ((answer, answers), (began, runs)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let held = Arc::new(Held { answers: std::sync::Mutex::new(answers), began, running, most });
    let program = Program::from_shell("probe");
    let checks = vec![HealthCheck {
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(600),
        ..check("command", Probe::Command { program })
    }];
    let prober = Prober::new(&checks, held.clone());
    let monitor = Monitor::start(checks, &prober, &CancellationToken::new());
    let mut health = monitor.health();
    let next = || runs.recv_timeout(Duration::from_secs(30)).expect("it is run");
    next();
    monitor.restore_ended(RestoreNumber(1));
    // It began before, and what it says would be good at once.
    answer.send(0).expect("it waits");
    next();
    assert_eq!(health.borrow().health, Health::Unknown);
    answer.send(1).expect("it waits");
    let bad = tokio::time::timeout(Duration::from_secs(30), health.wait_for(|now| now.health == Health::Bad));
    assert_eq!(bad.await.expect("in time").expect("the monitor lives").after, RestoreNumber(1));
    assert_eq!(held.most.load(Ordering::SeqCst), 1, "never two at once");
    drop(answer);
}
