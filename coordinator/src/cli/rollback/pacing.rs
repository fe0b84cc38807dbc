//! How carefully a rollback is done, in one line.

use rfs_proto::v1::{self, amount, rollback_spec};

use crate::cli::words::lower;
use crate::duration::show_wire;

/// The waves, the gate and what follows a failure, as they would be applied.
pub(in crate::cli) fn pacing(spec: &v1::RollbackSpec) -> String {
    let mut parts = vec![waves(spec)];
    let gate = spec.gate.unwrap_or_default();
    if gate.ignore_health == Some(true) {
        parts.push("health is not looked at".to_owned());
    } else if let (Some(healthy), Some(deadline)) = (gate.min_healthy_time, gate.healthy_deadline) {
        let many = gate.healthy.map(|amount| format!("{} of each wave ", size(amount))).unwrap_or_default();
        let healthy = show_wire(healthy);
        parts.push(format!("{many}healthy for {healthy} within {}", show_wire(deadline)));
    }
    for budget in &spec.budgets {
        let of = match budget.group_by.as_str() {
            "" => String::new(),
            label => format!(" of each {label}"),
        };
        parts.push(format!("at most {}{of} away at once", size(budget.max_unavailable.unwrap_or_default())));
    }
    let max_failed = match gate.max_failed {
        Some(many @ 1..) => format!(" (after more than {many} hosts)"),
        Some(0) | None => String::new(),
    };
    let action = match spec.on_failure() {
        rollback_spec::FailureAction::Unspecified => rollback_spec::FailureAction::Pause,
        action => action,
    };
    parts.push(format!("when it fails{max_failed}: {}", lower(action.as_str_name())));
    parts.join("; ")
}

fn waves(spec: &v1::RollbackSpec) -> String {
    if spec.strategy() == rollback_spec::Strategy::Immediate {
        return "all hosts at once".to_owned();
    }
    let waves = spec.waves.clone().unwrap_or_default();
    let canary = match (waves.canary_hosts.as_slice(), waves.canary) {
        ([], None) => None,
        ([], Some(amount)) => Some(format!("a canary of {}", size(amount))),
        (hosts, _) => Some(format!("first {}", hosts.join(", "))),
    };
    let sizes: Vec<String> = waves.sizes.iter().map(|amount| size(*amount)).collect();
    let sizes = match sizes.as_slice() {
        [] => "the rest at once".to_owned(),
        sizes => format!("waves of {}", sizes.join(", ")),
    };
    let order = waves.order.iter().map(|order| format!("{} before {}", order.before, order.after));
    canary.into_iter().chain(Some(sizes)).chain(order).collect::<Vec<_>>().join(", ")
}

fn size(amount: v1::Amount) -> String {
    match amount.amount {
        Some(amount::Amount::Count(count)) => count.to_string(),
        Some(amount::Amount::Percent(percent)) => format!("{percent}%"),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pacing_is_one_line() {
        let percent = |percent| v1::Amount { amount: Some(amount::Amount::Percent(percent)) };
        let one = v1::Amount { amount: Some(amount::Amount::Count(1)) };
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let mut spec = v1::RollbackSpec {
            waves: Some(v1::WavePolicy {
                canary: Some(one),
                sizes: vec![percent(25)],
                order: vec![v1::Order { before: "role=db".into(), after: "role=web".into() }],
                ..Default::default()
            }),
            gate: Some(v1::GatePolicy {
                min_healthy_time: seconds(10),
                healthy_deadline: seconds(300),
                ..Default::default()
            }),
            budgets: vec![v1::Budget { group_by: "zone".into(), max_unavailable: Some(one) }],
            ..Default::default()
        };
        assert_eq!(
            pacing(&spec),
            "a canary of 1, waves of 25%, role=db before role=web; healthy for 10.0 s within 5m00s; at most 1 of each zone \
             away at once; when it fails: pause"
        );
        spec.set_strategy(rollback_spec::Strategy::Immediate);
        spec.set_on_failure(rollback_spec::FailureAction::Revert);
        spec.budgets.clear();
        spec.gate =
            Some(v1::GatePolicy { ignore_health: Some(true), max_failed: Some(2), ..Default::default() });
        assert_eq!(
            pacing(&spec),
            "all hosts at once; health is not looked at; when it fails (after more than 2 hosts): revert"
        );
    }
}
