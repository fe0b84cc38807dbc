//! One host in a temporary folder: a site, a service that serves it, a store, and an engine.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_agent::commander::{Refusal, Selection};
use rfs_agent::config::{self, Config};
use rfs_agent::engine::{Captured, Engine, NoLocalHealth, Opened, Order, Receipt};
use rfs_model::time::{SharedClock, SystemClock};
use rfs_model::{OperationId, SnapshotId};
use rfs_store::Cancel;
use tempfile::TempDir;
use uuid::Uuid;

/// A host. Its service `app` is up while the file `up` exists, and serves what `index.html` was when it started.
pub(crate) struct Bed {
    /// Removed when the bed is dropped.
    _folder: TempDir,
    root: PathBuf,
    /// Shell lines, run in the host's folder.
    pub(crate) start: String,
    pub(crate) stop: String,
    pub(crate) status: String,
    pub(crate) start_timeout: &'static str,
    /// More keys of the component `site`.
    pub(crate) site_keys: String,
    /// The key of that name, if it is written.
    pub(crate) reserve: String,
    /// More components, and sections after them.
    pub(crate) more: String,
}

impl Bed {
    /// A host at release v1, with its service up.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root = folder.path().to_owned();
        Self::within(folder, root)
    }

    /// The same with everything in `root`, which may be another file system.
    pub(crate) fn within(folder: TempDir, root: PathBuf) -> Self {
        let bed = Self {
            _folder: folder,
            root,
            start: "echo start >> log; cp site/index.html served; touch up".into(),
            stop: "echo stop >> log; rm -f up".into(),
            status: "test -f up".into(),
            start_timeout: "20s",
            site_keys: String::new(),
            reserve: String::new(),
            more: String::new(),
        };
        fs::create_dir_all(bed.path("site/assets")).expect("writable");
        bed.deploy("v1");
        bed.write("site/assets/logo", "logo");
        bed.write("served", "v1");
        bed.write("up", "");
        bed.write("log", "");
        bed
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("writable");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Puts a release in place, as a deploy does.
    pub(crate) fn deploy(&self, version: &str) {
        self.write("site/index.html", version);
        self.write(&format!("site/assets/{version}.css"), version);
        let link = self.path("site/current");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(format!("assets/{version}.css"), link).expect("writable");
    }

    pub(crate) fn config(&self) -> Config {
        let root = self.root.display();
        let hook = |line: &str| format!("cd {root} && {{ {line}; }}").replace('"', "\\\"");
        let text = format!(
            "[host]\nname = \"web-1\"\n[store]\npath = \"{}/store\"\n{}\n\
             [[component]]\nname = \"site\"\nkind = \"files\"\npaths = [\"{root}/site\"]\n{}\n\
             [[component]]\nname = \"app\"\nkind = \"services\"\n[component.commands]\n\
             start = \"{}\"\nstop = \"{}\"\nstatus = \"{}\"\n\
             start_timeout = \"{}\"\n{}\n",
            root,
            self.reserve,
            self.site_keys.replace("ROOT", &root.to_string()),
            hook(&self.start),
            hook(&self.stop),
            hook(&self.status),
            self.start_timeout,
            self.more.replace("ROOT", &root.to_string()),
        );
        config::parse(&text, Path::new("/etc/rfs/agent.toml"))
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    pub(crate) fn open(&self) -> Opened {
        Engine::open(self.config(), clock(), Arc::new(NoLocalHealth)).expect("the engine opens")
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::new(self.open().engine)
    }

    /// Everything beneath the site that a restore must bring back, without any code of ours.
    pub(crate) fn state(&self) -> Vec<String> {
        let mut lines = vec![format!("up: {}", self.path("up").exists())];
        look(&self.path("site"), &mut lines);
        lines.sort();
        lines
    }

    /// What the service was told, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        self.read("log").lines().map(str::to_owned).collect()
    }

    /// What a restore leaves behind when it does not tidy.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let folders = [self.path(""), self.path("site"), self.path("site/assets")];
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".rfs-")))
            .collect()
    }
}

fn look(path: &Path, lines: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).expect("it is there");
    let content = match meta.file_type() {
        kind if kind.is_symlink() => format!("-> {}", fs::read_link(path).expect("a link").display()),
        kind if kind.is_file() => String::from_utf8(fs::read(path).expect("readable"))
            .unwrap_or_else(|not| format!("{:?}", not.as_bytes())),
        _ => "/".to_owned(),
    };
    let mode = meta.permissions().mode();
    lines.push(format!("{} {mode:o} {}.{:09} {content}", path.display(), meta.mtime(), meta.mtime_nsec()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("readable").flatten() {
            if !entry.file_name().to_string_lossy().starts_with(".rfs-") {
                look(&entry.path(), lines);
            }
        }
    }
}

pub(crate) fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

pub(crate) fn operation(number: u128) -> OperationId {
    OperationId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn everything() -> Selection {
    Selection::default()
}

pub(crate) fn capture(engine: &Engine) -> Captured {
    let captured = engine.capture(&Default::default(), "test", operation(999), &Cancel::new());
    captured.unwrap_or_else(|refusal| panic!("captures: {refusal:?}"))
}

pub(crate) fn order(target: SnapshotId, selection: Selection) -> Order {
    Order {
        operation: operation(1),
        target,
        selection,
        until: Instant::now() + Duration::from_secs(60),
        reason: "test".into(),
        command: None,
        force: false,
        choices: Default::default(),
    }
}

pub(crate) fn restore(engine: &Engine, target: SnapshotId) -> Receipt {
    try_restore(engine, order(target, everything())).unwrap_or_else(|refusal| panic!("begins: {refusal:?}"))
}

pub(crate) fn try_restore(engine: &Engine, order: Order) -> Result<Receipt, Refusal> {
    engine.restore(order, &|_| {})
}

/// Asks until it is so; a condition that does not come true is a hang.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "gave up: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
