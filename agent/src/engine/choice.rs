//! Which components a restore concerns, and what it would do to them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rfs_model::{ByteCount, ComponentKind, ComponentName, Reason};
use rfs_store::text::encode;
use rfs_store::{Cancel, MetRoot, Snapshot, Store};

use super::cause::{Cause, refuse};
use crate::commander::{Refusal, Selection};
use crate::component::choices::Choices;
use crate::component::services::{Service, Turn, Ways};
use crate::component::{Component, Losses, Planned, Present};
use crate::config::{ComponentSpec, Config};
use crate::local::{PlanLine, PlanPart, PlanView};

/// The components that a restore concerns, in the order in which it changes them.
pub(super) type Chosen<'e> = Vec<&'e dyn Component>;

/// What is asked for: the target, which part of it, and what a person decided.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) target: &'a Snapshot,
    pub(super) selection: &'a Selection,
    pub(super) choices: &'a Choices,
}

impl<'a> Asked<'a> {
    /// How services are asked and stopped.
    pub(super) fn ways(&self, store: &'a Store) -> Ways<'a> {
        Ways::new(store, Some(self.target), self.choices.force_stop)
    }
}

/// The components that were looked at, each with its state at that moment.
pub(super) type States<'e> = Vec<(&'e dyn Component, Box<dyn Present>)>;

/// Finds what is meant, or says why it cannot be.
pub(super) fn choose<'e>(
    components: &'e [Box<dyn Component>],
    config: &Config,
    snapshot: &Snapshot,
    selection: &Selection,
) -> Result<Chosen<'e>, Refusal> {
    let held: BTreeSet<&ComponentName> = snapshot.components().map(|(name, _)| name).collect();
    let wanted: BTreeSet<&ComponentName> = match selection.components.is_empty() {
        true => held.clone(),
        false => selection.components.iter().collect(),
    };
    for name in &wanted {
        if config.component(name).is_none() {
            let message = format!("component {name} is not configured on this host");
            return Err(refuse(
                Reason::ComponentNotFound,
                message,
                "add it to the configuration, or choose others with --component",
            ));
        }
        if !held.contains(name) {
            let message = format!("snapshot {} does not hold component {name}", snapshot.id().0.short());
            return Err(refuse(
                Reason::ComponentNotFound,
                message,
                "see what it holds with: rfs-agent snapshots show SNAPSHOT",
            ));
        }
    }
    for path in &selection.paths {
        if !wanted.iter().any(|name| holds(config, snapshot, name, path)) {
            let shown = |path: &Path| encode(path.as_os_str().as_bytes()).into_owned();
            let files = wanted.iter().filter_map(|name| config.component(name)).filter_map(|component| {
                let ComponentSpec::Files(files) = &component.spec else { return None };
                Some(files.paths.iter().map(|path| shown(path)))
            });
            let paths: Vec<String> = files.flatten().take(NAMED).collect();
            let message = format!("{} lies in none of the chosen components", shown(path));
            let next = format!("name a path in one of these: {}", paths.join(", "));
            return Err(refuse(Reason::PathOutsideComponent, message, &next));
        }
    }
    let concerned = |component: &&'e dyn Component| {
        let holds = |path: &PathBuf| holds(config, snapshot, component.name(), path);
        wanted.contains(component.name()) && (selection.paths.is_empty() || selection.paths.iter().any(holds))
    };
    Ok(components.iter().map(AsRef::as_ref).filter(concerned).collect())
}

/// How many paths of components are named to a person whose path is in none.
const NAMED: usize = 10;

/// Whether a path lies in a component as it is configured, or in what was found behind its links at the capture.
fn holds(config: &Config, snapshot: &Snapshot, name: &ComponentName, path: &Path) -> bool {
    let Some(ComponentSpec::Files(files)) = config.component(name).map(|component| &component.spec) else {
        return false;
    };
    let behind = |root: &MetRoot| {
        root.behind.is_some() && path.starts_with(Path::new(OsStr::from_bytes(&root.path.0)))
    };
    // A component that the snapshot cannot tell is refused with the reason where it is planned.
    let taken = snapshot.taken(name).ok().flatten();
    files.paths.iter().any(|root| path.starts_with(root))
        || taken.is_some_and(|taken| taken.roots.iter().any(behind))
}

/// What would be done: the changes of components, and the turns of services.
pub(super) struct Plan<'e> {
    /// Components other than services whose state differs from the target.
    pub(super) changes: Vec<(&'e dyn Component, Box<dyn Planned>)>,
    /// The services that the change touches, in the order in which they start.
    pub(super) services: Vec<(&'e Service, &'e ComponentName, Turn)>,
    /// What a person must know of it.
    pub(super) notes: Vec<String>,
}

/// Plans for components that were looked at.
pub(super) fn plan<'e>(
    components: &'e [Box<dyn Component>],
    present: States<'e>,
    asked: Asked<'_>,
    store: &Store,
    cancel: &Cancel,
) -> Result<Plan<'e>, Cause> {
    let (mut changes, mut notes) = (Vec::new(), Vec::new());
    let mut turns: Vec<(&ComponentName, Turn)> = Vec::new();
    for (component, state) in present {
        let planned = state.plan(asked.target, asked.selection, asked.choices)?;
        notes.extend(planned.notes());
        match planned.turn() {
            Some(turn) => turns.push((component.name(), turn)),
            None if planned.step_count() > 0 => changes.push((component, planned)),
            None => {}
        }
    }
    let changed: BTreeSet<ComponentName> =
        changes.iter().map(|(component, _)| component.name().clone()).collect();
    let mut services = Vec::new();
    for component in components {
        let Some(service) = component.service() else { continue };
        let name = component.name();
        let own = turns.iter().find(|(turning, _)| *turning == name).map(|(_, turn)| *turn);
        let touched = service.uses(&changed);
        let turn = match own {
            Some(turn) if touched || turn.before != turn.after => turn,
            // A service that was not chosen is stopped for the change, and runs again if it ran.
            None if touched => {
                let running = service.is_running_by(&asked.ways(store), cancel)?;
                Turn { before: running, after: running }
            }
            Some(_) | None => continue,
        };
        services.push((service, name, turn));
    }
    Ok(Plan { changes, services, notes })
}

/// Looks at the present state of the chosen components.
pub(super) fn observe<'e>(
    chosen: &Chosen<'e>,
    store: &Store,
    asked: Asked<'_>,
    cancel: &Cancel,
) -> Result<States<'e>, Cause> {
    let ways = asked.ways(store);
    let look = |component: &&'e dyn Component| {
        let state = match component.service() {
            Some(service) => service.observe_by(&ways, cancel)?,
            None => {
                let widened = component.widened(asked.target)?;
                widened.as_deref().unwrap_or(*component).observe(store, cancel)?
            }
        };
        Ok((*component, state))
    };
    chosen.iter().map(look).collect()
}

/// How many lines of a plan a person is shown.
const SHOWN: usize = 1000;

impl Plan<'_> {
    /// What exists now and not at the target, of all components, with the first names.
    pub(super) fn losses(&self, limit: usize) -> Losses {
        let mut all = Losses::default();
        for (_, planned) in &self.changes {
            let losses = planned.losses(limit.saturating_sub(all.first.len()));
            all.count += losses.count;
            all.bytes.0 += losses.bytes.0;
            all.first.extend(losses.first);
        }
        all
    }

    /// Shows each of them, by its name and how long its content is.
    pub(super) fn each_loss(&self, see: &mut dyn FnMut(&str, u64)) {
        for (_, planned) in &self.changes {
            planned.each_loss(see);
        }
    }

    /// The plan part by part, in the order in which the executor takes the steps.
    pub(super) fn each(&self, see: &mut dyn FnMut(PlanPart)) {
        see(PlanPart::Whole(self.view().without_lines()));
        self.stops().for_each(|line| see(PlanPart::Step(line)));
        for (_, planned) in &self.changes {
            planned.each_line(&mut |line| see(PlanPart::Step(line)));
        }
        self.starts().for_each(|line| see(PlanPart::Step(line)));
        self.each_loss(&mut |path, _| see(PlanPart::Loss(path.to_owned())));
    }

    /// The services that stop, in that order.
    fn stops(&self) -> impl Iterator<Item = PlanLine> {
        let stops = self.services.iter().rev().filter(|(_, _, turn)| turn.before);
        stops.map(|(_, name, _)| turn_line("stop", name))
    }

    /// The services that start, in that order.
    fn starts(&self) -> impl Iterator<Item = PlanLine> {
        let starts = self.services.iter().filter(|(_, _, turn)| turn.after);
        starts.map(|(_, name, _)| turn_line("start", name))
    }

    /// The plan in words, in the order in which the executor takes the steps.
    pub(super) fn view(&self) -> PlanView {
        let mut view = PlanView { steps: self.stops().collect(), ..PlanView::default() };
        view.step_count = view.steps.len() as u64;
        for (_, planned) in &self.changes {
            view.steps.extend(planned.lines(SHOWN.saturating_sub(view.steps.len())));
            view.step_count += planned.step_count();
            view.bytes.0 += planned.bytes().0;
            let losses = planned.losses(SHOWN.saturating_sub(view.losses.len()));
            view.losses.extend(losses.first);
            view.loss_count += losses.count;
            view.loss_bytes.0 += losses.bytes.0;
        }
        for line in self.starts() {
            view.step_count += 1;
            view.steps.push(line);
        }
        view.notes = self.notes.clone();
        view.services = self.services.iter().map(|(_, name, _)| (*name).clone()).collect();
        view
    }
}

fn turn_line(action: &str, service: &ComponentName) -> PlanLine {
    let text = format!("{action} {service}");
    PlanLine { component: service.clone(), action: action.to_owned(), text, bytes: ByteCount(0) }
}

/// The order of R4 holds because `ComponentKind::ALL` is in it and the components are sorted by it.
const _: () = assert!(matches!(ComponentKind::ALL[ComponentKind::ALL.len() - 1], ComponentKind::Services));
