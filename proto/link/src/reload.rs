//! Credentials that follow their files: a new certificate, key or root is in use within seconds, without a restart.
//!
//! The contents are compared once a second. Files that cannot be used, such as a pair of which one half is new,
//! keep the old credentials in use and are tried again; each reason is logged once. New roots are also
//! applied to connections that are open: one whose peer they no longer prove is closed, and so is one whose
//! peer's certificate has expired.
//!
//! Invariant: a connection is in the registry before it is used, and is verified again if the credentials changed
//! during its handshake; so a change of roots misses none.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rfs_model::Timestamp;
use rfs_model::time::SharedClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::chain::Chain;
use crate::connections::{Connections, Open, PeerRole, Registered};
use crate::credentials::{Credentials, CredentialsError, Material, unix_time};
use crate::identity::{CertificateFacts, SpiffeId};

/// How many days before its end a certificate is warned about, soonest first.
const TOLD_AT_DAYS: [u64; 3] = [1, 7, 30];

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The credentials of one end, always the newest that are whole.
pub struct LiveCredentials {
    paths: Credentials,
    clock: SharedClock,
    current: ArcSwap<Material>,
    own: watch::Sender<CertificateFacts>,
    pub(crate) connections: Arc<Connections>,
}

impl LiveCredentials {
    /// Reads the files of `paths`. They are followed once [`follow`](Self::follow) is called.
    ///
    /// `clock` judges validity; it is the machine's clock everywhere but in tests of expiry.
    pub fn open(paths: Credentials, clock: SharedClock) -> Result<Arc<Self>, CredentialsError> {
        let material = paths.parse(&paths.read()?, &clock)?;
        let own = watch::Sender::new(material.own.clone());
        let connections = Arc::default();
        Ok(Arc::new(Self { paths, clock, current: ArcSwap::from_pointee(material), own, connections }))
    }

    /// Who this end is.
    pub fn id(&self) -> SpiffeId {
        self.current.load().own.id.clone()
    }

    /// What the own certificate says, and a notice of each later one. An end that dialled connects again then.
    pub fn own(&self) -> watch::Receiver<CertificateFacts> {
        self.own.subscribe()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Starts to follow the files, until `stop` is cancelled or the credentials are dropped.
    pub fn follow(self: &Arc<Self>, stop: CancellationToken) {
        tokio::spawn(follow(Arc::downgrade(self), stop));
    }

    pub(crate) fn material(&self) -> Arc<Material> {
        self.current.load_full()
    }

    /// Registers a connection whose handshake used `material`; `None` if its peer is no longer trusted.
    pub(crate) fn register(&self, open: Open, material: &Arc<Material>) -> Option<Registered> {
        let registered = self.connections.add(open.clone());
        let current = self.material();
        (Arc::ptr_eq(&current, material) || self.trusts(&current, &open)).then_some(registered)
    }

    fn trusts(&self, material: &Material, open: &Open) -> bool {
        use rustls::client::danger::ServerCertVerifier as _;
        use rustls::server::danger::ClientCertVerifier as _;
        let (Some((leaf, rest)), Some(now)) = (open.chain.split_first(), unix_time(&self.clock)) else {
            return false;
        };
        match &open.role {
            PeerRole::Client => material.client_check.verify_client_cert(leaf, rest, now).is_ok(),
            PeerRole::Server(name) => {
                material.server_check.verify_server_cert(leaf, rest, name, &[], now).is_ok()
            }
        }
    }

    /// Says when the own certificate is about to end: at 30, 7 and 1 days, and when it has. `told` is what was said last.
    fn warn_of_the_end(&self, told: &mut Option<(Timestamp, u64)>) {
        let (now, not_after) = (self.clock.now(), self.own.borrow().not_after);
        let Some(step) = step_of(not_after, now) else { return };
        if told.replace((not_after, step)) == Some((not_after, step)) {
            return;
        }
        let id = self.id();
        if step == 0 {
            warn!(%id, expired = %not_after, "this certificate has expired; issue a new one with: rfs pki issue");
        } else {
            warn!(%id, expires = %not_after, "this certificate expires within {step} d; issue a new one with: rfs pki issue");
        }
    }

    /// Looks at the files once. `complaint` is what was last said of files that cannot be used.
    fn look(&self, complaint: &mut Option<String>) {
        for identity in self.connections.close_expired(self.clock.now()) {
            warn!(peer = %identity, "connection closed: its certificate has expired");
        }
        let old = self.material();
        match self.changed(&old) {
            Ok(new) => {
                *complaint = None;
                if let Some(new) = new {
                    self.adopt(&old, new);
                }
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                if complaint.as_ref() != Some(&error) {
                    warn!(error, "new credentials cannot be used; the old ones stay in use");
                    *complaint = Some(error);
                }
            }
        }
    }

    fn changed(&self, old: &Material) -> Result<Option<Material>, CredentialsError> {
        let files = self.paths.read()?;
        if old.is_of(&files) {
            return Ok(None);
        }
        self.paths.parse(&files, &self.clock).map(Some)
    }

    fn adopt(&self, old: &Material, new: Material) {
        let new = Arc::new(new);
        self.current.store(new.clone());
        info!(id = %new.own.id, serial = %new.own.serial, not_after = %new.own.not_after, "credentials reloaded");
        if !new.same_roots(old) || new.own.id.trust_domain != old.own.id.trust_domain {
            for open in self.connections.snapshot() {
                if !self.trusts(&new, &open) {
                    warn!(peer = %open.identity, "connection closed: its certificate is no longer trusted");
                    open.close.cancel();
                }
            }
        }
        if !new.same_own(old) {
            self.own.send_replace(new.own.clone());
        }
    }
}

impl std::fmt::Debug for LiveCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveCredentials").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// Within how many days a certificate ends, of those that are told; 0 once it has ended.
fn step_of(not_after: Timestamp, now: Timestamp) -> Option<u64> {
    if not_after < now {
        return Some(0);
    }
    let left = not_after.since(now);
    TOLD_AT_DAYS.into_iter().find(|days| left <= Duration::from_secs(days * 24 * 3600))
}

async fn follow(credentials: Weak<LiveCredentials>, stop: CancellationToken) {
    let mut complaint = None;
    let mut told = None;
    loop {
        if let Some(credentials) = credentials.upgrade() {
            credentials.warn_of_the_end(&mut told);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(credentials) = credentials.upgrade() else { return };
        let look = tokio::task::spawn_blocking(move || {
            credentials.look(&mut complaint);
            complaint
        });
        complaint = look.await.unwrap_or_else(|error| {
            warn!(%error, "looking at the credentials failed");
            None
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_at_30_7_and_1_days_and_when_it_has_come() {
        let end = Timestamp(1_764_000_000_000);
        let step = |days: i64, ms: i64| step_of(end, Timestamp(end.0 - days * 86_400_000 + ms));
        assert_eq!(step(31, 0), None);
        assert_eq!(step(30, -1), None);
        assert_eq!(step(30, 0), Some(30));
        assert_eq!(step(7, -1), Some(30));
        assert_eq!(step(7, 0), Some(7));
        assert_eq!(step(1, 0), Some(1));
        assert_eq!(step(0, 0), Some(1));
        assert_eq!(step(0, 1), Some(0));
    }
}
