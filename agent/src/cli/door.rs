//! The way to the host: through the running daemon, or, where none runs, to the store itself.

use std::path::Path;
use std::sync::Arc;

use rfs_model::OperationId;
use rfs_store::Store;

use super::interrupt;
use crate::administration::Administrator;
use crate::commander::Refusal;
use crate::config::Config;
use crate::engine::{Clocks, Engine, NoLocalHealth, Opened, Receipt, refuse_snapshot};
use crate::local::{Administration, LocalClient};
use crate::run::SOCKET;

/// The way in.
pub(super) enum Door {
    /// A daemon runs.
    Daemon(LocalClient),
    /// None runs, so this process holds the store, and has ended what was interrupted.
    Here(Box<Here>),
}

/// The host, without a daemon.
pub(super) struct Here {
    pub(super) engine: Arc<Engine>,
    pub(super) recovered: Option<(OperationId, Receipt)>,
    administrator: Administrator,
}

/// Finds the way in.
pub(super) fn open(config: &Config) -> Result<Door, Refusal> {
    if let Some(client) = LocalClient::connect(&config.store.join(SOCKET))? {
        return Ok(Door::Daemon(client));
    }
    let Opened { engine, recovered } =
        Engine::open(config.clone(), Clocks::of_this_machine(), Arc::new(NoLocalHealth))?;
    let engine = Arc::new(engine);
    Ok(Door::Here(Box::new(Here { administrator: Administrator::new(engine.clone()), engine, recovered })))
}

/// Finds the way in for work that heeds an interruption.
pub(super) fn open_to_work(config: &Config) -> Result<Door, Refusal> {
    let door = open(config)?;
    if let Door::Here(here) = &door {
        interrupt::ends_work(here.engine.clone());
    }
    Ok(door)
}

/// The store, for looking alone, beside whoever writes to it.
pub(super) fn look(store: &Path) -> Result<Store, Refusal> {
    Store::open_read_only(store).map_err(|error| refuse_snapshot(&error))
}

impl Door {
    pub(super) fn administration(&self) -> &dyn Administration {
        match self {
            Self::Daemon(client) => client,
            Self::Here(here) => &here.administrator,
        }
    }
}
