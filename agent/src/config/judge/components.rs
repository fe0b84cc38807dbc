//! Judges the components: each by its kind, then all together.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rfs_model::{ComponentKind, ComponentName};
use rfs_store::restore::PathSet;
use rfs_store::text::encode;
use toml::Spanned;

use super::Judge;
use crate::config::program::Program;
use crate::config::raw::{Component, ExtrasKey, Time};
use crate::config::source::Complaint;
use crate::config::{ComponentConfig, ComponentSpec, Extras, ExtrasRule, FilesConfig, Hook, ServicesConfig};

const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// A path of a component, with where it is written.
struct Root {
    component: ComponentName,
    path: PathBuf,
    span: Range<usize>,
}

impl Judge<'_> {
    pub(super) fn components(
        &self,
        written: &[Spanned<Component>],
        store: &Path,
        own: &[PathBuf],
    ) -> Result<Vec<ComponentConfig>, Complaint> {
        let mut components: Vec<ComponentConfig> = Vec::new();
        let mut roots: Vec<Root> = Vec::new();
        for raw in written.iter().map(Spanned::get_ref) {
            let name = ComponentName::new(raw.name.get_ref())
                .map_err(|e| self.at(raw.name.span(), e.to_string()))?;
            if components.iter().any(|other| other.name == name) {
                return Err(
                    self.at(raw.name.span(), format!("there are two components of the name {name:?}"))
                );
            }
            let kind: ComponentKind =
                raw.kind.get_ref().parse().map_err(|e: rfs_model::component::UnknownKind| {
                    self.at(raw.kind.span(), e.to_string())
                })?;
            self.keys_fit(raw, kind)?;
            let spec = match kind {
                ComponentKind::Files => ComponentSpec::Files(self.files(raw, &name, store, own, &mut roots)?),
                ComponentKind::Services => ComponentSpec::Services(self.services(raw)?),
            };
            components.push(ComponentConfig { name, spec });
        }
        self.uses_exist(written, &components)?;
        Ok(components)
    }

    /// Refuses a key that belongs to another kind.
    fn keys_fit(&self, raw: &Component, kind: ComponentKind) -> Result<(), Complaint> {
        use ComponentKind::{Files, Services};
        let keys = [
            ("paths", Files, raw.paths.as_ref().map(Spanned::span)),
            ("exclude", Files, raw.exclude.as_ref().map(Spanned::span)),
            ("never_restore", Files, raw.never_restore.as_ref().map(Spanned::span)),
            ("devices", Files, raw.devices.as_ref().map(Spanned::span)),
            ("one_file_system", Files, raw.one_file_system.as_ref().map(Spanned::span)),
            ("follow_roots", Files, raw.follow_roots.as_ref().map(Spanned::span)),
            ("extras", Files, raw.extras.as_ref().map(Spanned::span)),
            ("quiesce", Files, raw.quiesce.as_ref().map(Spanned::span)),
            ("quiesce_timeout", Files, raw.quiesce_timeout.as_ref().map(Spanned::span)),
            ("resume", Files, raw.resume.as_ref().map(Spanned::span)),
            ("resume_timeout", Files, raw.resume_timeout.as_ref().map(Spanned::span)),
            ("units", Services, raw.units.as_ref().map(Spanned::span)),
            ("uses", Services, raw.uses.as_ref().map(Spanned::span)),
            ("commands", Services, raw.commands.as_ref().map(Spanned::span)),
        ];
        for (key, belongs, span) in keys {
            if let Some(span) = span
                && belongs != kind
            {
                return Err(self.at(
                    span,
                    format!("{key} belongs to kind {belongs}, and this component is of kind {kind}"),
                ));
            }
        }
        Ok(())
    }

    fn files(
        &self,
        raw: &Component,
        name: &ComponentName,
        store: &Path,
        own: &[PathBuf],
        roots: &mut Vec<Root>,
    ) -> Result<FilesConfig, Complaint> {
        let Some(written) = &raw.paths else {
            return Err(
                self.at(raw.name.span(), format!("component {name} needs paths, such as [\"/srv/site\"]"))
            );
        };
        if written.get_ref().is_empty() {
            return Err(self.at(written.span(), "name at least one path"));
        }
        let mut paths = Vec::new();
        for text in written.get_ref() {
            let root = Root { component: name.clone(), path: self.path(text)?, span: text.span() };
            self.apart(&root, store, roots)?;
            paths.push(root.path.clone());
            roots.push(root);
        }
        let mut never_restore = BTreeSet::new();
        for own in own.iter().filter(|own| paths.iter().any(|root| own.starts_with(root))) {
            never_restore.extend(own.to_str().map(|own| encode(own.as_bytes()).into_owned()));
        }
        for glob in self.globs(raw.never_restore.as_ref())? {
            if !glob.get_ref().starts_with('/') {
                let message = format!("{:?} is not absolute; write the whole path or glob", glob.get_ref());
                return Err(self.at(glob.span(), message));
            }
            never_restore.insert(glob.get_ref().clone());
        }
        let exclude = self.globs(raw.exclude.as_ref())?.iter().map(|glob| glob.get_ref().clone()).collect();
        if let (Some(quiesce), None) = (&raw.quiesce, &raw.resume) {
            return Err(self.at(quiesce.span(), "quiesce needs resume, or the component would stay quiet"));
        }
        Ok(FilesConfig {
            paths,
            exclude,
            never_restore,
            extras: self.extras(raw)?,
            devices: raw.devices.as_ref().is_some_and(|devices| *devices.get_ref()),
            one_file_system: raw.one_file_system.as_ref().is_none_or(|one| *one.get_ref()),
            follow_roots: raw.follow_roots.as_ref().map(|follow| *follow.get_ref()),
            quiesce: self.hook(raw.quiesce.as_ref(), raw.quiesce_timeout.as_ref(), "quiesce")?,
            resume: self.hook(raw.resume.as_ref(), raw.resume_timeout.as_ref(), "resume")?,
        })
    }

    fn extras(&self, raw: &Component) -> Result<Vec<ExtrasRule>, Complaint> {
        let Some(written) = &raw.extras else { return Ok(Vec::new()) };
        let rules: Vec<ExtrasRule> = match written.get_ref() {
            ExtrasKey::All(extras) => vec![ExtrasRule { pattern: "**".to_owned(), extras: *extras }],
            ExtrasKey::Each(rules) => {
                let rule = |(pattern, extras): (&String, &Extras)| ExtrasRule {
                    pattern: pattern.clone(),
                    extras: *extras,
                };
                rules.iter().map(rule).collect()
            }
        };
        for rule in &rules {
            PathSet::new(&[&rule.pattern]).map_err(|e| self.at(written.span(), e.to_string()))?;
        }
        Ok(rules)
    }

    /// Refuses a path that meets the store or another component's path.
    fn apart(&self, root: &Root, store: &Path, others: &[Root]) -> Result<(), Complaint> {
        if store.starts_with(&root.path) {
            let message = format!(
                "{} contains the store {}; move the store elsewhere",
                root.path.display(),
                store.display()
            );
            return Err(self.at(root.span.clone(), message));
        }
        if root.path.starts_with(store) {
            let message = format!("{} lies in the store {}", root.path.display(), store.display());
            return Err(self.at(root.span.clone(), message));
        }
        for other in others {
            if other.path.starts_with(&root.path) || root.path.starts_with(&other.path) {
                let message = format!(
                    "{} overlaps with {} of component {}; a path belongs to one component",
                    root.path.display(),
                    other.path.display(),
                    other.component
                );
                return Err(self.at(root.span.clone(), message));
            }
        }
        Ok(())
    }

    fn globs<'r>(
        &self,
        written: Option<&'r Spanned<Vec<Spanned<String>>>>,
    ) -> Result<&'r [Spanned<String>], Complaint> {
        let globs = written.map_or(&[][..], |globs| globs.get_ref());
        for glob in globs {
            PathSet::new(&[glob.get_ref()]).map_err(|e| self.at(glob.span(), e.to_string()))?;
        }
        Ok(globs)
    }

    fn hook(
        &self,
        program: Option<&Spanned<Program>>,
        timeout: Option<&Spanned<Time>>,
        key: &str,
    ) -> Result<Option<Hook>, Complaint> {
        match (program, timeout) {
            (Some(program), timeout) => {
                let timeout = timeout.map_or(HOOK_TIMEOUT, |time| time.get_ref().0);
                Ok(Some(Hook { program: self.program(program)?, timeout }))
            }
            (None, Some(timeout)) => Err(self.at(timeout.span(), format!("{key}_timeout needs {key}"))),
            (None, None) => Ok(None),
        }
    }

    /// A program is found by its path, never by a search that an environment could steer.
    pub(super) fn program(&self, written: &Spanned<Program>) -> Result<Program, Complaint> {
        let program = written.get_ref();
        if !program.argv()[0].starts_with('/') {
            let message =
                format!("program {:?} needs its whole path, such as \"/usr/bin/app\"", program.argv()[0]);
            return Err(self.at(written.span(), message));
        }
        Ok(program.clone())
    }

    fn services(&self, raw: &Component) -> Result<ServicesConfig, Complaint> {
        if let Some(units) = &raw.units {
            let message =
                "systemd units are not supported yet; use [component.commands] with start, stop and status";
            return Err(self.at(units.span(), message));
        }
        let Some(written) = &raw.commands else {
            let message = format!(
                "component {} needs [component.commands] with start, stop and status",
                raw.name.get_ref()
            );
            return Err(self.at(raw.name.span(), message));
        };
        let commands = written.get_ref();
        let hook = |program: &Program, timeout: Option<Time>, or: Duration| {
            let program = self.program(&Spanned::new(written.span(), program.clone()))?;
            Ok(Hook { program, timeout: timeout.map_or(or, |Time(time)| time) })
        };
        let mut uses = None;
        for name in raw.uses.iter().flat_map(|uses| uses.get_ref()) {
            let name = ComponentName::new(name.get_ref()).map_err(|e| self.at(name.span(), e.to_string()))?;
            uses.get_or_insert_with(BTreeSet::new).insert(name);
        }
        if raw.uses.is_some() {
            uses.get_or_insert_with(BTreeSet::new);
        }
        Ok(ServicesConfig {
            start: hook(&commands.start, commands.start_timeout, START_TIMEOUT)?,
            stop: hook(&commands.stop, commands.stop_timeout, STOP_TIMEOUT)?,
            status: hook(&commands.status, commands.status_timeout, STATUS_TIMEOUT)?,
            uses,
        })
    }

    /// Refuses a service that uses a component that does not exist, or is no tree of files.
    fn uses_exist(
        &self,
        written: &[Spanned<Component>],
        components: &[ComponentConfig],
    ) -> Result<(), Complaint> {
        for used in written.iter().flat_map(|raw| &raw.get_ref().uses).flat_map(|uses| uses.get_ref()) {
            let found = components.iter().find(|component| component.name.as_str() == used.get_ref());
            match found.map(ComponentConfig::kind) {
                Some(ComponentKind::Files) => {}
                Some(kind) => {
                    let message = format!(
                        "{:?} is of kind {kind}; a service uses components of kind files",
                        used.get_ref()
                    );
                    return Err(self.at(used.span(), message));
                }
                None => {
                    return Err(self.at(used.span(), format!("there is no component {:?}", used.get_ref())));
                }
            }
        }
        Ok(())
    }
}
