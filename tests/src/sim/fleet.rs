//! All simulated agents of a process: started, scripted, deployed to, cut off, and counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rfs_link::Target;
use rfs_model::HostId;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::agent::{Agent, Link};
use super::certificates;
use super::host::{Made, SimHost};
use super::script::{Latencies, Rule, Script};
use crate::dice::Dice;

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the coordinator is.
    pub target: Target,
    /// The folder with the authority's `ca.pem` and `ca.key`.
    pub authority: PathBuf,
    /// How many hosts.
    pub agents: usize,
    /// What their names begin with; a number of five digits follows.
    pub prefix: String,
    /// The number of the first host.
    pub first: usize,
    /// Label keys, each with into how many groups of nearly the same size it divides the fleet: `zone=z0`, `zone=z1`…
    pub labels: Vec<(String, usize)>,
    /// What hosts do; later rules change what earlier ones said.
    pub rules: Vec<Rule>,
    /// Hosts that have a second machine under the same name, with a store of its own.
    pub clones: Vec<Rule>,
    /// How long steps take.
    pub latencies: Latencies,
    /// How often the check of a host is measured.
    pub check_interval: Duration,
    /// How many dial at once.
    pub dialling: usize,
    /// What chance follows from.
    pub seed: u64,
}

impl Settings {
    /// So many good hosts that do at once what they are told.
    pub fn new(target: Target, authority: PathBuf, agents: usize) -> Self {
        Self {
            target,
            authority,
            agents,
            prefix: "h-".to_owned(),
            first: 0,
            labels: Vec::new(),
            rules: Vec::new(),
            clones: Vec::new(),
            latencies: Latencies::default(),
            check_interval: Duration::from_secs(10),
            dialling: 256,
            seed: 1,
        }
    }
}

/// Simulated agents. They end when it is dropped.
#[derive(Debug)]
pub struct SimFleet {
    /// Those that a name belongs to first, in the order of their numbers; then the clones.
    agents: Vec<Arc<Agent>>,
    hosts: usize,
    link: Arc<Link>,
    /// What hosts are that were deployed to last.
    content: AtomicU64,
    _stop: DropGuard,
}

/// Where the fleet stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How many agents there are, clones included.
    pub agents: usize,
    /// How many have a session.
    pub connected: usize,
    /// How many sessions were begun since the start.
    pub sessions: u64,
    /// How many commands came since the start, repetitions included.
    pub commands: u64,
    /// How many hold still for a checkpoint.
    pub quiet: usize,
    /// How many stand at neither state.
    pub inconsistent: usize,
    /// How many hosts are what, without clones.
    pub contents: BTreeMap<u64, usize>,
    /// Why agents have no session, with how many say so.
    pub troubles: BTreeMap<String, usize>,
}

impl SimFleet {
    /// Issues the certificates and starts the agents on the present runtime.
    pub async fn start(settings: Settings) -> Result<Self> {
        let count = settings.agents;
        let names: Vec<HostId> = (settings.first..settings.first + count)
            .map(|number| HostId::new(&format!("{}{number:05}", settings.prefix)))
            .collect::<Result<_, _>>()
            .context("the prefix makes no names of hosts")?;
        let is_clone = |index: usize| {
            settings.clones.iter().any(|rule| rule.is_for(index, names[index].as_str(), count))
        };
        let clones: Vec<usize> = (0..count).filter(|index| is_clone(*index)).collect();
        let (folder, ordered) = (settings.authority.clone(), names.clone());
        let issued = tokio::task::spawn_blocking(move || certificates::issue(&folder, &ordered)).await??;

        let stop = CancellationToken::new();
        let link = Arc::new(Link {
            target: settings.target.clone(),
            dialling: Semaphore::new(settings.dialling.max(1)),
            sessions: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            stop: stop.clone(),
        });
        let now = Instant::now();
        let mut agents = Vec::with_capacity(count + clones.len());
        for index in (0..count).chain(clones) {
            let host = SimHost::new(made(&settings, index, names[index].as_str())?, now);
            let agent = Agent::new(host, issued[index].clone(), link.clone());
            let dice = Dice(settings.seed ^ (agents.len() as u64).wrapping_mul(0x9E37_79B9));
            tokio::spawn(agent.clone().run(dice));
            agents.push(agent);
        }
        Ok(Self { agents, hosts: count, link, content: AtomicU64::new(1), _stop: stop.drop_guard() })
    }

    /// How many hosts there are, without clones.
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    /// Looks at a host, by its place in the fleet.
    pub fn look<T>(&self, index: usize, look: impl FnOnce(&SimHost) -> T) -> T {
        look(&self.agents[index].host())
    }

    /// Makes every host something that none was before, as a deploy does; gives what that is.
    pub fn deploy(&self) -> u64 {
        let content = self.content.fetch_add(1, Ordering::SeqCst) + 1;
        self.agents.iter().for_each(|agent| agent.change(|host| host.deploy(content)));
        content
    }

    /// Changes what hosts do. Gives how many it is about.
    pub fn obey(&self, rule: &Rule) -> usize {
        let mut count = 0;
        for agent in self.chosen(rule) {
            // It was read when it was parsed.
            let _ = agent.change(|host| rule.apply(&mut host.script));
            count += 1;
        }
        count
    }

    /// Cuts every connection; the agents come back by themselves.
    pub fn cut(&self) {
        self.agents.iter().for_each(|agent| agent.cut());
    }

    fn chosen(&self, rule: &Rule) -> impl Iterator<Item = &Arc<Agent>> {
        let hosts = self.agents.iter().take(self.hosts).enumerate();
        let is_chosen =
            move |(index, agent): &(usize, &Arc<Agent>)| rule.is_for(*index, agent.host().name(), self.hosts);
        hosts.filter(is_chosen).map(|(_, agent)| agent)
    }

    /// Where the fleet stands.
    pub fn status(&self) -> Status {
        let mut status = Status {
            agents: self.agents.len(),
            connected: 0,
            sessions: self.link.sessions.load(Ordering::SeqCst),
            commands: self.link.commands.load(Ordering::SeqCst),
            quiet: 0,
            inconsistent: 0,
            contents: BTreeMap::new(),
            troubles: BTreeMap::new(),
        };
        for (index, agent) in self.agents.iter().enumerate() {
            let host = agent.host();
            status.connected += usize::from(agent.is_connected());
            status.quiet += usize::from(host.is_quiet());
            status.inconsistent += usize::from(host.is_inconsistent());
            if index < self.hosts {
                *status.contents.entry(host.content()).or_default() += 1;
            }
            drop(host);
            if let Some(trouble) = agent.trouble() {
                *status.troubles.entry(trouble.reason.to_string()).or_default() += 1;
            }
        }
        status
    }
}

fn made(settings: &Settings, index: usize, name: &str) -> Result<Made> {
    let mut script = Script::default();
    for rule in settings.rules.iter().filter(|rule| rule.is_for(index, name, settings.agents)) {
        rule.apply(&mut script)?;
    }
    let label = |(key, groups): &(String, usize)| (key.clone(), format!("{key}{}", index % groups.max(&1)));
    Ok(Made {
        name: name.to_owned(),
        number: u32::try_from(settings.first + index)?,
        labels: settings.labels.iter().map(label).collect(),
        instance: Uuid::now_v7(),
        script,
        latencies: settings.latencies.clone(),
        check_interval: settings.check_interval,
        seed: settings.seed,
    })
}
