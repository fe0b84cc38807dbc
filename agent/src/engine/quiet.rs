//! Makes components quiet for a checkpoint, and lets them resume whatever happens.
//!
//! Invariants
//! - A component is in the journal as quiet before its hook runs, and leaves it only after its resume hook has succeeded, so that
//!   no crash leaves a host quiet.
//! - A snapshot says of a service what it was before the first hook, which may well be what stops it.
//! - No hook runs beside another: the one that resumes a component waits for the one that makes it quiet.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::{OperationId, Reason};
use rfs_store::Cancel;
use rfs_store::journal::Quiet;

use super::cause::{Cause, refuse};
use super::{Engine, after};
use crate::commander::Refusal;
use crate::component::{Component, ComponentError};
use crate::host;

/// The waits between tries to resume.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// When what did not resume is tried again.
const RESUME_AGAIN: Duration = Duration::from_secs(5);

/// What is said of a snapshot that was not whole when everything resumed after so long a quiet.
pub(super) fn resumed_too_early(quiet: Duration) -> String {
    format!(
        "everything resumed by itself after {quiet:?} of quiet, before the snapshot was whole: it would not be consistent"
    )
}

impl Engine {
    /// Makes the components quiet, for as long as `quiet` without a further word, counted from the first of them. On failure the
    /// caller resumes, as it does on success.
    pub(super) fn quiesce(
        &self,
        chosen: &[&dyn Component],
        operation: OperationId,
        quiet: Duration,
        cancel: &Cancel,
    ) -> Result<(), Refusal> {
        let _hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let until = self.clock.now().plus(quiet);
        let hooks = chosen.iter().filter_map(|component| Some((component, component.hooks().quiesce?)));
        if hooks.clone().next().is_some() {
            for service in chosen.iter().filter_map(|component| component.service()) {
                service.remember(operation, cancel).map_err(|error| Cause::from(error).refusal())?;
            }
        }
        for (place, (component, hook)) in hooks.enumerate() {
            // Whoever lets everything resume has called it off before, and waits for its turn here.
            cancel.check().map_err(|stopped| Cause::from(stopped).refusal())?;
            if place == 0 {
                self.bound.arm(operation, after(quiet));
            }
            let quiet = Quiet { component: component.name().clone(), operation, until };
            self.journal.quiet(&quiet).map_err(|error| Cause::Journal(error).refusal())?;
            let name = component.name();
            host::run_well(hook, &[("RFS_COMPONENT", name.as_str())], cancel, &self.lead).map_err(
                |source| {
                    Cause::from(ComponentError::Command {
                        component: name.clone(),
                        done: "made quiet",
                        source,
                    })
                    .refusal()
                },
            )?;
        }
        Ok(())
    }

    /// Lets everything resume that is quiet for the operation. What does not is tried again later, beside the worker.
    pub(super) fn resume(&self, operation: OperationId) -> Result<(), Refusal> {
        let _hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        self.bound.disarm(operation);
        let quiet = self.journal.all_quiet().map_err(|error| Cause::Journal(error).refusal())?;
        let mut result = Ok(());
        for quiet in quiet.into_iter().rev().filter(|quiet| quiet.operation == operation) {
            result = result.and(self.resume_one(&quiet));
        }
        match result {
            Ok(()) => self.forget_services(operation),
            Err(_) => self.bound.arm(operation, after(RESUME_AGAIN)),
        }
        result
    }

    fn forget_services(&self, operation: OperationId) {
        for service in self.components.iter().filter_map(|component| component.service()) {
            service.forget(operation);
        }
    }

    /// Lets everything resume; what does not is logged, stays in the journal, and is tried again later.
    pub(super) fn resume_all(&self) {
        let _hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        match self.journal.all_quiet() {
            Ok(quiet) => {
                let mut resumed: BTreeMap<OperationId, bool> = BTreeMap::new();
                for quiet in quiet.into_iter().rev() {
                    // It has been logged.
                    *resumed.entry(quiet.operation).or_insert(true) &= self.resume_one(&quiet).is_ok();
                }
                for (operation, resumed) in resumed {
                    match resumed {
                        true => self.forget_services(operation),
                        false => self.bound.arm(operation, after(RESUME_AGAIN)),
                    }
                }
            }
            Err(error) => tracing::error!(error = %Chain(&error), "cannot tell what is quiet"),
        }
    }

    fn resume_one(&self, quiet: &Quiet) -> Result<(), Refusal> {
        let name = &quiet.component;
        let component = self.components.iter().find(|component| component.name() == name);
        if let Some(hook) = component.and_then(|component| component.hooks().resume) {
            let run =
                || host::run_well(hook, &[("RFS_COMPONENT", name.as_str())], &Cancel::new(), &self.lead);
            let mut tried = run();
            for pause in PAUSES {
                if tried.is_ok() {
                    break;
                }
                thread::sleep(pause);
                tried = run();
            }
            if let Err(error) = tried {
                tracing::error!(component = %name, error = %Chain(&error), "does not resume");
                let message = format!("{name} could not resume: {}", Chain(&error));
                return Err(refuse(
                    Reason::CommandFailed,
                    message,
                    "run its resume command by hand, and correct it: the agent tries it again every few seconds until it succeeds",
                ));
            }
        }
        self.journal.resumed(name).map_err(|error| Cause::Journal(error).refusal())
    }

    /// What is quiet, in words; none if nothing is, or if that cannot be told.
    pub(super) fn still_quiet(&self) -> Option<String> {
        let quiet = self.journal.all_quiet().ok().filter(|quiet| !quiet.is_empty())?;
        let names: Vec<&str> = quiet.iter().map(|quiet| quiet.component.as_str()).collect();
        Some(format!("letting {} resume; its resume command is run until it succeeds", names.join(", ")))
    }
}
