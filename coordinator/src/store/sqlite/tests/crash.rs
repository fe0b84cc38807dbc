//! What is left after a power cut or on a full disk: all of a commit, or nothing of it.

use std::path::Path;

use rfs_model::{Generation, Labels};

use super::*;
use crate::store::suite::{hosts, row};

async fn seen(store: &SqliteStore) {
    let seen = HostSeen {
        host: host("a"),
        at: Timestamp(1),
        labels: Labels::new(),
        generation: Generation(0),
        inconsistent: false,
        details: String::new(),
        machines: None,
    };
    store.host_seen(seen).await.expect("a write");
}

/// How many events there are, what lists show, and whether the host is owned.
async fn state(store: &SqliteStore) -> String {
    let events = store.load(operation(1)).await.expect("a read").len();
    let row = store.operation(operation(1)).await.expect("a read");
    let host = store.host(&host("a")).await.expect("a read");
    let owned = host.map(|host| host.owner.is_some());
    format!("{events} events, head {:?}, owned {owned:?}", row.map(|row| row.head))
}

/// The log holds all that was committed since the file was made. Cutting it short is what a power cut does to it.
#[tokio::test]
async fn a_log_that_is_cut_short_anywhere_loses_whole_commits_from_its_end() {
    let (source, copy) = (folder(), folder());
    let store = open(&source).await;
    let mut commits = vec![state(&store).await];
    seen(&store).await;
    commits.push(state(&store).await);
    store.create(new(1, "a")).await.expect("a creation");
    commits.push(state(&store).await);
    let over = Append {
        row: Some(OperationRow { open: false, finished: true, head: "over".into(), ..row(1) }),
        release: hosts("a"),
        ..append(1, 1, (0..300).map(event).collect())
    };
    store.append(over).await.expect("an append");
    commits.push(state(&store).await);
    store.append(append(1, 301, vec![event(1)])).await.expect("an append");
    commits.push(state(&store).await);

    let read = |name| std::fs::read(source.path().join(name)).expect("a read");
    let (file, log) = (read("rfs.db"), read("rfs.db-wal"));
    assert!(log.len() > 20 * 4096, "nothing was moved from the log to the file yet");
    let mut found = Vec::new();
    // A frame of the log is a page and its head; the cuts are on its edges and in its middle.
    for length in (32..=log.len()).step_by((4096 + 24) / 2) {
        found.push(after_a_cut(copy.path(), &file, &log[..length]).await);
    }
    found.dedup();
    assert_eq!(found, commits, "in order, and nothing between them");
}

async fn after_a_cut(folder: &Path, file: &[u8], log: &[u8]) -> String {
    let _ = std::fs::remove_file(folder.join("rfs.db-shm"));
    std::fs::write(folder.join("rfs.db"), file).expect("a write");
    std::fs::write(folder.join("rfs.db-wal"), log).expect("a write");
    let store = SqliteStore::open(&folder.join("rfs.db")).await.expect("a store");
    let state = state(&store).await;
    store.close().await;
    state
}

#[tokio::test]
async fn a_full_disk_stores_nothing_by_halves_and_is_over_once_there_is_room() {
    let folder = folder();
    let store = open(&folder).await;
    seen(&store).await;
    store.create(new(1, "a")).await.expect("a creation");
    let limit = async |pages: i64| {
        let query = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(query).execute(&store.writer).await.expect("a limit");
    };
    let mut stored = 1;
    for events in [1, 3, 500] {
        // Below what the file has already, so that it cannot grow.
        limit(1).await;
        let error = loop {
            let append =
                Append { release: hosts("a"), ..append(1, stored, (0..events).map(event).collect()) };
            match store.append(append).await {
                Ok(Position(next)) => stored = next,
                Err(error) => break error,
            }
            assert!(stored < 10_000, "the limit was not met");
        };
        let AppendError::Store(StoreError::Database(cause)) = error else { panic!("{error}") };
        assert!(cause.to_string().contains("disk is full"), "{cause}");
        assert_eq!(store.load(operation(1)).await.expect("a read").len() as u64, stored);
        // The limit went with the connection that could not be used any longer.
        limit(1).await;
        let error = store.create(new(100, &(0..200).map(|n| format!("h-{n} ")).collect::<String>())).await;
        assert!(matches!(error, Err(CreateError::Store(StoreError::Database(_)))), "{error:?}");

        limit(1_000_000).await;
        Position(stored) = store
            .append(append(1, stored, vec![event(7); 100]))
            .await
            .expect("there is room again, and the store goes on");
    }
    assert_eq!(store.load(operation(1)).await.expect("a read").len() as u64, stored);
    assert_eq!(store.operation(operation(100)).await.expect("a read"), None);
}
