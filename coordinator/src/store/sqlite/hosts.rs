//! Hosts that have been seen, and who owns them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

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

/// Of the hosts that `ownership` names: those that nobody said to be gone for good.
const NOT_FORGOTTEN: &str = " AND NOT EXISTS (SELECT 1 FROM host WHERE host.name = ownership.host \
                             AND host.forgotten_at IS NOT NULL)";

impl SqliteStore {
    pub(super) async fn record_hosts(
        &self,
        seen: Vec<HostSeen>,
    ) -> Result<Vec<Option<OperationId>>, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut owners = Vec::with_capacity(seen.len());
        for seen in apart(seen) {
            record(&mut transaction, &seen, &mut owners).await?;
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

    pub(super) async fn some_hosts(&self, names: &[HostId]) -> Result<Vec<HostRow>, StoreError> {
        let mut found = Vec::with_capacity(names.len());
        for names in names.chunks(BATCH) {
            let mut sql = QueryBuilder::<Sqlite>::new(HOSTS);
            sql.push(" WHERE host.name IN ");
            push_names(&mut sql, names);
            let rows = sql.build().fetch_all(&self.readers).await?;
            found.extend(rows.iter().map(host).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    pub(super) async fn one_host(&self, name: &HostId) -> Result<Option<HostRow>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!("{HOSTS} WHERE host.name = $1"));
        let row = sqlx::query(query).bind(name.as_str()).fetch_optional(&self.readers).await?;
        row.as_ref().map(host).transpose()
    }
}

/// Hosts in order, as many together as one statement takes: none twice, and of all or of none are the machines told.
fn apart(seen: Vec<HostSeen>) -> Vec<Vec<HostSeen>> {
    let mut parts: Vec<Vec<HostSeen>> = Vec::new();
    let mut named = HashSet::new();
    for seen in seen {
        let fits = |part: &Vec<HostSeen>| {
            let told = |seen: &HostSeen| seen.machines.is_some();
            part.len() < BATCH && part.first().map(told) == Some(told(&seen))
        };
        let is_new = named.insert(seen.host.clone());
        match parts.last_mut().filter(|part| is_new && fits(part)) {
            Some(part) => part.push(seen),
            None => {
                named = HashSet::from([seen.host.clone()]);
                parts.push(vec![seen]);
            }
        }
    }
    parts
}

/// Records hosts of which none is named twice, and gives the owner of each, in order.
async fn record(
    transaction: &mut SqliteConnection,
    seen: &[HostSeen],
    owners: &mut Vec<Option<OperationId>>,
) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(seen.len());
    for seen in seen {
        let machines = seen.machines.as_ref().map(|machines| json("machines", machines)).transpose()?;
        let forgotten_at = seen.machines.as_ref().and_then(|machines| machines.forgotten_at);
        rows.push((seen, json("labels", &seen.labels)?, machines, forgotten_at));
    }
    let told = rows.iter().any(|(_, _, machines, _)| machines.is_some());
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO host (name, last_seen, labels, inconsistent, details, machines, forgotten_at) ",
    );
    sql.push_values(rows, |mut row, (seen, labels, machines, forgotten_at)| {
        row.push_bind(seen.host.as_str()).push_bind(seen.at.0).push_bind(labels);
        row.push_bind(i64::from(seen.inconsistent)).push_bind(&seen.details);
        row.push_bind(machines.unwrap_or_else(|| "{}".to_owned()));
        row.push_bind(forgotten_at.map(|at| at.0));
    });
    sql.push(
        " ON CONFLICT (name) DO UPDATE SET last_seen = excluded.last_seen, labels = excluded.labels, \
         inconsistent = excluded.inconsistent, details = excluded.details",
    );
    if told {
        // What was seen before a host was forgotten, and is written after it, makes nobody of the fleet again.
        sql.push(
            ", machines = excluded.machines, forgotten_at = CASE WHEN host.forgotten_at >= excluded.last_seen \
             THEN host.forgotten_at ELSE excluded.forgotten_at END",
        );
    }
    sql.build().execute(&mut *transaction).await?;

    let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO ownership (host, generation) ");
    sql.push_values(seen, |mut row, seen| {
        // One host that claims what cannot be must not keep the others out: nobody can take it, and that is all.
        let generation = i64::try_from(seen.generation.0).unwrap_or(i64::MAX);
        row.push_bind(seen.host.as_str()).push_bind(generation);
    });
    sql.push(
        " ON CONFLICT (host) DO UPDATE SET \
         generation = CASE WHEN excluded.generation > ownership.generation THEN excluded.generation \
         ELSE ownership.generation END RETURNING host, owner",
    );
    let rows = sql.build().fetch_all(transaction).await?;
    let mut found: BTreeMap<HostId, Option<OperationId>> = BTreeMap::new();
    for row in &rows {
        found.insert(parsed(row, "host")?, optional(row, "owner")?);
    }
    owners.extend(seen.iter().map(|seen| found.get(&seen.host).copied().flatten()));
    Ok(())
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
    let (owner, names) = (operation.to_string(), hosts.iter().collect::<Vec<_>>());
    let (reserved, changer) = (column(generations)?, changes.then(|| operation.to_string()));
    let mut firsts = BTreeMap::new();
    for names in names.chunks(BATCH) {
        let mut sql =
            QueryBuilder::<Sqlite>::new("INSERT INTO ownership (host, generation, owner, last_changer) ");
        sql.push_values(names, |mut row, name| {
            row.push_bind(name.as_str()).push_bind(reserved).push_bind(&owner).push_bind(&changer);
        });
        sql.push(
            " ON CONFLICT (host) DO UPDATE SET generation = ownership.generation + excluded.generation, \
             owner = excluded.owner, \
             last_changer = COALESCE(excluded.last_changer, ownership.last_changer) \
             WHERE ownership.owner IS NULL AND NOT EXISTS (SELECT 1 FROM host \
             WHERE host.name = ownership.host AND host.forgotten_at IS NOT NULL) AND ownership.generation <= ",
        );
        sql.push_bind(i64::MAX - reserved).push(" RETURNING host, generation");
        let rows = sql.build().fetch_all(&mut *transaction).await.map_err(StoreError::from)?;
        for row in &rows {
            firsts.insert(parsed(row, "host")?, first(row, generations)?);
        }
        if let Some(name) = names.iter().find(|name| !firsts.contains_key(**name)) {
            return Err(not_free(transaction, name).await?);
        }
    }
    Ok(firsts)
}

/// The first of the generations that a row ends with.
fn first(row: &SqliteRow, generations: u64) -> Result<Generation, StoreError> {
    Ok(Generation(number(row, "generation")? + 1 - generations))
}

async fn not_free(transaction: &mut SqliteConnection, host: &HostId) -> Result<CreateError, StoreError> {
    let row = sqlx::query(
        "SELECT owner, EXISTS (SELECT 1 FROM host WHERE host.name = ownership.host \
         AND host.forgotten_at IS NOT NULL) AS forgotten FROM ownership WHERE host = $1",
    )
    .bind(host.as_str())
    .fetch_one(transaction)
    .await?;
    match optional(&row, "owner")? {
        Some(owner) => Ok(CreateError::HostBusy { host: host.clone(), owner }),
        None if truth(&row, "forgotten")? => Ok(CreateError::HostForgotten { host: host.clone() }),
        None => Err(damaged(format!("the generation of host {host}"))("there is none above it".into())),
    }
}

/// Takes hosts for another attempt of an operation that has changed, or meant to change, them last.
pub(super) async fn reserve(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeSet<HostId>,
    generations: u64,
) -> Result<BTreeMap<HostId, Reserved>, StoreError> {
    let (owner, more, names) =
        (operation.to_string(), column(generations)?, hosts.iter().collect::<Vec<_>>());
    let mut came = BTreeMap::new();
    for names in names.chunks(BATCH) {
        let mut sql = QueryBuilder::<Sqlite>::new("UPDATE ownership SET generation = generation + ");
        sql.push_bind(more).push(", owner = ").push_bind(&owner);
        sql.push(" WHERE last_changer = ").push_bind(&owner);
        sql.push(" AND (owner IS NULL OR owner = ").push_bind(&owner);
        sql.push(") AND generation <= ").push_bind(i64::MAX - more).push(NOT_FORGOTTEN).push(" AND host IN ");
        push_names(&mut sql, names.iter().copied());
        let rows = sql.push(" RETURNING host, generation").build().fetch_all(&mut *transaction).await?;
        for row in &rows {
            came.insert(parsed(row, "host")?, Reserved::First(first(row, generations)?));
        }
    }
    let left: Vec<&HostId> = names.into_iter().filter(|host| !came.contains_key(*host)).collect();
    for names in left.chunks(BATCH) {
        let mut sql = QueryBuilder::<Sqlite>::new(
            "SELECT host, owner, last_changer, EXISTS (SELECT 1 FROM host WHERE host.name = ownership.host \
             AND host.forgotten_at IS NOT NULL) AS forgotten FROM ownership WHERE host IN ",
        );
        push_names(&mut sql, names.iter().copied());
        for row in &sql.build().fetch_all(&mut *transaction).await? {
            came.insert(parsed(row, "host")?, not_reserved(row, operation)?);
        }
    }
    match left.into_iter().find(|host| !came.contains_key(*host)) {
        Some(unknown) => Err(damaged(format!("the owner of host {unknown}"))("there is none".into())),
        None => Ok(came),
    }
}

/// Why a host could not be taken for another attempt.
fn not_reserved(row: &SqliteRow, operation: OperationId) -> Result<Reserved, StoreError> {
    let changer: Option<OperationId> = optional(row, "last_changer")?;
    match (optional(row, "owner")?, changer) {
        // Nobody waits for it any more.
        _ if truth(row, "forgotten")? => Ok(Reserved::Superseded),
        (_, Some(changer)) if changer != operation => Ok(Reserved::Superseded),
        (Some(owner), Some(_)) => Ok(Reserved::Busy(owner)),
        (..) => {
            let host: HostId = parsed(row, "host")?;
            Err(damaged(format!("the generation of host {host}"))("there is none above it".into()))
        }
    }
}

/// Takes hosts again that the operation had, unless another one owns them or has meant to change them since.
pub(super) async fn take_again(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeMap<HostId, Generation>,
) -> Result<(), AppendError> {
    let owner = operation.to_string();
    // A generation that is higher than those reserved was accepted from somebody else.
    let beyond = |first: &Generation| column(first.0 + GENERATIONS);
    let again: Vec<_> =
        hosts.iter().map(|(host, first)| Ok((host, beyond(first)?))).collect::<Result<_, StoreError>>()?;
    for again in again.chunks(BATCH) {
        let mut sql = QueryBuilder::<Sqlite>::new("WITH again (name, beyond) AS (");
        sql.push_values(again, |mut row, (host, beyond)| {
            row.push_bind(host.as_str()).push_bind(*beyond);
        });
        sql.push(") UPDATE ownership SET owner = ").push_bind(&owner);
        sql.push(" FROM again WHERE ownership.host = again.name AND ownership.generation < again.beyond");
        sql.push(" AND last_changer = ").push_bind(&owner);
        sql.push(" AND (owner IS NULL OR owner = ").push_bind(&owner).push(")").push(NOT_FORGOTTEN);
        let taken = sql.push(" RETURNING host").build().fetch_all(&mut *transaction).await;
        let taken: BTreeSet<HostId> = taken
            .map_err(StoreError::from)?
            .iter()
            .map(|row| parsed(row, "host"))
            .collect::<Result<_, StoreError>>()?;
        if let Some((host, _)) = again.iter().find(|(host, _)| !taken.contains(*host)) {
            return Err(AppendError::NotOwner { host: (*host).clone() });
        }
    }
    Ok(())
}

pub(super) async fn release(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    hosts: &BTreeSet<HostId>,
) -> Result<(), StoreError> {
    let names: Vec<_> = hosts.iter().collect();
    for names in names.chunks(BATCH) {
        let mut sql = QueryBuilder::<Sqlite>::new("UPDATE ownership SET owner = NULL WHERE owner = ");
        sql.push_bind(operation.to_string()).push(" AND host IN ");
        push_names(&mut sql, names.iter().copied());
        sql.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

fn push_names<'h>(sql: &mut QueryBuilder<Sqlite>, names: impl IntoIterator<Item = &'h HostId>) {
    sql.push("(");
    let mut list = sql.separated(", ");
    for name in names {
        list.push_bind(name.as_str().to_owned());
    }
    sql.push(")");
}
