//! Hosts that have been seen, and who owns them.

use std::collections::{BTreeMap, BTreeSet};

use rfs_model::{Generation, HostId, OperationId, Timestamp};
use rfs_rollout::GENERATIONS;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};

use super::row::{column, damaged, number, optional, parsed, truth};
use super::snapshots;
use super::{BATCH, SqliteStore};
use crate::store::contract::{
    AppendError, CreateError, ForgetError, HostRow, HostSeen, Reserved, StoreError,
};
use crate::store::machines::Machines;

const HOSTS: &str = "SELECT host.name, host.last_seen, host.labels, host.inconsistent, host.details, host.machines, \
                     host.forgotten_at, ownership.generation, ownership.owner FROM host JOIN ownership ON ownership.host = host.name";

impl SqliteStore {
    pub(super) async fn record_hosts(
        &self,
        seen: Vec<HostSeen>,
    ) -> Result<Vec<Option<OperationId>>, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut owners = Vec::with_capacity(seen.len());
        for seen in seen {
            owners.push(record(&mut transaction, seen).await?);
        }
        transaction.commit().await?;
        Ok(owners)
    }

    pub(super) async fn release_hosts(
        &self,
        operation: OperationId,
        hosts: &BTreeSet<HostId>,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        release(&mut transaction, operation, hosts).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn release_hosts_of_closed(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await?;
        sqlx::query(
            "UPDATE ownership SET owner = NULL \
             WHERE owner IN (SELECT id FROM operation WHERE is_open = 0)",
        )
        .execute(&mut *writer)
        .await?;
        Ok(())
    }

    pub(super) async fn reserve_again(
        &self,
        operation: OperationId,
        hosts: &BTreeSet<HostId>,
        generations: u64,
    ) -> Result<BTreeMap<HostId, Reserved>, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let reserved = reserve(&mut transaction, operation, hosts, generations).await?;
        transaction.commit().await?;
        Ok(reserved)
    }

    pub(super) async fn note_heard(&self, hosts: &[HostId], at: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        for batch in hosts.chunks(BATCH) {
            let mut sql = QueryBuilder::<Sqlite>::new("UPDATE host SET last_seen = ");
            sql.push_bind(at.0).push(" WHERE last_seen < ").push_bind(at.0).push(" AND name IN (");
            let mut names = sql.separated(", ");
            for host in batch {
                names.push_bind(host.as_str());
            }
            sql.push(")").build().execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(super) async fn all_hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.hosts_where("host.forgotten_at IS NULL").await
    }

    pub(super) async fn all_forgotten(&self) -> Result<Vec<HostRow>, StoreError> {
        self.hosts_where("host.forgotten_at IS NOT NULL").await
    }

    async fn hosts_where(&self, which: &'static str) -> Result<Vec<HostRow>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!("{HOSTS} WHERE {which} ORDER BY host.name"));
        let rows = sqlx::query(query).fetch_all(&self.readers).await?;
        rows.iter().map(host).collect()
    }

    pub(super) async fn forget(&self, name: &HostId, at: Timestamp) -> Result<(), ForgetError> {
        let mut writer = self.writer.acquire().await.map_err(StoreError::from)?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::from)?;
        let row = sqlx::query(
            "SELECT ownership.owner FROM host JOIN ownership ON ownership.host = host.name WHERE host.name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        if let Some(owner) = optional(row.as_ref().ok_or(ForgetError::NoHost)?, "owner")? {
            return Err(ForgetError::HostBusy { owner });
        }
        sqlx::query("UPDATE host SET forgotten_at = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(at.0)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from)?;
        snapshots::miss_no_more(&mut transaction, name).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    pub(super) async fn one_host(&self, name: &HostId) -> Result<Option<HostRow>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!("{HOSTS} WHERE host.name = $1"));
        let row = sqlx::query(query).bind(name.as_str()).fetch_optional(&self.readers).await?;
        row.as_ref().map(host).transpose()
    }
}

/// Records a host, and gives its owner.
async fn record(
    transaction: &mut SqliteConnection,
    seen: HostSeen,
) -> Result<Option<OperationId>, StoreError> {
    let labels = json("labels", &seen.labels)?;
    let forgotten_at = seen.machines.as_ref().and_then(|machines| machines.forgotten_at);
    let machines = seen.machines.map(|machines| json("machines", &machines)).transpose()?;
    // What was seen before a host was forgotten, and is written after it, makes nobody of the fleet again.
    sqlx::query(
        "INSERT INTO host (name, last_seen, labels, inconsistent, details, machines, forgotten_at) \
         VALUES ($1, $2, $3, $4, $5, COALESCE($6, '{}'), $7) \
         ON CONFLICT (name) DO UPDATE SET last_seen = excluded.last_seen, labels = excluded.labels, \
         inconsistent = excluded.inconsistent, details = excluded.details, \
         machines = COALESCE($6, host.machines), \
         forgotten_at = CASE WHEN $6 IS NULL OR host.forgotten_at >= $2 THEN host.forgotten_at ELSE $7 END",
    )
    .bind(seen.host.as_str())
    .bind(seen.at.0)
    .bind(labels)
    .bind(i64::from(seen.inconsistent))
    .bind(seen.details)
    .bind(machines)
    .bind(forgotten_at.map(|at| at.0))
    .execute(&mut *transaction)
    .await?;
    let row = sqlx::query(
        "INSERT INTO ownership (host, generation) VALUES ($1, $2) ON CONFLICT (host) DO UPDATE SET \
         generation = CASE WHEN excluded.generation > ownership.generation THEN excluded.generation \
         ELSE ownership.generation END RETURNING owner",
    )
    .bind(seen.host.as_str())
    // One host that claims what cannot be must not keep the others out: nobody can take it, and that is all.
    .bind(i64::try_from(seen.generation.0).unwrap_or(i64::MAX))
    .fetch_one(transaction)
    .await?;
    optional(&row, "owner")
}

fn json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| damaged(what)(error.into()))
}

fn host(row: &SqliteRow) -> Result<HostRow, StoreError> {
    let labels: &str = row.try_get("labels")?;
    let machines: &str = row.try_get("machines")?;
    let machines: Machines =
        serde_json::from_str(machines).map_err(|error| damaged("a host's machines")(error.into()))?;
    let forgotten_at = row.try_get::<Option<i64>, _>("forgotten_at")?.map(Timestamp);
    Ok(HostRow {
        host: parsed(row, "name")?,
        last_seen: Timestamp(row.try_get("last_seen")?),
        labels: serde_json::from_str(labels).map_err(|error| damaged("a host's labels")(error.into()))?,
        generation: Generation(number(row, "generation")?),
        inconsistent: truth(row, "inconsistent")?,
        owner: optional(row, "owner")?,
        details: row.try_get("details")?,
        machines: Machines { forgotten_at, ..machines },
    })
}

/// Takes hosts that nobody owns, and gives back the first of the generations that are reserved on each. Where the operation
/// is to change them, none that came before changes them any more.
pub(super) async fn take(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeSet<HostId>,
    generations: u64,
    changes: bool,
) -> Result<BTreeMap<HostId, Generation>, CreateError> {
    let mut firsts = BTreeMap::new();
    for name in hosts {
        let taken = sqlx::query(
            "INSERT INTO ownership (host, generation, owner, last_changer) VALUES ($1, $2, $3, $5) \
             ON CONFLICT (host) DO UPDATE SET generation = ownership.generation + excluded.generation, \
             owner = excluded.owner, last_changer = COALESCE(excluded.last_changer, ownership.last_changer) \
             WHERE ownership.owner IS NULL AND ownership.generation <= $4 AND NOT EXISTS (SELECT 1 FROM host \
             WHERE host.name = ownership.host AND host.forgotten_at IS NOT NULL) RETURNING generation",
        )
        .bind(name.as_str())
        .bind(column(generations)?)
        .bind(operation.to_string())
        .bind(i64::MAX - column(generations)?)
        .bind(changes.then(|| operation.to_string()))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        let Some(row) = taken else { return Err(not_free(transaction, name).await?) };
        firsts.insert(name.clone(), first(&row, generations)?);
    }
    Ok(firsts)
}

/// The first of the generations that a row ends with.
fn first(row: &SqliteRow, generations: u64) -> Result<Generation, StoreError> {
    Ok(Generation(number(row, "generation")? + 1 - generations))
}

async fn not_free(transaction: &mut SqliteConnection, host: &HostId) -> Result<CreateError, StoreError> {
    match standing(transaction, host).await? {
        (Some(owner), _) => Ok(CreateError::HostBusy { host: host.clone(), owner }),
        (None, _) if is_forgotten(transaction, host).await? => {
            Ok(CreateError::HostForgotten { host: host.clone() })
        }
        (None, _) => Err(damaged(format!("the generation of host {host}"))("there is none above it".into())),
    }
}

/// Who owns a host, and who meant to change it last.
async fn standing(
    transaction: &mut SqliteConnection,
    host: &HostId,
) -> Result<(Option<OperationId>, Option<OperationId>), StoreError> {
    let row = sqlx::query("SELECT owner, last_changer FROM ownership WHERE host = $1")
        .bind(host.as_str())
        .fetch_one(transaction)
        .await?;
    Ok((optional(&row, "owner")?, optional(&row, "last_changer")?))
}

async fn is_forgotten(transaction: &mut SqliteConnection, host: &HostId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM host WHERE name = $1 AND forgotten_at IS NOT NULL")
        .bind(host.as_str())
        .fetch_optional(transaction)
        .await?;
    Ok(row.is_some())
}

/// Takes hosts for another attempt of an operation that has changed, or meant to change, them last.
pub(super) async fn reserve(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeSet<HostId>,
    generations: u64,
) -> Result<BTreeMap<HostId, Reserved>, StoreError> {
    let mut reserved = BTreeMap::new();
    for host in hosts {
        let taken = sqlx::query(
            "UPDATE ownership SET owner = $2, generation = generation + $3 WHERE host = $1 AND last_changer = $2 \
             AND (owner IS NULL OR owner = $2) AND generation <= $4 AND NOT EXISTS (SELECT 1 FROM host \
             WHERE host.name = ownership.host AND host.forgotten_at IS NOT NULL) RETURNING generation",
        )
        .bind(host.as_str())
        .bind(operation.to_string())
        .bind(column(generations)?)
        .bind(i64::MAX - column(generations)?)
        .fetch_optional(&mut *transaction)
        .await?;
        let came = match taken {
            Some(row) => Reserved::First(first(&row, generations)?),
            // Nobody waits for it any more.
            None if is_forgotten(transaction, host).await? => Reserved::Superseded,
            None => match standing(transaction, host).await? {
                (Some(owner), Some(changer)) if changer == operation => Reserved::Busy(owner),
                (_, Some(changer)) if changer != operation => Reserved::Superseded,
                (..) => {
                    return Err(damaged(format!("the generation of host {host}"))(
                        "there is none above it".into(),
                    ));
                }
            },
        };
        reserved.insert(host.clone(), came);
    }
    Ok(reserved)
}

/// Takes hosts again that the operation had, unless another one owns them or has meant to change them since.
pub(super) async fn take_again(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeMap<HostId, Generation>,
) -> Result<(), AppendError> {
    for (host, first) in hosts {
        // A generation that is higher than those reserved was accepted from somebody else.
        let taken = sqlx::query(
            "UPDATE ownership SET owner = $2 WHERE host = $1 AND last_changer = $2 AND (owner IS NULL OR owner = $2) \
             AND generation < $3 AND NOT EXISTS (SELECT 1 FROM host WHERE host.name = ownership.host \
             AND host.forgotten_at IS NOT NULL)",
        )
        .bind(host.as_str())
        .bind(operation.to_string())
        .bind(column(first.0 + GENERATIONS)?)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        if taken.rows_affected() == 0 {
            return Err(AppendError::NotOwner { host: host.clone() });
        }
    }
    Ok(())
}

pub(super) async fn release(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeSet<HostId>,
) -> Result<(), StoreError> {
    for host in hosts {
        sqlx::query("UPDATE ownership SET owner = NULL WHERE host = $1 AND owner = $2")
            .bind(host.as_str())
            .bind(operation.to_string())
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}
