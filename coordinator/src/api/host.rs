//! `rfs.v1.HostService`: the fleet's hosts and their health.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::Stream;
use rfs_link::Failure;
use rfs_model::{HostId, OperationId, Reason};
use rfs_proto::bounds;
use rfs_proto::convert;
use rfs_proto::v1::host_service_server::HostService;
use rfs_proto::v1::{self, FleetHealth, Host};
use tonic::{Request, Response, Status};

use super::page::{List, Size};
use super::{invalid, read, store_failure};
use crate::hub::{Grouping, HostCard, Hub};
use crate::store::{HostRow, OperationKind, Store};

/// By how many labels the health of hosts is added up at once.
const MOST_GROUPINGS: usize = 8;
const PAGE: Size = Size { default: 100, most: 1000 };

/// The service.
pub struct Hosts {
    hub: Hub,
    store: Arc<dyn Store>,
}

impl Hosts {
    /// Answers from what the hub sees and the store keeps.
    pub fn new(hub: Hub, store: Arc<dyn Store>) -> Self {
        Self { hub, store }
    }

    /// Adds what the store alone knows: owner and generation.
    async fn complete(&self, cards: Vec<HostCard>) -> Result<Vec<Host>, Failure> {
        let names: Vec<HostId> = cards.iter().map(|card| card.host.clone()).collect();
        let rows = self.store.hosts_of(&names).await.map_err(|error| store_failure(&error))?;
        let rows: BTreeMap<HostId, HostRow> = rows.into_iter().map(|row| (row.host.clone(), row)).collect();
        let mut names = HashMap::new();
        let mut hosts = Vec::with_capacity(cards.len());
        for card in cards {
            let mut host = card.wire;
            if let Some(row) = rows.get(&card.host) {
                host.generation = row.generation.0;
                host.owner = match row.owner {
                    Some(owner) => self.operation_name(owner, &mut names).await?,
                    None => String::new(),
                };
            }
            hosts.push(host);
        }
        Ok(hosts)
    }

    async fn operation_name(
        &self,
        id: OperationId,
        names: &mut HashMap<OperationId, String>,
    ) -> Result<String, Failure> {
        if let Some(name) = names.get(&id) {
            return Ok(name.clone());
        }
        let row = self.store.operation(id).await.map_err(|error| store_failure(&error))?;
        let name = match row.map(|row| row.kind) {
            Some(OperationKind::Checkpoint) => convert::checkpoint_name(id.into()),
            Some(OperationKind::Rollback) => convert::rollback_name(id.into()),
            None => id.to_string(),
        };
        names.insert(id, name.clone());
        Ok(name)
    }
}

/// Reads whose health is meant.
fn grouping(selector: Option<v1::Selector>, group_by: Vec<String>) -> Result<Grouping, Failure> {
    if group_by.len() > MOST_GROUPINGS {
        let problem = format!("has {} keys; at most {MOST_GROUPINGS} are taken", group_by.len());
        return Err(Failure::invalid("group_by", problem));
    }
    for (place, key) in group_by.iter().enumerate() {
        bounds::text(&format!("group_by[{place}]"), key, bounds::LABEL).map_err(invalid)?;
    }
    if let Some(place) = group_by.iter().position(String::is_empty) {
        return Err(Failure::invalid(format!("group_by[{place}]"), "must name a label, such as role"));
    }
    Ok(Grouping { selector: convert::selector("selector", selector).map_err(invalid)?, group_by })
}

#[tonic::async_trait]
impl HostService for Hosts {
    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let request = request.into_inner();
        let size = PAGE.of(request.page_size)? as usize;
        let selector = convert::selector("selector", request.selector).map_err(invalid)?;
        let list = List::new("hosts", (&selector, request.show_forgotten));
        let after = list.after(&request.page_token)?;
        let after: Option<HostId> =
            after.map(|name| convert::parse("page_token", &name)).transpose().map_err(invalid)?;
        // One more than asked for tells whether there is a next page.
        let mut cards = self.hub.some_hosts(&selector, request.show_forgotten, after.as_ref(), size + 1);
        let more = cards.len() > size;
        cards.truncate(size);
        let last = cards.last().filter(|_| more).map(|card| list.token(card.host.as_str()));
        let hosts = self.complete(cards).await?;
        Ok(Response::new(v1::ListHostsResponse { hosts, next_page_token: last.unwrap_or_default() }))
    }

    async fn get_host(&self, request: Request<v1::GetHostRequest>) -> Result<Response<Host>, Status> {
        let host = convert::host_id("name", &request.get_ref().name).map_err(invalid)?;
        let card = self.hub.host(&host).ok_or_else(|| unknown(&host))?;
        let found = self.complete(vec![card]).await?.pop().ok_or_else(|| unknown(&host))?;
        Ok(Response::new(found))
    }

    async fn get_fleet_health(
        &self,
        request: Request<v1::GetFleetHealthRequest>,
    ) -> Result<Response<FleetHealth>, Status> {
        let request = request.into_inner();
        let grouping = grouping(request.selector, request.group_by)?;
        Ok(Response::new(self.hub.fleet_health(&grouping)))
    }

    async fn accept_host(&self, request: Request<v1::AcceptHostRequest>) -> Result<Response<Host>, Status> {
        let who = read::requester(&request)?;
        let host = convert::host_id("name", &request.get_ref().name).map_err(invalid)?;
        let instance = convert::parse("instance", &request.get_ref().instance).map_err(invalid)?;
        let card = self.hub.accept(&host, instance, &who).await?;
        let found = self.complete(vec![card]).await?.pop().ok_or_else(|| unknown(&host))?;
        Ok(Response::new(found))
    }

    async fn delete_host(&self, request: Request<v1::DeleteHostRequest>) -> Result<Response<()>, Status> {
        let who = read::requester(&request)?;
        let host = convert::host_id("name", &request.get_ref().name).map_err(invalid)?;
        self.hub.forget(&host, &who).await?;
        Ok(Response::new(()))
    }

    type WatchFleetHealthStream = Pin<Box<dyn Stream<Item = Result<FleetHealth, Status>> + Send>>;

    async fn watch_fleet_health(
        &self,
        request: Request<v1::WatchFleetHealthRequest>,
    ) -> Result<Response<Self::WatchFleetHealthStream>, Status> {
        let request = request.into_inner();
        let grouping = grouping(request.selector, request.group_by)?;
        Ok(Response::new(Box::pin(self.hub.watch_health(grouping).map(Ok))))
    }
}

fn unknown(host: &HostId) -> Failure {
    Failure::new(Reason::HostNotFound, format!("no host {host} has ever connected"))
}
