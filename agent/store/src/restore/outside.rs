//! Files with names outside of their component: changing one in place would change what is not the component's.

use std::borrow::Cow;

use super::error::StageError;
use super::pattern::{absolute, parent};
use super::plan::{Adjustment, Change, FilesPlan, FolderTime, New, Place, Step, mtime};
use super::site::Site;
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind};

/// Where a file that should change in place has more names on disk than the plan knows, it is written anew instead.
pub(super) fn rewrite_shared<'a>(
    plan: &'a FilesPlan,
    site: &mut Site,
) -> Result<Cow<'a, FilesPlan>, StageError> {
    let mut rewritten = Cow::Borrowed(plan);
    for step in &plan.steps {
        let Change::Adjust(adjustment) = &step.change else { continue };
        let EntryKind::File { link, .. } = adjustment.new.kind else { continue };
        let found = site.live(step.at.root)?.look(&step.at.path.0)?;
        if found.is_none_or(|found| found.links <= adjustment.links) {
            continue;
        }
        let plan = rewritten.to_mut();
        for at in &adjustment.names {
            disturb(plan, site, at)?;
        }
        plan.steps.retain(|other| other.at != step.at);
        plan.steps.extend(anew(plan, adjustment));
        if let Some(link) = link {
            plan.donors.remove(&link);
        }
    }
    if let Cow::Owned(plan) = &mut rewritten {
        plan.put_in_order();
    }
    Ok(rewritten)
}

/// Notes the times of the folder that holds `at`, whose entries now change places.
fn disturb(plan: &mut FilesPlan, site: &mut Site, at: &Place) -> Result<(), StageError> {
    let Some(folder) = parent(&at.path.0) else { return Ok(()) };
    let folder = Place { root: at.root, path: ByteText::from(folder) };
    if plan.folders.iter().any(|known| known.at == folder) {
        return Ok(());
    }
    let adjusted = plan.steps.iter().find_map(|step| match &step.change {
        Change::Adjust(adjustment) if step.at == folder => {
            Some((mtime(&adjustment.old), mtime(&adjustment.new.meta)))
        }
        _ => None,
    });
    let (old, new) = match (adjusted, site.live(folder.root)?.look(&folder.path.0)?) {
        (Some(times), _) => times,
        (None, Some(found)) => (found.mtime, found.mtime),
        (None, None) => return Ok(()),
    };
    plan.folders.push(FolderTime { at: folder, old, new });
    Ok(())
}

/// The steps that write a file anew under each of its names.
fn anew(plan: &FilesPlan, adjustment: &Adjustment) -> Vec<Step> {
    let at_each = adjustment.names.iter().map(|at| {
        let new = Entry { path: at.path.0.clone(), ..adjustment.new.clone() };
        let old = Entry { meta: adjustment.old.clone(), ..new.clone() };
        Step {
            shown: ByteText(absolute(&plan.roots[at.root].0, &at.path.0)),
            at: at.clone(),
            change: Change::Replace { old: vec![old], new: New { entries: vec![new], link_to: None } },
        }
    });
    at_each.collect()
}
