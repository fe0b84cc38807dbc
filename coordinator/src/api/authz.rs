//! Who may call what. The one table of roles: a method that is not in it is answered to nobody.
//!
//! ```text
//! certificate ─▶ identity ─▶ roles of [roles] ─┐
//!                                  path ─▶ TABLE ─▶ allowed, or PERMISSION_DENIED with the line to add
//! ```
//!
//! A layer before all services asks the table, so a service never has to. What a role contains:
//!
//! | role | may |
//! |---|---|
//! | viewer | read everything, change nothing |
//! | deployer | viewer; take and abort checkpoints, simulate rollbacks (which makes every host walk its state) |
//! | operator | deployer; roll back, steer rollbacks, delete checkpoints, accept and forget hosts |
//! | approver | viewer; approve what another identity requested |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Ready, ready};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use rfs_link::{Failure, Identity, Peer};
use rfs_model::{OperatorName, Reason};
use serde::{Deserialize, Serialize};
use tonic::body::Body;
use tower::{Layer, Service};

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Takes checkpoints.
    Deployer,
    /// Rolls back.
    Operator,
    /// Approves what another requested.
    Approver,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Deployer, Self::Operator, Self::Approver];

    /// Whether who has this role may do what `needed` may.
    pub fn contains(self, needed: Self) -> bool {
        match self {
            Self::Viewer => needed == Self::Viewer,
            Self::Deployer => matches!(needed, Self::Viewer | Self::Deployer),
            Self::Operator => matches!(needed, Self::Viewer | Self::Deployer | Self::Operator),
            Self::Approver => matches!(needed, Self::Viewer | Self::Approver),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Operator => "operator",
            Self::Approver => "approver",
        })
    }
}

/// The table `[roles]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Roles(BTreeMap<OperatorName, BTreeSet<Role>>);

impl Roles {
    /// How many operators have a role.
    pub fn operators(&self) -> usize {
        self.0.values().filter(|roles| !roles.is_empty()).count()
    }

    /// The roles of one operator; none when it is not named.
    fn of(&self, name: &OperatorName) -> Option<&BTreeSet<Role>> {
        self.0.get(name).filter(|roles| !roles.is_empty())
    }
}

impl FromIterator<(OperatorName, BTreeSet<Role>)> for Roles {
    fn from_iter<T: IntoIterator<Item = (OperatorName, BTreeSet<Role>)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// What a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any identity of the fleet.
    Identity,
    /// The certificate of an agent.
    Agent,
    /// An operator with that role.
    Role(Role),
}

/// Every method that the coordinator serves, with what it needs.
pub const TABLE: &[(&str, Needs)] = {
    use Needs::{Agent, Identity, Role as R};
    use Role::{Deployer, Operator, Viewer};
    &[
        ("/rfs.v1.HostService/ListHosts", R(Viewer)),
        ("/rfs.v1.HostService/GetHost", R(Viewer)),
        ("/rfs.v1.HostService/GetFleetHealth", R(Viewer)),
        ("/rfs.v1.HostService/WatchFleetHealth", R(Viewer)),
        ("/rfs.v1.HostService/AcceptHost", R(Operator)),
        ("/rfs.v1.HostService/DeleteHost", R(Operator)),
        ("/rfs.v1.CheckpointService/CreateCheckpoint", R(Deployer)),
        ("/rfs.v1.CheckpointService/GetCheckpoint", R(Viewer)),
        ("/rfs.v1.CheckpointService/ListCheckpoints", R(Viewer)),
        ("/rfs.v1.CheckpointService/AbortCheckpoint", R(Deployer)),
        ("/rfs.v1.CheckpointService/DeleteCheckpoint", R(Operator)),
        ("/rfs.v1.CheckpointService/WatchCheckpoint", R(Viewer)),
        ("/rfs.v1.RollbackService/PlanRollback", R(Deployer)),
        ("/rfs.v1.RollbackService/CreateRollback", R(Operator)),
        ("/rfs.v1.RollbackService/GetRollback", R(Viewer)),
        ("/rfs.v1.RollbackService/ListRollbacks", R(Viewer)),
        ("/rfs.v1.RollbackService/WatchRollback", R(Viewer)),
        ("/rfs.v1.RollbackService/ListRollbackEvents", R(Viewer)),
        ("/rfs.v1.RollbackService/PauseRollback", R(Operator)),
        ("/rfs.v1.RollbackService/ResumeRollback", R(Operator)),
        ("/rfs.v1.RollbackService/RetryRollback", R(Operator)),
        ("/rfs.v1.RollbackService/PromoteRollback", R(Operator)),
        ("/rfs.v1.RollbackService/AbortRollback", R(Operator)),
        ("/rfs.v1.RollbackService/UndoRollback", R(Operator)),
        ("/rfs.agentlink.v1.AgentLink/Connect", Agent),
        ("/grpc.health.v1.Health/Check", Identity),
        ("/grpc.health.v1.Health/Watch", Identity),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Identity),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Identity),
    ]
};

/// Decides whether `peer` may call the method at `path`.
pub fn check(roles: &Roles, peer: Option<&Peer>, path: &str) -> Result<(), Failure> {
    let Some(peer) = peer else {
        return Err(Failure::new(Reason::Unauthenticated, "the connection has no identity"));
    };
    let Some((_, needs)) = TABLE.iter().find(|(method, _)| *method == path) else {
        let method = path.trim_start_matches('/');
        return Err(Failure::new(Reason::Unsupported, format!("the coordinator has no method {method}")));
    };
    let denied = |message: String| Failure::new(Reason::PermissionDenied, message);
    let method = path.rsplit('/').next().unwrap_or(path);
    let identity = &peer.identity;
    match (needs, identity) {
        (Needs::Identity, _) | (Needs::Agent, Identity::Agent(_)) => Ok(()),
        (Needs::Agent, Identity::Operator(_) | Identity::Coordinator(_)) => {
            Err(denied(format!("{identity} cannot call {method}: it is for the agents of hosts"))
                .next("use the certificate of an agent: rfs pki issue agent HOST"))
        }
        (Needs::Role(_), Identity::Agent(_) | Identity::Coordinator(_)) => {
            Err(denied(format!("{identity} cannot call {method}: it is for operators"))
                .next("use the certificate of an operator: rfs pki issue operator NAME"))
        }
        (Needs::Role(role), Identity::Operator(name)) => check_role(roles, name, *role, method),
    }
}

fn check_role(roles: &Roles, name: &OperatorName, needed: Role, method: &str) -> Result<(), Failure> {
    let held = roles.of(name);
    if held.is_some_and(|held| held.iter().any(|role| role.contains(needed))) {
        return Ok(());
    }
    let message = match held {
        None => format!("operator {name} has no role; {method} needs {needed}"),
        Some(held) => {
            let held: Vec<_> = held.iter().map(ToString::to_string).collect();
            format!("operator {name} is {}; {method} needs {needed}", held.join(" and "))
        }
    };
    let with: BTreeSet<_> =
        held.into_iter().flatten().chain([&needed]).map(|role| format!("\"{role}\"")).collect();
    let line = format!("{name} = [{}]", with.into_iter().collect::<Vec<_>>().join(", "));
    Err(Failure::new(Reason::PermissionDenied, message)
        .next(format!("have this line stand under [roles] in the coordinator's configuration: {line}")))
}

/// The roles in force; replaced as a whole when the configuration is read again.
#[derive(Debug, Clone, Default)]
pub struct CurrentRoles(Arc<RwLock<Arc<Roles>>>);

impl CurrentRoles {
    /// Begins with `roles`.
    pub fn new(roles: Roles) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(roles))))
    }

    /// The roles at this moment.
    pub fn get(&self) -> Arc<Roles> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `roles` in force for every call that begins from now on.
    pub fn set(&self, roles: Roles) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roles);
    }
}

/// Puts [`check`] before every service.
#[derive(Debug, Clone)]
pub struct Authorize(pub CurrentRoles);

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorized { inner, roles: self.0.clone() }
    }
}

/// A service behind [`check`].
#[derive(Debug, Clone)]
pub struct Authorized<S> {
    inner: S,
    roles: CurrentRoles,
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        match check(&self.roles.get(), peer, request.uri().path()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(failure) => {
                let who = peer.map(|peer| peer.identity.to_string());
                tracing::warn!(who, method = request.uri().path(), %failure, "refused");
                Either::Right(ready(Ok(failure.to_status().into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use rfs_model::Timestamp;

    use super::*;

    fn served() -> BTreeSet<String> {
        let mut pool = DescriptorPool::decode(crate::api::descriptors()).expect("our own descriptors");
        for others in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(others).expect("their own descriptors");
        }
        let paths = pool.services().flat_map(|service| {
            let methods =
                service.methods().map(|method| format!("/{}/{}", service.full_name(), method.name()));
            methods.collect::<Vec<_>>()
        });
        paths.collect()
    }

    #[test]
    fn every_method_of_every_service_is_in_the_table_once_and_nothing_else_is() {
        let in_table: BTreeSet<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(in_table, served());
        assert_eq!(in_table.len(), TABLE.len(), "a method is named twice");
    }

    #[test]
    fn no_method_is_open_to_a_caller_without_an_identity() {
        for path in served() {
            let failure = check(&roles(), None, &path).expect_err(&path);
            assert_eq!(failure.reason, Reason::Unauthenticated, "{path}");
        }
    }

    fn roles() -> Roles {
        let text = "vera = [\"viewer\"]\ndora = [\"deployer\"]\nolga = [\"operator\"]\nada = [\"approver\"]\nnil = []";
        toml::from_str(text).expect("valid roles")
    }

    fn peer(id: &str) -> Peer {
        let id: rfs_link::SpiffeId = format!("spiffe://fleet/{id}").parse().expect("a valid identity");
        Peer {
            identity: id.identity,
            serial: "01".into(),
            not_after: Timestamp(0),
            addr: ([127, 0, 0, 1], 1).into(),
        }
    }

    /// Which methods of the table an identity may call, without their services.
    fn may_call(id: &str) -> Vec<&'static str> {
        let allowed = TABLE.iter().filter(|(path, _)| check(&roles(), Some(&peer(id)), path).is_ok());
        allowed.filter_map(|(path, _)| path.rsplit('/').next()).collect()
    }

    #[test]
    fn an_agent_can_open_its_link_and_call_no_method_of_operators() {
        let open = ["Check", "Watch", "ServerReflectionInfo", "ServerReflectionInfo"];
        assert_eq!(may_call("agent/web-1"), [&["Connect"][..], &open].concat());
        assert_eq!(may_call("coordinator/main"), open);
        assert_eq!(may_call("operator/nobody"), open);
        assert_eq!(may_call("operator/nil"), open);
        // An agent with an operator's name is still an agent.
        assert_eq!(may_call("agent/olga"), may_call("agent/web-1"));
    }

    #[test]
    fn a_role_contains_what_it_says() {
        let (viewer, deployer, operator) =
            (may_call("operator/vera"), may_call("operator/dora"), may_call("operator/olga"));
        assert!(viewer.contains(&"GetRollback") && !viewer.contains(&"CreateCheckpoint"));
        assert!(deployer.contains(&"CreateCheckpoint") && !deployer.contains(&"CreateRollback"));
        assert!(operator.contains(&"CreateRollback") && !operator.contains(&"Connect"));
        assert_eq!(operator.len(), TABLE.len() - 1);
        assert_eq!(may_call("operator/ada"), viewer);
    }

    #[test]
    fn a_refusal_says_which_line_to_add() {
        let refuse =
            |id| check(&roles(), Some(&peer(id)), "/rfs.v1.RollbackService/CreateRollback").expect_err(id);
        let failure = refuse("operator/bob");
        assert_eq!(failure.message, "operator bob has no role; CreateRollback needs operator");
        assert!(
            failure.next_step().ends_with("configuration: bob = [\"operator\"]"),
            "{}",
            failure.next_step()
        );
        let failure = refuse("operator/dora");
        assert_eq!(failure.message, "operator dora is deployer; CreateRollback needs operator");
        assert!(
            failure.next_step().ends_with("dora = [\"deployer\", \"operator\"]"),
            "{}",
            failure.next_step()
        );
    }

    #[test]
    fn a_method_that_nobody_serves_is_answered_with_unimplemented() {
        for path in ["/rfs.v1.RollbackService/Explode", "/rfs.agent.v1.LocalService/GetStatus", "/", ""] {
            let failure = check(&roles(), Some(&peer("operator/olga")), path).expect_err(path);
            assert_eq!(failure.reason, Reason::Unsupported, "{path}");
        }
    }
}
