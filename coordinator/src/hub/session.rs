//! One agent's session: its queue, its clock, the questions it has not answered, and what it says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{FuturesUnordered, Stream, unfold};
use rfs_link::Failure;
use rfs_model::{Generation, HostId, Reason, SnapshotId, Standing, Timestamp};
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::{self as link, AgentMessage, CoordinatorMessage};
use rfs_proto::bounds;
use rfs_proto::convert::{FieldError, from_wire_time, parse};
use rfs_rollout::Answer;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::holdings::Holds;
use super::machines::Claim;
use super::offset::Offset;
use super::questions::Questions;
use super::{Hub, convert, holdings};
use crate::driver::fleet::{FleetEvent, Progress, SendError, SessionNumber};

/// How many messages may wait for an agent. One that lets so many wait does not read any more.
const QUEUE: usize = 64;
/// How many of an agent's oversteppings are logged.
const FIRST: u32 = 3;
/// How many reports of one agent may wait to be stored before no more is read from it.
const UNSTORED: usize = 16;

/// What an agent says of itself when it connects, as far as its session keeps it.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) claim: Claim,
    pub(super) accepted: Generation,
    pub(super) snapshot: Option<SnapshotId>,
    /// By the agent's clock.
    pub(super) agent_time: Option<Timestamp>,
    /// When the certificate ends that it connected with.
    pub(super) certificate_end: Timestamp,
}

/// What holds an agent's stream.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: SessionNumber,
    pub(super) host: HostId,
    /// The machine that speaks.
    pub(super) claim: Claim,
    /// The highest generation that the host had accepted when it said hello.
    pub(super) accepted: Generation,
    /// The snapshot that it had last been brought to then.
    pub(super) snapshot: Option<SnapshotId>,
    /// A command was handed to it since, which the host may have obeyed.
    commanded: AtomicBool,
    pub(super) addr: SocketAddr,
    /// When the certificate ends that it connected with.
    pub(super) certificate_end: Timestamp,
    pub(super) questions: Questions,
    /// Boxed, so that an idle queue is small.
    queue: mpsc::Sender<Box<CoordinatorMessage>>,
    last_heard: AtomicI64,
    /// When the newest ping went out that is answered.
    read_up_to: AtomicI64,
    /// When a ping last went out, answered or not.
    last_ping: AtomicI64,
    /// When a driver last read the host's state.
    last_watched: AtomicI64,
    /// Nothing was heard for so long that the host counts as not connected.
    silent: AtomicBool,
    /// Nothing is read from the agent before something else is done: what it says is not heard, and that is not its fault.
    held_up: AtomicBool,
    /// The snapshots that the host said last that it holds.
    pub(super) holdings: Mutex<Holds>,
    offset: Mutex<Offset>,
    /// How often the agent said more than a field takes.
    overstepped: AtomicU32,
    closed: CancellationToken,
    /// Why the session was ended from here; the agent is told.
    end: OnceLock<Failure>,
}

/// The messages that wait for an agent.
pub(super) type Queue = mpsc::Receiver<Box<CoordinatorMessage>>;

impl Session {
    /// A session that begins.
    pub(super) fn new(
        number: SessionNumber,
        addr: SocketAddr,
        host: HostId,
        introduction: Introduction,
        now: Timestamp,
    ) -> (Self, Queue) {
        let (queue, messages) = mpsc::channel(QUEUE);
        let Introduction { claim, accepted, snapshot, agent_time, certificate_end } = introduction;
        let offset = agent_time.map(|time| Offset::from_hello(time, now)).unwrap_or_default();
        let session = Self {
            number,
            host,
            claim,
            accepted,
            snapshot,
            commanded: AtomicBool::new(false),
            addr,
            certificate_end,
            questions: Questions::default(),
            queue,
            last_heard: AtomicI64::new(now.0),
            read_up_to: AtomicI64::new(now.0),
            last_ping: AtomicI64::new(now.0),
            last_watched: AtomicI64::new(0),
            silent: AtomicBool::new(false),
            held_up: AtomicBool::new(false),
            holdings: Mutex::default(),
            offset: Mutex::new(offset),
            overstepped: AtomicU32::new(0),
            closed: CancellationToken::new(),
            end: OnceLock::new(),
        };
        (session, messages)
    }

    /// Hands a message to the agent without waiting. An agent that does not read what waits for it is disconnected.
    pub(super) fn send(&self, message: Down) -> Result<(), SendError> {
        if self.closed.is_cancelled() {
            return Err(SendError::NotConnected);
        }
        // Before anybody can obey it.
        if matches!(message, Down::Command(_)) {
            self.commanded.store(true, Ordering::SeqCst);
        }
        match self.queue.try_send(Box::new(CoordinatorMessage { message: Some(message) })) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::NotConnected),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let why = format!("{QUEUE} messages wait and none is read");
                self.close(Failure::new(Reason::Overloaded, why).next("connect again"));
                Err(SendError::Full)
            }
        }
    }

    /// Whether a command was handed to the host since it said hello.
    pub(super) fn was_commanded(&self) -> bool {
        self.commanded.load(Ordering::SeqCst)
    }

    /// Records that a driver has just read the host's state to decide something.
    pub(super) fn mark_watched(&self, now: Timestamp) {
        self.last_watched.store(now.0, Ordering::SeqCst);
    }

    /// For how long no driver has read it.
    pub(super) fn unwatched_for(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.last_watched.load(Ordering::SeqCst)))
    }

    /// For how long it was not asked for a sign of life.
    pub(super) fn since_ping(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.last_ping.load(Ordering::SeqCst)))
    }

    /// Asks for a sign of life and the agent's time.
    pub(super) fn ping(&self, nonce: u64, now: Timestamp) {
        self.last_ping.store(now.0, Ordering::SeqCst);
        self.offset().asked(nonce, now);
        // Without a session there is nobody to ask.
        let _ = self.send(Down::Ping(link::Ping { nonce }));
    }

    /// A ping is answered.
    fn answered(&self, nonce: u64, agent_time: Timestamp, now: Timestamp) {
        if let Some(sent) = self.offset().answered(nonce, agent_time, now) {
            self.read_up_to.fetch_max(sent.0, Ordering::SeqCst);
        }
    }

    /// Ends the session and tells the agent why.
    pub(super) fn close(&self, why: Failure) {
        if self.end.set(why).is_ok() {
            self.closed.cancel();
        }
    }

    /// Waits until the session is ended.
    pub(super) async fn ended(&self) {
        self.closed.cancelled().await;
    }

    /// When the agent was last heard.
    pub(super) fn last_heard(&self) -> Timestamp {
        Timestamp(self.last_heard.load(Ordering::SeqCst))
    }

    /// Up to when all that the agent has said is read. What waited in a socket while nobody read it may be older than it looks;
    /// the answer to a ping comes after it. A session begins with nothing unread.
    pub(super) fn read_up_to(&self) -> Timestamp {
        Timestamp(self.read_up_to.load(Ordering::SeqCst))
    }

    /// For how long nothing was heard, as far as anything could be: nothing could before `listening`.
    pub(super) fn silence(&self, now: Timestamp, listening: Timestamp) -> Duration {
        if self.held_up.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        now.since(self.last_heard().max(listening))
    }

    /// Whether nothing was heard for so long that the host counts as not connected.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// Notes that nothing was heard for longer than `limit`; true if that is so and was not before.
    pub(super) fn fall_silent(&self, now: Timestamp, listening: Timestamp, limit: Duration) -> bool {
        self.silence(now, listening) > limit && !self.silent.swap(true, Ordering::SeqCst)
    }

    /// The agent was heard. True if it had fallen silent.
    pub(super) fn heard(&self, now: Timestamp) -> bool {
        self.last_heard.store(now.0, Ordering::SeqCst);
        self.silent.swap(false, Ordering::SeqCst)
    }

    /// Nothing is read from the agent from now on, or it is again.
    fn hold_up(&self, held_up: bool, now: Timestamp) {
        if self.held_up.load(Ordering::SeqCst) != held_up {
            // What the agent said meanwhile waits to be read.
            self.last_heard.fetch_max(now.0, Ordering::SeqCst);
            self.held_up.store(held_up, Ordering::SeqCst);
        }
    }

    fn offset(&self) -> MutexGuard<'_, Offset> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent says more than a field takes. What it says counts for nothing; a log that it could fill would be its own.
    fn overstepped(&self, error: &FieldError) {
        match self.overstepped.fetch_add(1, Ordering::Relaxed) {
            0..FIRST => warn!(host = %self.host, %error, "the agent says too much, and is not heard"),
            FIRST => {
                warn!(host = %self.host, "the agent goes on to say too much; this is not logged any more")
            }
            _ => {}
        }
    }

    /// An agent that is slow to read waits for its own acknowledgement, and holds up nobody else.
    async fn acknowledge(&self, sequence: u64) {
        let message = CoordinatorMessage { message: Some(Down::ReportAck(link::ReportAck { sequence })) };
        tokio::select! {
            _ = self.queue.send(Box::new(message)) => {}
            () = self.closed.cancelled() => {}
        }
    }
}

/// What goes down to the agent, until the session ends.
pub(super) fn downward(
    session: Arc<Session>,
    queue: Queue,
) -> impl Stream<Item = Result<CoordinatorMessage, Status>> + Send {
    // Waited for once, not anew for each message: thousands of sessions send some all the time.
    let closed = Box::pin(session.closed.clone().cancelled_owned());
    unfold(Some((session, queue, closed)), async |held| {
        let (session, mut queue, mut closed) = held?;
        tokio::select! {
            biased;
            () = closed.as_mut() => {
                let why = session.end.get().map(Failure::to_status);
                why.map(|status| (Err(status), None))
            }
            message = queue.recv() => message.map(|message| (Ok(*message), Some((session, queue, closed)))),
        }
    })
}

/// Reads what the agent says until it ends, or is ended.
pub(super) async fn listen(hub: Hub, session: Arc<Session>, mut agent: Streaming<AgentMessage>) {
    let mut unstored = FuturesUnordered::new();
    // Waited for once, not anew for each message: what all sessions wait for together has one lock.
    let (closed, stopped) = (session.closed.cancelled(), hub.shared.stop.cancelled());
    tokio::pin!(closed, stopped);
    let why = loop {
        session.hold_up(unstored.len() >= UNSTORED, hub.shared.clock.now());
        tokio::select! {
            biased;
            () = closed.as_mut() => {
                break session.end.get().map_or_else(|| "closed".to_owned(), ToString::to_string);
            }
            () = stopped.as_mut() => {
                let failure = Failure::new(Reason::Unreachable, "the coordinator is stopping");
                session.close(failure.next("connect again"));
            }
            Some(stored) = unstored.next(), if !unstored.is_empty() => {
                if let Some(sequence) = stored {
                    session.acknowledge(sequence).await;
                }
            }
            message = agent.message(), if unstored.len() < UNSTORED => match message {
                Ok(Some(message)) => {
                    session.hold_up(true, hub.shared.clock.now());
                    unstored.extend(take(&hub, &session, message).await);
                }
                Ok(None) => break "the agent ended the stream".to_owned(),
                Err(status) => break format!("the stream broke: {}", status.message()),
            },
        }
    };
    session.closed.cancel();
    session.questions.forget();
    if hub.shared.roster.leave(&session, hub.shared.clock.now()) {
        info!(host = %session.host, session = session.number.0, why, "agent disconnected");
        hub.tell(FleetEvent::Changed(session.host.clone())).await;
    }
}

/// Takes one message; a report gives what tells its sequence once it is stored.
async fn take(
    hub: &Hub,
    session: &Session,
    message: AgentMessage,
) -> Option<impl Future<Output = Option<u64>> + use<>> {
    let now = hub.shared.clock.now();
    if session.heard(now) {
        info!(host = %session.host, session = session.number.0, "the agent is heard again");
        hub.shared.roster.changed();
        hub.tell(FleetEvent::Changed(session.host.clone())).await;
    }
    match message.message {
        Some(Up::Report(report)) => return take_report(hub, session, report, now).await,
        Some(Up::Health(health)) => {
            if let Err(error) = bounds::health(&health) {
                session.overstepped(&error);
                return None;
            }
            // A session that was ended speaks for nobody any more.
            if hub.shared.roster.holds(session) {
                hub.note_standing(session, health.inconsistent, now).await;
            }
            let changed = hub.shared.roster.observe(session, health, now);
            if changed {
                hub.tell(FleetEvent::Changed(session.host.clone())).await;
            }
        }
        Some(Up::Progress(progress)) if bounds::progress(&progress).is_err() => {}
        Some(Up::Progress(progress)) => take_progress(hub, session, progress),
        Some(Up::QueryResult(result)) => session.questions.answer(result),
        Some(Up::Pong(pong)) => {
            if let Some(time) = pong.agent_time.filter(|time| bounds::time("agent_time", Some(*time)).is_ok())
            {
                session.answered(pong.nonce, from_wire_time(time), now);
            }
        }
        Some(Up::Hello(_)) => warn!(host = %session.host, "a second hello is ignored"),
        Some(Up::Snapshots(snapshots)) => holdings::take(hub, session, snapshots, now).await,
        // A newer agent says something that this version does not know.
        None => {}
    }
    None
}

async fn take_report(
    hub: &Hub,
    session: &Session,
    wire: link::Report,
    now: Timestamp,
) -> Option<impl Future<Output = Option<u64>> + use<>> {
    // A session that was ended speaks for nobody any more. The agent says it again when it is let in.
    if !hub.shared.roster.holds(session) {
        return None;
    }
    let sequence = wire.sequence;
    if let Err(error) = bounds::report(&wire) {
        session.overstepped(&error);
        return None;
    }
    let (host, offset) = (session.host.clone(), session.offset().clone());
    let report = match convert::report(host, session.claim.instance, wire, |time| offset.to_ours(time), now) {
        Ok(report) => report,
        Err(error) => {
            // Not acknowledged: the agent keeps it, and a coordinator that can read it may yet come.
            warn!(host = %session.host, sequence, %error, "a report cannot be read");
            return None;
        }
    };
    // It may be about a restore of long ago: that the host is well again, only the host's present state says.
    if let Answer::Restored(restored) = &report.answer
        && restored.standing == Standing::Inconsistent
    {
        hub.note_standing(session, true, now).await;
    }
    let (stored, told) = oneshot::channel();
    hub.tell(FleetEvent::Report { report, stored }).await;
    Some(async move { told.await.ok().map(|()| sequence) })
}

fn take_progress(hub: &Hub, session: &Session, wire: link::Progress) {
    let Some(operation) = wire.key.and_then(|key| parse("key.operation_id", &key.operation_id).ok()) else {
        return;
    };
    let progress = Progress {
        host: session.host.clone(),
        operation,
        phase: wire.phase,
        steps_done: wire.steps_done,
        steps_total: wire.steps_total,
    };
    // The next one says more; nobody waits for this one.
    let _ = hub.shared.events.try_send(FleetEvent::Progress(progress));
}

#[cfg(test)]
mod tests {
    use rfs_model::InstanceId;
    use uuid::Uuid;

    use super::*;

    fn session() -> (Session, Queue) {
        let host = HostId::new("web-1").expect("a name");
        let claim = Claim {
            instance: InstanceId::from_uuid(Uuid::nil()),
            start: "1".into(),
            address: "10.0.0.1".into(),
        };
        let introduction = Introduction {
            claim,
            accepted: Generation(0),
            snapshot: None,
            agent_time: None,
            certificate_end: Timestamp(0),
        };
        Session::new(SessionNumber(0), ([127, 0, 0, 1], 1).into(), host, introduction, Timestamp(0))
    }

    #[tokio::test]
    async fn an_agent_that_does_not_read_is_disconnected_and_told_why() {
        let (session, queue) = session();
        let ping = || session.send(Down::Ping(link::Ping { nonce: 1 }));
        for _ in 0..QUEUE {
            assert_eq!(ping(), Ok(()));
        }
        assert_eq!(ping(), Err(SendError::Full), "nobody waits for it");
        assert_eq!(ping(), Err(SendError::NotConnected));
        let session = Arc::new(session);
        let mut down = Box::pin(downward(session, queue));
        let told = down.next().await.expect("the end is told").expect_err("not a message");
        let failure = Failure::from_status(&told);
        assert_eq!(failure.reason, Reason::Overloaded);
        assert_eq!(failure.message, "64 messages wait and none is read");
        assert!(down.next().await.is_none());
    }

    #[tokio::test]
    async fn messages_go_down_in_order_until_the_session_ends() {
        let (session, queue) = session();
        let session = Arc::new(session);
        let mut down = Box::pin(downward(session.clone(), queue));
        for nonce in 0..3 {
            session.ping(nonce, Timestamp(0));
        }
        for nonce in 0..3 {
            let message = down.next().await.expect("open").expect("a message").message;
            assert_eq!(message, Some(Down::Ping(link::Ping { nonce })));
        }
        session.close(Failure::new(Reason::Unreachable, "the first reason counts"));
        session.close(Failure::new(Reason::Internal, "a later one does not"));
        let told = down.next().await.expect("the end is told").expect_err("not a message");
        assert_eq!(told.message(), "the first reason counts");
    }

    #[test]
    fn what_an_agent_said_is_as_new_as_the_newest_ping_that_it_has_answered() {
        let (session, _queue) = session();
        let at = |seconds: i64| Timestamp(seconds * 1000);
        session.ping(1, at(4));
        session.ping(2, at(100));
        session.answered(1, at(0), at(100));
        assert_eq!(session.read_up_to(), at(0), "the answer waited in the socket while nobody read it");
        session.answered(2, at(0), at(101));
        assert_eq!(session.read_up_to(), at(100), "all that was said before is read");
    }

    #[test]
    fn an_agent_falls_silent_once_and_not_while_it_is_us_who_do_not_listen() {
        let (session, _queue) = session();
        let (at, limit) = (|seconds: i64| Timestamp(seconds * 1000), Duration::from_secs(8));
        assert!(!session.fall_silent(at(8), at(0), limit));
        assert!(!session.fall_silent(at(60), at(55), limit), "the coordinator stood still until then");
        session.hold_up(true, at(9));
        assert!(!session.fall_silent(at(30), at(0), limit), "nothing is read");
        session.hold_up(false, at(30));
        assert!(!session.fall_silent(at(38), at(0), limit), "what it said meanwhile is yet to be read");
        assert!(session.fall_silent(at(39), at(0), limit) && session.is_silent());
        assert!(!session.fall_silent(at(40), at(0), limit), "told once");
        assert!(session.heard(at(41)), "it is back");
        assert!(!session.heard(at(42)) && !session.is_silent());
    }
}
