//! How carefully hosts are changed, as people type it. What is not typed is left to the coordinator's defaults.

use std::time::Duration;

use clap::{Args, ValueEnum};
use rfs_link::Failure;
use rfs_proto::convert::to_wire_duration;
use rfs_proto::v1::{self, rollback_spec};

use super::values::{Amount, Budget, Canary, OrderList, parse_order};
use crate::duration::parse_duration;

#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "How carefully")]
pub(in crate::cli) struct Care {
    /// All hosts at once, or wave after wave [default: gradual].
    #[arg(long, value_enum)]
    strategy: Option<Strategy>,
    /// Who goes first: host names, or a number or percentage of the hosts [default: 1, unless --wave is given].
    #[arg(long, value_name = "HOST|N|N%", value_delimiter = ',')]
    canary: Vec<Canary>,
    /// The sizes of the waves after the canary, such as 1,25%,50%; the last one repeats [default: 25%].
    #[arg(long = "wave", value_name = "N|N%", value_delimiter = ',')]
    waves: Vec<Amount>,
    /// Which hosts change before which others, such as role=db,role=app,role=web; may be given often.
    #[arg(long, value_name = "LABEL,LABEL…", value_parser = parse_order)]
    order: Vec<OrderList>,
    /// How many hosts of each label group may be unavailable at once in the fleet, such as zone=1; without a label, of the
    /// rollback's hosts.
    #[arg(long = "budget", value_name = "[LABEL=]N|N%")]
    budgets: Vec<Budget>,
    /// How long a host must be healthy without a break before the next wave [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    min_healthy: Option<Duration>,
    /// How long a host may take to get there [default: 300s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    healthy_deadline: Option<Duration>,
    /// How many hosts of a wave must be healthy [default: all].
    #[arg(long, value_name = "N|N%")]
    healthy: Option<Amount>,
    /// A wave fails when more hosts than this have failed [default: 0].
    #[arg(long, value_name = "N")]
    max_failed: Option<u32>,
    /// Do not look at health at all.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ignore_health: Option<bool>,
    /// What follows when a wave fails [default: pause].
    #[arg(long, value_enum, value_name = "ACTION")]
    on_failure: Option<OnFailure>,
    /// What follows when a host cannot be reached [default: fail].
    #[arg(long, value_enum, value_name = "ACTION")]
    on_unreachable: Option<OnUnreachable>,
    /// How long one host may take before it goes back by itself [default: 300s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_time: Option<Duration>,
    /// How long hosts may wait for their turn, all in all, before they count as failed [default: 24h].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_duration: Option<Duration>,
    /// How long a host without a connection is given before it counts as not reachable [default: 20s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    unreachable_after: Option<Duration>,
    /// How long it may be paused before it ends and releases its hosts [default: 24h].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_pause: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Strategy {
    Immediate,
    Gradual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnFailure {
    /// Stop and wait for a person.
    Pause,
    /// Go on with the next wave.
    Continue,
    /// Bring the changed hosts back to their backups.
    Revert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnUnreachable {
    /// It counts as failed.
    Fail,
    /// Its wave waits for it.
    Wait,
    /// Leave it out, and bring it in line when it is back.
    Skip,
}

impl Care {
    /// The care alone as a spec, if any was asked for.
    pub(super) fn given(self) -> Result<Option<v1::RollbackSpec>, Failure> {
        if self == Self::default() { Ok(None) } else { self.with(v1::RollbackSpec::default()).map(Some) }
    }

    /// Looks for contradictions before anybody is asked anything, and writes the care into `spec`.
    pub(super) fn with(self, spec: v1::RollbackSpec) -> Result<v1::RollbackSpec, Failure> {
        let immediate = self.strategy == Some(Strategy::Immediate);
        if immediate && (!self.canary.is_empty() || !self.waves.is_empty() || !self.order.is_empty()) {
            let problem = "immediate has no waves: --canary, --wave and --order belong to gradual";
            return Err(Failure::invalid("strategy", problem)
                .next("take --strategy immediate away, or those options"));
        }
        let sizes = self.waves.into_iter().map(Into::into).collect();
        let order = self.order.into_iter().flat_map(|list| list.0).collect();
        let (canary_hosts, canary) = canaries(self.canary)?;
        let wire = |time: Option<Duration>| time.map(to_wire_duration);
        let budget = |budget: Budget| v1::Budget {
            group_by: budget.group_by,
            max_unavailable: Some(budget.amount.into()),
        };
        Ok(v1::RollbackSpec {
            strategy: self.strategy.map_or(0, |strategy| rollback_spec::Strategy::from(strategy).into()),
            waves: (!immediate).then_some(v1::WavePolicy { canary_hosts, canary, sizes, order }),
            gate: Some(v1::GatePolicy {
                min_healthy_time: wire(self.min_healthy),
                healthy_deadline: wire(self.healthy_deadline),
                healthy: self.healthy.map(Into::into),
                max_failed: self.max_failed,
                ignore_health: self.ignore_health,
            }),
            on_failure: self.on_failure.map_or(0, |action| rollback_spec::FailureAction::from(action).into()),
            on_unreachable: self
                .on_unreachable
                .map_or(0, |action| rollback_spec::UnreachableAction::from(action).into()),
            max_rollback_time: wire(self.max_time),
            max_duration: wire(self.max_duration),
            unreachable_after: wire(self.unreachable_after),
            max_pause: wire(self.max_pause),
            budgets: self.budgets.into_iter().map(budget).collect(),
            ..spec
        })
    }
}

/// Canaries are given by name, or as one number.
fn canaries(given: Vec<Canary>) -> Result<(Vec<String>, Option<v1::Amount>), Failure> {
    let (mut hosts, mut amount) = (Vec::new(), None);
    for canary in given {
        match canary {
            Canary::Host(host) => hosts.push(host.to_string()),
            Canary::Amount(size) if amount.is_none() => amount = Some(size.into()),
            Canary::Amount(_) => {
                return Err(
                    Failure::invalid("canary", "is given as more than one number").next("give one number")
                );
            }
        }
    }
    if amount.is_some() && !hosts.is_empty() {
        return Err(
            Failure::invalid("canary", "is given by name and as a number").next("give names, or one number")
        );
    }
    Ok((hosts, amount))
}

impl From<Strategy> for rollback_spec::Strategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Immediate => Self::Immediate,
            Strategy::Gradual => Self::Gradual,
        }
    }
}

impl From<OnFailure> for rollback_spec::FailureAction {
    fn from(action: OnFailure) -> Self {
        match action {
            OnFailure::Pause => Self::Pause,
            OnFailure::Continue => Self::Continue,
            OnFailure::Revert => Self::Revert,
        }
    }
}

impl From<OnUnreachable> for rollback_spec::UnreachableAction {
    fn from(action: OnUnreachable) -> Self {
        match action {
            OnUnreachable::Fail => Self::Fail,
            OnUnreachable::Wait => Self::Wait,
            OnUnreachable::Skip => Self::Skip,
        }
    }
}
