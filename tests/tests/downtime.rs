//! How long a service is down while its host is restored, as its own clients see it.
//!
//! Two hosts serve the same release over HTTP; the second has ten times as many files beside it that never change. Each
//! restore changes every path of the release. A client asks the service again and again, and what counts is the longest
//! time in which it had no answer. The service's own stop and start are measured the same way beside it.
//!
//! A busy machine makes everything slow, so what is asserted is a ratio of what was measured side by side. The figures
//! themselves, for a release of 5,000 files, are printed by `tests/bench downtime`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rfs_tests::bed::{Bed, BedHost};
use rfs_tests::wait::{RaiseAtEnd, until};
use serde_json::Value;

/// How many paths a release has, unless `RFS_DOWNTIME_FILES` says otherwise.
const FILES: usize = 500;
/// How often each thing is measured, unless `RFS_DOWNTIME_ROUNDS` says otherwise.
const ROUNDS: usize = 3;
/// How many times as many rounds a machine that is busy with other things is given.
const PATIENCE: usize = 4;

#[test]
fn a_service_is_down_no_longer_for_data_that_does_not_change() {
    let number = |name, usual| env::var(name).map_or(usual, |text| text.parse().expect("a number"));
    let (files, rounds) = (number("RFS_DOWNTIME_FILES", FILES), number("RFS_DOWNTIME_ROUNDS", ROUNDS));
    let bed = Bed::new(2);
    let few = Subject::new(&bed.hosts[0], files, 0);
    let many = Subject::new(&bed.hosts[1], files, 10 * files);
    let (mut alone, mut beside) = (Figures::default(), Figures::default());
    for round in 0..rounds * PATIENCE {
        // Both see whatever else the machine is at.
        few.measure(round, &mut alone);
        many.measure(round, &mut beside);
        if round + 1 >= rounds && is_no_longer(&beside, &alone) {
            break;
        }
    }
    alone.print(&format!("{files} of {files} paths change"));
    beside.print(&format!("{files} of {} paths change", 11 * files));

    let no_longer = is_no_longer(&beside, &alone);
    let (alone, beside): (Vec<_>, Vec<_>) = (alone.down().collect(), beside.down().collect());
    assert!(
        no_longer,
        "down for {alone:?} alone, and for {beside:?} beside ten times as much that does not change"
    );
}

/// Whether there was a restore beside other data that took no longer than one without, give or take half.
///
/// One is enough: what a machine is busy with makes a restore longer, and never shorter.
fn is_no_longer(beside: &Figures, alone: &Figures) -> bool {
    beside.down().min() <= alone.down().max().map(|down| down.mul_f64(1.5))
}

/// A host, and two releases that it can be restored to.
struct Subject<'b> {
    host: &'b BedHost,
    files: usize,
    releases: [String; 2],
}

impl<'b> Subject<'b> {
    fn new(host: &'b BedHost, files: usize, unchanged: usize) -> Self {
        let site = host.site_files();
        fs::remove_dir_all(&site).and_then(|()| fs::create_dir(&site)).expect("the site can be written to");
        fs::write(site.join("health.txt"), "ok").expect("the site can be written to");
        write_files(&site.join("data"), unchanged, "kept");
        let releases = ["1", "2"].map(|version| {
            fs::write(site.join("index.html"), version).expect("the site can be written to");
            write_files(&site.join("release"), files - 1, version);
            capture(host)
        });
        Self { host, files, releases }
    }

    /// Measures one restart and one restore.
    fn measure(&self, round: usize, figures: &mut Figures) {
        let host = self.host;
        host.count_starts_and_stops();
        let ((), down) = watched(host.site_address(), || {
            assert_eq!((host.site("stop"), host.site("start")), (0, 0));
        });
        figures.restarts.push(down);
        assert_eq!(host.count_starts_and_stops(), (1, 1));

        let release = round % 2;
        let (said, down) = watched(host.site_address(), || {
            host.rfs_agent(["restore", &self.releases[release], "--output", "json"])
        });
        let receipt = said.json().unwrap_or_else(|| panic!("{said:?}"));
        assert_eq!((said.code, receipt["standing"].as_str()), (0, Some("TARGET")), "{receipt}");
        assert_eq!(
            receipt["steps"],
            self.files as u64 + 1,
            "every path of the release, and the service: {receipt}"
        );
        assert_eq!(host.count_starts_and_stops(), (1, 1), "it was stopped once");
        let served = ask(host.site_address()).expect("it runs");
        assert!(served.ends_with(&format!("\r\n\r\n{}", release + 1)), "it serves the target: {served}");
        figures.restores.push(Restore { down, receipt });
    }
}

fn write_files(folder: &Path, count: usize, text: &str) {
    for number in 0..count {
        let folder = folder.join((number / 200).to_string());
        if number % 200 == 0 {
            fs::create_dir_all(&folder).expect("the site can be written to");
        }
        // A new inode each time, as deploy tools make one.
        let (new, path) = (folder.join(".new"), folder.join(format!("{number}.txt")));
        let line = format!("{text} of {number}\n");
        fs::write(&new, line.repeat(1 + number % 100)).expect("the site can be written to");
        fs::rename(&new, &path).expect("the site can be written to");
    }
}

/// Captures, and returns the newest snapshot's id.
fn capture(host: &BedHost) -> String {
    let said = host.rfs_agent(["capture", "--output", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let captured = said.json().unwrap_or_else(|| panic!("{said:?}"));
    captured["snapshot"]["id"].as_str().unwrap_or_else(|| panic!("{captured}")).to_owned()
}

/// What was measured on one host.
#[derive(Default)]
struct Figures {
    restarts: Vec<Duration>,
    restores: Vec<Restore>,
}

/// One restore: how long clients had no answer, and what the agent says.
struct Restore {
    down: Duration,
    receipt: Value,
}

impl Restore {
    /// How long a phase took, by the agent's own account.
    fn phase(&self, name: &str) -> Duration {
        let phases = self.receipt["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let taken = phases.iter().filter(|phase| phase["phase"] == name);
        Duration::from_secs_f64(taken.filter_map(|phase| phase["seconds"].as_f64()).sum())
    }

    fn told(&self) -> Duration {
        Duration::from_secs_f64(self.receipt["downtime_seconds"].as_f64().unwrap_or_default())
    }
}

impl Figures {
    fn down(&self) -> impl Iterator<Item = Duration> {
        self.restores.iter().map(|restore| restore.down)
    }

    fn print(&self, title: &str) {
        let excess: Vec<f64> = {
            let restart = median(&self.restarts.iter().map(millis).collect::<Vec<_>>());
            self.restores.iter().map(|restore| millis(&restore.down) - restart).collect()
        };
        let of = |figure: &dyn Fn(&Restore) -> Duration| -> Vec<f64> {
            self.restores.iter().map(|restore| millis(&figure(restore))).collect()
        };
        println!("\n{title}; milliseconds, the median last");
        row("its own stop and start", &self.restarts.iter().map(millis).collect::<Vec<_>>());
        row("without an answer in a restore", &of(&|restore| restore.down));
        row("more than its stop and start", &excess);
        row("down, as the agent says", &of(&Restore::told));
        for phase in ["quiescing", "flipping", "starting"] {
            row(&format!("  {phase}"), &of(&|restore| restore.phase(phase)));
        }
    }
}

fn row(name: &str, values: &[f64]) {
    let each: String = values.iter().map(|value| format!("{value:9.1}")).collect();
    println!("{name:32}{each} |{:9.1}", median(values));
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn millis(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Does `work` while a client asks the service again and again, each time with a new connection, and says how long the
/// longest time was in which it asked and had no answer.
fn watched<T>(address: SocketAddr, work: impl FnOnce() -> T) -> (T, Duration) {
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            let mut last = until("the service answers", || ask(address).map(|_| Instant::now()));
            begun.store(true, Ordering::Release);
            let mut refused = false;
            loop {
                let over = done.load(Ordering::Acquire);
                let answered = ask(address).is_some();
                let now = Instant::now();
                if answered {
                    if refused {
                        longest = longest.max(now - last);
                    }
                    (last, refused) = (now, false);
                    if over {
                        return longest;
                    }
                } else {
                    refused = true;
                    assert!(now - last < rfs_tests::wait::HANG, "the service does not come back");
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let end = RaiseAtEnd(&done);
        until("the client asks", || begun.load(Ordering::Acquire).then_some(()));
        let result = work();
        drop(end);
        (result, client.join().expect("the client does not fail"))
    })
}

/// One request; none if it is not answered to the end.
fn ask(address: SocketAddr) -> Option<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: site\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200 ").then_some(answer)
}
