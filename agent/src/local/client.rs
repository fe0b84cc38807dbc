//! The daemon's socket, seen from the command line: the same calls as on the engine itself.

use std::collections::BTreeSet;
use std::path::Path;

use rfs_link::{Connection, Failure, LinkError, Patience};
use rfs_model::{ComponentName, Reason};
use rfs_proto::agent::v1 as local;
use rfs_proto::agent::v1::local_service_client::LocalServiceClient;
use rfs_proto::convert::{self, FieldError};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::contract::{
    Administration, CollectView, DrillView, PlanPart, PlanView, Progress, RepairView, RestoreOrder,
    RestoreView, SnapshotView,
};
use crate::commander::{Refusal, Selection};
use crate::component::choices::Choices;
use crate::wire;

/// A connection to the daemon of this host, for code without a runtime.
pub struct LocalClient {
    runtime: Runtime,
    connection: Connection,
}

impl LocalClient {
    /// Connects to the socket at `path`; none if no daemon serves it.
    pub fn connect(path: &Path) -> Result<Option<Self>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Reason::Io, error.to_string()))?;
        match runtime.block_on(Connection::open_local(path, &Patience::default())) {
            Ok(connection) => Ok(Some(Self { runtime, connection })),
            Err(LinkError::Unreachable { source, .. }) if nobody_serves(&source) => Ok(None),
            Err(error) => Err(error.failure()),
        }
    }

    /// Where the agent stands.
    pub fn status(&self) -> Result<local::Status, Refusal> {
        self.call(async |mut client| client.get_status(local::GetStatusRequest {}).await)
    }

    fn call<T>(
        &self,
        call: impl AsyncFnOnce(LocalServiceClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Refusal> {
        let answered = self.runtime.block_on(call(LocalServiceClient::new(self.connection.channel())));
        answered.map(tonic::Response::into_inner).map_err(|status| self.refusal(&status))
    }

    fn refusal(&self, status: &tonic::Status) -> Refusal {
        self.connection.failure(status).into()
    }
}

/// A socket that is absent, or left by a process that is gone.
fn nobody_serves(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

fn no_plan() -> Refusal {
    let failure = Failure::new(Reason::Unreachable, "the agent ended before it had a plan");
    failure.next("see: rfs-agent status").into()
}

/// What the daemon answered cannot be read: it is of another version.
fn unreadable(error: FieldError) -> Refusal {
    Failure::new(Reason::Unsupported, format!("the agent's answer cannot be read: {error}")).into()
}

impl Administration for LocalClient {
    fn snapshots(&self) -> Result<Vec<SnapshotView>, Refusal> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = local::ListSnapshotsRequest { page_size: 0, page_token };
            let page = self.call(async |mut client| client.list_snapshots(request).await)?;
            let read = page.snapshots.iter().map(wire::read_snapshot).collect::<Result<Vec<_>, _>>();
            all.extend(read.map_err(unreadable)?);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }

    fn capture(&self, components: &BTreeSet<ComponentName>, reason: &str) -> Result<SnapshotView, Refusal> {
        let components = components.iter().map(ToString::to_string).collect();
        let request = local::CaptureRequest { components, reason: reason.to_owned() };
        let snapshot = self.call(async |mut client| client.capture(request).await)?;
        wire::read_snapshot(&snapshot).map_err(unreadable)
    }

    fn plan_with(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
    ) -> Result<PlanView, Refusal> {
        let request = local::PlanRestoreRequest {
            snapshot: snapshot.to_owned(),
            selection: Some(wire::write_selection(selection)),
            choices: Some(wire::write_choices(choices)),
            all: false,
        };
        let mut messages = self.call(async |mut client| client.plan_restore(request).await)?;
        let mut next = || self.runtime.block_on(messages.message()).map_err(|status| self.refusal(&status));
        let Some(mut plan) = next()? else { return Err(no_plan()) };
        while let Some(further) = next()? {
            wire::join_plan(&mut plan, further);
        }
        wire::read_plan(plan).map_err(unreadable)
    }

    fn plan_all(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
        see: &mut dyn FnMut(PlanPart),
    ) -> Result<(), Refusal> {
        let request = local::PlanRestoreRequest {
            snapshot: snapshot.to_owned(),
            selection: Some(wire::write_selection(selection)),
            choices: Some(wire::write_choices(choices)),
            all: true,
        };
        let mut messages = self.call(async |mut client| client.plan_restore(request).await)?;
        let mut next = || self.runtime.block_on(messages.message()).map_err(|status| self.refusal(&status));
        let mut message = Some(next()?.ok_or_else(no_plan)?);
        let mut is_first = true;
        while let Some(part) = message {
            let mut plan = wire::read_plan(part).map_err(unreadable)?;
            let (steps, losses) = (std::mem::take(&mut plan.steps), std::mem::take(&mut plan.losses));
            if std::mem::take(&mut is_first) {
                see(PlanPart::Whole(plan));
            }
            steps.into_iter().for_each(|step| see(PlanPart::Step(step)));
            losses.into_iter().for_each(|loss| see(PlanPart::Loss(loss)));
            message = next()?;
        }
        Ok(())
    }

    fn restore(&self, order: &RestoreOrder, progress: &dyn Fn(Progress)) -> Result<RestoreView, Refusal> {
        let request = local::RestoreRequest {
            snapshot: order.snapshot.clone(),
            selection: Some(wire::write_selection(&order.selection)),
            timeout: order.timeout.map(convert::to_wire_duration),
            force: order.force,
            choices: Some(wire::write_choices(&order.choices)),
        };
        let mut messages = self.call(async |mut client| client.restore(request).await)?;
        loop {
            let message = self.runtime.block_on(messages.message()).map_err(|status| {
                let mut refusal = self.refusal(&status);
                if refusal.reason == Reason::Unreachable {
                    // Nobody knows from here how it ends; the daemon does.
                    refusal.next = "the restore goes on or is taken back; see: rfs-agent status".to_owned();
                }
                refusal
            })?;
            match message {
                Some(local::RestoreProgress { result: Some(result), .. }) => {
                    return wire::read_restore(result).map_err(unreadable);
                }
                Some(message) => {
                    // A phase of a newer version is not shown; the restore does not depend on it.
                    if let Ok(phase) = message.phase.parse() {
                        let (steps_done, steps_total) = (message.steps_done, message.steps_total);
                        progress(Progress { phase, steps_done, steps_total });
                    }
                }
                None => {
                    let failure = Failure::new(Reason::Unreachable, "the agent ended before the restore did");
                    return Err(failure.next("see: rfs-agent status").into());
                }
            }
        }
    }

    fn last_restore(&self) -> Option<String> {
        self.status().ok().map(|status| status.last_restore).filter(|text| !text.is_empty())
    }

    fn pin(&self, snapshot: &str, reason: &str) -> Result<SnapshotView, Refusal> {
        let request = local::PinSnapshotRequest { snapshot: snapshot.to_owned(), reason: reason.to_owned() };
        let pinned = self.call(async |mut client| client.pin_snapshot(request).await)?;
        wire::read_snapshot(&pinned).map_err(unreadable)
    }

    fn unpin(&self, snapshot: &str) -> Result<SnapshotView, Refusal> {
        let request = local::UnpinSnapshotRequest { snapshot: snapshot.to_owned() };
        let unpinned = self.call(async |mut client| client.unpin_snapshot(request).await)?;
        wire::read_snapshot(&unpinned).map_err(unreadable)
    }

    fn delete(&self, snapshot: &str) -> Result<(), Refusal> {
        let request = local::DeleteSnapshotRequest { snapshot: snapshot.to_owned() };
        self.call(async |mut client| client.delete_snapshot(request).await)
    }

    fn drill(&self, snapshot: &str, scratch: Option<&Path>) -> Result<DrillView, Refusal> {
        let not_text = || Failure::invalid("scratch", "must be UTF-8 for a running agent to be told of it");
        let scratch = scratch.map(|path| path.to_str().ok_or_else(not_text)).transpose()?;
        let scratch = scratch.unwrap_or_default().to_owned();
        let request = local::DrillSnapshotRequest { snapshot: snapshot.to_owned(), scratch };
        let drilled = self.call(async |mut client| client.drill_snapshot(request).await)?;
        wire::read_drilled(drilled).map_err(unreadable)
    }

    fn collect(&self) -> Result<CollectView, Refusal> {
        let request = local::CollectSnapshotsRequest {};
        let collected = self.call(async |mut client| client.collect_snapshots(request).await)?;
        wire::read_collected(collected).map_err(unreadable)
    }

    fn repair(&self) -> Result<RepairView, Refusal> {
        let repaired =
            self.call(async |mut client| client.repair_store(local::RepairStoreRequest {}).await)?;
        wire::read_repaired(repaired).map_err(unreadable)
    }
}
