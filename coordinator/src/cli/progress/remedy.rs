//! What to do about hosts that failed: each sentence once, with the hosts that it concerns.

use rfs_proto::v1;

use super::names;
use crate::cli::words::paint;

/// How the coordinator begins a sentence about a host whose agent is not there. The host is named beside it.
const START_THERE: &str = "start rfs-agent there";

/// How many sentences are printed before they are cut short.
const REMEDIES: usize = 10;

/// Collects what each host's failure says is to be done; hosts with the same sentence share it.
#[derive(Debug, Default)]
pub(super) struct Remedies<'h>(Vec<(&'h str, Vec<&'h str>)>);

impl<'h> Remedies<'h> {
    /// Takes pairs of a host and what its failure says to do; nothing said is nothing to print.
    pub(super) fn of(hosts: impl IntoIterator<Item = (&'h str, &'h str)>) -> Self {
        let mut remedies = Self::default();
        for (host, next) in hosts.into_iter().filter(|(_, next)| !next.is_empty()) {
            match remedies.0.iter_mut().find(|(known, _)| *known == next) {
                Some((_, hosts)) => hosts.push(host),
                None => remedies.0.push((next, vec![host])),
            }
        }
        remedies
    }

    /// The sentences, in the order of their first hosts.
    pub(super) fn sentences(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(next, hosts)| sentence(next, hosts))
    }

    /// A line for each sentence; of very many, the first ones and how to see `all` of them.
    pub(super) fn lines(&self, indent: &str, all: &str) -> Vec<String> {
        let line = |sentence| format!("{indent}{} {sentence}", paint::label("next:"));
        let mut lines: Vec<String> = self.sentences().take(REMEDIES).map(line).collect();
        let more = self.0.len().saturating_sub(REMEDIES);
        if more > 0 {
            lines.push(format!("{indent}… and {more} more; all of them: {all}"));
        }
        lines
    }
}

/// What a failure says is to be done.
pub(super) fn next_of(failure: Option<&v1::Failure>) -> &str {
    failure.map_or("", |failure| failure.next.as_str())
}

fn sentence(next: &str, hosts: &[&str]) -> String {
    let names_it = |host: &str| {
        let is_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '.' | '_');
        next.split(|letter| !is_name(letter)).any(|word| word == host)
    };
    match (next.strip_prefix(START_THERE), hosts) {
        (Some(rest), hosts) => format!("start rfs-agent on {}{rest}", names(hosts)),
        (None, [host]) if names_it(host) => next.to_owned(),
        (None, hosts) => format!("{}: {next}", names(hosts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_names_its_hosts_once() {
        let remedies = Remedies::of([
            ("web-1", "start rfs-agent there, then: rfs rollback retry r"),
            ("web-2", "rfs host forget web-2"),
            ("web-3", "start rfs-agent there, then: rfs rollback retry r"),
            ("web-4", "free space"),
            ("web-5", ""),
        ]);
        assert_eq!(
            remedies.sentences().collect::<Vec<_>>(),
            [
                "start rfs-agent on web-1, web-3, then: rfs rollback retry r",
                "rfs host forget web-2",
                "web-4: free space",
            ]
        );
    }

    #[test]
    fn very_many_sentences_are_cut_short() {
        let hosts: Vec<String> = (1..=30).map(|number| format!("web-{number}")).collect();
        let nexts: Vec<String> = hosts.iter().map(|host| format!("rfs host forget {host}")).collect();
        let pairs = hosts.iter().zip(&nexts).map(|(host, next)| (host.as_str(), next.as_str()));
        let lines = Remedies::of(pairs).lines("  ", "rfs checkpoint show c");
        assert_eq!(lines.len(), REMEDIES + 1);
        assert_eq!(lines[REMEDIES], "  … and 20 more; all of them: rfs checkpoint show c");
    }
}
