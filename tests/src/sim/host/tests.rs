//! What a simulated host remembers and answers, step by step.

use super::*;

struct Play {
    host: SimHost,
    now: Instant,
}

impl Play {
    fn new(rule: &str) -> Self {
        let mut script = Script::default();
        super::super::Rule::parse(rule).expect("a rule").apply(&mut script).expect("it was checked");
        let mut latencies = Latencies::default();
        latencies.set("apply=2s").expect("bounds");
        let made = Made {
            name: "h-1".into(),
            number: 1,
            labels: Vec::new(),
            instance: Uuid::now_v7(),
            script,
            latencies,
            check_interval: Duration::from_secs(10),
            seed: 7,
        };
        let now = Instant::now();
        Self { host: SimHost::new(made, now), now }
    }

    fn told(&mut self, operation: &str, generation: u64, step: Step, snapshot: Option<SnapshotId>) -> String {
        let key = CommandKey { operation_id: operation.into(), generation, step: step.into() };
        let timeout = Some(to_wire_duration(Duration::from_secs(60)));
        let snapshot = snapshot.map(|id| id.to_string()).unwrap_or_default();
        let command = Command { key: Some(key), timeout, snapshot, ..Default::default() };
        self.host.take(Down::Command(command), self.now);
        self.said(0)
    }

    /// The reports that it sends after so many seconds.
    fn said(&mut self, seconds: u64) -> String {
        self.now += Duration::from_secs(seconds);
        let mut say = Vec::new();
        self.host.act(self.now, &mut say);
        let reports = say.into_iter().filter_map(|message| match message {
            Up::Report(report) => Some(words(&report)),
            _ => None,
        });
        reports.collect::<Vec<_>>().join(", ")
    }
}

fn words(report: &Report) -> String {
    let sequence = report.sequence;
    match report.outcome.as_ref().expect("a report has an outcome") {
        Outcome::Prepared(_) => format!("{sequence} prepared"),
        Outcome::Captured(_) => format!("{sequence} captured"),
        Outcome::Finished(_) => format!("{sequence} finished"),
        Outcome::Restored(restored) => {
            let why =
                restored.failure.as_ref().map(|failure| format!(" {}", failure.reason)).unwrap_or_default();
            format!(
                "{sequence} {} after restore {}{why}",
                restored.standing().as_str_name(),
                restored.restore
            )
        }
        Outcome::Refused(failure) => format!("{sequence} refused {}", failure.reason),
        Outcome::Failed(failure) => format!("{sequence} failed {}", failure.reason),
    }
}

#[test]
fn a_checkpoint_holds_what_the_host_is_and_a_restore_brings_it_back() {
    let mut play = Play::new("all:good");
    assert_eq!(play.told("c", 1, Step::Prepare, None), "1 prepared");
    assert!(play.host.is_quiet());
    assert_eq!(play.told("c", 2, Step::Cut, None), "2 captured");
    assert_eq!(play.told("c", 3, Step::Finish, None), "3 finished");
    assert!(!play.host.is_quiet());
    let first = play.host.snapshot(1);
    play.host.deploy(2);
    assert_eq!(play.told("r", 5, Step::Apply, Some(first)), "", "it takes its time");
    assert_eq!((play.said(1), play.host.content()), (String::new(), 2));
    assert_eq!((play.said(1).as_str(), play.host.content()), ("4 TARGET after restore 1", 1));
    let backup = play.host.snapshot(2);
    assert_eq!(play.told("r", 7, Step::Revert, Some(backup)), "5 TARGET after restore 2");
    assert_eq!(play.host.effects(), ["apply 1", "revert 2"]);
}

#[test]
fn a_command_has_one_report_however_often_it_comes_and_an_older_one_has_no_effect() {
    let mut play = Play::new("all:good");
    assert_eq!(play.told("c", 2, Step::Prepare, None), "1 prepared");
    assert_eq!(play.told("c", 2, Step::Prepare, None), "1 prepared", "it may have been lost");
    play.host.take(Down::ReportAck(link::ReportAck { sequence: 1 }), play.now);
    assert_eq!(play.said(60), "", "what is acknowledged is forgotten");
    assert_eq!(play.told("b", 1, Step::Cut, None), "2 refused STALE_GENERATION");
    let welcome = link::Welcome { owner: "c".into(), ..Default::default() };
    play.host.begin_session(&welcome, play.now);
    assert_eq!(
        play.said(0),
        "2 refused STALE_GENERATION",
        "what is not acknowledged is sent again in a new session"
    );
}

#[test]
fn a_restore_that_is_stopped_or_fails_leaves_the_host_as_it_was() {
    let mut play = Play::new("all:good");
    play.host.hold();
    let target = play.host.snapshot(1);
    play.host.deploy(2);
    play.told("r", 1, Step::Apply, Some(target));
    let said = play.told("r", 2, Step::Cancel, None);
    assert_eq!(said, "1 BEFORE after restore 1 CANCELLED, 2 BEFORE after restore 1");
    play.host.script.fails = Play::new("all:fails=apply").host.script.fails;
    play.told("s", 5, Step::Apply, Some(target));
    assert_eq!(play.said(2), "3 BEFORE after restore 2 COMMAND_FAILED");
    assert_eq!(play.host.content(), 2);
    let unknown = play.host.snapshot(99);
    play.told("t", 9, Step::Apply, Some(unknown));
    assert_eq!(play.said(2), "4 refused SNAPSHOT_NOT_FOUND");
}

#[test]
fn a_host_that_falls_silent_begins_nothing_and_one_that_breaks_says_so() {
    let mut play = Play::new("all:silent=apply");
    play.host.hold();
    let target = play.host.snapshot(1);
    play.told("r", 1, Step::Apply, Some(target));
    assert_eq!(play.said(20), "");
    assert!(play.host.script.silent);
    let mut play = Play::new("all:breaks");
    play.host.hold();
    play.told("r", 1, Step::Apply, Some(target));
    assert_eq!(play.said(2), "1 INCONSISTENT after restore 1 INCONSISTENT");
    assert!(play.host.is_inconsistent() && play.host.hello().inconsistent);
}
