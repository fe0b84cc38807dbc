//! One session: from Hello until the connection ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rfs_link::identity::CertificateFacts;
use rfs_link::{Chain, Connection, Failure, Patience};
use rfs_model::{OperationId, Reason};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_link_client::AgentLinkClient;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::convert;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, error, warn};

use super::news::{Listed, Sent};
use super::{Host, PROTOCOL};
use crate::commander::{HostState, IntakeError, ReportSequence};
use crate::wire;

/// Messages that wait to be sent. A coordinator that reads none for [`SEND`] has lost the session.
const QUEUE: usize = 64;
const SEND: Duration = Duration::from_secs(30);

/// Queries that are answered at once; further ones are refused.
const QUERIES: usize = 4;

/// How long a report may stay without acknowledgement before it is sent again in the same session.
const RESEND: Duration = Duration::from_secs(30);

/// How often news of the host are looked at, at most: a restore has many steps.
const LOOK: Duration = Duration::from_millis(100);

/// How often health is sent when nothing changes and the coordinator does not say.
const HEALTH_INTERVAL: Duration = Duration::from_secs(10);

/// Why a session ended.
pub(super) enum Ended {
    /// The agent stops.
    Stopped,
    /// The own certificate changed.
    NewCertificate,
    /// It could not be opened, or was lost.
    Failed(Failure),
}

/// One session.
pub(super) struct Conversation<'a> {
    pub(super) host: &'a Host,
    connection: &'a Connection,
    changed: &'a Notify,
    up: mpsc::Sender<link::AgentMessage>,
    down: Streaming<link::CoordinatorMessage>,
    coordinator: String,
    health_interval: Duration,
    /// Reports that were sent in this session and are not acknowledged.
    pub(super) sent: BTreeMap<ReportSequence, Sent>,
    pub(super) progress: Option<link::Progress>,
    /// Whether the host is inconsistent, as it was known last.
    pub(super) inconsistent: bool,
    pub(super) snapshots: Listed,
    queries: JoinSet<link::QueryResult>,
}

impl<'a> Conversation<'a> {
    /// Introduces the host and waits to be welcomed.
    pub(super) async fn begin(
        host: &'a Host,
        connection: &'a Connection,
        patience: &Patience,
        changed: &'a Notify,
    ) -> Result<Self, Failure> {
        let (up, queue) = mpsc::channel(QUEUE);
        let intake = host.intake.clone();
        let state = blocking(move || intake.state()).await?;
        let hello = hello(host, &state);
        up.try_send(hello).map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let mut client = AgentLinkClient::new(connection.channel());
        let welcomed = async {
            let answer = client.connect(ReceiverStream::new(queue)).await;
            let mut down = answer.map_err(|status| connection.failure(&status))?.into_inner();
            let first = down.message().await.map_err(|status| connection.failure(&status))?;
            match first.and_then(|first| first.message) {
                Some(Down::Welcome(welcome)) => Ok((down, welcome)),
                _ => Err(Failure::new(Reason::Unsupported, "the coordinator did not begin with Welcome")),
            }
        };
        let late = || Failure::new(Reason::Unreachable, "the coordinator did not welcome this host in time");
        let (down, welcome) =
            tokio::time::timeout(patience.connect, welcomed).await.map_err(|_| late())??;
        if welcome.protocol != PROTOCOL {
            let message = format!(
                "the coordinator speaks protocol {} and this agent protocol {PROTOCOL}",
                welcome.protocol
            );
            return Err(Failure::new(Reason::Unsupported, message));
        }
        let owner = owner(&welcome.owner);
        let intake = host.intake.clone();
        blocking(move || intake.welcomed(owner)).await?;
        let health_interval =
            convert::duration_or("health_interval", welcome.health_interval, HEALTH_INTERVAL);
        Ok(Self {
            host,
            connection,
            changed,
            up,
            down,
            coordinator: welcome.coordinator_version,
            health_interval: health_interval.unwrap_or(HEALTH_INTERVAL).max(Duration::from_millis(100)),
            sent: BTreeMap::new(),
            progress: None,
            inconsistent: state.inconsistent.is_some(),
            snapshots: Listed::default(),
            queries: JoinSet::new(),
        })
    }

    /// The version of the coordinator.
    pub(super) fn coordinator(&self) -> &str {
        &self.coordinator
    }

    /// Speaks until the session ends.
    pub(super) async fn run(
        mut self,
        own: watch::Receiver<CertificateFacts>,
        stop: &CancellationToken,
    ) -> Ended {
        match self.speak(own, stop).await {
            Ok(ended) => ended,
            Err(failure) => Ended::Failed(failure),
        }
    }

    async fn speak(
        &mut self,
        mut own: watch::Receiver<CertificateFacts>,
        stop: &CancellationToken,
    ) -> Result<Ended, Failure> {
        let mut health = self.host.health.clone();
        let mut health_due = tokio::time::interval(self.health_interval);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut resend = tokio::time::interval(RESEND / 3);
        // Whatever was finished before this session is told first.
        let mut news = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                Ok(()) = own.changed() => return Ok(Ended::NewCertificate),
                message = self.down.message() => match message {
                    Ok(Some(message)) => self.take(message).await?,
                    Ok(None) => {
                        return Err(Failure::new(Reason::Unreachable, "the coordinator ended the session"));
                    }
                    Err(status) => return Err(self.connection.failure(&status)),
                },
                () = self.changed.notified(), if !news => news = true,
                _ = look.tick(), if news => {
                    news = false;
                    self.tell_news(&mut health).await?;
                }
                _ = resend.tick() => {
                    let due = self.sent.values().any(|sent| sent.at.elapsed() >= RESEND);
                    self.sent.retain(|_, sent| sent.at.elapsed() < RESEND);
                    news |= due || self.snapshots.revision.is_none();
                }
                Ok(()) = health.changed() => self.tell_health(&mut health).await?,
                _ = health_due.tick() => self.tell_health(&mut health).await?,
                Some(answer) = self.queries.join_next() => {
                    if let Ok(answer) = answer {
                        self.send(Up::QueryResult(answer)).await?;
                    }
                }
            }
        }
    }

    async fn take(&mut self, message: link::CoordinatorMessage) -> Result<(), Failure> {
        match message.message {
            Some(Down::Command(command)) => self.take_command(command).await,
            Some(Down::ReportAck(ack)) => self.take_acknowledgement(ReportSequence(ack.sequence)).await,
            Some(Down::Query(query)) => self.take_query(query).await,
            Some(Down::Ping(ping)) => {
                let now = convert::to_wire_time(self.host.clock.now());
                self.send(Up::Pong(link::Pong { nonce: ping.nonce, agent_time: Some(now) })).await
            }
            Some(Down::Checkpoints(checkpoints)) => self.take_checkpoints(&checkpoints).await,
            // A newer coordinator may say more than this version understands.
            Some(Down::Welcome(_)) | None => Ok(()),
        }
    }

    async fn take_command(&mut self, wire: link::Command) -> Result<(), Failure> {
        let key = wire.key.clone();
        let command = match wire::read_command(wire) {
            Ok(command) => command,
            Err(error) => {
                error!(%error, "a command cannot be read");
                // It never reached the journal, so its refusal carries no number and is not kept.
                let refused = wire::write_refusal(&error.into());
                let outcome = Some(link::report::Outcome::Refused(refused));
                let intake = self.host.intake.clone();
                let newest_generation = blocking(move || intake.state().generation.0).await?;
                let report = link::Report { key, sequence: 0, outcome, newest_generation };
                return self.send(Up::Report(report)).await;
            }
        };
        debug!(operation = %command.operation, generation = %command.generation, step = %command.step.kind(), "command");
        // If it is a repetition, its report is sent again.
        self.sent.retain(|_, sent| sent.key != key);
        let intake = self.host.intake.clone();
        blocking(move || intake.receive(command)).await?.map_err(journal)
    }

    async fn take_acknowledgement(&mut self, sequence: ReportSequence) -> Result<(), Failure> {
        if sequence.0 == 0 {
            return Ok(());
        }
        self.sent.remove(&sequence);
        let intake = self.host.intake.clone();
        blocking(move || intake.acknowledge(sequence)).await?.map_err(journal)
    }

    async fn take_checkpoints(&self, wire: &link::Checkpoints) -> Result<(), Failure> {
        let read = |ids: &[String]| -> Result<BTreeSet<OperationId>, _> {
            ids.iter().map(|id| id.parse()).collect()
        };
        let (Ok(needed), Ok(deleted)) = (read(&wire.needed), read(&wire.deleted)) else {
            // What is not understood wholly is not heeded at all: nothing goes by mistake.
            error!("what the coordinator says of checkpoints cannot be read");
            return Ok(());
        };
        let intake = self.host.intake.clone();
        blocking(move || intake.heed(&needed, &deleted)).await
    }

    async fn take_query(&mut self, query: link::Query) -> Result<(), Failure> {
        let query_id = query.query_id;
        let failed = |failure: Failure| {
            let failure = wire::write_refusal(&failure.into());
            link::query_result::Answer::Failure(failure)
        };
        let Some(link::query::Question::PlanRestore(question)) = query.question else {
            let failure = Failure::new(Reason::Unsupported, "the question is not known to this agent");
            return self
                .send(Up::QueryResult(link::QueryResult { query_id, answer: Some(failed(failure)) }))
                .await;
        };
        if self.queries.len() >= QUERIES {
            let failure = Failure::new(Reason::Overloaded, "this host answers other questions");
            return self
                .send(Up::QueryResult(link::QueryResult { query_id, answer: Some(failed(failure)) }))
                .await;
        }
        let (host, administration) = (self.host.about.host.clone(), self.host.administration.clone());
        self.queries.spawn_blocking(move || {
            let selection = wire::read_selection("plan_restore.selection", question.selection.as_ref());
            let choices = wire::read_choices("plan_restore.choices", question.choices);
            let asked = selection.and_then(|selection| Ok((selection, choices?))).map_err(Into::into);
            let plan = asked.and_then(|(selection, choices)| {
                administration.plan_with(&question.snapshot, &selection, &choices)
            });
            let answer = match plan {
                Ok(plan) => link::query_result::Answer::Plan(wire::write_plan(host.as_str(), &plan)),
                Err(refusal) => link::query_result::Answer::Failure(wire::write_refusal(&refusal)),
            };
            link::QueryResult { query_id, answer: Some(answer) }
        });
        Ok(())
    }

    pub(super) async fn send(&self, message: Up) -> Result<(), Failure> {
        let message = link::AgentMessage { message: Some(message) };
        match self.up.send_timeout(message, SEND).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(Failure::new(Reason::Unreachable, format!("the coordinator read nothing for {SEND:?}")))
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => {
                Err(Failure::new(Reason::Unreachable, "the connection to the coordinator was lost"))
            }
        }
    }
}

/// The operation that owns the host. One that cannot be read is no checkpoint of this host's.
fn owner(text: &str) -> Option<OperationId> {
    let owner = text.parse().ok();
    if owner.is_none() && !text.is_empty() {
        error!(owner = text, "what the coordinator says of the host's owner cannot be read");
    }
    owner
}

fn hello(host: &Host, state: &HostState) -> link::AgentMessage {
    let hello = link::Hello {
        protocol: PROTOCOL,
        host: host.about.host.to_string(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: host.about.labels.clone().into_iter().collect(),
        components: host.about.components.clone(),
        instance_id: host.about.instance.to_string(),
        start_id: host.about.start_id.clone(),
        generation: state.generation.0,
        in_flight: state.activity.as_ref().and_then(wire::command_key),
        agent_time: Some(convert::to_wire_time(host.clock.now())),
        inconsistent: state.inconsistent.is_some(),
        snapshot: state.snapshot.map(|snapshot| snapshot.to_string()).unwrap_or_default(),
    };
    link::AgentMessage { message: Some(Up::Hello(hello)) }
}

/// Runs what may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Reason::Internal, format!("a fault in the agent: {error}")))
}

/// What the journal did not take was not promised: the session ends, and the coordinator sends it again.
pub(super) fn journal(error: IntakeError) -> Failure {
    let message = Chain(&error).to_string();
    warn!(error = message, "the journal failed");
    Failure::new(Reason::Io, message).next("look at the disk of the agent's store (journalctl -u rfs-agent)")
}
