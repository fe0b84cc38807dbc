//! What a rollback is to do, as people type it.

use clap::Args;
use rfs_link::Failure;
use rfs_proto::v1;

use super::care::Care;
use super::choices::Choices;
use crate::cli::connect::Client;
use crate::cli::host::Hosts;
use crate::cli::names;

#[derive(Debug, Args)]
pub(in crate::cli) struct Spec {
    /// The target: its id, the beginning of it, or latest: the newest complete one that has every chosen host.
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
    #[command(flatten)]
    choices: Choices,
    #[command(flatten)]
    care: Care,
}

/// A spec that makes sense, with the checkpoint as it was typed.
pub(super) struct Checked(v1::RollbackSpec);

impl Spec {
    /// Looks for contradictions before anybody is asked anything.
    pub(super) fn check(self) -> Result<Checked, Failure> {
        let spec = v1::RollbackSpec {
            checkpoint: self.checkpoint,
            selector: Some(self.hosts.selector()?),
            selection: Some(v1::Selection { components: self.components, paths: self.paths }),
            choices: self.choices.given(),
            ..Default::default()
        };
        self.care.with(spec).map(Checked)
    }
}

impl Checked {
    /// Finds the checkpoint that was typed.
    pub(super) async fn resolve(self, client: &Client) -> Result<v1::RollbackSpec, Failure> {
        // What is the latest depends on the hosts, so the coordinator says.
        let checkpoint = match self.0.checkpoint.as_str() {
            "latest" | "checkpoints/latest" => "checkpoints/latest".to_owned(),
            text => names::checkpoint(client, text).await?,
        };
        Ok(v1::RollbackSpec { checkpoint, ..self.0 })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rfs_proto::v1::{amount, rollback_spec};

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
                    --max-duration 2h --unreachable-after 90s --max-pause 3h \
                    --host web-1 --selector role=web --component site --path /srv/site --healthy 90% \
                    --keep up/** --keep /srv/site/a --accept-loss /srv/site/b --force-stop";
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
        assert_eq!(spec.max_duration.map(|time| time.seconds), Some(7200));
        assert_eq!(spec.unreachable_after.map(|time| time.seconds), Some(90));
        assert_eq!(spec.max_pause.map(|time| time.seconds), Some(10_800));
        let choices = spec.choices.expect("something was decided");
        assert_eq!(choices.keep, ["up/**", "/srv/site/a"]);
        assert_eq!((choices.accept_loss, choices.force_stop), (vec!["/srv/site/b".to_owned()], true));
        assert_eq!(spec.on_failure, i32::from(rollback_spec::FailureAction::Revert));
        let gate = spec.gate.expect("a gate");
        assert_eq!((gate.max_failed, gate.min_healthy_time.map(|time| time.seconds)), (Some(2), Some(10)));
        assert_eq!(gate.healthy_deadline, None, "the coordinator's default holds");
    }

    #[test]
    fn care_that_nobody_asked_for_is_left_to_the_coordinator() {
        let given = |line: &[&str]| {
            let words = ["rfs", "--checkpoint", "latest"].iter().chain(line);
            Line::try_parse_from(words).expect("a good line").spec.care.given().expect("no contradiction")
        };
        assert_eq!(given(&["--host", "web-1"]), None);
        assert_eq!(parse("").expect("a good line").choices, None);
        assert!(
            given(&["--ignore-health"])
                .and_then(|spec| spec.gate)
                .is_some_and(|gate| gate.ignore_health == Some(true))
        );
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
