//! The programs under test, and the independent tools that judge them.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The path of one of the workspace's programs, such as `rfs`.
pub fn program(name: &str) -> PathBuf {
    if let Some(folder) = env::var_os("RFS_TEST_PROGRAMS") {
        let program = PathBuf::from(folder).join(name);
        assert!(program.is_file(), "RFS_TEST_PROGRAMS names a folder without {name}");
        return program;
    }
    let here = env::current_exe().expect("a test knows its own path");
    let folder = here.ancestors().find(|p| p.join(name).is_file());
    let folder =
        folder.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace --bins`"));
    folder.join(name)
}

/// The path of a tool that judges, from `tests/run`'s own folder or the machine's; none if it is not installed.
pub fn judge(name: &str) -> Option<PathBuf> {
    let own = env::var_os("RFS_TEST_TOOLS")
        .map(PathBuf::from)
        .into_iter()
        .flat_map(|tools| [tools.join("venv/bin").join(name), tools.join("node_modules/.bin").join(name)]);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    own.chain(folders.into_iter().map(|folder| folder.join(name))).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
