//! Services: whether each ran, and how it is stopped and started around a change.
//!
//! A service is started and stopped by commands of the configuration. Its state is one bit, which its status command
//! tells: exit code 0 is running; 1, 2 and 3 are not running (as init scripts say it); everything else is no answer.
//!
//! A release may have broken these commands. Then there are further ways: see [`ways`].
//!
//! Invariant: a service is only said to run, or to be down, when its status command has said so after the last command. A snapshot
//! says of a service what that was before the host was made quiet.

mod units;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rfs_model::{ByteCount, ComponentKind, ComponentName, OperationId};
use rfs_store::restore::Moment;
use rfs_store::{Cancel, Capture, Snapshot, Store};
use serde::{Deserialize, Serialize};

use super::choices::Choices;
use super::{Component, ComponentError, Left, Measure, Planned, Present, Side, Staged};
use crate::commander::Selection;
use crate::config::{Hook, ServicesConfig};
use crate::host::{self, Exit, Lead, RunError, processes};
use crate::local::PlanLine;

pub use ways::Ways;

/// One service.
#[derive(Debug, Clone)]
pub struct Service {
    name: ComponentName,
    config: ServicesConfig,
    lead: Lead,
    /// The files that it uses.
    roots: Vec<PathBuf>,
    /// The store of this agent, which tells its services from another agent's.
    store: String,
    /// Whether it ran before an operation made components quiet, which may have stopped it.
    before_quiet: Arc<Mutex<BTreeMap<OperationId, bool>>>,
}

/// Whether a service runs; what a snapshot holds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Running {
    running: bool,
}

/// How often a service is asked whether it has started or stopped: often at first, as most are quick.
const ASK_FIRST: Duration = Duration::from_millis(5);
const ASK_LAST: Duration = Duration::from_millis(250);

impl Service {
    /// The service of that name.
    pub fn new(name: ComponentName, config: &ServicesConfig, store: &Path, roots: Vec<PathBuf>) -> Self {
        let (lead, store) = (Lead::of(store), store.to_string_lossy().into_owned());
        Self { name, config: config.clone(), lead, roots, store, before_quiet: Arc::default() }
    }

    /// Whether a change of any of these components concerns it.
    pub fn uses(&self, changed: &BTreeSet<ComponentName>) -> bool {
        match &self.config.uses {
            None => !changed.is_empty(),
            Some(uses) => !uses.is_disjoint(changed),
        }
    }

    /// Asks whether it runs, before anything is made quiet for the operation. That is what captures say of it until
    /// [`Service::forget`]. What is quiet for another operation may have changed that: then it is what it was before that one.
    pub fn remember(&self, operation: OperationId, cancel: &Cancel) -> Result<(), ComponentError> {
        let before = self.ran_before_quiet();
        let running = before.map_or_else(|| self.is_running(cancel), Ok)?;
        self.before_quiet().insert(operation, running);
        Ok(())
    }

    fn ran_before_quiet(&self) -> Option<bool> {
        self.before_quiet().values().next().copied()
    }

    /// All that was quiet for the operation has resumed.
    pub fn forget(&self, operation: OperationId) {
        self.before_quiet().remove(&operation);
    }

    fn before_quiet(&self) -> MutexGuard<'_, BTreeMap<OperationId, bool>> {
        self.before_quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether it runs.
    pub fn is_running(&self, cancel: &Cancel) -> Result<bool, ComponentError> {
        self.ask(&self.config.status, cancel)
    }

    fn ask(&self, status: &Hook, cancel: &Cancel) -> Result<bool, ComponentError> {
        let failed = |source| ComponentError::Command { component: self.name.clone(), done: "asked", source };
        let finished = host::run(status, &self.environment(), cancel).map_err(failed)?;
        match finished.exit {
            Exit::Code(0) => Ok(true),
            Exit::Code(1..=3) => Ok(false),
            exit => {
                let program = status.program.to_string();
                Err(failed(RunError::Failed { program, exit, output: finished.output }))
            }
        }
    }

    /// Asks whether it runs, in further ways if its own command gives no answer.
    pub fn is_running_by(&self, ways: &Ways<'_>, cancel: &Cancel) -> Result<bool, ComponentError> {
        let error = match self.is_running(cancel) {
            Err(error) if !error.is_stopped() => error,
            answered => return answered,
        };
        tracing::warn!(service = %self.name, error = %rfs_link::Chain(&error), "its status command gives no answer");
        let captured = ways.as_captured(&self.config.status).map(|status| self.ask(&status, cancel));
        match captured {
            Some(Ok(running)) => Ok(running),
            Some(Err(_)) | None if ways.force => Ok(!processes::find(&self.mark()).is_empty()),
            Some(Err(_)) | None => Err(error),
        }
    }

    /// Stops it, in further ways if its own command does not.
    pub fn stop_by(&self, ways: &Ways<'_>, cancel: &Cancel) -> Result<(), ComponentError> {
        let error = match self.stop(cancel) {
            Err(error) if !error.is_stopped() => error,
            stopped => return stopped,
        };
        tracing::warn!(service = %self.name, error = %rfs_link::Chain(&error), "its own command does not stop it");
        if let Some(stop) = ways.as_captured(&self.config.stop) {
            match self.bring_with(&stop, false, &|| self.is_running_by(ways, cancel), cancel) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_stopped() => return Err(error),
                Err(error) => {
                    tracing::warn!(service = %self.name, error = %rfs_link::Chain(&error), "nor does it as it was captured");
                }
            }
        }
        match ways.force {
            true => self.end_processes(ways, cancel),
            // It may have stopped, and only its status could not be asked.
            false => match self.is_running_by(ways, cancel) {
                Ok(false) => Ok(()),
                Ok(true) | Err(_) => Err(error),
            },
        }
    }

    /// Brings it up or down from wherever it is, in further ways where it must be stopped.
    pub fn ensure_by(&self, up: bool, ways: &Ways<'_>, cancel: &Cancel) -> Result<(), ComponentError> {
        match (self.is_running_by(ways, cancel)? == up, up) {
            (true, _) => Ok(()),
            (false, true) => self.start(cancel),
            (false, false) => self.stop_by(ways, cancel),
        }
    }

    fn end_processes(&self, ways: &Ways<'_>, cancel: &Cancel) -> Result<(), ComponentError> {
        let (count, still) = processes::end(&self.mark(), self.config.stop.timeout);
        tracing::warn!(service = %self.name, count, "its processes were ended");
        let asked = Instant::now();
        let mut pause = ASK_FIRST;
        // What says whether it runs may be told late.
        while !still.is_empty() || self.is_running_by(ways, cancel)? {
            if !still.is_empty() || asked.elapsed() >= self.config.status.timeout {
                return Err(ComponentError::NotEnded { component: self.name.clone(), count: count as u64 });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(ASK_LAST);
        }
        Ok(())
    }

    fn mark(&self) -> processes::Mark<'_> {
        // What starts it may name what it needs, too; what stops it names the service alone.
        let units = units::named(&self.config.stop.program);
        processes::Mark { environment: self.environment(), roots: &self.roots, units }
    }

    /// Stops it, and returns when it says that it is down.
    pub fn stop(&self, cancel: &Cancel) -> Result<(), ComponentError> {
        self.bring(false, cancel)
    }

    /// Starts it, and returns when it says that it runs.
    pub fn start(&self, cancel: &Cancel) -> Result<(), ComponentError> {
        self.bring(true, cancel)
    }

    /// Brings it up or down from wherever it is.
    pub fn ensure(&self, up: bool, cancel: &Cancel) -> Result<(), ComponentError> {
        match self.is_running(cancel)? == up {
            true => Ok(()),
            false => self.bring(up, cancel),
        }
    }

    fn bring(&self, up: bool, cancel: &Cancel) -> Result<(), ComponentError> {
        let hook = if up { &self.config.start } else { &self.config.stop };
        self.bring_with(hook, up, &|| self.is_running(cancel), cancel)
    }

    fn bring_with(
        &self,
        hook: &Hook,
        up: bool,
        is_running: &dyn Fn() -> Result<bool, ComponentError>,
        cancel: &Cancel,
    ) -> Result<(), ComponentError> {
        let (done, not) = if up { ("started", "not") } else { ("stopped", "still") };
        let asked = Instant::now();
        host::run_well(hook, &self.environment(), cancel, &self.lead)
            .map_err(|source| ComponentError::Command { component: self.name.clone(), done, source })?;
        let mut pause = ASK_FIRST;
        while is_running()? != up {
            if asked.elapsed() >= hook.timeout {
                return Err(ComponentError::Contradiction { component: self.name.clone(), done, not });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(ASK_LAST);
        }
        Ok(())
    }

    /// Puts it into a snapshot as running or not, whatever it is at this moment.
    pub fn capture_as(&self, running: bool, capture: &Capture) -> Result<Box<dyn Present>, ComponentError> {
        let state = Running { running };
        let bytes = serde_json::to_vec(&state).map_err(self.unreadable("state"))?;
        capture.value(&self.name, ComponentKind::Services, &bytes).map_err(|source| {
            ComponentError::Capture { component: self.name.clone(), source: source.into() }
        })?;
        if !running {
            capture.note(&self.name, format!("{} is not running", self.name));
        }
        Ok(Box::new(Now { service: self.clone(), state }))
    }

    /// Its state, asked for in further ways if its own command gives no answer.
    pub fn observe_by(&self, ways: &Ways<'_>, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let state = Running { running: self.is_running_by(ways, cancel)? };
        Ok(Box::new(Now { service: self.clone(), state }))
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("RFS_COMPONENT", self.name.as_str()), ("RFS_STORE", &self.store)]
    }

    fn unreadable(&self, what: &'static str) -> impl FnOnce(serde_json::Error) -> ComponentError + use<> {
        let component = self.name.clone();
        move |source| ComponentError::Unreadable { component, what, source }
    }
}

impl Component for Service {
    fn name(&self) -> &ComponentName {
        &self.name
    }

    fn kind(&self) -> ComponentKind {
        ComponentKind::Services
    }

    fn capture(&self, capture: &Capture, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let before = self.ran_before_quiet();
        let running = before == Some(true) || self.is_running(cancel)?;
        let present = self.capture_as(before.unwrap_or(running), capture)?;
        if before == Some(false) && running {
            capture.note(&self.name, format!("{} was started while the host was quiet", self.name));
        }
        Ok(present)
    }

    fn observe(&self, _store: &Store, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let state = Running { running: self.is_running(cancel)? };
        Ok(Box::new(Now { service: self.clone(), state }))
    }

    fn staged(&self, journalled: &str) -> Result<Box<dyn Staged>, ComponentError> {
        let turn = serde_json::from_str(journalled).map_err(self.unreadable("journal entry"))?;
        Ok(Box::new(Ready { service: self.clone(), turn }))
    }

    fn sweep(&self, _label: &str) -> Result<(), ComponentError> {
        Ok(())
    }

    fn service(&self) -> Option<&Service> {
        Some(self)
    }
}

/// Whether the service ran at one moment.
struct Now {
    service: Service,
    state: Running,
}

impl Present for Now {
    fn measure(&self) -> Measure {
        Measure { entries: 1, ..Measure::default() }
    }

    fn plan(
        &self,
        target: &Snapshot,
        _selection: &Selection,
        _choices: &Choices,
    ) -> Result<Box<dyn Planned>, ComponentError> {
        let service = self.service.clone();
        let recall = |source| ComponentError::Recall { component: service.name.clone(), source };
        let bytes = target.value(&service.name).map_err(recall)?;
        let wanted: Running = serde_json::from_slice(&bytes).map_err(service.unreadable("snapshot"))?;
        let turn = Turn { before: self.state.running, after: wanted.running };
        Ok(Box::new(Ready { service, turn }))
    }
}

/// From which state to which a service is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Whether it ran before the change.
    pub before: bool,
    /// Whether it runs at the target.
    pub after: bool,
}

/// A service's turn. There is nothing to stage: the plan is the stage.
#[derive(Clone)]
struct Ready {
    service: Service,
    turn: Turn,
}

impl Planned for Ready {
    fn step_count(&self) -> u64 {
        u64::from(self.turn.before != self.turn.after)
    }

    fn bytes(&self) -> ByteCount {
        ByteCount(0)
    }

    fn lines(&self, limit: usize) -> Vec<PlanLine> {
        let action = match (self.turn.before, self.turn.after) {
            (true, false) => "stop",
            (false, true) => "start",
            (true, true) | (false, false) => return Vec::new(),
        };
        let component = self.service.name.clone();
        let text = format!("{action} {component}");
        let line = PlanLine { component, action: action.to_owned(), text, bytes: ByteCount(0) };
        [line].into_iter().take(limit).collect()
    }

    fn left(&self, _staged: Option<&dyn Staged>, _since: Moment) -> Result<Left, ComponentError> {
        Ok(Left { written: Vec::new(), differs: self.lines(1).into_iter().map(|line| line.text).collect() })
    }

    fn notes(&self) -> Vec<String> {
        match (self.turn.before, self.turn.after) {
            (true, false) => {
                let name = &self.service.name;
                vec![format!("{name} was not running when the snapshot was taken, and will be stopped")]
            }
            (true, true) | (false, _) => Vec::new(),
        }
    }

    fn turn(&self) -> Option<Turn> {
        Some(self.turn)
    }

    fn stage(
        &self,
        _store: &Store,
        _label: &str,
        _cancel: &Cancel,
    ) -> Result<Box<dyn Staged>, ComponentError> {
        Ok(Box::new(self.clone()))
    }
}

impl Staged for Ready {
    fn journalled(&self) -> Result<String, ComponentError> {
        serde_json::to_string(&self.turn).map_err(self.service.unreadable("turn"))
    }

    fn step_count(&self) -> u64 {
        Planned::step_count(self)
    }

    // An exchange must not be stopped halfway, and each command has its own timeout.
    fn flip(&self) -> Result<(), ComponentError> {
        self.service.ensure(self.turn.after, &Cancel::new())
    }

    fn unflip(&self) -> Result<(), ComponentError> {
        self.service.ensure(self.turn.before, &Cancel::new())
    }

    fn settle(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    fn standing(&self) -> Result<Side, ComponentError> {
        let running = self.service.is_running(&Cancel::new())?;
        Ok(if running == self.turn.after { Side::Target } else { Side::Before })
    }

    fn discard(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}
