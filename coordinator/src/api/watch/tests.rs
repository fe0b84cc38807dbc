//! What watchers are sent adds up to the whole, costs what has changed, and fits into a message.

use std::time::Duration;

use futures_util::StreamExt as _;
use prost::Message as _;
use rfs_model::{Health, HostId};
use rfs_proto::v1;
use rfs_proto::watch::Held;
use rfs_rollout::{Command, Connected, Outside, Person, PersonAction, RollbackRequest};
use tokio::sync::watch;

use super::feed::Feed;
use super::*;
use crate::api::show;
use crate::driver::fleet::Progress;
use crate::play::{Play, failure, hosts};

/// What clients take at most unless they are told otherwise.
const LARGEST: usize = 4 << 20;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("a small number")
    }

    fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

/// One thing that can happen in an operation happens.
fn step(play: &mut Play, dice: &mut Dice, hosts: &[HostId]) {
    let host = dice.one(hosts).clone();
    let told: Vec<_> = play.wanted().into_iter().collect();
    let person = |action| Command::Person(Person { who: "operator/alice".into(), action });
    match dice.below(13) {
        12 => {
            play.outside = Arc::new(Outside { unknown: !play.outside.unknown, ..Outside::default() });
        }
        0 => play.passes(Duration::from_secs(dice.below(40) as u64)),
        1 => play.take(&[Command::Disconnected(host)]),
        2 | 3 => play.take(&[Command::Connected(Connected::plain(host))]),
        4 => {
            let health = *dice.one(&[Health::Good, Health::Bad]);
            play.take(&[play.health(&host, health, play.now, "http: as seen")]);
        }
        5..=7 if !told.is_empty() => {
            let (host, command) = dice.one(&told);
            let failure = (dice.below(5) == 0).then(|| failure(20));
            let answer = play.answer(host, command, failure);
            play.take(&[answer, play.health(host, Health::Good, play.now, "http: 200")]);
        }
        8 => play.all_answer(),
        9 => {
            let actions = [PersonAction::Pause, PersonAction::Resume, PersonAction::Promote { wave: None }];
            play.take(&[person(dice.one(&actions).clone())]);
        }
        10 if dice.below(10) == 0 => play.take(&[person(PersonAction::Abort)]),
        _ => {
            let phase = (*dice.one(&["stage", "flip"])).to_owned();
            let operation = play.operation.id();
            let progress = Progress { host, operation, phase, steps_done: 1, steps_total: 2 };
            let known = Arc::make_mut(&mut play.progress);
            if dice.below(4) == 0 {
                known.clear();
            } else {
                known.insert(progress.host.clone(), progress);
            }
        }
    }
}

/// A client that follows a feed.
struct Client<T> {
    held: Held<T>,
    seen: Option<u64>,
    whole: T,
}

impl<T: Shown + Clone> Client<T> {
    fn new() -> Self {
        Self { held: Held::default(), seen: None, whole: T::default() }
    }

    /// Takes all that there is, in messages of so many bytes.
    fn catches_up(&mut self, feed: &Feed<T>, large: usize) {
        let Some(mut parts) = feed.since(&mut self.seen).map(|parts| parts.in_messages_of(large)) else {
            return;
        };
        while let Some(message) = parts.next() {
            // Sent and read again, as over a wire.
            let message = T::decode(&message.encode_to_vec()[..]).expect("it was encoded a moment ago");
            if let Some(whole) = self.held.take(message) {
                self.whole = whole.clone();
            }
        }
    }
}

fn watched<T: Shown>(play: &Play) -> (watch::Sender<Option<View>>, Feed<T>) {
    let (driver, live) = watch::channel(None);
    (driver, Feed::new(play.view(), live))
}

/// Lets random things happen, and compares what three watchers hold with the whole whenever one has caught up.
fn check_walk<T: Shown + Clone + std::fmt::Debug>(
    mut play: Play,
    seed: u64,
    hosts: &[HostId],
    whole: fn(&View) -> T,
) {
    let mut dice = Dice(seed);
    let (driver, feed) = watched::<T>(&play);
    let mut clients = [Client::new(), Client::new(), Client::new()];
    for turn in 0..120 {
        step(&mut play, &mut dice, hosts);
        driver.send_replace(Some(play.view()));
        for (client, lag) in clients.iter_mut().zip([1, 4, 20]) {
            if turn == 119 || dice.below(lag) == 0 {
                client.catches_up(&feed, 1 + dice.below(4000));
                assert_eq!(client.whole, whole(&play.view()), "seed {seed}, turn {turn}");
            }
        }
    }
}

#[test]
fn what_watchers_hold_is_the_whole_at_every_moment_of_a_rollback() {
    for seed in 0..40 {
        let hosts = hosts(1 + seed as usize % 23, 12);
        let play = Play::rollback(&hosts, |_| {});
        check_walk(play, seed, &hosts, |view| {
            show::rollback(view.rollback().expect("one"), &view.progress, &view.outside)
        });
    }
}

#[test]
fn what_watchers_hold_is_the_whole_at_every_moment_of_a_checkpoint() {
    for seed in 0..20 {
        let hosts = hosts(1 + seed as usize % 23, 12);
        let play = Play::checkpoint(&hosts);
        check_walk(play, seed, &hosts, |view| {
            show::checkpoint(view.checkpoint().expect("one"), &view.progress)
        });
    }
}

#[test]
fn a_view_with_other_waves_begins_anew() {
    let few = hosts(3, 12);
    let play = Play::rollback(&few, |_| {});
    let (driver, feed) = watched::<v1::Rollback>(&play);
    let mut client = Client::new();
    client.catches_up(&feed, 1);
    let other = Play::rollback(&hosts(5, 12), |request: &mut RollbackRequest| {
        request.strategy = rfs_rollout::Strategy::Immediate;
    });
    driver.send_replace(Some(other.view()));
    client.catches_up(&feed, 1);
    assert_eq!(
        client.whole,
        show::rollback(other.view().rollback().expect("one"), &other.progress, &other.view().outside)
    );
    assert_eq!(client.whole.waves.len(), 1);
}

/// What was sent: in how many messages, how many bytes, and how large the largest was.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    messages: usize,
    bytes: usize,
    largest: usize,
}

impl Sent {
    fn take<T: Shown>(&mut self, feed: &Feed<T>, seen: &mut Option<u64>) {
        let Some(mut parts) = feed.since(seen) else { return };
        while let Some(message) = parts.next() {
            let bytes = message.encoded_len();
            self.messages += 1;
            self.bytes += bytes;
            self.largest = self.largest.max(bytes);
        }
    }
}

/// Ten thousand hosts with the longest names; all but the last hundred have told of a failure in many words.
fn large() -> Play {
    let hosts = hosts(10_000, 63);
    let mut play = Play::rollback(&hosts, |request| request.strategy = rfs_rollout::Strategy::Immediate);
    play.passes(Duration::from_secs(1));
    let told = play.wanted();
    assert_eq!(told.len(), hosts.len());
    let failed = told.iter().take(9_900);
    let said: Vec<_> = failed.map(|(host, command)| play.answer(host, command, Some(failure(400)))).collect();
    play.take(&said);
    play
}

#[test]
fn a_watch_of_ten_thousand_hosts_costs_what_changes_and_fits_into_messages() {
    let mut play = large();
    let whole = show::rollback(play.view().rollback().expect("one"), &play.progress, &play.view().outside)
        .encoded_len();
    assert!(whole > LARGEST, "{whole} bytes: this test needs more than one message takes");
    let (driver, feed) = watched::<v1::Rollback>(&play);
    let (mut first, mut seen) = (Sent::default(), None);
    first.take(&feed, &mut seen);
    println!("the whole: {whole} bytes; as parts: {first:?}");
    assert!(first.largest < LARGEST && first.messages > 1, "{first:?}");
    assert!(first.bytes < whole + whole / 50, "{first:?}");

    let mut slow = seen;
    let mut costs = Vec::new();
    for changes in [10, 40] {
        let mut sent = Sent::default();
        for (host, command) in play.wanted().iter().take(changes) {
            play.now = play.now.plus(Duration::from_secs(1));
            play.take(&[play.answer(host, command, Some(failure(400)))]);
            driver.send_replace(Some(play.view()));
            sent.take(&feed, &mut seen);
        }
        println!("{changes} changes: {sent:?}");
        assert_eq!(sent.messages, changes);
        assert!(sent.bytes < changes * 4000, "{sent:?}");
        costs.push(sent.bytes);
    }
    assert!(costs[1] < costs[0] * 5, "four times the changes: {costs:?}");
    let mut merged = Sent::default();
    merged.take(&feed, &mut slow);
    println!("all of them at once: {merged:?}");
    assert_eq!(merged.messages, 1);
    assert!(merged.bytes < costs[0] + costs[1], "{merged:?}");
}

#[test]
fn what_stands_above_waves_and_hosts_counts_in_a_message() {
    let hosts = hosts(10_000, 63);
    let mut play = Play::rollback(&hosts, |_| {});
    let Operation::Rollback(rollback) = Arc::make_mut(&mut play.operation) else { panic!("a rollback") };
    Arc::make_mut(&mut rollback.plan).left_out =
        hosts.iter().map(|host| (host.clone(), "x".repeat(250))).collect();
    let head = show::rollback_head(rollback).encoded_len();
    assert!((3 << 20..LARGEST).contains(&head), "{head} bytes: with a full message below, it is too much");
    let (_driver, feed) = watched::<v1::Rollback>(&play);
    let mut sent = Sent::default();
    sent.take(&feed, &mut None);
    assert!(sent.largest < LARGEST, "{sent:?}");
}

#[test]
fn a_checkpoint_of_ten_thousand_hosts_fits_into_messages() {
    let hosts = hosts(10_000, 63);
    let mut play = Play::checkpoint(&hosts);
    let told = play.wanted();
    play.take(
        &told
            .iter()
            .map(|(host, command)| play.answer(host, command, Some(failure(400))))
            .collect::<Vec<_>>(),
    );
    let (_driver, feed) = watched::<v1::Checkpoint>(&play);
    let mut sent = Sent::default();
    sent.take(&feed, &mut None);
    println!("{sent:?}");
    assert!(sent.bytes > LARGEST && sent.largest < LARGEST, "{sent:?}");
}

/// All that a stream has at this moment, and whether it has ended.
async fn at_hand<T>(stream: &mut Answers<T>) -> (Vec<T>, bool) {
    let mut messages = Vec::new();
    // Time is paused: what waits for time alone goes on at once.
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(60), stream.next()).await {
        match next {
            Some(message) => messages.push(message.expect("an open stream")),
            None => return (messages, true),
        }
    }
    (messages, false)
}

#[tokio::test(start_paused = true)]
async fn watchers_of_one_operation_share_a_feed_and_each_sees_its_end() {
    let hosts = hosts(4, 12);
    let mut play = Play::rollback(&hosts, |_| {});
    let (driver, live) = watch::channel(None);
    let feeds = Feeds::<v1::Rollback>::default();
    let follow = |play: &Play| Followed { first: play.view(), live: Some(live.clone()) };
    let mut early = changes(follow(&play), &feeds, None);
    let mut held = Held::default();
    let (messages, ended) = at_hand(&mut early).await;
    assert!(!ended && messages.iter().all(|message| message.part.is_some()));
    let seen: Vec<_> = messages.into_iter().filter_map(|message| held.take(message).cloned()).collect();
    assert_eq!(seen.len(), 1, "nothing has changed yet");
    play.passes(Duration::from_secs(1));
    driver.send_replace(Some(play.view()));
    let mut late = changes(follow(&play), &feeds, None);
    let shared = feeds.of(play.view(), &live);
    assert_eq!(Arc::strong_count(&shared), 3, "two watchers and this test");

    assert!(!play.wanted().is_empty(), "a host is at work");
    play.take(&[Command::Person(Person { who: "operator/alice".into(), action: PersonAction::Abort })]);
    play.all_answer();
    assert!(play.operation.finished(), "{:?}", play.history.last());
    driver.send_replace(Some(play.view()));
    let whole = show::rollback(play.view().rollback().expect("one"), &play.progress, &play.view().outside);
    for (stream, mut held) in [(&mut early, held), (&mut late, Held::default())] {
        let (messages, ended) = at_hand(stream).await;
        assert!(ended, "it ends with the outcome");
        let last = messages.into_iter().filter_map(|message| held.take(message).cloned()).last();
        assert_eq!(last.as_ref(), Some(&whole));
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_ends_before_the_outcome_is_no_end_of_the_operation() {
    let play = Play::rollback(&hosts(2, 12), |_| {});
    let (driver, live) = watch::channel(Some(play.view()));
    let followed = Followed { first: play.view(), live: Some(live) };
    let mut stream = changes(followed, &Feeds::<v1::Rollback>::default(), None);
    assert!(!at_hand(&mut stream).await.0.is_empty());
    drop(driver);
    let status = stream.next().await.expect("it is told").expect_err("not a message");
    assert!(status.message().contains("the operation is not over"), "{status}");
    assert!(stream.next().await.is_none());
}

#[test]
fn each_message_of_a_checkpoint_says_what_all_of_it_has_lost_since() {
    let hosts = hosts(40, 12);
    let mut play = Play::checkpoint(&hosts);
    for _ in 0..4 {
        let said: Vec<_> =
            play.wanted().iter().map(|(host, command)| play.answer(host, command, None)).collect();
        play.passes(Duration::from_secs(1));
        play.take(&said);
    }
    assert!(play.operation.finished(), "it is complete");
    let lost = |from: usize| hosts[from..from + 3].iter().map(|host| (host.clone(), play.now)).collect();
    let lost = || show::Lost { dropped: lost(0), forgotten: lost(20) };
    let mut parts = Parts::<v1::Checkpoint>::whole(play.view()).in_messages_of(1000);
    parts.correct(lost());
    let (mut held, mut messages) = (Held::default(), 0);
    let mut whole = None;
    while let Some(message) = parts.next() {
        messages += 1;
        assert_eq!(message.missing_count, 6, "message {messages}");
        whole = held.take(message).cloned();
    }
    assert!(messages > 3, "it is sent in {messages} messages");
    let mut shown = show::checkpoint(play.view().checkpoint().expect("one"), &play.progress);
    lost().correct(&mut shown);
    assert_eq!(whole, Some(shown));
}
