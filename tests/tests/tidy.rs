//! The house stands as the README draws it: the top level, who may depend on whom, and no forgotten file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may depend on of ours. `rfs-tests` may depend on everything.
const LAYERS: [(&str, &str, &[&str]); 7] = [
    ("rfs-model", "proto/model", &[]),
    ("rfs-proto", "proto", &["rfs-model"]),
    ("rfs-link", "proto/link", &["rfs-model", "rfs-proto"]),
    ("rfs-rollout", "coordinator/rollout", &["rfs-model"]),
    ("rfs-coordinator", "coordinator", &["rfs-rollout", "rfs-proto", "rfs-link", "rfs-model"]),
    ("rfs-store", "agent/store", &["rfs-model"]),
    ("rfs-agent", "agent", &["rfs-store", "rfs-proto", "rfs-link", "rfs-model"]),
];

/// Crates that must stay out of a crate's own dependencies, so that what it promises by absence stays true.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    ("proto/model", &["tokio", "tonic", "prost", "rustix", "tracing"]),
    ("proto", &["tokio", "rustls", "rustix"]),
    ("coordinator/rollout", &["tokio", "tonic", "prost", "rustix", "chrono", "rand", "uuid"]),
    ("agent/store", &["tokio", "tonic", "prost"]),
];

const TOP_LEVEL: [&str; 9] =
    ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "agent", "coordinator", "deploy", "proto", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate").to_owned()
}

fn manifest(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path.join("Cargo.toml")).expect("every crate has a manifest");
    text.parse().expect("cargo has read this manifest before")
}

/// The names in the dependency tables of a manifest that end up in the built crate.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let tables = ["dependencies", "build-dependencies"];
    let table = |name: &&str| manifest.get(*name).and_then(toml::Value::as_table).cloned();
    tables.iter().filter_map(table).flat_map(|t| t.into_iter().map(|(name, _)| name)).collect()
}

fn tracked_files() -> Vec<String> {
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    let output = output.expect("git is installed where the project is tested");
    assert!(output.status.success(), "git ls-files failed");
    String::from_utf8(output.stdout).expect("our file names are text").lines().map(str::to_owned).collect()
}

#[test]
fn a_crate_depends_only_on_the_layers_below_it() {
    for (name, path, allowed) in LAYERS {
        let manifest = manifest(&root().join(path));
        assert_eq!(manifest["package"]["name"].as_str(), Some(name), "{path}");
        let ours: BTreeSet<_> =
            dependencies(&manifest).into_iter().filter(|d| d.starts_with("rfs-")).collect();
        let allowed: BTreeSet<_> = allowed.iter().map(ToString::to_string).collect();
        let extra: Vec<_> = ours.difference(&allowed).collect();
        assert!(extra.is_empty(), "{name} must not depend on {extra:?}");
    }
}

#[test]
fn a_crate_that_promises_an_absence_keeps_it() {
    for (path, forbidden) in FORBIDDEN {
        let found = dependencies(&manifest(&root().join(path)));
        let found: Vec<_> = forbidden.iter().filter(|name| found.contains(**name)).collect();
        assert!(found.is_empty(), "{path} must not depend on {found:?}");
    }
}

#[test]
fn every_dependency_is_named_once_in_the_workspace() {
    let members = LAYERS.iter().map(|(_, path, _)| *path).chain(["tests"]);
    for path in members {
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let manifest = manifest(&root().join(path));
            let Some(table) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for (name, value) in table {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{path}: {name} must come from [workspace.dependencies]");
            }
        }
    }
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let found: BTreeSet<_> =
        tracked_files().iter().filter_map(|file| Some(file.split('/').next()?.to_owned())).collect();
    let extra: Vec<_> =
        found.iter().filter(|n| !n.starts_with('.') && !TOP_LEVEL.contains(&n.as_str())).collect();
    assert!(extra.is_empty(), "at the top level only {TOP_LEVEL:?} and dot files: {extra:?}");
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    let files: BTreeSet<String> = tracked_files().into_iter().filter(|f| f.ends_with(".rs")).collect();
    let mut children: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        children.insert(file.clone(), modules(file, &text));
    }
    let is_root = |file: &String| {
        let in_tests = |dir: &str| {
            file.split_once(&format!("/{dir}/")).is_some_and(|(_, rest)| {
                !rest.contains('/') || rest.ends_with("/main.rs") && rest.matches('/').count() == 1
            })
        };
        file.ends_with("src/lib.rs")
            || file.ends_with("src/main.rs")
            || file.ends_with("build.rs")
            || ["tests", "examples", "benches", "src/bin", "fuzz_targets"].iter().any(|dir| in_tests(dir))
    };
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut queue: Vec<String> = files.iter().filter(|f| is_root(f)).cloned().collect();
    while let Some(file) = queue.pop() {
        if reached.insert(file.clone()) {
            queue.extend(children.get(&file).into_iter().flatten().filter(|c| files.contains(*c)).cloned());
        }
    }
    let forgotten: Vec<_> = files.difference(&reached).collect();
    assert!(forgotten.is_empty(), "no crate includes {forgotten:?}");
}

/// The files that `mod` lines of this file may name.
fn modules(file: &str, text: &str) -> BTreeSet<String> {
    let path = Path::new(file);
    let parent = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let owns_folder = matches!(stem, "lib" | "main" | "mod");
    // A test target is a crate root, so its modules stand beside it.
    let folders =
        if owns_folder { vec![parent.to_owned()] } else { vec![parent.join(stem), parent.to_owned()] };
    let mut attribute = None;
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            attribute = rest.split('"').next().map(str::to_owned);
            continue;
        }
        let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
        let Some(name) = line.strip_prefix("mod ").and_then(|l| l.strip_suffix(';')) else { continue };
        if let Some(named) = attribute.take() {
            found.insert(parent.join(named).to_string_lossy().into_owned());
        }
        for folder in &folders {
            found.insert(folder.join(format!("{name}.rs")).to_string_lossy().into_owned());
            found.insert(folder.join(name).join("mod.rs").to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn every_source_file_says_first_what_it_promises() {
    for file in tracked_files().into_iter().filter(|f| f.ends_with(".rs")) {
        let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        assert!(first.starts_with("//!"), "{file} starts with {first:?}, not with a `//!` line");
    }
}

#[test]
fn one_tls_provider_is_in_the_graph() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is kept");
    for name in ["openssl", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name} is in the lock file");
    }
}
