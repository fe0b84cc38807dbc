//! Who speaks for a name: decided one hello at a time, and durable before it counts.

use rfs_link::Failure;
use rfs_model::{Generation, HostId, InstanceId, Reason};
use tokio::sync::{Mutex, MutexGuard};
use tracing::{error, info, warn};

use super::machines::{self, Claim, Starts, Verdict};
use super::roster::{Facts, HostCard, Name};
use super::{Hub, fleet};
use crate::api::{fingerprint, store_failure};
use crate::driver::OperationError;
use crate::driver::fleet::FleetEvent;
use crate::store::{ForgetError, Machines};

/// How many names can be decided on at once; names that share a lock wait for each other.
const LOCKS: u64 = 1024;

/// Locks for names.
#[derive(Debug)]
pub(super) struct Names(Vec<Mutex<()>>);

impl Default for Names {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Mutex::default()).collect())
    }
}

impl Names {
    /// Waits until nobody else decides on the name.
    pub(super) async fn lock(&self, host: &HostId) -> MutexGuard<'_, ()> {
        let place = usize::try_from(fingerprint(host.as_str().bytes()) % LOCKS).unwrap_or(0);
        self.0[place].lock().await
    }
}

impl Hub {
    /// Decides whether who says hello may speak for the name; gives what is to be stored if it may. Call with the name locked.
    pub(super) async fn admit(&self, host: &HostId, claim: &Claim) -> Result<Name, Failure> {
        let (roster, now) = (&self.shared.roster, self.shared.clock.now());
        let mut name = roster.name(host, now);
        let was_contested = name.machines.contest.is_some();
        let was_refused = name.machines.refused_at.is_some();
        let was_known = name.machines.known.contains_key(&claim.instance);
        let Name { machines, starts, present, .. } = &mut name;
        match machines::judge(host, machines, starts, claim, present, now) {
            Verdict::Welcome => Ok(name),
            Verdict::Replaces(other) => {
                warn!(%host, new = %claim.instance, old = %other, address = claim.address,
                    "another machine speaks for the host's name than before");
                Ok(name)
            }
            Verdict::Refused(accepted) => {
                if !was_known {
                    warn!(%host, %accepted, refused = %claim.instance, address = claim.address,
                        "another machine asks for the name of a host of which a person has said which machine it is");
                }
                roster.settle_name(host, name.machines, name.starts, now);
                Err(machines::refused(host, claim, accepted))
            }
            Verdict::Forgotten(at) => {
                // Those that ask again and again are not told of each time.
                if !was_refused {
                    warn!(%host, instance = %claim.instance, address = claim.address,
                        "a machine asks for the name of a host that was forgotten");
                }
                roster.settle_name(host, name.machines, name.starts, now);
                Err(machines::forgotten(host, claim, at))
            }
            Verdict::Later => {
                roster.settle_name(host, name.machines, name.starts, now);
                Err(machines::later(host))
            }
            Verdict::Contested => {
                Err(self.contest(host, name.machines, name.starts, was_contested, !was_known).await)
            }
        }
    }

    /// Two machines speak for the name: nobody does any more.
    async fn contest(
        &self,
        host: &HostId,
        machines: Machines,
        starts: Starts,
        was_contested: bool,
        is_new: bool,
    ) -> Failure {
        let now = self.shared.clock.now();
        let Some(contest) = machines.contest.clone() else {
            return Failure::new(Reason::Internal, "a contest without a reason");
        };
        let failure = machines::contested(&contest);
        let ended = self.shared.roster.settle_name(host, machines.clone(), starts, now);
        if let Some(session) = ended {
            session.close(failure.clone());
        }
        if !was_contested {
            error!(%host, "{}; the host is told nothing until a person says which one it is", contest.text);
            self.tell(FleetEvent::Changed(host.clone())).await;
        }
        // Those that ask again and again are not written down each time.
        if (!was_contested || is_new)
            && let Some(facts) = self.shared.roster.facts(host)
        {
            let seen = fleet::seen(host, &facts, Generation(0), Some(machines), now);
            if let Err(error) = self.shared.register.write(seen).await {
                return error;
            }
        }
        failure
    }

    /// A person says that a host is gone for good: it is none of the fleet any more, and nobody is let in under its name until a
    /// machine is accepted again.
    pub async fn forget(&self, host: &HostId, who: &str) -> Result<(), Failure> {
        let unknown = || Failure::new(Reason::HostNotFound, format!("no host {host} has ever connected"));
        let _locked = self.shared.names.lock(host).await;
        let now = self.shared.clock.now();
        self.shared.roster.facts(host).ok_or_else(unknown)?;
        let Name { mut machines, mut starts, present, .. } = self.shared.roster.name(host, now);
        if let Some(at) = machines.forgotten_at {
            let message = format!("{host} was forgotten before, at {at}");
            return Err(Failure::new(Reason::HostNotFound, message));
        }
        if present.connected {
            let message = format!("{host} is connected, so it is not gone");
            return Err(Failure::new(Reason::HostConnected, message));
        }
        // Nobody is let in before it is stored, and no operation can take the host afterwards.
        if let Err(error) = self.shared.store.forget_host(host, now).await {
            return Err(self.not_forgotten(host, error).await);
        }
        machines::forget(&mut machines, &mut starts, now);
        let ended = self.shared.roster.settle_name(host, machines, starts, now);
        if let Some(session) = ended {
            session.close(machines::forgotten(host, &session.claim, now));
        }
        info!(%host, who, "a person has said that the host is gone for good");
        self.tell(FleetEvent::Changed(host.clone())).await;
        Ok(())
    }

    /// A person says which machine the name belongs to. The others are refused from then on.
    pub async fn accept(&self, host: &HostId, instance: InstanceId, who: &str) -> Result<HostCard, Failure> {
        let unknown = || Failure::new(Reason::HostNotFound, format!("no host {host} has ever connected"));
        let _locked = self.shared.names.lock(host).await;
        let now = self.shared.clock.now();
        let facts: Facts = self.shared.roster.facts(host).ok_or_else(unknown)?;
        let Name { mut machines, mut starts, .. } = self.shared.roster.name(host, now);
        if !machines::accept(&mut machines, &mut starts, instance) {
            let problem = format!("no machine {instance} has spoken for {host}");
            return Err(Failure::invalid("instance", problem)
                .next(format!("see the machines that have with: rfs host show {host}")));
        }
        let seen = fleet::seen(host, &facts, Generation(0), Some(machines.clone()), now);
        self.shared.register.write(seen).await?;
        let ended = self.shared.roster.settle_name(host, machines, starts, now);
        if let Some(session) = ended {
            session.close(machines::refused(host, &session.claim, instance));
        }
        info!(%host, %instance, who, "a person has said which machine the host is");
        self.tell(FleetEvent::Changed(host.clone())).await;
        self.host(host).ok_or_else(unknown)
    }

    async fn not_forgotten(&self, host: &HostId, error: ForgetError) -> Failure {
        match error {
            ForgetError::HostBusy { owner } => {
                let row = match self.shared.store.operation(owner).await {
                    Ok(row) => row,
                    Err(error) => return store_failure(&error),
                };
                let busy =
                    OperationError::HostBusy { host: host.clone(), owner, kind: row.map(|row| row.kind) };
                let failure = Failure::from(busy);
                let next = format!("{}; then forget the host again", failure.next_step());
                failure.next(next)
            }
            ForgetError::NoHost => {
                Failure::new(Reason::HostNotFound, format!("no host {host} has ever connected"))
            }
            ForgetError::Store(error) => store_failure(&error),
        }
    }
}
