//! What exists now and not at the target: removed, kept or refused, as the component declares and a person decides.

use rfs_model::ComponentName;
use rfs_store::restore::{FilesPlan, PathSet};
use rfs_store::text::encode;

use crate::component::ComponentError;
use crate::component::choices::Choices;
use crate::config::{Extras, ExtrasRule};

/// What happens to extras.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    keep: PathSet,
    refuse: PathSet,
}

impl Policy {
    /// What the configuration declares.
    pub(super) fn new(rules: &[ExtrasRule]) -> Self {
        let of = |wanted: Extras| {
            let patterns = rules.iter().filter(|rule| rule.extras == wanted).map(|rule| &rule.pattern);
            PathSet::new(&patterns.collect::<Vec<_>>()).expect("the configuration was judged")
        };
        Self { keep: of(Extras::Keep), refuse: of(Extras::Refuse) }
    }

    /// What stays in this restore.
    pub(super) fn keep(&self, name: &ComponentName, choices: &Choices) -> Result<PathSet, ComponentError> {
        let chosen =
            choices.kept().map_err(|source| ComponentError::Selection { component: name.clone(), source })?;
        Ok(self.keep.clone().with(&chosen))
    }

    /// Refuses a plan that would remove what the component does not give up, unless a person accepts it.
    pub(super) fn check(
        &self,
        name: &ComponentName,
        plan: &FilesPlan,
        accepted: &PathSet,
    ) -> Result<(), ComponentError> {
        if self.refuse.is_empty() {
            return Ok(());
        }
        let roots: Vec<&[u8]> = plan.roots().collect();
        let path = |(root, entry): (usize, &rfs_store::Entry)| {
            let beneath = if entry.path.is_empty() { Vec::new() } else { [b"/", &entry.path[..]].concat() };
            (root, [roots[root].strip_suffix(b"/").unwrap_or(roots[root]), &beneath].concat())
        };
        let mut refused = plan.lost().map(path).filter(|(root, path)| {
            self.refuse.holds(roots[*root], path) && !accepted.holds(roots[*root], path)
        });
        match refused.next() {
            None => Ok(()),
            Some((_, first)) => Err(ComponentError::Loss {
                component: name.clone(),
                first: encode(&first).into_owned(),
                count: 1 + refused.count() as u64,
            }),
        }
    }
}

/// Refuses a plan that would remove what no backup keeps, unless a person accepts it by name.
pub(super) fn check_kept(
    name: &ComponentName,
    plan: &FilesPlan,
    devices: bool,
    accepted: &PathSet,
) -> Result<(), ComponentError> {
    let roots: Vec<&[u8]> = plan.roots().collect();
    let mut refused = plan.unkept(devices).filter(|(root, path)| !accepted.holds(roots[*root], path));
    match refused.next() {
        None => Ok(()),
        Some((_, first)) => Err(ComponentError::NotKept {
            component: name.clone(),
            first: encode(&first).into_owned(),
            count: 1 + refused.count() as u64,
        }),
    }
}
