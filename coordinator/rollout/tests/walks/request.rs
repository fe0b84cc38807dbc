//! What a walk asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{CheckpointId, HostId, RollbackId, Selector};
use rfs_rollout::{
    Amount, Budget, Canary, FleetView, GatePolicy, OnFailure, OnUnreachable, Order, Policy, RollbackRequest,
    Selection, Source, Strategy, Waves,
};

use super::dice::Dice;

pub(crate) const OPERATION: RollbackId = RollbackId::from_uuid(uuid::Uuid::from_u128(7));

pub(crate) const CHECKPOINT: CheckpointId = CheckpointId::from_uuid(uuid::Uuid::from_u128(6));

/// How long without a connection is too long. A coordinator that is back must hear its hosts well within it.
pub(crate) const UNREACHABLE_AFTER: Duration = Duration::from_secs(15);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn request(dice: &mut Dice, fleet: &FleetView) -> RollbackRequest {
    let amount = |dice: &mut Dice| match dice.below(2) {
        0 => Amount::Count(1 + dice.below(3) as u32),
        _ => Amount::Percent(dice.pick(&[10, 34, 50, 100])),
    };
    let canary = match dice.below(3) {
        0 => Canary::None,
        1 => Canary::Amount(Amount::Count(1)),
        _ => Canary::Hosts(BTreeSet::from([
            HostId::new(&format!("h-{}", dice.below(fleet.hosts.len()))).expect("a valid name")
        ])),
    };
    let sizes = (0..dice.below(3)).map(|_| amount(dice)).collect();
    let has =
        |role: &str| fleet.hosts.values().any(|host| host.labels.get("role").is_some_and(|has| has == role));
    // An order of labels that no host has is refused.
    let order = match dice.percent(40) && has("db") && has("web") {
        true => Order::list("role", &["db", "web"]),
        false => Vec::new(),
    };
    let budgets = match dice.below(3) {
        0 => Vec::new(),
        1 => vec![Budget { group_by: Some("zone".into()), max_unavailable: amount(dice) }],
        _ => vec![Budget { group_by: None, max_unavailable: amount(dice) }],
    };
    let waves = Waves { canary, sizes, order };
    RollbackRequest {
        source: if dice.percent(50) { Source::Undo(OPERATION) } else { Source::Checkpoint(CHECKPOINT) },
        selector: Selector::default(),
        selection: Selection {
            components: dice.percent(10).then(|| "site".parse().expect("a valid name")).into_iter().collect(),
            ..Selection::default()
        },
        choices: Default::default(),
        strategy: if dice.percent(20) { Strategy::Immediate } else { Strategy::Gradual(waves) },
        policy: Policy {
            gate: GatePolicy {
                min_healthy_time: seconds(dice.pick(&[0, 5, 10])),
                healthy_deadline: seconds(dice.pick(&[30, 60])),
                healthy: dice.percent(30).then(|| amount(dice)),
                max_failed: dice.pick(&[0, 0, 1, 3]),
                ignore_health: dice.percent(15),
            },
            on_failure: dice.pick(&[OnFailure::Pause, OnFailure::Continue, OnFailure::Revert]),
            on_unreachable: dice.pick(&[OnUnreachable::Fail, OnUnreachable::Wait, OnUnreachable::Skip]),
            budgets,
            max_rollback_time: seconds(60),
            report_grace: seconds(20),
            unreachable_after: UNREACHABLE_AFTER,
            max_duration: seconds(3600),
            max_pause: seconds(7200),
        },
        reason: "the walk's".into(),
        requester: "operator/alice".into(),
    }
}
