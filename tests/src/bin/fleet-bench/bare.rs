//! The yardstick: a server that does nothing but hold streams, send a message to each, and hear the answers.
//!
//! It speaks with the generated code of the agents' link over plain mutual TLS, and decides, checks and stores nothing. So
//! what it needs is what any coordinator needs on this machine.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use rfs_proto::agentlink::v1::agent_link_client::AgentLinkClient;
use rfs_proto::agentlink::v1::agent_link_server::{AgentLink, AgentLinkServer};
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::{AgentMessage, Command, CommandKey, CoordinatorMessage, Hello, Report};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Endpoint, Server, Uri};
use tonic::{Request, Response, Status, Streaming};

use super::tls::{self, Peer};

/// How long a message down is, as a command with its reason is.
const REASON: usize = 200;
/// How many clients dial at once, as the simulated agents do.
const DIALLING: usize = 256;
/// How often a message is sent to all.
const ROUNDS: u64 = 5;
/// How many single round trips are made.
const TRIPS: u64 = 300;

type Sender = mpsc::Sender<Result<CoordinatorMessage, Status>>;

#[derive(Clone)]
struct Bare {
    streams: Arc<Mutex<Vec<Sender>>>,
    answers: mpsc::UnboundedSender<u64>,
}

#[tonic::async_trait]
impl AgentLink for Bare {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut agent = request.into_inner();
        let (down, messages) = mpsc::channel(4);
        let bare = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = agent.next().await {
                match message.message {
                    Some(Up::Hello(_)) => bare.streams().push(down.clone()),
                    Some(Up::Report(report)) => drop(bare.answers.send(report.sequence)),
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

impl Bare {
    fn streams(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves, and obeys standard input: says where it listens, then answers each line with one line of JSON.
pub(super) async fn serve(folder: &Path) -> Result<()> {
    let config = tls::server(folder, "main")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (answers, heard) = mpsc::unbounded_channel();
    let bare = Bare { streams: Arc::default(), answers };
    let (accepted, incoming) = mpsc::channel(64);
    tokio::spawn(accept(listener, TlsAcceptor::from(config), accepted));
    let serving = Server::builder()
        .add_service(AgentLinkServer::new(bare.clone()))
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::spawn(serving);
    say(json!({ "address": address.to_string() }))?;
    obey(&bare, heard).await
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, accepted: mpsc::Sender<io::Result<Peer>>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            if let Ok(stream) = tls.accept(tcp).await {
                let _ = accepted.send(Ok(Peer(stream))).await;
            }
        });
    }
}

async fn obey(bare: &Bare, mut heard: mpsc::UnboundedReceiver<u64>) -> Result<()> {
    let mut lines = rfs_tests::lines::read(io::stdin());
    let mut round = 0;
    while let Some(line) = lines.recv().await {
        say(match line.trim() {
            "streams" => json!({ "streams": bare.streams().len() }),
            "fan" => {
                let mut times = Vec::new();
                for _ in 0..ROUNDS {
                    round += 1;
                    times.push(fan(bare, &mut heard, round).await?);
                }
                times.sort_by(f64::total_cmp);
                json!({ "seconds": times[times.len() / 2] })
            }
            "trip" => json!({ "seconds": trip(bare, &mut heard, &mut round).await? }),
            other => bail!("{other:?} is no command of the bare server"),
        })?;
    }
    Ok(())
}

fn say(value: Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value}")
}

/// Sends to all, and waits for every answer.
async fn fan(bare: &Bare, heard: &mut mpsc::UnboundedReceiver<u64>, round: u64) -> Result<f64> {
    let streams = bare.streams().clone();
    let begun = Instant::now();
    for stream in &streams {
        stream.send(Ok(message(round))).await.context("a stream ended")?;
    }
    for _ in &streams {
        heard.recv().await.context("no more answers")?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// The median time from one message to its answer.
async fn trip(bare: &Bare, heard: &mut mpsc::UnboundedReceiver<u64>, round: &mut u64) -> Result<f64> {
    let streams = bare.streams().clone();
    let mut times = Vec::new();
    for number in 0..TRIPS {
        *round += 1;
        let begun = Instant::now();
        let stream = &streams[number as usize * 37 % streams.len()];
        stream.send(Ok(message(*round))).await.context("a stream ended")?;
        heard.recv().await.context("no more answers")?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn message(round: u64) -> CoordinatorMessage {
    let key = CommandKey { generation: round, ..Default::default() };
    let command = Command { key: Some(key), reason: "r".repeat(REASON), ..Default::default() };
    CoordinatorMessage { message: Some(Down::Command(command)) }
}

/// Holds `count` streams that answer every message.
pub(super) async fn connect(folder: &Path, address: SocketAddr, count: usize) -> Result<()> {
    let config = tls::client(folder, "bare")?;
    let dialling = Arc::new(Semaphore::new(DIALLING));
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (config, dialling) = (config.clone(), dialling.clone());
        clients.spawn(async move {
            let permit = dialling.acquire_owned().await?;
            let connector = tower::service_fn(move |_: Uri| {
                let tls = TlsConnector::from(config.clone());
                async move {
                    let tcp = TcpStream::connect(address).await?;
                    tcp.set_nodelay(true)?;
                    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                    tls.connect(name, tcp).await.map(TokioIo::new)
                }
            });
            let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await?;
            let (up, messages) = mpsc::channel(4);
            let hello = Up::Hello(Hello::default());
            up.send(AgentMessage { message: Some(hello) }).await?;
            let answer = AgentLinkClient::new(channel).connect(ReceiverStream::new(messages)).await?;
            drop(permit);
            let mut down = answer.into_inner();
            while let Some(message) = down.message().await? {
                if let Some(Down::Command(command)) = message.message {
                    let sequence = command.key.as_ref().map_or(0, |key| key.generation);
                    let report = Report { key: command.key, sequence, ..Default::default() };
                    up.send(AgentMessage { message: Some(Up::Report(report)) }).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}
