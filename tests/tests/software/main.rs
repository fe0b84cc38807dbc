//! Real software in its own tree is captured, broken, restored and undone while its clients are at work.
//!
//! Each test is the story of one program and of the operator who types: a capture under load, a bad release, the plan, the
//! restore, the one file that is brought back with the command that the restore printed, the undo, and the restore again. A story
//! is told on the machine's own file system, with `RFS_LONG` on every one that it can mount, and clients count each answer by its
//! kind.
//!
//! Invariants
//! - Clients see no error that is not the program's own: it refuses connections while it is down, once for each stop, and the bad
//!   release answers as bad releases do.
//! - The state before, the broken state and the restored state are compared by `rsync`, by names, contents, owners and times.
//! - Every program that a story starts is stopped by its end, however it ends.

mod container;
mod git;
mod ground;
mod java;
mod load;
mod nginx;
mod operator;
mod php;
mod tree;

use ground::on_each;

#[test]
fn nginx_with_its_configuration_logs_pid_file_and_cache_in_one_tree() {
    on_each("nginx", &["nginx"], nginx::story);
}

#[test]
fn a_php_application_with_sessions_and_uploads() {
    on_each("a PHP application", &["php"], php::story);
}

#[test]
fn a_java_service_behind_a_link_to_its_release() {
    on_each("a Java service", &["java", "javac"], java::story);
}

#[test]
fn the_volume_of_a_container() {
    on_each("a container's volume", &["redis-server", "redis-cli", "podman", "runc"], container::story);
}

#[test]
fn a_git_checkout_with_hooks_in_which_commits_go_on() {
    on_each("a git checkout", &["git"], git::story);
}
