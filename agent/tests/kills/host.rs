//! The host that the workers share: a live tree, a store, and the listings of every state that it was given.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs_agent::commander::Refusal;
use rfs_agent::config::{self, Config};
use rfs_agent::engine::{Clocks, Engine, NoLocalHealth, Opened};
use rfs_model::ComponentName;

use crate::listing;

/// What is captured, by name in the folder of live files.
pub(crate) const ROOTS: [&str; 2] = ["app.conf", "site"];

/// A host in one folder.
#[derive(Clone)]
pub(crate) struct Host {
    root: PathBuf,
}

/// The number of a listing; it is the reason of each snapshot of that state.
pub(crate) type Number = u64;

impl Host {
    pub(crate) fn at(root: &Path) -> Self {
        for folder in ["live", "listings"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.root.join("live")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub(crate) fn component() -> ComponentName {
        ComponentName::new("site").expect("a name")
    }

    /// Opens the store, and brings to an end what was interrupted.
    pub(crate) fn open(&self) -> Result<Opened, Refusal> {
        Engine::open(self.config(), Clocks::of_this_machine(), Arc::new(NoLocalHealth))
    }

    fn config(&self) -> Config {
        let paths: Vec<String> =
            ROOTS.iter().map(|root| format!("\"{}\"", self.live().join(root).display())).collect();
        let text = format!(
            "[host]\nname = \"web-1\"\n[store]\npath = \"{}\"\n\
             [[component]]\nname = \"site\"\nkind = \"files\"\npaths = [{}]\n",
            self.store().display(),
            paths.join(", ")
        );
        config::parse(&text, Path::new("/etc/rfs/agent.toml")).expect("a configuration")
    }

    pub(crate) fn list(&self) -> String {
        listing::list(&self.live(), &ROOTS)
    }

    /// Records what the live tree is now.
    pub(crate) fn record(&self, number: Number) {
        let path = self.root.join("listings").join(number.to_string());
        let beside = path.with_extension("part");
        fs::write(&beside, self.list()).expect("written");
        fs::rename(beside, path).expect("renamed");
    }

    pub(crate) fn recorded(&self, number: Number) -> Option<String> {
        fs::read_to_string(self.root.join("listings").join(number.to_string())).ok()
    }
}

/// The number of the listing that a snapshot's label names.
pub(crate) fn number_of(label: &str) -> Number {
    label.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("labels end in a number")
}
