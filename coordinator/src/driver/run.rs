//! One operation, driven: the loop around the pure functions.
//!
//! ```text
//! read history ─▶ ┌─▶ wanted ─▶ send ─▶ show ─▶ wait (inbox, timer) ─▶ decide ─▶ append ─▶ answer ─┐
//!                 └──────────────────────────────────────────────────────────────────────────────┘
//! ```

mod seats;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::{HostId, Timestamp};
use rfs_rollout::rollback::{COMPARING, RETURN};
use rfs_rollout::{Command, Connected, Event, GENERATIONS, Operation, Outside, PersonAction};
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::seats::{Comparing, KnownProgress, Seat, Unheard};
use super::dispatch::report_to_driver;
use super::error::OperationError;
use super::fleet::{Progress, SendError, Sighting};
use super::hand::{self, Decided, Hand};
use super::inbox::{Batch, Inbox};
use super::journal::{self, Appended, Journal, ReadError, Stopping};
use super::operations::Shared;
use super::places::Seen;
use super::view::{self, View};
use crate::store::Reserved;

/// The longest that the clock is not looked at while something is due.
pub const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);
/// How long a driver may be late to look at the clock before it takes it that nobody listened meanwhile: the process was
/// stopped, the machine was, or the store did not answer.
pub const STOOD_STILL: Duration = Duration::from_secs(5);
/// How long a history must rest before a driver that met another one takes it for gone.
pub const RIVAL_REST: Duration = Duration::from_secs(10);

/// How often the history is read while another driver is at it.
const STAND_BY: Duration = Duration::from_secs(1);
/// When a host whose session took no more is tried again.
const SEND_AGAIN: Duration = Duration::from_millis(250);
/// How often views show how far hosts are.
const SHOW_PROGRESS: Duration = Duration::from_millis(200);
/// Until when, after the last look, nothing new can have been heard if the process stood still since.
const HEARD: Duration = Duration::from_millis(1500);
/// How often hosts are looked at that pass once they were measured again.
const HEAR_AGAIN: Duration = Duration::from_millis(250);
/// How often hosts are looked at that were not heard since the coordinator listens again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// When generations are asked for again that could not be had.
const RESERVE_AGAIN: Duration = Duration::from_secs(1);
/// When a deadline is looked at again that brought nothing about.
const TICK_AGAIN: Duration = Duration::from_secs(1);
/// How often it is asked what others take of the budgets, although nobody has told of a change.
const OUTSIDE_AGAIN: Duration = Duration::from_secs(10);

/// Drives the operation of `inbox` until nothing is left to do. `begun` is its history, if it is known to be just begun.
pub(super) async fn drive(shared: Arc<Shared>, inbox: Inbox, begun: Option<Vec<Event>>) {
    let id = inbox.operation;
    let is_new = begun.is_some();
    let known = begun.as_ref().map_or(0, Vec::len);
    let mut journal = Journal::new(shared.store.clone(), shared.stop.clone(), id, known);
    let operation = match begun {
        Some(events) => match Operation::replay(&events) {
            Ok(operation) => operation,
            Err(error) => {
                error!(operation = %id, %error, "the history makes no sense; the operation holds still");
                return give_up(&shared, inbox);
            }
        },
        None => match journal.read().await {
            Ok(Some(operation)) => operation,
            Ok(None) => return no_such_operation(&shared, inbox),
            Err(ReadError::Stopping(_)) => return,
            Err(ReadError::Store(error)) => {
                error!(operation = %id, error = %Chain(&error), "the history cannot be read; the operation holds still");
                return give_up(&shared, inbox);
            }
        },
    };
    Driver::new(shared, inbox, journal, operation).run(is_new).await;
}

/// Nothing can be done about the operation before a person has looked. Reports stay with their agents.
fn give_up(shared: &Shared, inbox: Inbox) {
    shared.leaves(inbox.operation);
    shared.directory.close(inbox.operation, &[]);
}

fn no_such_operation(shared: &Arc<Shared>, inbox: Inbox) {
    let id = inbox.operation;
    shared.leaves(id);
    shared.directory.close(id, &[]);
    let left = inbox.close();
    for asked in left.decisions {
        let _ = asked.reply.send(Err(OperationError::NoOperation(id)));
    }
    for told in left.reports {
        report_to_driver(shared, told);
    }
}

struct Driver {
    shared: Arc<Shared>,
    inbox: Inbox,
    journal: Journal,
    operation: Arc<Operation>,
    /// What others took of the budgets at the last decision.
    outside: Arc<Outside>,
    /// In order; each has the seat of the same place.
    hosts: Vec<HostId>,
    seats: Vec<Seat>,
    progress: KnownProgress,
    /// The view is older than the operation.
    stale: bool,
    /// What is waited for was asked of an older operation.
    outdated: bool,
    /// There may be a command that a host's session has not been handed.
    unsent: bool,
    wake: Wake,
    /// Since when the history rests that another driver appended to.
    rival: Option<Timestamp>,
    /// Until when nothing is sent, so that hosts can be compared with the history first.
    comparing: Option<Comparing>,
    /// When the loop last looked at what there is.
    looked: Looked,
    /// Hosts that were not heard since the coordinator listens again: looked at until they are, since a host whose health is
    /// what it was is no news.
    unheard: Unheard,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
struct Looked {
    at: Timestamp,
    instant: Instant,
}

/// When to look up although nothing comes in.
#[derive(Debug, Default)]
struct Wake {
    /// When something is due, by the coordinator's clock.
    due: Option<Timestamp>,
    /// What is due brought nothing about.
    idle: bool,
    /// Hosts that are looked at until they were measured again, each from when on.
    hear: BTreeMap<HostId, Timestamp>,
    /// When they are looked at next.
    hear_at: Timestamp,
    /// Hosts for which generations are to be reserved.
    reserve: BTreeSet<HostId>,
    /// Until when they could not be had.
    reserve_at: Option<Instant>,
    /// Hosts that the store has given to the operation, and of which the history may know nothing.
    given: BTreeSet<HostId>,
    /// When it is asked again what others take, where they take something. That it is less than it was, is told.
    outside_at: Option<Timestamp>,
    /// A session took no more.
    send_again: bool,
    /// When the view is to show how far hosts are.
    show: Option<Instant>,
}

impl Driver {
    fn new(shared: Arc<Shared>, inbox: Inbox, journal: Journal, operation: Operation) -> Self {
        let hosts = view::hosts(&operation);
        shared.directory.concerns(inbox.operation, &hosts);
        let operation = Arc::new(operation);
        shared.stands(&operation);
        let looked = Looked { at: shared.clock.now(), instant: Instant::now() };
        Self {
            shared,
            inbox,
            journal,
            operation,
            outside: Arc::default(),
            seats: vec![Seat::default(); hosts.len()],
            hosts,
            progress: KnownProgress::default(),
            stale: true,
            outdated: true,
            unsent: true,
            wake: Wake::default(),
            rival: None,
            comparing: None,
            looked,
            unheard: Unheard::default(),
        }
    }

    async fn run(mut self, is_new: bool) {
        self.show();
        let mut hand = Hand::default();
        if !is_new {
            // One that died may have been given hosts of which the history knows nothing.
            if self.operation.finished() {
                self.wake.given = self.hosts.iter().cloned().collect();
            }
            self.compare_first();
            // Nothing was heard before this process listened.
            hand.seen.push(self.listen_from(self.shared.opened_at));
        }
        // Of one that is over only what is said of it now is decided: how its hosts are today proves nothing of then.
        if self.operation.open() {
            hand.seen.extend(self.look_at_everything());
        }
        loop {
            let retries = hand
                .batch
                .decisions
                .iter()
                .any(|asked| matches!(asked.person.action, PersonAction::Retry { .. }));
            if self.deal(hand).await.is_err() {
                return self.shared.directory.close(self.inbox.operation, &self.hosts);
            }
            if retries && self.operation.finished() && self.operation.open() {
                // How hosts are that are tried again was not stored since the outcome.
                let listening = Command::Listening { from: self.unheard.from };
                let seen = std::iter::once(listening).chain(self.look(self.hosts.clone())).collect();
                hand = Hand { seen, ..Hand::default() };
                continue;
            }
            if self.operation.open() && self.seats.iter().all(|seat| seat.seen.is_none()) {
                hand = Hand { seen: self.look_at_everything(), ..Hand::default() };
                continue;
            }
            self.release_left_over().await;
            self.reconcile();
            self.show();
            let granted = self.reserve().await;
            if !granted.is_empty() {
                hand = Hand { seen: granted, ..Hand::default() };
                continue;
            }
            if !self.operation.open() && self.inbox.is_empty() {
                return self.end();
            }
            match self.next().await {
                Some(next) => hand = next,
                None => return,
            }
        }
    }

    /// Waits for what comes next; nothing if the coordinator stops.
    async fn next(&mut self) -> Option<Hand> {
        let (stop, timer) = (self.shared.stop.clone(), self.timer());
        let mut batch = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            batch = self.inbox.wait() => batch,
            () = until(timer) => Batch::default(),
        };
        self.note_progress(std::mem::take(&mut batch.progress));
        let rewound = batch.rewound.take().map(Command::StoreRewound);
        let mut seen = match self.rival {
            Some(since) => self.stand_by(since).await.ok()?,
            None => {
                if batch.grown {
                    self.read_on().await.ok()?;
                }
                let mut seen: Vec<Command> = self.stood_still().into_iter().collect();
                batch.look.append(&mut self.take_unheard());
                if !self.operation.open() {
                    batch.look.clear();
                }
                // What a host reports may make what was known of its health outdated.
                let reported = batch.reports.iter().map(|told| &told.report.host);
                batch.look.extend(reported.filter(|host| self.was_seen(host)).cloned());
                seen.extend(self.look(std::mem::take(&mut batch.look)));
                let now = self.shared.clock.now();
                let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
                if batch.room || is_due(self.wake.due) || is_due(self.wake.outside_at) {
                    seen.push(Command::Tick);
                }
                seen
            }
        };
        seen.extend(rewound);
        self.looked = Looked { at: self.shared.clock.now(), instant: Instant::now() };
        Some(Hand { batch, seen })
    }

    /// Whether the loop is late though something was due to wake it: then nobody listened to hosts meanwhile.
    fn stood_still(&mut self) -> Option<Command> {
        let late = self.looked.instant.elapsed() > LOOK_AT_CLOCK + STOOD_STILL;
        (late && self.wake.due.is_some()).then(|| {
            warn!(operation = %self.inbox.operation, "the coordinator stood still; hosts are heard again before they are judged");
            self.listen_from(self.looked.at.plus(HEARD))
        })
    }

    /// Only what was heard from then on counts; every host is looked at until it was.
    fn listen_from(&mut self, from: Timestamp) -> Command {
        self.unheard = Unheard { from, hosts: self.hosts.iter().cloned().collect(), look_at: from };
        Command::Listening { from }
    }

    /// Hosts that are looked at although nobody told of them, since nobody tells of health that is what it was.
    fn take_unheard(&mut self) -> BTreeSet<HostId> {
        let now = self.shared.clock.now();
        let mut hosts = BTreeSet::new();
        if self.unheard.look_at <= now {
            self.unheard.look_at = now.plus(LISTEN_AGAIN);
            hosts.clone_from(&self.unheard.hosts);
        }
        if self.wake.hear_at <= now {
            self.wake.hear_at = now.plus(HEAR_AGAIN);
            let hear = self.wake.hear.iter().filter(|(_, from)| **from <= now);
            hosts.extend(hear.map(|(host, _)| host.clone()));
        }
        hosts
    }

    /// Sends nothing until the hosts that were there by the history are back, for a moment.
    fn compare_first(&mut self) {
        let hosts = view::connected(&self.operation);
        let now = self.shared.clock.now();
        self.comparing =
            Some(Comparing { send_from: now.plus(COMPARING), start_from: now.plus(RETURN), hosts });
    }

    /// Whether hosts that were there by the history are still waited for before anything is sent.
    fn holds_commands(&self) -> bool {
        let now = self.shared.clock.now();
        self.comparing
            .as_ref()
            .is_some_and(|comparing| now < comparing.send_from && !comparing.hosts.is_empty())
    }

    /// The hosts that were there by the history and are not back, while they are waited for.
    fn still_comparing(&mut self) -> Option<&Comparing> {
        let comparing = self.comparing.as_ref()?;
        if comparing.start_from <= self.shared.clock.now() || comparing.hosts.is_empty() {
            self.comparing = None;
        }
        self.comparing.as_ref()
    }

    fn timer(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.rival.is_some() {
            return Some(now + STAND_BY);
        }
        let due = self.wake.due.map(|due| {
            let wait = due.since(self.shared.clock.now());
            let idle = wait.is_zero() && self.wake.idle;
            now + if idle { TICK_AGAIN } else { wait.clamp(Duration::from_millis(1), LOOK_AT_CLOCK) }
        });
        let send_again = self.wake.send_again.then(|| now + SEND_AGAIN);
        let by_clock = |at: Timestamp| {
            let wait = at.since(self.shared.clock.now());
            now + wait.clamp(Duration::from_millis(1), LOOK_AT_CLOCK)
        };
        let compared = self.comparing.as_ref().map(|comparing| {
            let holds = self.shared.clock.now() < comparing.send_from;
            by_clock(if holds { comparing.send_from } else { comparing.start_from })
        });
        let unheard = (!self.unheard.hosts.is_empty()).then(|| by_clock(self.unheard.look_at));
        let hear = self.wake.hear.values().min().map(|from| by_clock((*from).max(self.wake.hear_at)));
        let asks = self.may_reserve() || !self.wake.given.is_empty();
        let reserve = self.wake.reserve_at.filter(|_| asks);
        let outside = self.wake.outside_at.map(by_clock);
        let timers = [due, send_again, self.wake.show, compared, unheard, hear, reserve, outside];
        timers.into_iter().flatten().min()
    }

    fn look_at_everything(&mut self) -> Vec<Command> {
        self.seats.iter_mut().for_each(|seat| seat.seen = None);
        let mut seen = self.look(self.hosts.clone());
        seen.push(Command::Tick);
        seen
    }

    fn was_seen(&self, host: &HostId) -> bool {
        self.place(host).is_some_and(|place| self.seats[place].seen.is_some())
    }

    /// Looks at hosts, and says how they are if that is another than at the last look.
    fn look(&mut self, hosts: impl IntoIterator<Item = HostId>) -> Vec<Command> {
        let now = self.shared.clock.now();
        let mut commands = Vec::new();
        for host in hosts {
            let Some(place) = self.place(&host) else { continue };
            let is = self.shared.fleet.look(&host, now);
            let had = self.seats[place].session();
            self.unsent |= had != is.session;
            self.seats[place].seen = Some(is.clone());
            if let (Some(_), Some(comparing)) = (is.session, &mut self.comparing) {
                comparing.hosts.remove(&host);
            }
            if is.session.is_some() && is.reading.heard_at >= self.unheard.from {
                self.unheard.hosts.remove(&host);
            }
            let lost = had.is_some() && had != is.session;
            if lost || is.session.is_none() {
                commands.push(Command::Disconnected(host.clone()));
            }
            if is.forgotten {
                commands.push(Command::Forgotten(host.clone()));
            }
            if let Some(text) = is.contested {
                commands.push(Command::Contested { host, text });
                continue;
            }
            if is.session.is_some() {
                let Sighting { instance, accepted, commanded, snapshot, reading, .. } = is;
                commands.push(Command::Connected(Connected {
                    host: host.clone(),
                    instance,
                    accepted,
                    told_since: commanded,
                    snapshot,
                }));
                commands.push(Command::Health { host, reading });
            }
        }
        commands
    }

    /// Decides what is in hand, makes it durable, and answers those who wait for it.
    async fn deal(&mut self, hand: Hand) -> Result<(), Stopping> {
        let Hand { mut batch, seen } = hand;
        let mut left = BTreeSet::new();
        let refusals = loop {
            let commands = hand::commands(&self.operation, &batch, &seen);
            if commands.is_empty() {
                return Ok(());
            }
            let Decided { after, events, refusals } = self.decide(&commands);
            self.wake.idle = events.is_empty();
            if events.is_empty() {
                // An append proves that nothing newer is stored. Without one that must be asked before anybody is
                // answered: to what is stored now the same words may mean something.
                let waited_for = !batch.reports.is_empty() || !batch.decisions.is_empty();
                if waited_for && self.follow_rival().await? {
                    continue;
                }
                break refusals;
            }
            match self.journal.append(&self.operation, &after, &events).await? {
                Appended::Stored => {
                    self.becomes(after);
                    self.progress.end(&batch.reports);
                    break refusals;
                }
                Appended::Rival(news) => self.follow(&news),
                Appended::Taken(host) => {
                    if !left.insert(host.clone()) {
                        error!(operation = %self.inbox.operation, %host, "the host can neither be taken nor left");
                        return Err(Stopping);
                    }
                    batch.superseded.insert(host);
                }
            }
        };
        self.show();
        hand::answer(batch, refusals);
        Ok(())
    }

    /// Decides beside what others take of the budgets.
    fn decide(&mut self, commands: &[Command]) -> Decided {
        let now = self.shared.clock.now();
        let all_by = self.still_comparing().map(|comparing| comparing.start_from);
        let fleet = self.shared.fleet.as_ref();
        let gone_after = self.shared.settings.stale_after;
        let seen = Seen { fleet, now, gone_after, is_comparing: all_by.is_some() };
        let decide = |outside: &Arc<Outside>| hand::decide(&self.operation, outside, commands, now);
        let (decided, outside) = self.shared.places.decide(&self.operation, &seen, decide);
        if !Arc::ptr_eq(&self.outside, &outside) && self.outside != outside {
            // Watchers tell by it being another one that it has changed.
            (self.outside, self.stale, self.outdated) = (outside.clone(), true, true);
        }
        self.wake.outside_at = (*outside != Outside::default()).then(|| now.plus(OUTSIDE_AGAIN));
        self.wake.outside_at = self.wake.outside_at.into_iter().chain(all_by).min();
        decided
    }

    /// The operation stands so by what is stored, whoever stored it.
    fn becomes(&mut self, operation: impl Into<Arc<Operation>>) {
        let operation = operation.into();
        let rests_on = journal::completed(&self.operation, &operation);
        if !rests_on.is_empty() {
            self.shared.fleet.completed(&rests_on);
        }
        self.operation = operation;
        (self.stale, self.outdated, self.unsent) = (true, true, true);
        self.shared.stands(&self.operation);
    }

    /// Takes in what the beginning of another operation has written into the history.
    async fn read_on(&mut self) -> Result<(), Stopping> {
        let news = self.journal.news().await?;
        if !news.is_empty() {
            let operation = self.operation.as_ref().clone();
            self.becomes(news.iter().fold(operation, Operation::evolve));
        }
        Ok(())
    }

    /// Takes in what another driver has appended since; false if there is nothing.
    async fn follow_rival(&mut self) -> Result<bool, Stopping> {
        let news = self.journal.news().await?;
        if news.is_empty() {
            return Ok(false);
        }
        self.follow(&news);
        Ok(true)
    }

    /// What another driver appended holds, and it goes on with the operation.
    fn follow(&mut self, news: &[Event]) {
        if self.rival.is_none() {
            info!(operation = %self.inbox.operation, "another driver is at the operation; this one stands by");
        }
        let operation = self.operation.as_ref().clone();
        self.becomes(news.iter().fold(operation, Operation::evolve));
        self.rival = Some(self.shared.clock.now());
    }

    /// While another driver is at the operation its history is followed, and nothing is sent. Once it rests, this one goes
    /// on.
    async fn stand_by(&mut self, since: Timestamp) -> Result<Vec<Command>, Stopping> {
        let rests = !self.follow_rival().await? && self.shared.clock.now().since(since) >= RIVAL_REST;
        if !rests {
            return Ok(Vec::new());
        }
        info!(operation = %self.inbox.operation, "the other driver rests; this one goes on");
        self.rival = None;
        (self.outdated, self.unsent) = (true, true);
        let mut seen = vec![self.listen_from(self.shared.opened_at)];
        seen.extend(self.look_at_everything());
        Ok(seen)
    }

    /// Sends what should be in flight and has not been handed to the host's present session.
    fn reconcile(&mut self) {
        if self.rival.is_some() {
            self.wake.send_again = false;
            self.wake.reserve.clear();
            return;
        }
        if std::mem::take(&mut self.outdated) {
            let awaited = self.operation.awaited_beside(&self.outside);
            (self.wake.due, self.wake.hear) = (awaited.wake_at, awaited.hear);
            self.wake.reserve = awaited.reserve;
        }
        if self.holds_commands() || !(self.unsent || self.wake.send_again) {
            return;
        }
        (self.unsent, self.wake.send_again) = (false, false);
        let operation = self.operation.clone();
        // Both are in the order of the names.
        let mut in_flight = operation.in_flight().into_iter().peekable();
        for (host, seat) in self.hosts.iter().zip(&mut self.seats) {
            let Some((_, generation)) = in_flight.next_if(|(name, _)| *name == host) else {
                // It may be told the same again, such as to say where it stands.
                seat.sent = None;
                continue;
            };
            let Some(session) = seat.session() else { continue };
            let handed = Some((session, generation));
            if seat.sent == handed {
                continue;
            }
            let Some(command) = operation.command(host) else { continue };
            match self.shared.fleet.send(host, command) {
                Ok(()) => seat.sent = handed,
                Err(SendError::Full) => self.wake.send_again = true,
                // It is told when it is back: then it is looked at again.
                Err(SendError::NotConnected) => {}
            }
        }
    }

    /// Whether generations are to be reserved: not before hosts were compared.
    fn may_reserve(&self) -> bool {
        !self.holds_commands() && !self.wake.reserve.is_empty()
    }

    /// Reserves generations for other attempts, and says what came of it. A host that another operation owns for now is
    /// asked for again.
    async fn reserve(&mut self) -> Vec<Command> {
        if !self.may_reserve() || self.wake.reserve_at.is_some_and(|at| at > Instant::now()) {
            return Vec::new();
        }
        let reserved = self.shared.store.reserve(self.inbox.operation, &self.wake.reserve, GENERATIONS).await;
        let reserved = reserved.unwrap_or_else(|error| {
            warn!(operation = %self.inbox.operation, error = %Chain(&error), "cannot reserve generations; this is tried again");
            BTreeMap::new()
        });
        let came = reserved.into_iter().filter_map(|(host, reserved)| match reserved {
            Reserved::First(generation) => {
                self.wake.given.insert(host.clone());
                Some(Command::Granted { host, generation })
            }
            Reserved::Busy(_) => None,
            Reserved::Superseded => Some(Command::Superseded(host)),
        });
        self.wake.reserve_at = Some(Instant::now() + RESERVE_AGAIN);
        came.collect()
    }

    /// Gives hosts free that were given for nothing: meanwhile the rollback was undone, say.
    async fn release_left_over(&mut self) {
        if self.wake.given.is_empty() {
            return;
        }
        let left = view::left_over(&self.operation, std::mem::take(&mut self.wake.given));
        if left.is_empty() {
            return;
        }
        if let Err(error) = self.shared.store.release(self.inbox.operation, &left).await {
            warn!(operation = %self.inbox.operation, error = %Chain(&error), "cannot give hosts free; this is tried again");
            self.wake.given = left;
            self.wake.reserve_at = Some(Instant::now() + RESERVE_AGAIN);
        }
    }

    fn place(&self, host: &HostId) -> Option<usize> {
        self.hosts.binary_search(host).ok()
    }

    fn note_progress(&mut self, progress: BTreeMap<HostId, Progress>) {
        if !progress.is_empty() {
            self.progress.known.extend(progress);
            self.progress.changed = true;
            self.wake.show.get_or_insert_with(|| Instant::now() + SHOW_PROGRESS);
        }
    }

    fn show(&mut self) {
        let progressed = self.wake.show.is_some_and(|at| at <= Instant::now());
        if !self.stale && !progressed {
            return;
        }
        if progressed || !self.operation.open() {
            self.wake.show = None;
            self.progress.show(&self.operation);
        }
        self.stale = false;
        self.inbox.show(View {
            operation: self.operation.clone(),
            outside: self.outside.clone(),
            position: self.journal.position(),
            progress: self.progress.shown.clone(),
        });
    }

    /// Nothing is left to do. What came in at the last moment is answered from the end.
    fn end(self) {
        let id = self.inbox.operation;
        // Before another driver can begin, which holds places of its own.
        self.shared.leaves(id);
        self.shared.directory.close(id, &self.hosts);
        let left = self.inbox.close();
        for asked in left.decisions {
            match self.operation.decide(&Command::Person(asked.person.clone()), self.shared.clock.now()) {
                // It brings something about: for another driver.
                Ok(events) if !events.is_empty() => {
                    if let Err(left) = self.shared.drive(id).decide(asked) {
                        let _ = left.into_inner().reply.send(Err(OperationError::Overloaded));
                    }
                }
                decided => drop(asked.reply.send(decided.map(drop).map_err(OperationError::from))),
            }
        }
        for told in left.reports {
            report_to_driver(&self.shared, told);
        }
    }
}

async fn until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
