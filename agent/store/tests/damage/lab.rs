//! A small store that has a file of every kind, and a judge of what is left of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs_model::{Generation, OperationId, SnapshotId, Timestamp};
use rfs_store::journal::{CommandKey, Journal, NewRun, StoredCommand};
use rfs_store::restore::{Progress, Rules, StagingName, Unmanaged, discard, flip, plan, stage};
use rfs_store::{Cancel, FilesSpec, KeepPolicy, Marks, Share, Store, StoreError, Tree};
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use crate::common::{capture, files_beneath, open, site};
use crate::listing::{Owners, list};

/// A kind of file in the store's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Format,
    Pack,
    Manifest,
    Marks,
    Index,
    Journal,
    Cache,
    Quarantine,
    Ballast,
    Lock,
}

impl Kind {
    fn of(name: &Path) -> Self {
        let name = name.to_str().expect("our names are text");
        match name.split('/').next().unwrap_or_default() {
            "format" => Self::Format,
            "packs" => Self::Pack,
            "snapshots" => Self::Manifest,
            "marks" => Self::Marks,
            "index" => Self::Index,
            "journal.sqlite" => Self::Journal,
            "cache" => Self::Cache,
            "quarantine" => Self::Quarantine,
            "journal.ballast" => Self::Ballast,
            "lock" => Self::Lock,
            _ => panic!("{name} is a kind of file that is not judged yet"),
        }
    }

    /// Nothing else names it.
    pub(crate) fn may_vanish(self) -> bool {
        matches!(self, Self::Manifest | Self::Marks | Self::Journal)
    }

    /// Why a change of it may mean nothing.
    pub(crate) fn dead(self) -> &'static str {
        match self {
            Self::Cache => "not believed: the files are read again",
            Self::Journal => "free space of the database",
            Self::Quarantine => "set aside, read by nobody",
            Self::Ballast => "zeros, read by nobody",
            Self::Lock => "empty",
            Self::Index => "made anew from the packs",
            Self::Format | Self::Pack | Self::Manifest | Self::Marks => "all is still there",
        }
    }
}

/// What became of the store.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is not opened.
    Refused,
    /// Verify names damage.
    Found,
    /// All that it holds is as it was.
    Harmless,
    /// Something is not as it was, and nobody says so.
    Silent(String),
}

/// All that a store holds.
#[derive(Debug, PartialEq)]
struct State {
    snapshots: BTreeMap<SnapshotId, (String, Marks)>,
    scan: Tree,
    journal: Vec<String>,
}

pub(crate) struct Lab {
    base: Arc<Base>,
    folder: tempfile::TempDir,
    store: PathBuf,
}

/// What all copies share.
struct Base {
    live: tempfile::TempDir,
    files: Vec<(PathBuf, Kind, Vec<u8>)>,
    state: State,
}

/// A folder in memory, where there is one: no flipped byte needs to survive a power cut.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("damage-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).expect("a folder")
}

impl Lab {
    pub(crate) fn new() -> Self {
        let (live, folder) = (folder(), folder());
        let store = folder.path().join("store");
        let tree = live.path().join("site");
        make(&store, &tree);
        let names: Vec<PathBuf> = files_beneath(&store)
            .iter()
            .map(|file| file.strip_prefix(&store).expect("beneath").to_owned())
            .collect();
        let files: Vec<_> = names
            .into_iter()
            .map(|name| (name.clone(), Kind::of(&name), fs::read(store.join(&name)).expect("reads")))
            .collect();
        let empty = State { snapshots: BTreeMap::new(), scan: Tree::default(), journal: Vec::new() };
        let lab = Self { base: Arc::new(Base { live, files, state: empty }), folder, store };
        let opened = Store::open_read_only(&lab.store).expect("opens");
        let state = lab.state(&opened).expect("all is whole");
        assert_eq!(state.snapshots.len(), 2);
        assert!(state.journal.len() > 8, "{:?}", state.journal);
        let base = Arc::into_inner(lab.base).expect("there is no copy yet");
        let lab = Self { base: Arc::new(Base { state, ..base }), ..lab };
        assert!(matches!(lab.judge(Kind::Lock, "nothing"), Verdict::Harmless));
        lab
    }

    /// The same in a folder of its own.
    pub(crate) fn copy(&self) -> Self {
        let folder = folder();
        let store = folder.path().join("store");
        let copy = Self { base: self.base.clone(), folder, store };
        copy.mend();
        copy
    }

    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// Every file, by its name in the store.
    pub(crate) fn files(&self) -> &[(PathBuf, Kind, Vec<u8>)] {
        &self.base.files
    }

    /// Puts every file back that is not as it was.
    pub(crate) fn mend(&self) {
        for (name, _, bytes) in self.files() {
            let path = self.store.join(name);
            let is_whole = fs::read(&path).is_ok_and(|found| found == *bytes);
            if !is_whole {
                fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
                fs::write(path, bytes).expect("writes");
            }
        }
    }

    /// What is left. Panics if anything restores to something else than it was.
    pub(crate) fn judge(&self, kind: Kind, what: &str) -> Verdict {
        let Ok(store) = Store::open_read_only(&self.store) else { return Verdict::Refused };
        let report =
            store.verify(Share::Whole, &Cancel::new()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let is_read_by_restores =
            !matches!(kind, Kind::Journal | Kind::Ballast | Kind::Quarantine | Kind::Lock);
        if is_read_by_restores || report.damage.is_empty() {
            for (id, (expected, _)) in &self.base.state.snapshots {
                if let Ok(restored) = self.restored(&store, *id) {
                    assert_eq!(restored, *expected, "{what}");
                }
            }
        }
        if !report.damage.is_empty() {
            return Verdict::Found;
        }
        match self.state(&store) {
            Ok(state) if state == self.base.state => Verdict::Harmless,
            Ok(state) => Verdict::Silent(format!("{state:?}\nwas {:?}", self.base.state)),
            Err(error) => Verdict::Silent(error.to_string()),
        }
    }

    fn state(&self, store: &Store) -> Result<State, StoreError> {
        let mut snapshots = BTreeMap::new();
        for info in store.snapshots()? {
            snapshots.insert(info.id, (self.restored(store, info.id)?, info.marks));
        }
        let spec = FilesSpec { paths: vec![self.live()], exclude: Vec::new(), ..FilesSpec::default() };
        let scan = store.scan(&spec, &Cancel::new()).expect("the live files are whole");
        Ok(State { snapshots, scan, journal: dump(&self.store.join("journal.sqlite")) })
    }

    fn live(&self) -> PathBuf {
        self.base.live.path().join("site")
    }

    /// Restores a snapshot into an empty folder, and lists what is there then.
    fn restored(&self, store: &Store, id: SnapshotId) -> Result<String, StoreError> {
        let mut target = store.snapshot(id)?.tree(&site())?;
        let to = self.folder.path().join("restored");
        for root in &mut target.roots {
            root.path = to.as_os_str().as_bytes().to_vec();
        }
        let nothing = Tree {
            roots: target
                .roots
                .iter()
                .map(|root| rfs_store::Root { entries: Vec::new(), ..root.clone() })
                .collect(),
        };
        let plan = plan(&nothing, &target, &Rules::default()).expect("a tree that was read can be restored");
        let staging = StagingName::new("damage").expect("a name");
        let staged = match stage(&plan, store, &staging, Unmanaged::Refuse, &Progress::default()) {
            Ok(staged) => staged,
            Err(error) => {
                assert!(!to.exists(), "what cannot be staged changes nothing");
                return Err(StoreError::Io {
                    action: "stage",
                    path: to,
                    source: std::io::Error::other(error),
                });
            }
        };
        flip(&staged).expect("flips");
        let found = list(&to, Owners::Shown);
        discard(&staged).expect("discards");
        fs::remove_dir_all(&to).expect("goes");
        Ok(found)
    }
}

/// Fills a store: two snapshots that share a part, an index, marks of both, a journal, and a pack set aside.
fn make(path: &Path, live: &Path) {
    let write = |name: &str, content: &[u8]| fs::write(live.join(name), content).expect("writes");
    fs::create_dir_all(live.join("sub")).expect("makes");
    let noise: Vec<u8> =
        (0..600_u32).flat_map(|number| crc32fast::hash(&number.to_le_bytes()).to_le_bytes()).collect();
    write("soon gone", &noise);
    write("compressible", "again and ".repeat(40).as_bytes());
    write("sub/short", b"short");
    std::os::unix::fs::symlink("sub/short", live.join("link")).expect("links");
    fs::hard_link(live.join("sub/short"), live.join("another name")).expect("links");
    let store = open(path);
    let (scrap, _) = capture(&store, live);
    fs::remove_file(live.join("soon gone")).expect("was made");
    let (first, _) = capture(&store, live);
    write("sub/more", &noise[..200]);
    let (second, _) = capture(&store, live);
    store.forget(scrap).expect("forgets");
    let keep = KeepPolicy { last: 10, hourly: 0, daily: 0, weekly: 0, monthly: 0, backups: 10 };
    store.collect(&keep, &Cancel::new()).expect("collects");
    store.pin(first, "for the test").expect("pins");
    store.protect(second, "a rollback", "its backup").expect("protects");
    drop(store);
    fs::create_dir_all(path.join("quarantine")).expect("makes");
    let pack = files_beneath(&path.join("packs")).remove(0);
    fs::copy(&pack, path.join("quarantine").join(pack.file_name().expect("a name"))).expect("copies");
    journal(path);
}

fn journal(store: &Path) {
    let journal = Journal::open(store).expect("makes");
    let operation = |number| OperationId::from_uuid(Uuid::from_u128(number));
    let key =
        |step: &str| CommandKey { operation: operation(7), generation: Generation(7), step: step.to_owned() };
    for step in ["prepare", "apply"] {
        let (arrived_at, deadline) = (Timestamp(1_000), Timestamp(9_000));
        let command = StoredCommand { key: key(step), arrived_at, deadline, body: format!("do {step}") };
        journal.admit(&command).expect("admits");
    }
    journal.report(&key("prepare"), Timestamp(2_000), &"prepared").expect("reports");
    let new = NewRun {
        operation: operation(7),
        started_at: Timestamp(3_000),
        deadline: Timestamp(9_000),
        body: "restore",
    };
    let run = journal.begin(&new, "accepted").expect("begins");
    journal.advance(run, "staging", Timestamp(3), &[("backup", "\"b\"".to_owned())]).expect("advances");
}

/// Every row of every table of the journal, by SQLite alone.
fn dump(path: &Path) -> Vec<String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{}?immutable=1", path.display()), flags)?;
        let mut rows = Vec::new();
        let mut tables = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY type, name")?;
        let tables: Vec<(String, Option<String>)> =
            tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        for (table, sql) in &tables {
            rows.push(format!("{table}: {sql:?}"));
            if !sql.as_deref().unwrap_or_default().starts_with("CREATE TABLE") {
                continue;
            }
            let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY rowid"))?;
            let columns = statement.column_count();
            let found = statement.query_map([], |row| {
                (0..columns)
                    .map(|column| Ok(format!("{:?}", row.get_ref(column)?)))
                    .collect::<Result<Vec<_>, _>>()
            })?;
            for row in found {
                rows.push(format!("{table}: {}", row?.join(" ")));
            }
        }
        Ok(rows)
    };
    read().unwrap_or_else(|error| vec![error.to_string()])
}
