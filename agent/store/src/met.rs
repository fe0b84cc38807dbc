//! What a scan met beside the entries: what each root was, and what beneath it was passed over.
//!
//! A manifest keeps it, so that a snapshot is restored by what it was taken with and not by what is configured today.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::ByteText;
use crate::way::{MetLink, Way};

/// What a component's files were captured with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Met {
    /// The patterns of what was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// One for each path, in the order of the tree.
    pub roots: Vec<MetRoot>,
}

/// One root as it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetRoot {
    /// The absolute path.
    pub path: ByteText,
    /// What stood there.
    pub state: RootState,
    /// On which file system; where nothing stood, that of the nearest folder above. None where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<FileSystem>,
    /// What is mounted beneath it, and so is none of its content unless mounts are taken in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MetMount>,
    /// The btrfs subvolumes beneath it, whose content was captured. Those that are read-only are among the mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subvolumes: Vec<ByteText>,
    /// The link among the paths through which it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<ByteText>,
    /// The links above it that led there. They are no content of the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub way: Vec<MetLink>,
    /// Entries with flags of `chattr` that an entry which is written anew cannot have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_flags: Option<LostFlags>,
    /// The first folder whose entries inherit its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ByteText>,
    /// Names that were passed over: in each folder the first one that is excluded. Only of a live scan.
    #[serde(skip)]
    pub passed: Vec<ByteText>,
}

/// Entries whose flags are not all kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostFlags {
    /// The absolute path of the first.
    pub first: ByteText,
    /// How many.
    pub count: u64,
    /// The letters that `lsattr` shows for them.
    pub letters: String,
}

/// How many mounts of a root are named; a host of containers has hundreds.
const TOLD: usize = 20;

/// What stood at a root's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootState {
    /// Nothing.
    Absent,
    /// A folder with nothing in it.
    Empty,
    /// A folder.
    Folder,
    /// A symbolic link, and where it points. What is behind it is not captured through it.
    Link(ByteText),
    /// A file, or something else that is no folder.
    File,
}

/// The kind of a [`MetMount`] that is no mount: a subvolume into which nothing can be restored.
pub const READ_ONLY_SUBVOLUME: &str = "read-only subvolume";

/// By what a file system is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSystem {
    /// Its kind, such as `ext4`.
    pub kind: String,
    /// Where it was mounted.
    pub mounted_at: ByteText,
    /// Its number; it may be another after a reboot, except where [`FileSystem::keeps_its_number`].
    pub number: u64,
    /// The name that it has on its disk, where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The path within the file system itself: a bind mount shows another folder at the same path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<ByteText>,
}

/// Something that is mounted beneath a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetMount {
    /// The absolute path.
    pub path: ByteText,
    /// The kind of its file system, or [`READ_ONLY_SUBVOLUME`].
    pub kind: String,
    /// Its content was captured too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_in: bool,
    /// What its content was captured from, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<FileSystem>,
}

impl FileSystem {
    /// Whether it is the same folder of the same file system, as far as can be told.
    ///
    /// Some file systems are numbered anew with each mount; such a one is the same where its kind and its place are, unless
    /// their disks have other names.
    pub fn is(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return false;
        }
        let same_number = self.number == other.number && self.number != 0;
        let same_place = self.mounted_at == other.mounted_at;
        let same_disk = match (&self.uuid, &other.uuid) {
            (Some(one), Some(two)) => one == two,
            (_, _) => same_number || (!self.keeps_its_number() && same_place),
        };
        let same_folder = match (&self.within, &other.within) {
            (Some(one), Some(two)) => one == two,
            (_, _) => same_number || same_place,
        };
        same_disk && (same_folder || self.is_other_root_volume(other))
    }

    /// Whether a system was started from another subvolume of the same disk, as snapper's rollback does it.
    fn is_other_root_volume(&self, other: &Self) -> bool {
        self.kind == "btrfs" && self.mounted_at.0 == b"/" && other.mounted_at.0 == b"/"
    }

    /// Whether the number is kept on the disk.
    fn keeps_its_number(&self) -> bool {
        matches!(self.kind.as_str(), "ext2" | "ext3" | "ext4" | "btrfs") && self.number != 0
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind, self.mounted_at)
    }
}

impl FileSystem {
    /// What it is for a person who must tell it from another: what both have in common is said once, and what differs in full.
    pub fn apart_from(&self, other: &Self) -> String {
        if self.to_string() != other.to_string() {
            return self.to_string();
        }
        match (&self.uuid, &self.within) {
            (Some(uuid), _) if self.uuid != other.uuid => format!("{self} with UUID {uuid}"),
            (_, Some(within)) if self.within != other.within => format!("{self}, its folder {within}"),
            (_, _) => format!("{self} with number {:x}", self.number),
        }
    }
}

impl Met {
    /// The root of that path.
    pub fn root(&self, path: &[u8]) -> Option<&MetRoot> {
        self.roots.iter().find(|root| root.path.0 == path)
    }

    /// What is mounted beneath the roots.
    pub fn mounts(&self) -> impl Iterator<Item = &MetMount> {
        self.roots.iter().flat_map(|root| &root.mounts)
    }

    /// What a person must know who trusts this snapshot, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let followed =
            |root: &MetRoot| self.roots.iter().any(|other| other.behind.as_ref() == Some(&root.path));
        self.roots.iter().flat_map(|root| root.notes(followed(root))).collect()
    }
}

impl MetRoot {
    /// The folder that holds it, with no link in its path, and its name there.
    pub fn place(&self) -> Vec<u8> {
        Way::recorded(&self.path.0, &self.way).place
    }

    /// How it is reached, for a person.
    pub fn way(&self) -> String {
        let links: Vec<String> = self.way.iter().map(ToString::to_string).collect();
        if links.is_empty() { "no link".to_owned() } else { links.join(", ") }
    }

    fn notes(&self, is_followed: bool) -> Vec<String> {
        let path = &self.path;
        let of_root = match (&self.state, &self.behind) {
            (RootState::Absent, _) => Some(format!("{path} is not there")),
            (RootState::Empty, _) => Some(format!("{path} is empty")),
            (RootState::Link(to), Some(link)) => {
                Some(format!("{path} is a link to {to}; it is captured, for {link} leads through it"))
            }
            (RootState::Link(to), None) if is_followed => {
                Some(format!("{path} is a link to {to}; what is behind it is captured too"))
            }
            (RootState::Link(to), None) => {
                Some(format!("{path} is a link to {to}; the link alone is kept, not what is behind it"))
            }
            (RootState::Folder | RootState::File, _) => None,
        };
        let mounts = self.mounts.iter().take(TOLD).map(|mount| match mount.taken_in {
            true => format!("{} is {} and is captured too", mount.path, mount.what()),
            false => format!("{} is {} and is left out", mount.path, mount.what()),
        });
        let subvolumes =
            self.subvolumes.iter().take(TOLD).map(|at| format!("{at} is a subvolume and is captured too"));
        let more = match self.mounts.get(TOLD..).unwrap_or_default() {
            [] => None,
            more => Some(format!("beneath {path} are {} more mounts", more.len())),
        };
        let way = (!self.way.is_empty()).then(|| format!("{path} is reached through {}", self.way()));
        let lost = self.lost_flags.as_ref().map(ToString::to_string);
        let project = self.project.as_ref().map(|folder| {
            format!("{folder} gives its project to what is made in it; what is restored gets the project of the folder above it")
        });
        let of_root = of_root.into_iter().chain(way).chain(mounts).chain(more).chain(subvolumes);
        of_root.chain(lost).chain(project).collect()
    }
}

impl fmt::Display for LostFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, count, letters } = self;
        match count {
            0 | 1 => write!(f, "{first} has attributes of chattr that are not kept ({letters})"),
            _ => {
                let more = count - 1;
                write!(f, "{first} and {more} more have attributes of chattr that are not kept ({letters})")
            }
        }
    }
}

impl MetMount {
    /// What stands there, for a person.
    pub fn what(&self) -> String {
        match self.is_subvolume() {
            true => format!("a {}", self.kind),
            false => format!("a mount ({})", self.kind),
        }
    }

    /// Whether it is no mount, and cannot be unmounted.
    pub fn is_subvolume(&self) -> bool {
        self.kind == READ_ONLY_SUBVOLUME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(kind: &str, at: &str, number: u64) -> FileSystem {
        let mounted_at = ByteText::from(at.as_bytes());
        FileSystem { kind: kind.into(), mounted_at, number, uuid: None, within: None }
    }

    #[test]
    fn a_disk_has_a_name_that_survives_a_reboot_and_a_bind_mount_shows_another_folder() {
        let of = |kind: &str, at: &str, number, uuid: &str, within: &str| FileSystem {
            uuid: (!uuid.is_empty()).then(|| uuid.to_owned()),
            within: Some(ByteText::from(within.as_bytes())),
            ..system(kind, at, number)
        };
        let disk = of("xfs", "/srv", 7, "1-2", "/site");
        for (other, same) in [
            (of("xfs", "/srv", 9, "1-2", "/site"), true),
            (of("xfs", "/mnt", 9, "1-2", "/site"), true),
            (of("xfs", "/srv", 7, "3-4", "/site"), false),
            (of("xfs", "/srv/site", 7, "1-2", "/other"), false),
            (of("xfs", "/srv/site", 7, "1-2", "/site"), true),
            // Who may not read the disk goes by its place.
            (of("xfs", "/srv", 9, "", "/site"), true),
            (of("ext4", "/srv", 7, "1-2", "/site"), false),
        ] {
            assert_eq!(disk.is(&other), same, "{other:?}");
        }
        // A folder that was empty, and a volume of the same disk that is mounted there.
        assert!(!of("btrfs", "/", 1, "1-2", "/@/srv/vol").is(&of("btrfs", "/srv/vol", 2, "1-2", "/@data")));
        // The system was started from another snapshot of itself.
        assert!(of("btrfs", "/", 1, "1-2", "/@/srv").is(&of(
            "btrfs",
            "/",
            2,
            "1-2",
            "/@/.snapshots/5/snapshot/srv"
        )));
        assert_eq!(disk.apart_from(&of("xfs", "/srv", 7, "3-4", "/site")), "xfs at /srv with UUID 1-2");
    }

    #[test]
    fn a_file_system_is_known_again_by_its_number_or_by_its_place() {
        let disk = system("ext4", "/srv", 7);
        for (other, same) in [
            (system("ext4", "/srv", 7), true),
            // A bind mount, as a unit's sandbox makes it.
            (system("ext4", "/srv/site", 7), true),
            (system("ext4", "/srv", 8), false),
            (system("tmpfs", "/srv", 7), false),
        ] {
            assert_eq!(disk.is(&other), same, "{other}");
        }
        assert!(system("tmpfs", "/run", 1).is(&system("tmpfs", "/run", 2)), "numbered anew at each boot");
        assert!(!system("xfs", "/", 1).is(&system("xfs", "/srv", 2)), "not mounted then, mounted now");
        assert!(system("xfs", "/srv", 1).is(&system("xfs", "/srv", 2)), "the disk has another number");
    }

    #[test]
    fn what_a_person_must_know_is_said() {
        let root = |path: &str, state| MetRoot {
            path: ByteText::from(path.as_bytes()),
            state,
            file_system: None,
            mounts: Vec::new(),
            subvolumes: Vec::new(),
            passed: Vec::new(),
            behind: None,
            way: Vec::new(),
            lost_flags: None,
            project: None,
        };
        let mut site = root("/srv/site", RootState::Folder);
        site.mounts.push(MetMount {
            path: ByteText::from(&b"/srv/site/data"[..]),
            kind: "xfs".into(),
            taken_in: false,
            file_system: None,
        });
        site.way.push(MetLink { path: ByteText::from(&b"/srv"[..]), to: ByteText::from(&b"/data/srv"[..]) });
        site.mounts.push(MetMount {
            path: ByteText::from(&b"/srv/site/.snapshots/1"[..]),
            kind: READ_ONLY_SUBVOLUME.into(),
            taken_in: false,
            file_system: None,
        });
        let first = ByteText::from(&b"/srv/site/vault"[..]);
        site.lost_flags = Some(LostFlags { first, count: 3, letters: "EV".into() });
        site.project = Some(ByteText::from(&b"/srv/site/quota"[..]));
        site.subvolumes.push(ByteText::from(&b"/srv/site/.snapshots"[..]));
        let link = RootState::Link(ByteText::from(&b"releases/42"[..]));
        let met = Met {
            exclude: Vec::new(),
            roots: vec![root("/a", RootState::Absent), root("/b", RootState::Empty), root("/c", link), site],
        };
        let notes = [
            "/a is not there",
            "/b is empty",
            "/c is a link to releases/42; the link alone is kept, not what is behind it",
            "/srv/site is reached through /srv -> /data/srv",
            "/srv/site/data is a mount (xfs) and is left out",
            "/srv/site/.snapshots/1 is a read-only subvolume and is left out",
            "/srv/site/.snapshots is a subvolume and is captured too",
            "/srv/site/vault and 2 more have attributes of chattr that are not kept (EV)",
            "/srv/site/quota gives its project to what is made in it; what is restored gets the project of the folder above it",
        ];
        assert_eq!(met.notes(), notes);

        let mut crowded = root("/srv/containers", RootState::Folder);
        crowded.mounts = (0..500)
            .map(|number| MetMount {
                path: ByteText::from(format!("/srv/containers/{number:03}").as_bytes()),
                kind: "overlay".into(),
                taken_in: false,
                file_system: None,
            })
            .collect();
        let notes = Met { exclude: Vec::new(), roots: vec![crowded] }.notes();
        assert_eq!(notes.len(), TOLD + 1);
        assert_eq!(notes[TOLD], "beneath /srv/containers are 480 more mounts");
    }
}
