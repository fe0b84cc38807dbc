//! Values that make no sense in any fleet, and labels that make none in this one.

use std::collections::BTreeSet;
use std::time::Duration;

use super::PlanError;
use super::near::hint;
use crate::fleet::FleetView;
use crate::request::{Amount, Budget, Canary, Label, Order, Policy, Waves};

pub(super) fn policy(policy: &Policy) -> Result<(), PlanError> {
    let gate = &policy.gate;
    if gate.min_healthy_time > gate.healthy_deadline {
        return Err(PlanError::invalid(
            "gate.min_healthy_time",
            format!(
                "{:?} is longer than gate.healthy_deadline ({:?}), so no host could pass",
                gate.min_healthy_time, gate.healthy_deadline
            ),
        ));
    }
    if let Some(healthy) = gate.healthy {
        amount("gate.healthy", healthy)?;
    }
    for (field, duration) in [
        ("max_rollback_time", policy.max_rollback_time),
        ("max_duration", policy.max_duration),
        ("gate.healthy_deadline", gate.healthy_deadline),
    ] {
        if duration == Duration::ZERO {
            return Err(PlanError::invalid(field, "must be longer than 0"));
        }
    }
    for (i, budget) in policy.budgets.iter().enumerate() {
        let field = format!("budgets[{i}].max_unavailable");
        if budget.max_unavailable == Amount::Count(0) {
            return Err(PlanError::BudgetTooSmall { field });
        }
        amount(&field, budget.max_unavailable)?;
    }
    Ok(())
}

pub(super) fn waves(waves: &Waves) -> Result<(), PlanError> {
    if let Canary::Amount(canary) = waves.canary {
        amount("waves.canary", canary)?;
    }
    for (i, size) in waves.sizes.iter().enumerate() {
        amount(&format!("waves.sizes[{i}]"), *size)?;
    }
    Ok(())
}

/// A budget by a label that no host has holds nobody back as it was meant to.
pub(super) fn budget_labels(budgets: &[Budget], fleet: &FleetView) -> Result<(), PlanError> {
    for (i, budget) in budgets.iter().enumerate() {
        let Some(key) = &budget.group_by else { continue };
        let known = fleet.hosts.values().flat_map(|view| view.labels.keys().map(String::as_str));
        let known: BTreeSet<&str> = known.collect();
        if !known.contains(key.as_str()) {
            let problem = format!("no host has a label {key}{}", hint(key, known));
            return Err(PlanError::invalid(format!("budgets[{i}].group_by"), problem));
        }
    }
    Ok(())
}

/// An order of labels that no host has puts nobody before anybody.
pub(super) fn order_labels(order: &[Order], fleet: &FleetView) -> Result<(), PlanError> {
    let has = |label: &Label| fleet.hosts.values().any(|view| label.is_in(&view.labels));
    for (i, order) in order.iter().enumerate() {
        for (side, label) in [("before", &order.before), ("after", &order.after)] {
            if !has(label) {
                let problem = format!("no host has the label {label}{}", near_label(label, fleet));
                return Err(PlanError::invalid(format!("waves.order[{i}].{side}"), problem));
            }
        }
    }
    Ok(())
}

/// The label that was probably meant, as a hint.
pub(super) fn near_label(label: &Label, fleet: &FleetView) -> String {
    let labels = fleet.hosts.values().flat_map(|view| &view.labels);
    // A fleet has few labels that differ.
    let labels: BTreeSet<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    hint(&label.to_string(), labels.iter().map(String::as_str))
}

fn amount(field: &str, amount: Amount) -> Result<(), PlanError> {
    match amount {
        Amount::Count(0) => Err(PlanError::invalid(
            format!("{field}.count"),
            "must be at least 1; leave the field out if none is meant",
        )),
        Amount::Percent(percent @ (0 | 101..)) => {
            Err(PlanError::invalid(format!("{field}.percent"), format!("must be 1 to 100, not {percent}")))
        }
        Amount::Count(_) | Amount::Percent(_) => Ok(()),
    }
}
