//! One simulated agent: connects, converses, and connects again, with the manners of a real one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rfs_link::{Connection, Failure, LiveCredentials, Patience, Target};
use rfs_model::Reason;
use rfs_proto::agentlink::v1::agent_link_client::AgentLinkClient;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::{AgentMessage, CoordinatorMessage};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::host::SimHost;
use crate::dice::Dice;

/// Messages that wait to be sent. A coordinator that reads none for [`SEND`] has lost the session.
const QUEUE: usize = 16;
const SEND: Duration = Duration::from_secs(30);
/// How waiting for the next try begins, and how long it is at most: any time up to the present bound.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A session that lasted this long shows that the coordinator takes hosts: waiting begins anew.
const STEADY: Duration = Duration::from_secs(1);

/// What all agents of a process share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) target: Target,
    /// How many dial at once: the handshakes of all hosts run on this one machine, and share it with the coordinator.
    pub(super) dialling: Semaphore,
    /// Sessions that were begun, and commands that came, repetitions included.
    pub(super) sessions: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) stop: CancellationToken,
}

/// An agent.
#[derive(Debug)]
pub(super) struct Agent {
    host: Mutex<SimHost>,
    credentials: Arc<LiveCredentials>,
    link: Arc<Link>,
    news: Notify,
    is_connected: AtomicBool,
    /// The present connection is to be lost.
    is_cut: AtomicBool,
    /// Why there is no session, as far as the coordinator or the network said.
    trouble: Mutex<Option<Failure>>,
}

/// Why a session is over.
enum Ended {
    /// It was meant to end: the next one may begin at once.
    Cut,
    /// It could not be opened, or was lost.
    Failed(Failure),
}

impl Agent {
    pub(super) fn new(host: SimHost, credentials: Arc<LiveCredentials>, link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            host: Mutex::new(host),
            credentials,
            link,
            news: Notify::new(),
            is_connected: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            trouble: Mutex::default(),
        })
    }

    /// The host.
    pub(super) fn host(&self) -> MutexGuard<'_, SimHost> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the host, and has the agent see what follows.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut SimHost) -> T) -> T {
        let changed = change(&mut self.host());
        self.news.notify_one();
        changed
    }

    /// Loses the present connection.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::SeqCst)
    }

    pub(super) fn trouble(&self) -> Option<Failure> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects, again and again, until the fleet stops.
    pub(super) async fn run(self: Arc<Self>, mut dice: Dice) {
        let stop = self.link.stop.clone();
        let living = async {
            let mut failed = 0;
            loop {
                while self.host().script.gone {
                    self.news.notified().await;
                }
                let begun = Instant::now();
                let ended = self.connect().await;
                self.is_connected.store(false, Ordering::SeqCst);
                if begun.elapsed() >= STEADY {
                    failed = 0;
                }
                let asked = match ended {
                    Ended::Cut => Duration::ZERO,
                    Ended::Failed(failure) => {
                        let asked = failure.retry_after.unwrap_or_default();
                        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                        asked
                    }
                };
                let bound = FIRST_WAIT.saturating_mul(1 << failed).min(LONGEST_WAIT);
                failed = (failed + 1).min(16);
                tokio::time::sleep(asked + bound.mul_f64(dice.below(1000) as f64 / 1000.0)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = living => {}
        }
    }

    async fn connect(&self) -> Ended {
        let gone = |error: &str| Ended::Failed(Failure::new(Reason::Unreachable, error));
        let Ok(dialling) = self.link.dialling.acquire().await else { return gone("the fleet stops") };
        let patience = Patience::default();
        let connection = match Connection::open(&self.link.target, self.credentials.clone(), &patience).await
        {
            Ok(connection) => connection,
            Err(error) => return Ended::Failed(error.failure()),
        };
        let (up, queue) = mpsc::channel(QUEUE);
        let hello = Up::Hello(self.host().hello());
        let _ = up.send(AgentMessage { message: Some(hello) }).await;
        let welcomed = async {
            let mut client = AgentLinkClient::new(connection.channel());
            let mut down = client.connect(ReceiverStream::new(queue)).await?.into_inner();
            let first = down.message().await?.and_then(|first| first.message);
            Ok((down, first))
        };
        let welcomed = tokio::time::timeout(patience.connect, welcomed).await;
        drop(dialling);
        let ended = match welcomed {
            Ok(Ok((down, Some(Down::Welcome(welcome))))) => {
                self.host().begin_session(&welcome, Instant::now());
                self.is_cut.store(false, Ordering::SeqCst);
                self.is_connected.store(true, Ordering::SeqCst);
                self.link.sessions.fetch_add(1, Ordering::SeqCst);
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.converse(&connection, up, down).await
            }
            Ok(Ok(_)) => gone("the coordinator did not begin with Welcome"),
            Ok(Err(status)) => Ended::Failed(connection.failure(&status)),
            Err(_) => gone("the coordinator did not welcome this host in time"),
        };
        connection.close();
        ended
    }

    async fn converse(
        &self,
        connection: &Connection,
        up: mpsc::Sender<AgentMessage>,
        mut down: Streaming<CoordinatorMessage>,
    ) -> Ended {
        let until = self.host().script.drops.map(|drops| Instant::now() + drops);
        let mut say = Vec::new();
        loop {
            let (is_silent, is_gone) = {
                let host = self.host();
                (host.script.silent, host.script.gone)
            };
            if is_gone || self.is_cut.swap(false, Ordering::SeqCst) {
                return Ended::Cut;
            }
            if is_silent {
                self.news.notified().await;
                continue;
            }
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ended::Cut;
            }
            let wake_at = {
                let mut host = self.host();
                host.act(now, &mut say);
                let wake_at = host.wake_at();
                until.map_or(wake_at, |until| wake_at.min(until))
            };
            for message in say.drain(..) {
                let message = AgentMessage { message: Some(message) };
                if up.send_timeout(message, SEND).await.is_err() {
                    let lost = Failure::new(Reason::Unreachable, "the coordinator reads nothing any more");
                    return Ended::Failed(lost);
                }
            }
            tokio::select! {
                biased;
                () = self.news.notified() => {}
                message = down.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(Down::Command(_)) = message.message {
                            self.link.commands.fetch_add(1, Ordering::SeqCst);
                        }
                        let answer = message.message.and_then(|message| self.host().take(message, Instant::now()));
                        say.extend(answer);
                    }
                    Ok(None) => {
                        return Ended::Failed(Failure::new(Reason::Unreachable, "the coordinator ended the session"));
                    }
                    Err(status) => return Ended::Failed(connection.failure(&status)),
                },
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }
}
