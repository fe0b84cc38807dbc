//! The rows: what a fleet of one size costs, beside the bare server.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rfs_proto::v1::rollback::Outcome;
use rfs_proto::v1::rollback_spec::{Strategy, UnreachableAction};
use rfs_tests::tools::program;
use serde_json::Value;

use super::child::Child;
use super::coordinator::{HANG, How, Operator, World};

const IMMEDIATE: How =
    How { strategy: Strategy::Immediate, percent: 0, watches: false, unreachable: UnreachableAction::Fail };
const WAVES: How =
    How { strategy: Strategy::Gradual, percent: 5, watches: true, unreachable: UnreachableAction::Fail };
const QUICK_WAVES: How =
    How { strategy: Strategy::Gradual, percent: 5, watches: false, unreachable: UnreachableAction::Fail };
const LEAVING_OUT: How =
    How { strategy: Strategy::Immediate, percent: 0, watches: true, unreachable: UnreachableAction::Skip };
/// How many watch at once.
const WATCHERS: usize = 20;
/// How long what is idle is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// How long connections rest before their memory counts.
const REST: Duration = Duration::from_secs(3);

/// What the bare server needed.
struct Bare {
    connect: f64,
    cpu_per_connection: f64,
    memory: f64,
    fan: f64,
    trip: f64,
    idle: f64,
}

/// Measures a fleet of `count` agents; what grows is looked at for `span`.
pub(super) async fn measure(count: usize, span: Duration, work: Option<&Path>) -> Result<()> {
    println!("\n{count} agents");
    let world = World::new(work)?;
    let bare = measure_bare(&world, count)?;
    row("a single round trip", "", &format!("{:.0} µs", bare.trip * 1e6), "");

    let mut coordinator = world.serve()?;
    let (memory, cpu, begun) = (coordinator.memory()?, coordinator.cpu()?, Instant::now());
    let mut sim = Sim::start(&world, count)?;
    sim.until_connected(count, 0)?;
    let connect = begun.elapsed().as_secs_f64();
    compare("connect all", connect, bare.connect, seconds);
    let per_connection = (coordinator.cpu()? - cpu) / count as f64;
    compare("CPU of a connection", per_connection, bare.cpu_per_connection, micros);
    tokio::time::sleep(REST).await;
    compare("memory of an idle agent", (coordinator.memory()? - memory) / count as f64, bare.memory, kib);
    let idle = usage(&coordinator, IDLE).await?;
    let target = format!("{:.2} % of a core for each 1,000", idle * 100.0 * 1000.0 / count as f64);
    row("CPU of idle agents", &share(idle), &share(bare.idle), &target);

    let mut operator = world.operator().await?;
    let (took, checkpoint) = operator.checkpoint().await?;
    compare("checkpoint: prepare, cut, finish; all durable", took, bare.fan, seconds);
    sim.ask("deploy")?;
    let name = operator.roll_back(&checkpoint, &IMMEDIATE).await?;
    let took = operator.outcome(&name, Outcome::Succeeded).await?;
    compare("immediate rollback, each answer durable", took, bare.fan, seconds);
    sim.all_at(1)?;
    sizes(&world, &name)?;

    waves(&mut operator, &mut sim, &checkpoint).await?;
    watched(&mut operator, &coordinator, &mut sim, &checkpoint).await?;
    storm(&coordinator, &mut sim, count).await?;
    operator.close();
    let mut operator = killed(&world, &mut coordinator, &mut sim, count, &checkpoint).await?;
    left_out(&world, &coordinator, &mut operator, &mut sim, &checkpoint, span).await
}

fn measure_bare(world: &World, count: usize) -> Result<Bare> {
    let this = std::env::current_exe()?;
    let mut server = Child::start(Command::new(&this).arg("bare-server").arg(world.path()))?;
    let said = server.hear()?;
    let address = said["address"].as_str().context("it says where it listens")?.to_owned();
    let (memory, cpu, begun) = (server.memory()?, server.cpu()?, Instant::now());
    let mut command = Command::new(&this);
    let _clients =
        Child::start(command.arg("bare-clients").arg(world.path()).arg(address).arg(count.to_string()))?;
    while server.ask("streams")?["streams"] != count {
        if begun.elapsed() > HANG {
            bail!("the clients of the bare server do not connect");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let connect = begun.elapsed().as_secs_f64();
    let cpu_per_connection = (server.cpu()? - cpu) / count as f64;
    std::thread::sleep(REST);
    let memory = (server.memory()? - memory) / count as f64;
    let (cpu, begun) = (server.cpu()?, Instant::now());
    std::thread::sleep(IDLE / 4);
    let idle = (server.cpu()? - cpu) / begun.elapsed().as_secs_f64();
    let seconds = |said: Value| said["seconds"].as_f64().context("it says how long it took");
    let (fan, trip) = (seconds(server.ask("fan")?)?, seconds(server.ask("trip")?)?);
    Ok(Bare { connect, cpu_per_connection, memory, fan, trip, idle })
}

/// A gradual rollback whose gates look at health.
async fn waves(operator: &mut Operator, sim: &mut Sim, checkpoint: &str) -> Result<()> {
    sim.ask("deploy")?;
    let name = operator.roll_back(checkpoint, &WAVES).await?;
    let took = operator.outcome(&name, Outcome::Succeeded).await?;
    sim.all_at(1)?;
    // A canary, then waves. A host's verdict needs two measurements a second apart, and the gate one more second.
    let waves = 1 + 100 / WAVES.percent;
    let each = took / f64::from(waves);
    row(
        "waves of 5 % behind health gates",
        &seconds(took),
        "",
        &format!("{each:.1} s a wave, of which the hosts need 2"),
    );
    Ok(())
}

/// The same with watchers.
async fn watched(
    operator: &mut Operator,
    coordinator: &Child,
    sim: &mut Sim,
    checkpoint: &str,
) -> Result<()> {
    sim.ask("deploy")?;
    let cpu = coordinator.cpu()?;
    let name = operator.roll_back(checkpoint, &IMMEDIATE).await?;
    operator.outcome(&name, Outcome::Succeeded).await?;
    let alone = coordinator.cpu()? - cpu;
    sim.ask("deploy")?;
    let cpu = coordinator.cpu()?;
    let name = operator.roll_back(checkpoint, &IMMEDIATE).await?;
    let mut watching = tokio::task::JoinSet::new();
    for _ in 0..WATCHERS {
        let (mut operator, name) = (operator.clone(), name.clone());
        watching.spawn(async move { operator.watch(&name).await });
    }
    let took = operator.outcome(&name, Outcome::Succeeded).await?;
    let (mut messages, mut bytes, mut largest) = (0, 0, 0);
    while let Some(watched) = watching.join_next().await {
        let (more, of, at_most) = watched??;
        (messages, bytes, largest) = (messages + more, bytes + of, largest.max(at_most));
    }
    let each = 1.0 / WATCHERS as f64;
    let (messages, bytes) = (messages as f64 * each, bytes as f64 * each / 1e6);
    let text =
        format!("each {bytes:.1} MB in {messages:.0} messages, the largest {:.2} MB", largest as f64 / 1e6);
    row("immediate rollback with 20 watchers", &seconds(took), "", &text);
    let cpu = (coordinator.cpu()? - cpu - alone) * each;
    row("CPU of one watcher", &seconds(cpu), "", &format!("{} for the rollback itself", seconds(alone)));
    sim.all_at(1)
}

/// Every connection is lost at once.
async fn storm(coordinator: &Child, sim: &mut Sim, count: usize) -> Result<()> {
    let (cpu, begun) = (coordinator.cpu()?, Instant::now());
    let sessions = sim.number("sessions")?;
    sim.ask("cut")?;
    sim.until_connected(count, sessions + count as u64)?;
    let cpu = coordinator.cpu()? - cpu;
    row(
        "reconnect storm until all are back",
        &seconds(begun.elapsed().as_secs_f64()),
        "",
        &format!("{} of CPU", seconds(cpu)),
    );
    Ok(())
}

/// The coordinator is killed in the middle of a rollback in waves, and started again.
async fn killed(
    world: &World,
    coordinator: &mut Child,
    sim: &mut Sim,
    count: usize,
    checkpoint: &str,
) -> Result<Operator> {
    let mut operator = world.operator().await?;
    sim.ask("deploy")?;
    // Each wave takes a while, so that there is a middle, and none waits for health: what is seen is the coordinator alone.
    sim.ask("rule all:slow=200")?;
    let before = sim.number("commands")?;
    let name = operator.roll_back(checkpoint, &QUICK_WAVES).await?;
    let begun = Instant::now();
    while sim.number("commands")? < before + count as u64 / 3 {
        if begun.elapsed() > HANG {
            bail!("a third of the hosts is not told anything");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    coordinator.kill();
    operator.close();
    let told = sim.number("commands")?;
    let begun = Instant::now();
    *coordinator = world.serve()?;
    let ready = begun.elapsed().as_secs_f64();
    while sim.number("commands")? == told {
        if begun.elapsed() > HANG {
            bail!("no step is sent after the restart");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let next = begun.elapsed().as_secs_f64();
    row(
        "killed in the middle: next step after the start",
        &seconds(next),
        "",
        &format!("serving after {}", seconds(ready)),
    );
    let mut operator = world.operator().await?;
    operator.outcome(&name, Outcome::Succeeded).await?;
    sim.all_at(1)?;
    sizes(world, &name)?;
    sim.ask("rule all:good")?;
    sim.until_connected(count, 0)?;
    Ok(operator)
}

/// A rollback that has an outcome and waits for one host that is gone.
async fn left_out(
    world: &World,
    coordinator: &Child,
    operator: &mut Operator,
    sim: &mut Sim,
    checkpoint: &str,
    span: Duration,
) -> Result<()> {
    sim.ask("deploy")?;
    sim.ask("rule h-00007:gone")?;
    let name = operator.roll_back(checkpoint, &LEAVING_OUT).await?;
    operator.outcome(&name, Outcome::Partial).await?;
    // What follows the change itself is over when hosts have settled.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let (events, bytes) = world.history(&name)?;
    let idle = usage(coordinator, span).await?;
    let (more, grown) = world.history(&name)?;
    let hours = span.as_secs_f64() / 3600.0;
    let (more, grown) = ((more - events) as f64 / hours, (grown - bytes) as f64 / hours / 1e6);
    let text = format!("{more:.0} events an hour; {} of CPU", share(idle));
    row("PARTIAL that waits for one host: growth an hour", &format!("{grown:.2} MB"), "", &text);
    sim.ask("rule h-00007:good")?;
    sim.all_at(1)
}

fn sizes(world: &World, name: &str) -> Result<()> {
    let (events, bytes) = world.history(name)?;
    row("  its history", &format!("{:.1} MB", bytes as f64 / 1e6), "", &format!("{events} events"));
    Ok(())
}

/// How much of a core a process uses.
async fn usage(process: &Child, span: Duration) -> Result<f64> {
    let (cpu, begun) = (process.cpu()?, Instant::now());
    tokio::time::sleep(span).await;
    Ok((process.cpu()? - cpu) / begun.elapsed().as_secs_f64())
}

fn compare(what: &str, ours: f64, bare: f64, text: impl Fn(f64) -> String) {
    row(what, &text(ours), &text(bare), &format!("{:.2} ×", ours / bare));
}

fn row(what: &str, ours: &str, bare: &str, ratio: &str) {
    println!("  {what:<52} {ours:>11} {bare:>11}   {ratio}");
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}

fn kib(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / 1024.0)
}

fn share(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// The process with the simulated agents.
struct Sim(Child);

impl Sim {
    fn start(world: &World, count: usize) -> Result<Self> {
        let mut command = Command::new(program("fleet-sim"));
        command.args(["--server", &world.server(), "--agents", &count.to_string(), "--label", "zone=4"]);
        command.args(["--label", "rack=2000", "--latency", "apply=1ms"]).arg("--ca-dir").arg(world.path());
        Ok(Self(Child::start(&mut command)?))
    }

    fn ask(&mut self, line: &str) -> Result<Value> {
        self.0.ask(line)
    }

    fn number(&mut self, what: &str) -> Result<u64> {
        self.ask("status")?[what].as_u64().with_context(|| format!("it says {what}"))
    }

    /// Waits until all are connected and so many sessions were begun.
    fn until_connected(&mut self, count: usize, sessions: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let status = self.ask("status")?;
            if status["connected"] == count && status["sessions"].as_u64() >= Some(sessions) {
                return Ok(());
            }
            if begun.elapsed() > HANG {
                bail!("the agents do not connect: {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the coordinator reports must be so: every host that has a connection is what it was brought to.
    fn all_at(&mut self, content: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let status = self.ask("status")?;
            if status["contents"][content.to_string()] == status["agents"] {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("hosts are not where they should be: {}", status["contents"]);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
