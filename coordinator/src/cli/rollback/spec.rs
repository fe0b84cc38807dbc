//! What a rollback is to do and how carefully, as people type it.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rfs_link::Failure;
use rfs_model::HostId;
use rfs_proto::convert::to_wire_duration;
use rfs_proto::v1::{self, amount, rollback_spec};

use crate::cli::connect::Client;
use crate::cli::duration::parse_duration;
use crate::cli::host::Hosts;
use crate::cli::names;

#[derive(Debug, Args)]
pub(in crate::cli) struct Spec {
    /// The target: its id, the beginning of it, or latest, which is the newest complete one.
    #[arg(long, value_name = "ID")]
    checkpoint: String,
    #[command(flatten)]
    hosts: Hosts,
    /// Only this component; may be given often.
    #[arg(long = "component", value_name = "NAME", value_delimiter = ',')]
    components: Vec<String>,
    /// Only this path and all beneath it; may be given often.
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// All hosts at once, or wave after wave.
    #[arg(long, value_enum, default_value_t = Strategy::Gradual)]
    strategy: Strategy,
    /// Who goes first: host names, or a number or percentage of the hosts.
    #[arg(long, value_name = "HOST|N|N%", value_delimiter = ',')]
    canary: Vec<Canary>,
    /// The sizes of the waves after the canary, such as 1,25%,50%; the last one repeats.
    #[arg(long = "wave", value_name = "N|N%", value_delimiter = ',')]
    waves: Vec<Amount>,
    /// Which hosts change before which others, such as role=db,role=app,role=web; may be given often.
    #[arg(long, value_name = "LABEL,LABEL…", value_parser = parse_order)]
    order: Vec<OrderList>,
    /// How many hosts of each label group may be unavailable at once, such as zone=1; without a label, of all hosts.
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
    /// A wave fails when more hosts than this have failed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_failed: u32,
    /// Do not look at health at all.
    #[arg(long)]
    ignore_health: bool,
    /// What follows when a wave fails.
    #[arg(long, value_enum, default_value_t = OnFailure::Pause)]
    on_failure: OnFailure,
    /// What follows when a host cannot be reached.
    #[arg(long, value_enum, default_value_t = OnUnreachable::Fail)]
    on_unreachable: OnUnreachable,
    /// How long one host may take before it goes back by itself [default: 300s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_time: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Strategy {
    Immediate,
    Gradual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    /// Stop and wait for a person.
    Pause,
    /// Go on with the next wave.
    Continue,
    /// Bring the changed hosts back to their backups.
    Revert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnUnreachable {
    /// It counts as failed.
    Fail,
    /// Its wave waits for it.
    Wait,
    /// Leave it out, and bring it in line when it is back.
    Skip,
}

/// `3` or `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount(amount::Amount);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            || format!("{text:?} is not a number of hosts: write one such as 3, or a percentage such as 25%");
        let amount = match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().map_err(|_| error())?;
                if !(1..=100).contains(&percent) {
                    return Err(format!("{text} is not a percentage of the hosts: 1% to 100% can be meant"));
                }
                amount::Amount::Percent(percent)
            }
            None => match text.parse().map_err(|_| error())? {
                0 => return Err("0 hosts make no sense here: write 1 or more".to_owned()),
                count => amount::Amount::Count(count),
            },
        };
        Ok(Self(amount))
    }
}

impl From<Amount> for v1::Amount {
    fn from(amount: Amount) -> Self {
        Self { amount: Some(amount.0) }
    }
}

/// A number of hosts, or one by name. A host that is called like a number is meant by `--host` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Canary {
    Amount(Amount),
    Host(HostId),
}

impl FromStr for Canary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'%') {
            return text.parse().map(Self::Amount);
        }
        text.parse().map(Self::Host).map_err(|error: rfs_model::NameError| error.to_string())
    }
}

/// Labels whose hosts change in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OrderList(Vec<v1::Order>);

fn parse_order(text: &str) -> Result<OrderList, String> {
    let labels: Vec<_> = text.split(',').collect();
    for label in &labels {
        rfs_model::label::parse_label(label).map_err(|error| error.to_string())?;
    }
    if labels.len() < 2 {
        return Err(format!("{text:?} orders nothing: write two labels or more, such as role=db,role=web"));
    }
    let pairs = labels.windows(2).map(|pair| v1::Order { before: pair[0].into(), after: pair[1].into() });
    Ok(OrderList(pairs.collect()))
}

/// `zone=1`, `zone=25%`, or `1` for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Budget {
    group_by: String,
    amount: Amount,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (group_by, amount) = text.rsplit_once('=').unwrap_or(("", text));
        if group_by.is_empty() && text.contains('=') {
            return Err(format!(
                "{text:?} names no label: write one such as zone=1, or only the number for all hosts"
            ));
        }
        Ok(Self { group_by: group_by.to_owned(), amount: amount.parse()? })
    }
}

/// A spec that makes sense, with the checkpoint as it was typed.
pub(super) struct Checked(v1::RollbackSpec);

impl Spec {
    /// Looks for contradictions before anybody is asked anything.
    pub(super) fn check(self) -> Result<Checked, Failure> {
        let gradual = self.strategy == Strategy::Gradual;
        if !gradual && (!self.canary.is_empty() || !self.waves.is_empty() || !self.order.is_empty()) {
            return Err(Failure::invalid(
                "strategy",
                "immediate has no waves: --canary, --wave and --order belong to gradual",
            )
            .next("take --strategy immediate away, or those options"));
        }
        let mut waves = v1::WavePolicy {
            sizes: self.waves.into_iter().map(Into::into).collect(),
            order: self.order.into_iter().flat_map(|list| list.0).collect(),
            ..Default::default()
        };
        for canary in self.canary {
            match canary {
                Canary::Host(host) => waves.canary_hosts.push(host.to_string()),
                Canary::Amount(amount) if waves.canary.is_none() => waves.canary = Some(amount.into()),
                Canary::Amount(_) => {
                    return Err(Failure::invalid("canary", "is given as more than one number")
                        .next("give one number"));
                }
            }
        }
        if waves.canary.is_some() && !waves.canary_hosts.is_empty() {
            return Err(Failure::invalid("canary", "is given by name and as a number")
                .next("give names, or one number"));
        }
        let wire = |time: Option<Duration>| time.map(to_wire_duration);
        let budget = |budget: Budget| v1::Budget {
            group_by: budget.group_by,
            max_unavailable: Some(budget.amount.into()),
        };
        Ok(Checked(v1::RollbackSpec {
            checkpoint: self.checkpoint,
            selector: Some(self.hosts.selector()?),
            selection: Some(v1::Selection { components: self.components, paths: self.paths }),
            strategy: match self.strategy {
                Strategy::Immediate => rollback_spec::Strategy::Immediate,
                Strategy::Gradual => rollback_spec::Strategy::Gradual,
            }
            .into(),
            waves: gradual.then_some(waves),
            gate: Some(v1::GatePolicy {
                min_healthy_time: wire(self.min_healthy),
                healthy_deadline: wire(self.healthy_deadline),
                healthy: self.healthy.map(Into::into),
                max_failed: self.max_failed,
                ignore_health: self.ignore_health,
            }),
            on_failure: match self.on_failure {
                OnFailure::Pause => rollback_spec::FailureAction::Pause,
                OnFailure::Continue => rollback_spec::FailureAction::Continue,
                OnFailure::Revert => rollback_spec::FailureAction::Revert,
            }
            .into(),
            on_unreachable: match self.on_unreachable {
                OnUnreachable::Fail => rollback_spec::UnreachableAction::Fail,
                OnUnreachable::Wait => rollback_spec::UnreachableAction::Wait,
                OnUnreachable::Skip => rollback_spec::UnreachableAction::Skip,
            }
            .into(),
            max_rollback_time: wire(self.max_time),
            budgets: self.budgets.into_iter().map(budget).collect(),
        }))
    }
}

impl Checked {
    /// Finds the checkpoint that was typed.
    pub(super) async fn resolve(self, client: &Client) -> Result<v1::RollbackSpec, Failure> {
        let checkpoint = names::checkpoint(client, &self.0.checkpoint).await?;
        Ok(v1::RollbackSpec { checkpoint, ..self.0 })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        spec: Spec,
    }

    fn parse(line: &str) -> Result<v1::RollbackSpec, String> {
        let words = ["rfs", "--checkpoint", "latest"].into_iter().chain(line.split_whitespace());
        let parsed = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.spec.check().map(|checked| checked.0).map_err(|failure| failure.message)
    }

    fn check_refused(line: &str, expected: &str) {
        let error = parse(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }

    #[test]
    fn a_whole_line_becomes_the_spec_that_it_says() {
        let line = "--canary web-1,web-2 --wave 1,25%,50% --order role=db,role=app,role=web --budget zone=1 --budget 10% \
                    --min-healthy 10s --max-failed 2 --on-failure revert --on-unreachable skip --max-time 2m \
                    --host web-1 --selector role=web --component site --path /srv/site --healthy 90%";
        let spec = parse(line).expect("a good line");
        let waves = spec.waves.expect("gradual");
        assert_eq!(waves.canary_hosts, ["web-1", "web-2"]);
        assert_eq!(waves.sizes.len(), 3);
        assert_eq!(waves.sizes[1].amount, Some(amount::Amount::Percent(25)));
        let order: Vec<_> =
            waves.order.iter().map(|order| format!("{}<{}", order.before, order.after)).collect();
        assert_eq!(order, ["role=db<role=app", "role=app<role=web"]);
        assert_eq!(spec.budgets[0].group_by, "zone");
        assert_eq!(spec.budgets[1].group_by, "");
        assert_eq!(spec.max_rollback_time.map(|time| time.seconds), Some(120));
        assert_eq!(spec.on_failure, i32::from(rollback_spec::FailureAction::Revert));
        let gate = spec.gate.expect("a gate");
        assert_eq!((gate.max_failed, gate.min_healthy_time.map(|time| time.seconds)), (2, Some(10)));
        assert_eq!(gate.healthy_deadline, None, "the coordinator's default holds");
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        check_refused("--wave 120%", "1% to 100% can be meant");
        check_refused("--wave 0", "write 1 or more");
        check_refused("--wave x", "write one such as 3, or a percentage such as 25%");
        check_refused("--canary 1,2", "more than one number");
        check_refused("--canary 1,web-1", "by name and as a number");
        check_refused("--strategy immediate --canary 1", "immediate has no waves");
        check_refused("--order role=db", "write two labels or more");
        check_refused("--order db,web", "write key=value");
        check_refused("--budget zone=", "is not a number of hosts");
        check_refused("--budget =1", "names no label");
        check_refused("--min-healthy 10", "such as 90s");
        check_refused("--selector role=web,role=db", "no host has both role=web and role=db");
    }
}
