//! Reading what a journal or a staging folder kept of a restore: a value that could lead astray is refused as a whole.
//!
//! Both say which format they have. What was written before they did has the first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::check::{is_plain, is_plain_root};
use super::pattern::is_beneath;
use super::plan::{FolderTime, Place};
use super::staged::{Adjust, Fix, FurtherYard, Staged, StagedRoot, StagingName, Swap, Yard};

/// The format of what is journalled. There is one so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(super) struct StagedFormat(u32);

const FORMAT: u32 = 1;

impl Default for StagedFormat {
    fn default() -> Self {
        Self(FORMAT)
    }
}

impl TryFrom<u32> for StagedFormat {
    type Error = JournalledError;

    fn try_from(found: u32) -> Result<Self, JournalledError> {
        match found {
            1..=FORMAT => Ok(Self(found)),
            _ => Err(JournalledError::Format { found, supported: FORMAT }),
        }
    }
}

impl From<StagedFormat> for u32 {
    fn from(format: StagedFormat) -> Self {
        format.0
    }
}

/// Why something journalled is not acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JournalledError {
    /// Another version wrote it: let that version bring the restore to its end.
    #[error("a restore was staged in format {found}; this version reads up to {supported}")]
    Format { found: u32, supported: u32 },
    /// It is damaged.
    #[error("a restore that was staged cannot be: {0}")]
    Unsound(&'static str),
}

/// [`Staged`] as it was written, before it is judged.
#[derive(Deserialize)]
pub(super) struct Journalled {
    #[serde(default)]
    format: StagedFormat,
    name: StagingName,
    roots: BTreeMap<usize, StagedRoot>,
    yards: Vec<Yard>,
    swaps: Vec<Swap>,
    adjusts: Vec<Adjust>,
    folders: Vec<FolderTime>,
    #[serde(default)]
    fixes: Vec<Fix>,
}

impl TryFrom<Journalled> for Staged {
    type Error = JournalledError;

    fn try_from(written: Journalled) -> Result<Self, JournalledError> {
        let Journalled { format, name, roots, yards, swaps, adjusts, folders, fixes } = written;
        if !roots.values().all(is_sound_root) {
            return Err(JournalledError::Unsound("a root is not a plain absolute path"));
        }
        let places = swaps.iter().map(|swap| &swap.at);
        let places = places.chain(adjusts.iter().map(|adjust| &adjust.at));
        let places = places.chain(folders.iter().map(|folder| &folder.at));
        let mut places = places.chain(fixes.iter().map(|fix| &fix.at));
        let within = |place: &Place| roots.contains_key(&place.root) && is_down(&place.path.0);
        if !places.all(within) {
            return Err(JournalledError::Unsound("a path is not beneath one of its roots"));
        }
        let stands = |yard: &Yard| {
            let down = yard.place.within().is_none_or(|place| is_down(&place.path.0));
            roots.contains_key(&yard.place.root()) && down
        };
        if !yards.iter().all(stands) {
            return Err(JournalledError::Unsound("a staging folder is not beneath one of its roots"));
        }
        if swaps.iter().any(|swap| swap.slot.yard >= yards.len()) {
            return Err(JournalledError::Unsound("a slot is in no staging folder"));
        }
        Ok(Self { format, name, roots, yards, swaps, adjusts, folders, fixes })
    }
}

fn is_sound_root(root: &StagedRoot) -> bool {
    // Folders that are removed again if nothing is in them: only those that lead to the root.
    let leads = |made: &[u8]| made != root.path.0 && is_plain_root(made) && is_beneath(&root.path.0, made);
    is_plain_root(&root.path.0) && root.made.iter().all(|made| leads(&made.0))
}

fn is_down(path: &[u8]) -> bool {
    path.is_empty() || is_plain(path)
}

/// The list of further staging folders, as it stands in the first one of a root.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct YardList {
    format: StagedFormat,
    yards: Vec<FurtherYard>,
}

/// Writes the list of further staging folders.
pub(super) fn print_yards(yards: &[FurtherYard]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&YardList { format: StagedFormat::default(), yards: yards.to_vec() })
}

/// Reads the list of further staging folders; before formats were written, it was the folders alone.
pub(super) fn parse_yards(text: &[u8]) -> Option<Vec<FurtherYard>> {
    let yards = match serde_json::from_slice::<YardList>(text) {
        Ok(list) => list.yards,
        Err(_) => serde_json::from_slice(text).ok()?,
    };
    yards.iter().all(|yard| is_down(&yard.path.0)).then_some(yards)
}

/// Whether a list of further staging folders is one.
#[cfg(feature = "fuzzing")]
pub(crate) fn yards_are_read(text: &[u8]) -> bool {
    parse_yards(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written() -> Value {
        json!({
            "format": 1,
            "name": ".rfs-7",
            "roots": { "0": { "path": "/srv/site", "above": 2, "made": ["/srv"] } },
            "yards": [{ "place": { "beside": 0 }, "inode": 5 }],
            "swaps": [{
                "at": [0, "a/b"],
                "slot": [0, 1],
                "kind": { "create": { "ready": [9, 33188, 1, 0, 0, false] } },
            }],
            "adjusts": [],
            "folders": [{ "at": [0, ""], "old": [1, 2], "new": [3, 4] }],
        })
    }

    /// What comes of it when the value at `at` is another.
    fn check(at: &str, value: Value, expected: &str) {
        let mut changed = written();
        *changed.pointer_mut(at).expect("is there") = value;
        let error = serde_json::from_value::<Staged>(changed).expect_err(at).to_string();
        assert_eq!(error, expected);
    }

    #[test]
    fn what_was_staged_reads_back_as_it_was_written() {
        let staged: Staged = serde_json::from_value(written()).expect("is sound");
        assert_eq!(serde_json::to_value(&staged).expect("writes"), written());
    }

    #[test]
    fn what_was_staged_before_formats_were_written_is_read() {
        let mut old = written();
        old.as_object_mut().expect("an object").remove("format");
        let staged: Staged = serde_json::from_value(old).expect("is sound");
        assert_eq!(staged, serde_json::from_value(written()).expect("is sound"));
    }

    #[test]
    fn what_could_lead_astray_is_refused() {
        let newer = "a restore was staged in format 2; this version reads up to 1";
        check("/format", json!(2), newer);
        let unsound = |reason| format!("a restore that was staged cannot be: {reason}");
        let root = unsound("a root is not a plain absolute path");
        check("/roots/0/path", json!("srv/site"), &root);
        check("/roots/0/path", json!("/srv/../etc"), &root);
        check("/roots/0/made", json!(["/etc"]), &root);
        check("/roots/0/made", json!(["/srv/site"]), &root);
        let path = unsound("a path is not beneath one of its roots");
        check("/swaps/0/at", json!([1, "a"]), &path);
        check("/swaps/0/at", json!([0, "../a"]), &path);
        check("/folders/0/at", json!([0, "/a"]), &path);
        let yard = unsound("a staging folder is not beneath one of its roots");
        check("/yards/0/place", json!({ "beside": 3 }), &yard);
        check("/yards/0/place", json!({ "within": [0, "a/.."] }), &yard);
        check("/swaps/0/slot", json!([1, 1]), &unsound("a slot is in no staging folder"));
    }

    #[test]
    fn a_list_of_further_yards_is_read_in_both_forms_and_leads_down_alone() {
        let old = br#"[{"root":"/srv","path":"vol/a"}]"#;
        let yards = parse_yards(old).expect("is sound");
        assert_eq!(parse_yards(&print_yards(&yards).expect("writes")), Some(yards));
        assert_eq!(parse_yards(br#"[{"root":"/srv","path":"../etc"}]"#), None);
        assert_eq!(parse_yards(br#"{"format":2,"yards":[]}"#), None);
        assert_eq!(parse_yards(br#"{"format":1,"yar"#), None);
    }
}
