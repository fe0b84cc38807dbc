//! Trees of files: captured into the store, restored by exchange.

mod extras;
mod links;
mod notes;
mod taken;

use std::any::Any;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rfs_model::{ByteCount, ComponentKind, ComponentName};
use rfs_store::restore::{
    self, Change, FilesPlan, FilesStanding, PathSet, Progress, Rules, StagingName, Unmanaged,
};
use rfs_store::text::{ByteText, encode};
use rfs_store::{Cancel, Capture, CaptureError, Demand, EntryKind, FilesSpec, Met, Snapshot, Store, Tree};
use serde::{Deserialize, Serialize};

use super::choices::Choices;
use super::{Component, ComponentError, Hooks, Left, Losses, Measure, Planned, Present, Side, Staged};
use crate::commander::Selection;
use crate::config::{FilesConfig, Hook};
use crate::local::PlanLine;
use extras::Policy;
pub use links::Neighbour;
use links::add_behind;
use restore::Moment;

/// Trees of files.
#[derive(Debug, Clone)]
pub struct Files(Arc<Spec>);

#[derive(Debug, Clone)]
struct Spec {
    name: ComponentName,
    files: FilesSpec,
    /// What no restore touches: what the configuration says, and what is not captured.
    protect: PathSet,
    extras: Policy,
    /// Whether device files are made.
    devices: bool,
    /// Whether what is behind a root that is a link is captured too; none: such a root must be decided first.
    follow: Option<bool>,
    own: Vec<PathBuf>,
    others: Vec<Neighbour>,
    quiesce: Option<Hook>,
    resume: Option<Hook>,
}

impl Files {
    /// The component of that name.
    ///
    /// `own` are the agent's own folders and files, `others` the paths of other components; no link of a root may lead to
    /// either.
    pub fn new(name: ComponentName, config: &FilesConfig, own: Vec<PathBuf>, others: Vec<Neighbour>) -> Self {
        let files = files_spec(config);
        let patterns: Vec<&String> = config.never_restore.iter().chain(&config.exclude).collect();
        let protect = PathSet::new(&patterns).expect("the configuration was judged");
        Self(Arc::new(Spec {
            name,
            files,
            protect,
            extras: Policy::new(&config.extras),
            devices: config.devices,
            follow: config.follow_roots,
            own,
            others,
            quiesce: config.quiesce.clone(),
            resume: config.resume.clone(),
        }))
    }
}

/// What the store keeps of a component.
pub(crate) fn files_spec(config: &FilesConfig) -> FilesSpec {
    let (paths, exclude) = (config.paths.clone(), config.exclude.clone());
    FilesSpec { paths, exclude, mounts: !config.one_file_system, behind: Vec::new() }
}

impl Component for Files {
    fn name(&self) -> &ComponentName {
        &self.0.name
    }

    fn kind(&self) -> ComponentKind {
        ComponentKind::Files
    }

    fn capture(&self, capture: &Capture, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let (tree, met, stats) = capture
            .files_met(&self.0.name, &self.0.followed()?, cancel)
            .map_err(|source| ComponentError::Capture { component: self.0.name.clone(), source })?;
        let (bytes, stored) = (ByteCount(stats.size), ByteCount(stats.bytes_stored));
        let measure = Measure { entries: stats.entries, bytes, stored };
        Ok(Box::new(Now { spec: self.0.clone(), tree, met, measure }))
    }

    fn check(&self) -> Result<(), ComponentError> {
        let link = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        match (self.0.follow, self.0.files.paths.iter().find(link)) {
            (None, Some(path)) => Err(ComponentError::LinkRoot {
                component: self.0.name.clone(),
                path: ByteText::from(path.as_os_str().as_bytes()),
            }),
            (_, _) => self.0.check_apart(),
        }
    }

    fn widened(&self, target: &Snapshot) -> Result<Option<Box<dyn Component>>, ComponentError> {
        let recall = |source| ComponentError::Recall { component: self.0.name.clone(), source };
        let taken = target.taken(&self.0.name).map_err(recall)?;
        let is_link =
            |link: &ByteText| self.0.files.paths.iter().any(|path| path.as_os_str().as_bytes() == link.0);
        let behind = taken.into_iter().flat_map(|taken| &taken.roots).filter_map(|root| {
            let link = root.behind.as_ref().filter(|link| is_link(link) && self.0.follow == Some(true))?;
            let path = |text: &ByteText| PathBuf::from(OsStr::from_bytes(&text.0));
            Some((path(&root.path), path(link)))
        });
        let behind: Vec<_> = behind.collect();
        if behind.is_empty() {
            return Ok(None);
        }
        let mut files = self.0.files.clone();
        for (path, link) in behind {
            add_behind(&mut files, &path, &link, &self.0.others);
        }
        Ok(Some(Box::new(Self(Arc::new(Spec { files, ..(*self.0).clone() })))))
    }

    fn observe(&self, store: &Store, cancel: &Cancel) -> Result<Box<dyn Present>, ComponentError> {
        let (tree, met) = store
            .look(&self.0.followed()?, cancel)
            .map_err(|source| ComponentError::Capture { component: self.0.name.clone(), source })?;
        let entries = tree.roots.iter().map(|root| root.entries.len() as u64).sum();
        let measure = Measure { entries, ..Measure::default() };
        Ok(Box::new(Now { spec: self.0.clone(), tree, met, measure }))
    }

    fn staged(&self, journalled: &str) -> Result<Box<dyn Staged>, ComponentError> {
        let kept = serde_json::from_str(journalled).map_err(self.0.unreadable("journal entry"))?;
        Ok(Box::new(Ready { spec: self.0.clone(), kept }))
    }

    fn sweep(&self, label: &str) -> Result<(), ComponentError> {
        let behind = self.0.behind();
        let paths = self.0.files.paths.iter().chain(behind.iter().map(|(path, _)| path));
        let roots: Vec<&[u8]> = paths.map(|path| path.as_os_str().as_bytes()).collect();
        restore::sweep(&roots, &staging_name(label))
            .map_err(|source| ComponentError::Discard { component: self.0.name.clone(), source })
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { quiesce: self.0.quiesce.as_ref(), resume: self.0.resume.as_ref() }
    }
}

impl Spec {
    /// What is captured, with what is behind roots that are links now, where that is followed.
    fn followed(&self) -> Result<FilesSpec, ComponentError> {
        let mut files = self.files.clone();
        for (path, link) in self.behind() {
            if self.own.iter().any(|own| own.starts_with(&path) || path.starts_with(own)) {
                let reason = "it is a link to the agent's own files";
                let source = CaptureError::BadPath { path: link, reason };
                return Err(ComponentError::Capture { component: self.name.clone(), source });
            }
            add_behind(&mut files, &path, &link, &self.others);
        }
        Ok(files)
    }

    /// The device files of the target that a person gives up, as none are made.
    fn left_out(&self, target: &Tree, accepted: &PathSet) -> Vec<Vec<u8>> {
        if self.devices || accepted.is_empty() {
            return Vec::new();
        }
        let given_up = |root: &rfs_store::Root| {
            let is_device = |kind: &EntryKind| {
                matches!(kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. })
            };
            let devices = root.entries.iter().filter(|entry| is_device(&entry.kind));
            let paths = devices.map(|entry| join(&root.path, &entry.path));
            paths.filter(|path| accepted.holds(&root.path, path)).collect::<Vec<_>>()
        };
        target.roots.iter().flat_map(given_up).collect()
    }

    /// A step in words.
    fn line(&self, step: &restore::Step) -> PlanLine {
        PlanLine {
            component: self.name.clone(),
            action: action(&step.change).to_owned(),
            text: step.to_string(),
            bytes: step_bytes(&step.change),
        }
    }

    fn unreadable(&self, what: &'static str) -> impl FnOnce(serde_json::Error) -> ComponentError + use<> {
        let component = self.name.clone();
        move |source| ComponentError::Unreadable { component, what, source }
    }
}

/// The trees at one moment.
struct Now {
    spec: Arc<Spec>,
    tree: Tree,
    met: Met,
    measure: Measure,
}

impl Present for Now {
    fn measure(&self) -> Measure {
        self.measure
    }

    fn plan(
        &self,
        target: &Snapshot,
        selection: &Selection,
        choices: &Choices,
    ) -> Result<Box<dyn Planned>, ComponentError> {
        let name = &self.spec.name;
        let recall = |source| ComponentError::Recall { component: name.clone(), source };
        let pattern = |source| ComponentError::Selection { component: name.clone(), source };
        let taken = target.taken(name).map_err(recall)?;
        let tree = target.tree(name).map_err(recall)?;
        let accepted = choices.accepted().map_err(pattern)?;
        let common = taken::common(name, (&self.tree, &self.met), (tree, taken), &accepted)?;
        let (selected, meant) = self.spec.selected(selection, taken, &self.met)?;
        let rules = Rules {
            selection: match selection.paths.is_empty() {
                true => restore::Selection::Everything,
                false => PathSet::new(&selected).map(restore::Selection::Only).map_err(pattern)?,
            },
            protect: self
                .spec
                .protect
                .clone()
                .with(&common.protect)
                .with_paths(self.spec.left_out(&common.target, &accepted).iter().map(Vec::as_slice))
                .with_paths(self.spec.own_places().iter().map(Vec::as_slice)),
            devices: self.spec.devices,
            keep: self.spec.extras.keep(name, choices)?,
            as_is: {
                let mounts = self.met.mounts().filter(|mount| mount.taken_in);
                mounts.map(|mount| mount.path.clone()).chain(common.as_is.iter().cloned()).collect()
            },
            stays: {
                let mounts = self.met.mounts().filter(|mount| !mount.taken_in).map(|mount| &mount.path);
                let passed = self.met.roots.iter().flat_map(|root| &root.passed);
                passed.chain(mounts).cloned().collect()
            },
        };
        let plan = restore::plan(&common.current, &common.target, &rules)
            .map_err(|source| ComponentError::Plan { component: name.clone(), source })?;
        self.spec.extras.check(name, &plan, &accepted)?;
        extras::check_kept(name, &plan, self.spec.devices, &accepted)?;
        if let Some(path) = plan.bound(&common.current) {
            return Err(ComponentError::Bound { component: name.clone(), path: ByteText(path) });
        }
        let mut notes = common.notes;
        notes.extend(meant);
        notes.extend(notes::held(&self.met, &common.current, &common.target));
        notes.extend(notes::kept(&rules.keep, &common.current, &common.target));
        Ok(Box::new(Difference { spec: self.spec.clone(), plan, notes }))
    }
}

fn join(root: &[u8], path: &[u8]) -> Vec<u8> {
    match path.is_empty() {
        true => root.to_vec(),
        false => [root.strip_suffix(b"/").unwrap_or(root), b"/", path].concat(),
    }
}

/// How long the content of an entry is.
fn length(entry: &rfs_store::Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        _ => 0,
    }
}

/// The steps between two states of the trees.
struct Difference {
    spec: Arc<Spec>,
    plan: FilesPlan,
    notes: Vec<String>,
}

/// How many sockets and devices that no backup keeps are named.
const NAMED_UNKEPT: usize = 5;

impl Difference {
    /// What goes and a backup keeps: the path, and how long its content is. Of the rest, a note tells.
    fn lost(&self) -> impl Iterator<Item = (Vec<u8>, u64)> {
        let roots: Vec<&[u8]> = self.plan.roots().collect();
        let lost = self.plan.lost().filter(|(_, entry)| !restore::is_unkept(entry, self.spec.devices));
        lost.map(move |(root, entry)| (join(roots[root], &entry.path), length(entry)))
    }
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
        self.plan.steps().iter().take(limit).map(|step| self.spec.line(step)).collect()
    }

    fn each_line(&self, see: &mut dyn FnMut(PlanLine)) {
        self.plan.steps().iter().for_each(|step| see(self.spec.line(step)));
    }

    fn losses(&self, limit: usize) -> Losses {
        let mut losses = Losses::default();
        for (path, bytes) in self.lost() {
            losses.count += 1;
            losses.bytes.0 += bytes;
            if losses.first.len() < limit {
                losses.first.push(encode(&path).into_owned());
            }
        }
        losses
    }

    fn each_loss(&self, see: &mut dyn FnMut(&str, u64)) {
        self.lost().for_each(|(path, bytes)| see(&encode(&path), bytes));
    }

    fn notes(&self) -> Vec<String> {
        let mut unkept = self.plan.unkept(self.spec.devices).map(|(_, path)| path);
        let first: Vec<Vec<u8>> = unkept.by_ref().take(NAMED_UNKEPT).collect();
        let count = first.len() + unkept.count();
        let names: Vec<_> = first.iter().map(|path| encode(path)).collect();
        let unkept = (count > 0).then(|| {
            let (names, more) = (names.join(", "), count - names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("no backup keeps these sockets or devices, which the target does not have: {names}{more}")
        });
        self.notes.iter().cloned().chain(unkept).collect()
    }

    fn left(&self, staged: Option<&dyn Staged>, since: Moment) -> Result<Left, ComponentError> {
        let staged = staged.and_then(|staged| (staged as &dyn Any).downcast_ref::<Ready>());
        let left = restore::left_since(&self.plan, staged.map(|ready| &ready.kept.staged), since)
            .map_err(|source| ComponentError::Flip { component: self.spec.name.clone(), source })?;
        let text = |paths: Vec<ByteText>| paths.iter().map(ToString::to_string).collect();
        Ok(Left { written: text(left.written), differs: text(left.differs) })
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

    fn begin(&self) -> Result<(), ComponentError> {
        restore::begin(&self.kept.staged).map_err(|error| self.flip_error(error))
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
        restore::discard_decided(&self.kept.staged)
            .map_err(|source| ComponentError::Discard { component: self.spec.name.clone(), source })
    }

    fn discard_if_settled(&self) -> Result<(), ComponentError> {
        restore::discard(&self.kept.staged)
            .map_err(|source| ComponentError::Discard { component: self.spec.name.clone(), source })
    }
}
