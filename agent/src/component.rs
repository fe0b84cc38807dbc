//! Components: the contract that every kind of state keeps.
//!
//! ```text
//! Component ─capture─▶ Present ─plan─▶ Planned ─stage─▶ Staged ─flip─▶ (target)
//!           ─observe─▶                                        ◀unflip─  ─discard─▶
//! ```
//!
//! Each value only offers what can be done next, so that nothing is flipped that was not staged, and nothing is staged
//! that was not planned.
//!
//! Invariants
//! - `capture`, `observe`, `plan` and `stage` change nothing that is live.
//! - A plan made after a flip is empty; after `unflip` the live state is what it was before.
//! - `flip`, `unflip`, `standing` and `discard` may be called again after a crash at any point of them.
//! - A new kind is one file here, one line in [`all`], and one line in the contract suite.

pub mod choices;
mod error;
pub mod files;
pub mod services;

use std::any::Any;

use rfs_model::{ByteCount, ComponentKind, ComponentName};
use rfs_store::restore::Moment;
use rfs_store::{Cancel, Capture, Demand, Snapshot, Store};

use crate::commander::Selection;
use crate::config::{ComponentSpec, Config, Hook};
use crate::local::PlanLine;
use choices::Choices;

pub use error::ComponentError;
pub(crate) use error::{capture_reason, stage_reason, stopped_reason, store_reason};
pub(crate) use files::files_spec;

/// One named piece of the host's state.
pub trait Component: Send + Sync {
    /// Its name.
    fn name(&self) -> &ComponentName;

    /// Its kind, which decides when a restore changes it.
    fn kind(&self) -> ComponentKind;

    /// Puts the present state into the snapshot that is being made.
    fn capture(&self, capture: &Capture, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError>;

    /// Says what must be decided before it can be captured at all.
    fn check(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// The same component, which also looks at what the snapshot was taken with; none where there is nothing more to look at.
    fn widened(&self, _target: &Snapshot) -> Result<Option<Box<dyn Component>>, ComponentError> {
        Ok(None)
    }

    /// Looks at the present state and keeps nothing of it.
    fn observe(&self, store: &Store, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError>;

    /// What was staged, from the journal.
    fn staged(&self, journalled: &str) -> Result<Box<dyn Staged>, ComponentError>;

    /// Removes what a crash in `stage` left under this label; nothing of it is live.
    fn sweep(&self, label: &str) -> Result<(), ComponentError>;

    /// How it is made quiet for a checkpoint, and how it resumes.
    fn hooks(&self) -> Hooks<'_> {
        Hooks { quiesce: None, resume: None }
    }

    /// The service that it is, if it is one.
    fn service(&self) -> Option<&services::Service> {
        None
    }
}

/// How a component is made quiet, and how it resumes.
#[derive(Debug, Clone, Copy)]
pub struct Hooks<'a> {
    /// Run before a checkpoint's cut.
    pub quiesce: Option<&'a Hook>,
    /// Run after it, however it went.
    pub resume: Option<&'a Hook>,
}

/// The state of a component at one moment.
pub trait Present: Send {
    /// How large it is.
    fn measure(&self) -> Measure;

    /// What would bring this state to the target's. Pure.
    fn plan(
        &self,
        target: &Snapshot,
        selection: &Selection,
        choices: &Choices,
    ) -> Result<Box<dyn Planned>, ComponentError>;
}

/// How large a captured state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// Entries.
    pub entries: u64,
    /// Bytes that it stands for.
    pub bytes: ByteCount,
    /// Bytes that were new to the store.
    pub stored: ByteCount,
}

/// The steps from one state to another.
pub trait Planned: Send {
    /// Whether nothing need be done.
    fn is_empty(&self) -> bool {
        self.step_count() == 0
    }

    /// How many steps there are.
    fn step_count(&self) -> u64;

    /// Bytes that staging writes.
    fn bytes(&self) -> ByteCount;

    /// The room that staging takes, by the paths whose file systems must have it.
    fn room(&self) -> Vec<Demand> {
        Vec::new()
    }

    /// The first steps, at most `limit`, one line each.
    fn lines(&self, limit: usize) -> Vec<PlanLine>;

    /// Shows every step.
    fn each_line(&self, see: &mut dyn FnMut(PlanLine)) {
        self.lines(usize::MAX).into_iter().for_each(see);
    }

    /// What exists now and not at the target, and goes: at most `limit` of them by name.
    fn losses(&self, _limit: usize) -> Losses {
        Losses::default()
    }

    /// Shows each of them, by its name and how long its content is.
    fn each_loss(&self, _see: &mut dyn FnMut(&str, u64)) {}

    /// What a person must know of the plan, one sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Of a second plan: which of its differences were written since a moment, and which were there before. `staged` is what
    /// was flipped.
    fn left(&self, staged: Option<&dyn Staged>, since: Moment) -> Result<Left, ComponentError>;

    /// From which state to which it brings a service; none if it is not one.
    fn turn(&self) -> Option<services::Turn> {
        None
    }

    /// Writes the new content beside the live one, under a label that is this restore's alone.
    fn stage(&self, store: &Store, label: &str, cancel: &Cancel) -> Result<Box<dyn Staged>, ComponentError>;
}

/// What exists now and not at the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    /// How many entries.
    pub count: u64,
    /// How long their content is.
    pub bytes: ByteCount,
    /// The first of them.
    pub first: Vec<String>,
}

/// Differences that a second plan found, by when they came to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// Written since.
    pub written: Vec<String>,
    /// There before, so that the target is not reached.
    pub differs: Vec<String>,
}

/// New content that lies ready.
pub trait Staged: Any + Send {
    /// What the journal keeps: [`Component::staged`] reads it.
    fn journalled(&self) -> Result<String, ComponentError>;

    /// How many steps it takes.
    fn step_count(&self) -> u64;

    /// Finds the live state to be what was staged for. All that is flipped together begins before the first is flipped.
    fn begin(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// Exchanges it with the live state.
    fn flip(&self) -> Result<(), ComponentError>;

    /// Exchanges it back.
    fn unflip(&self) -> Result<(), ComponentError>;

    /// Makes the last exchange survive a power cut.
    fn settle(&self) -> Result<(), ComponentError>;

    /// Where the live state stands.
    fn standing(&self) -> Result<Side, ComponentError>;

    /// Removes what is not live. The caller knows that neither version is needed: the target is committed and backed up, or the way
    /// back has ended.
    fn discard(&self) -> Result<(), ComponentError>;

    /// The same for what a restore that was stuck left; refused where the live state stands between the two.
    fn discard_if_settled(&self) -> Result<(), ComponentError> {
        self.discard()
    }
}

/// Where a component stands between the two states that were staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// No step is done.
    Before,
    /// All steps are done.
    Target,
    /// Some are.
    Between,
}

/// The configured components, in the order in which a restore changes them.
pub fn all(config: &Config) -> Vec<Box<dyn Component>> {
    let mut components: Vec<Box<dyn Component>> = Vec::new();
    for component in &config.components {
        let name = component.name.clone();
        components.push(match &component.spec {
            ComponentSpec::Files(spec) => {
                let others = files::Neighbour::of(config, &name);
                Box::new(files::Files::new(name, spec, config.own_files(), others))
            }
            ComponentSpec::Services(spec) => {
                let roots = config.roots_used_by(spec);
                Box::new(services::Service::new(name, spec, &config.store, roots))
            }
        });
    }
    let place =
        |component: &dyn Component| ComponentKind::ALL.iter().position(|kind| *kind == component.kind());
    components.sort_by_key(|component| place(component.as_ref()));
    components
}
