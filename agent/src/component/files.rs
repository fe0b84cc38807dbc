//! Trees of files: captured into the store, restored by exchange.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rfs_model::{ByteCount, ComponentKind, ComponentName};
use rfs_store::restore::{
    self, Change, FilesPlan, FilesStanding, PathSet, Progress, Rules, StagingName, Unmanaged,
};
use rfs_store::text::encode;
use rfs_store::{Cancel, Capture, Demand, FilesSpec, Snapshot, Store, Tree};
use serde::{Deserialize, Serialize};

use super::{Component, ComponentError, Hooks, Measure, Planned, Present, Side, Staged};
use crate::commander::Selection;
use crate::config::{FilesConfig, Hook};
use crate::local::PlanLine;

/// Trees of files.
#[derive(Debug, Clone)]
pub struct Files(Arc<Spec>);

#[derive(Debug)]
struct Spec {
    name: ComponentName,
    files: FilesSpec,
    /// What no restore touches: what the configuration says, and what is not captured.
    protect: PathSet,
    quiesce: Option<Hook>,
    resume: Option<Hook>,
}

impl Files {
    /// The component of that name.
    pub fn new(name: ComponentName, config: &FilesConfig) -> Self {
        let files = files_spec(config);
        let patterns: Vec<&String> = config.never_restore.iter().chain(&config.exclude).collect();
        let protect = PathSet::new(&patterns).expect("the configuration was judged");
        Self(Arc::new(Spec {
            name,
            files,
            protect,
            quiesce: config.quiesce.clone(),
            resume: config.resume.clone(),
        }))
    }
}

/// What the store keeps of a component.
pub(crate) fn files_spec(config: &FilesConfig) -> FilesSpec {
    FilesSpec { paths: config.paths.clone(), exclude: config.exclude.clone() }
}

impl Component for Files {
    fn name(&self) -> &ComponentName {
        &self.0.name
    }

    fn kind(&self) -> ComponentKind {
        ComponentKind::Files
    }

    fn capture(&self, capture: &Capture, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let (tree, stats) = capture
            .files(&self.0.name, &self.0.files, cancel)
            .map_err(|source| ComponentError::Capture { component: self.0.name.clone(), source })?;
        let (bytes, stored) = (ByteCount(stats.size), ByteCount(stats.bytes_stored));
        let measure = Measure { entries: stats.entries, bytes, stored };
        Ok(Box::new(Now { spec: self.0.clone(), tree, measure }))
    }

    fn observe(&self, store: &Store, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let tree = store
            .scan(&self.0.files, cancel)
            .map_err(|source| ComponentError::Capture { component: self.0.name.clone(), source })?;
        let entries = tree.roots.iter().map(|root| root.entries.len() as u64).sum();
        Ok(Box::new(Now { spec: self.0.clone(), tree, measure: Measure { entries, ..Measure::default() } }))
    }

    fn staged(&self, journalled: &str) -> Result<Box<dyn Staged>, ComponentError> {
        let kept = serde_json::from_str(journalled).map_err(self.0.unreadable("journal entry"))?;
        Ok(Box::new(Ready { spec: self.0.clone(), kept }))
    }

    fn sweep(&self, label: &str) -> Result<(), ComponentError> {
        let roots: Vec<&[u8]> = self.0.files.paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
        restore::sweep(&roots, &staging_name(label))
            .map_err(|source| ComponentError::Discard { component: self.0.name.clone(), source })
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { quiesce: self.0.quiesce.as_ref(), resume: self.0.resume.as_ref() }
    }
}

impl Spec {
    /// The selected paths that lie in this component, or hold it.
    fn selected(&self, selection: &Selection) -> Result<restore::Selection, restore::PatternError> {
        let mine = |path: &&PathBuf| {
            self.files.paths.iter().any(|root| path.starts_with(root) || root.starts_with(path))
        };
        let paths: Vec<String> = selection.paths.iter().filter(mine).map(|path| literal(path)).collect();
        match selection.paths.is_empty() {
            true => Ok(restore::Selection::Everything),
            false => PathSet::new(&paths).map(restore::Selection::Only),
        }
    }

    fn unreadable(&self, what: &'static str) -> impl FnOnce(serde_json::Error) -> ComponentError + use<> {
        let component = self.name.clone();
        move |source| ComponentError::Unreadable { component, what, source }
    }
}

/// A path as a pattern that means this path alone.
fn literal(path: &Path) -> String {
    let mut text = String::new();
    for character in encode(path.as_os_str().as_bytes()).chars() {
        match character {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' => {
                text.push_str(&format!("%{:02X}", u32::from(character)))
            }
            other => text.push(other),
        }
    }
    text
}

/// The trees at one moment.
struct Now {
    spec: Arc<Spec>,
    tree: Tree,
    measure: Measure,
}

impl Present for Now {
    fn measure(&self) -> Measure {
        self.measure
    }

    fn plan(&self, target: &Snapshot, selection: &Selection) -> Result<Box<dyn Planned>, ComponentError> {
        let name = &self.spec.name;
        let target =
            target.tree(name).map_err(|source| ComponentError::Recall { component: name.clone(), source })?;
        let selection = self
            .spec
            .selected(selection)
            .map_err(|source| ComponentError::Selection { component: name.clone(), source })?;
        let rules = Rules { selection, protect: self.spec.protect.clone(), devices: false };
        let plan = restore::plan(&self.tree, &target, &rules)
            .map_err(|source| ComponentError::Plan { component: name.clone(), source })?;
        Ok(Box::new(Difference { spec: self.spec.clone(), plan }))
    }
}

/// The steps between two states of the trees.
struct Difference {
    spec: Arc<Spec>,
    plan: FilesPlan,
}

impl Planned for Difference {
    fn step_count(&self) -> u64 {
        // Putting right the times of folders alone is a step too: the plan is not empty.
        (self.plan.steps().len() as u64).max(u64::from(!self.plan.is_empty()))
    }

    fn bytes(&self) -> ByteCount {
        self.plan.bytes_to_write()
    }

    fn room(&self) -> Vec<Demand> {
        self.plan.room()
    }

    fn lines(&self, limit: usize) -> Vec<PlanLine> {
        let line = |step: &restore::Step| PlanLine {
            component: self.spec.name.clone(),
            action: action(&step.change).to_owned(),
            text: step.to_string(),
            bytes: step_bytes(&step.change),
        };
        self.plan.steps().iter().take(limit).map(line).collect()
    }

    fn losses(&self, limit: usize) -> (Vec<String>, u64) {
        let shown = self.plan.deleted().take(limit).map(|path| encode(&path).into_owned()).collect();
        (shown, self.plan.deleted().count() as u64)
    }

    fn stage(&self, store: &Store, label: &str, cancel: &Cancel) -> Result<Box<dyn Staged>, ComponentError> {
        let progress = Progress::default();
        let staged = stoppable(cancel, &progress, || {
            restore::stage(&self.plan, store, &staging_name(label), Unmanaged::Refuse, &progress)
        });
        // The reason to stop says more than that staging was stopped.
        if staged.is_err() {
            cancel.check()?;
        }
        let staged =
            staged.map_err(|source| ComponentError::Stage { component: self.spec.name.clone(), source })?;
        Ok(Box::new(Ready { spec: self.spec.clone(), kept: Kept { steps: self.step_count(), staged } }))
    }
}

/// Runs `work`, and passes a reason to stop on to its progress.
fn stoppable<T>(cancel: &Cancel, progress: &Progress, work: impl FnOnce() -> T) -> T {
    const LOOK: Duration = Duration::from_millis(20);
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(LOOK) {
                if cancel.check().is_err() {
                    progress.cancel();
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn action(change: &Change) -> &'static str {
    match change {
        Change::Create(_) => "create",
        Change::Replace { .. } => "write",
        Change::Delete { .. } => "delete",
        Change::Adjust(_) => "adjust",
    }
}

fn step_bytes(change: &Change) -> ByteCount {
    let entries = match change {
        Change::Create(new) | Change::Replace { new, .. } if new.link_to.is_none() => &new.entries[..],
        Change::Create(_) | Change::Replace { .. } | Change::Delete { .. } | Change::Adjust(_) => &[],
    };
    let size = |entry: &rfs_store::Entry| match &entry.kind {
        rfs_store::EntryKind::File { size, .. } => *size,
        _ => 0,
    };
    ByteCount(entries.iter().map(size).sum())
}

fn staging_name(label: &str) -> StagingName {
    StagingName::new(label).expect("labels are made of a number and a component name")
}

/// What the journal keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    steps: u64,
    staged: restore::Staged,
}

/// Trees whose new entries lie ready.
struct Ready {
    spec: Arc<Spec>,
    kept: Kept,
}

impl Ready {
    fn flip_error(&self, source: restore::FlipError) -> ComponentError {
        ComponentError::Flip { component: self.spec.name.clone(), source }
    }
}

impl Staged for Ready {
    fn journalled(&self) -> Result<String, ComponentError> {
        serde_json::to_string(&self.kept).map_err(self.spec.unreadable("stage"))
    }

    fn step_count(&self) -> u64 {
        self.kept.steps
    }

    fn flip(&self) -> Result<(), ComponentError> {
        restore::flip(&self.kept.staged).map_err(|error| self.flip_error(error))
    }

    fn unflip(&self) -> Result<(), ComponentError> {
        let unflipped = restore::unflip(&self.kept.staged).map_err(|error| self.flip_error(error))?;
        for path in &unflipped.changed_since {
            tracing::warn!(component = %self.spec.name, %path, "written after the exchange, and lost with it");
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), ComponentError> {
        restore::sync(&self.kept.staged).map_err(|error| self.flip_error(error))
    }

    fn standing(&self) -> Result<Side, ComponentError> {
        Ok(match restore::standing(&self.kept.staged).map_err(|error| self.flip_error(error))? {
            FilesStanding::Before => Side::Before,
            FilesStanding::Target => Side::Target,
            FilesStanding::Between => Side::Between,
        })
    }

    fn discard(&self) -> Result<(), ComponentError> {
        restore::discard(&self.kept.staged)
            .map_err(|source| ComponentError::Discard { component: self.spec.name.clone(), source })
    }
}
