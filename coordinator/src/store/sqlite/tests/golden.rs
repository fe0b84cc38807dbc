//! What an earlier version stored is read by this one. For each schema there is a dump of a small coordinator's file; a
//! new schema adds one and changes none.

use rfs_model::DeploymentId;
use rfs_rollout::Operation;

use super::*;
use crate::store::OperationKind;

async fn restored(dump: &'static str) -> (TempDir, SqliteStore) {
    let folder = folder();
    let options = SqliteConnectOptions::new().filename(folder.path().join("rfs.db")).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.expect("a connection");
    sqlx::raw_sql(dump).execute(&pool).await.expect("the dump is read");
    pool.close().await;
    let store = open(&folder).await;
    (folder, store)
}

/// A line for each operation in the lists, and whether its history leads to what its row says.
async fn story(store: &SqliteStore) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in [OperationKind::Checkpoint, OperationKind::Rollback] {
        let query = ListQuery { kind, deployment: None, limit: 100, after: None };
        for row in store.list(query).await.expect("a read").items {
            let events = store.load(row.id).await.expect("a read");
            let replayed = Operation::replay(&events).expect("a history");
            assert_eq!((replayed.id(), replayed.open()), (row.id, row.open));
            assert_eq!(replayed.finished(), row.finished);
            let last = events.last().expect("an event").at();
            let deployment = row.deployment.map_or("none".to_owned(), |deployment| deployment.to_string());
            lines.push(format!("{} of {deployment}, {} events until {last}", kind.as_str(), events.len()));
        }
    }
    for host in store.hosts().await.expect("a read") {
        let owned = if host.owner.is_some() { "owned" } else { "free" };
        lines.push(format!("{} {:?}: generation {}, {owned}", host.host, host.labels, host.generation));
    }
    lines
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_read() {
    let (_folder, store) = restored(include_str!("../golden/0001.sql")).await;
    assert_eq!(
        story(&store).await,
        [
            "checkpoint of release-2, 10 events until 2023-11-14T22:13:20.000Z",
            "rollback of none, 5 events until 2023-11-14T22:13:40.000Z",
            "rollback of none, 13 events until 2023-11-14T22:13:26.000Z",
            r#"a {"role": "web"}: generation 12, free"#,
            r#"b {"role": "web"}: generation 16, owned"#,
        ]
    );
    let checkpoint: OperationId = "018bcfe5-6800-704d-bfbd-0175d68077c2".parse().expect("an id");
    assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), Some(checkpoint.into()));
    let open: OperationId = "018bcfe5-b620-75d5-8c4e-5e1c9d1a10ba".parse().expect("an id");
    assert_eq!(store.open_operations().await.expect("a read"), [open]);
    let deployment = DeploymentId::new("release-2").expect("a valid id");
    let row = store.operation(checkpoint).await.expect("a read").expect("it is there");
    assert_eq!(row.deployment, Some(deployment));
    let deleted = "018bcfe5-b620-75d5-8c4e-5e1b641d401c".parse().expect("an id");
    assert_eq!(store.operation(deleted).await.expect("a read"), None);
    assert_eq!(store.load(deleted).await.expect("a read").len(), 10, "its history stays");
    let reused = RequestKey { id: "deploy-2".parse().expect("a valid id"), request: "another".into() };
    let error = store.begun_before(&reused).await.expect_err("the id was used");
    assert!(matches!(error, CreateError::RequestIdReused { .. }), "{error}");
    // Writing goes on where the earlier version stopped.
    store.append(Append { operation: open, ..append(1, 5, vec![event(1)]) }).await.expect("an append");
}
