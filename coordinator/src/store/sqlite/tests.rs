//! The SQLite store keeps the contract, and its promises about its file.

mod crash;
mod file;
mod golden;
mod states;

use std::time::Instant;

use sqlx::Row as _;
use tempfile::TempDir;

use super::*;
use crate::store::suite::{append, event, host, keeps_its_contract, new, operation};

async fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("rfs.db")).await.expect("a store")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_a_store() {
    let folders = folder();
    keeps_its_contract(|| async {
        let fresh = tempfile::tempdir_in(&folders).expect("a folder").keep();
        SqliteStore::open(&fresh.join("rfs.db")).await.expect("a store")
    })
    .await;
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_file_is_opened_again() {
    let folder = folder();
    let store = open(&folder).await;
    store.create(new(1, "a")).await.expect("a creation");
    store.append(append(1, 1, vec![event(1)])).await.expect("an append");
    drop(store);
    let store = open(&folder).await;
    assert_eq!(store.load(operation(1)).await.expect("a read"), [event(0), event(1)]);
    assert!(store.create(new(2, "a")).await.is_err(), "a is still owned");
}

#[tokio::test]
async fn a_commit_is_synced_and_the_sqlite_is_one_that_loses_none() {
    let folder = folder();
    let store = open(&folder).await;
    for (pragma, expected) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
        let query = sqlx::AssertSqlSafe(format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"));
        let value: String = sqlx::query_scalar(query).fetch_one(&store.writer).await.expect("a pragma");
        assert_eq!(value, expected, "{pragma}");
    }
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&store.writer).await.expect("a version");
    let version: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(version >= vec![3, 51, 3], "{version:?} may lose a committed write when the log is reset");
}

#[tokio::test]
async fn two_processes_on_one_file_wait_for_each_other() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    one.create(new(1, "")).await.expect("a creation");
    for position in 1..40 {
        let store = if position % 2 == 0 { &one } else { &two };
        store.append(append(1, position, vec![event(0)])).await.expect("an append");
    }
    let (left, right) =
        tokio::join!(one.append(append(1, 40, vec![event(1)])), two.append(append(1, 40, vec![event(2)])));
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_named() {
    let folder = folder();
    let store = open(&folder).await;
    store.create(new(1, "")).await.expect("a creation");
    for (body, expected) in [
        ("{\"version\":1,\"rollback\":{\"event\":\"from_the_future\"}}", "unknown variant"),
        (
            "{\"version\":3,\"checkpoint\":{\"event\":\"cut_started\",\"at\":1}}",
            "written by a newer version of rfs",
        ),
        ("torn", "expected ident"),
    ] {
        sqlx::query("UPDATE event SET body = $1").bind(body).execute(&store.writer).await.expect("a write");
        let error = store.load(operation(1)).await.expect_err("it cannot be read");
        assert_eq!(error.to_string(), format!("event 0 of operation {} cannot be read", operation(1)));
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains(expected), "{cause}");
    }
}

/// Not a measurement, but a guard against one that grows with the square of the fleet.
#[tokio::test]
async fn a_thousand_hosts_are_taken_and_answer_in_one_go() {
    let folder = folder();
    let store = open(&folder).await;
    let names: Vec<String> = (0..1000).map(|n| format!("h-{n}")).collect();
    let started = Instant::now();
    store.create(new(1, &names.join(" "))).await.expect("a creation");
    let taken = started.elapsed();
    store.append(append(1, 1, (0..1000).map(event).collect())).await.expect("an append");
    let appended = started.elapsed() - taken;
    println!("1,000 hosts taken in {taken:?}, 1,000 events appended in {appended:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{taken:?} {appended:?}");
    assert_eq!(store.host(&host("h-1")).await.expect("a read"), None);
}

#[tokio::test]
async fn many_small_appends_take_no_longer_the_more_there_are() {
    let folder = folder();
    let store = open(&folder).await;
    store.create(new(1, "")).await.expect("a creation");
    let mut halves = Vec::new();
    let mut position = 1;
    for _ in 0..2 {
        let started = Instant::now();
        for _ in 0..500 {
            let ten = (0..10).map(event).collect();
            Position(position) = store.append(append(1, position, ten)).await.expect("an append");
        }
        halves.push(started.elapsed());
    }
    println!("500 appends of 10 events took {:?}, the next 500 {:?}", halves[0], halves[1]);
    let started = Instant::now();
    assert_eq!(store.load(operation(1)).await.expect("a read").len(), 10_001);
    println!("10,001 events were read in {:?}", started.elapsed());
    assert!(halves[1] < halves[0] * 10, "{halves:?}");
}

#[tokio::test]
async fn a_part_of_a_history_is_found_by_its_place_and_not_searched_for() {
    let folder = folder();
    let store = open(&folder).await;
    store.create(new(1, "")).await.expect("a creation");
    store.append(append(1, 1, (0..100).map(event).collect())).await.expect("an append");
    let query = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", super::operations::PART));
    let steps =
        sqlx::query(query).bind("").bind(50).bind(10).fetch_all(&store.readers).await.expect("a plan");
    let steps: Vec<String> = steps.iter().map(|step| step.try_get("detail").expect("text")).collect();
    let [step] = &steps[..] else { panic!("one step, and no sorting: {steps:?}") };
    assert!(
        step.starts_with("SEARCH event USING INDEX") && step.contains("operation=? AND position>?"),
        "{step}"
    );
}
