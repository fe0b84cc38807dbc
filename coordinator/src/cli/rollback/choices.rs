//! What a person decides about what would be lost, as it is typed and as it is said.

use clap::Args;
use rfs_proto::v1;

#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "What may be lost")]
pub(in crate::cli) struct Choices {
    /// Leave in place what the target does not have and this matches: a path, or a glob such as 'uploads/**'; may be given often.
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    /// Accept that this path is lost, or is on another mount, link or file system than at the capture; may be given often.
    #[arg(long, value_name = "PATTERN")]
    accept_loss: Vec<String>,
    /// End the processes of a service that its own command does not stop.
    #[arg(long)]
    force_stop: bool,
}

impl Choices {
    /// What was decided, if anything was.
    pub(super) fn given(self) -> Option<v1::RestoreChoices> {
        let Self { keep, accept_loss, force_stop } = self;
        let choices = v1::RestoreChoices { keep, accept_loss, force_stop };
        (choices != v1::RestoreChoices::default()).then_some(choices)
    }
}

/// What was decided, in words; nothing if nothing was.
pub(in crate::cli) fn decided(choices: Option<&v1::RestoreChoices>) -> Option<String> {
    let choices = choices?;
    let list = |what: &str, patterns: &[String]| {
        (!patterns.is_empty()).then(|| format!("{what} {}", patterns.join(", ")))
    };
    let parts = [
        list("keep", &choices.keep),
        list("accept the loss of", &choices.accept_loss),
        choices.force_stop.then(|| "end the processes of services that do not stop".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_said_in_a_line() {
        let check = |choices: v1::RestoreChoices, expected: Option<&str>| {
            assert_eq!(decided(Some(&choices)).as_deref(), expected);
        };
        check(v1::RestoreChoices::default(), None);
        check(
            v1::RestoreChoices {
                keep: vec!["up/**".into(), "/srv/a".into()],
                accept_loss: vec!["/srv/b".into()],
                force_stop: true,
            },
            Some(
                "keep up/**, /srv/a; accept the loss of /srv/b; end the processes of services that do not stop",
            ),
        );
    }
}
