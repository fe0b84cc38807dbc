//! Values that make no sense in any fleet.

use std::time::Duration;

use super::PlanError;
use crate::request::{Amount, Canary, Policy, Waves};

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
