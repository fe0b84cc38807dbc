//! Which files are opened, and whose they are.

use std::error::Error;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Why the file of the folder is refused.
async fn refused(folder: &TempDir) -> String {
    let error = SqliteStore::open(&folder.path().join("rfs.db")).await.expect_err("it is refused");
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(error.to_string().contains("rfs.db"), "{error}");
    error.source().expect("a cause").to_string()
}

async fn run(folder: &TempDir, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(folder.path().join("rfs.db")).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.expect("a connection");
    sqlx::raw_sql(sql).execute(&pool).await.expect("a statement");
    pool.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_by_its_name() {
    let folder = folder();
    std::fs::write(
        folder.path().join("rfs.db"),
        "not a database, but long enough to be looked at".repeat(20),
    )
    .expect("a write");
    let error = SqliteStore::open(&folder.path().join("rfs.db")).await.expect_err("it is no store");
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(error.to_string().contains("rfs.db"), "{error}");
    let missing = SqliteStore::open(&folder.path().join("no/such/rfs.db")).await.expect_err("no folder");
    assert!(matches!(missing, StoreError::Open { .. }), "{missing}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let folder = folder();
    open(&folder).await.close().await;
    run(
        &folder,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'from the future', 1, x'00', 0)",
    )
    .await;
    let before = std::fs::read(folder.path().join("rfs.db")).expect("a read");
    let cause = refused(&folder).await;
    assert!(cause.starts_with("it was written by a newer version of rfs (its schema is 99"), "{cause}");
    assert!(std::fs::read(folder.path().join("rfs.db")).expect("a read") == before, "it was changed");
}

#[tokio::test]
async fn a_database_of_something_else_gets_no_table_of_ours() {
    let folder = folder();
    run(&folder, "CREATE TABLE customer (name TEXT)").await;
    let cause = refused(&folder).await;
    assert_eq!(cause, "it is a database of something else: name another file");
    run(&folder, "CREATE TABLE operation (id TEXT)").await;
}

#[tokio::test]
async fn a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_mode() {
    let folder = folder();
    let store = open(&folder).await;
    store.create(new(1, "")).await.expect("a creation");
    let mode = |name| {
        let data = std::fs::metadata(folder.path().join(name)).expect("it is there");
        data.permissions().mode() & 0o777
    };
    assert_eq!([mode("rfs.db"), mode("rfs.db-wal"), mode("rfs.db-shm")], [0o600; 3]);
    store.close().await;
    let group = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(folder.path().join("rfs.db"), group).expect("a mode");
    open(&folder).await.close().await;
    assert_eq!(mode("rfs.db"), 0o640);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_open_a_new_file_at_once_find_one_store() {
    let folder = folder();
    let path = folder.path().join("rfs.db");
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { SqliteStore::open(&path).await })
        })
        .collect();
    for opener in openers {
        opener.await.expect("no panic").expect("a store").close().await;
    }
}
