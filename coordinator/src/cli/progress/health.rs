//! The fleet's health as people watch it: it has no end.

use rfs_link::Exit;
use rfs_model::Timestamp;
use rfs_proto::v1;

use super::{Told, Watched};
use crate::cli::table::Table;
use crate::cli::words::{self, id, paint};

impl Watched for v1::FleetHealth {
    fn picture(&self, height: usize, _now: Timestamp) -> Vec<String> {
        let mut lines = vec![format!("fleet  {}", counts(self.fleet.as_ref()))];
        let mut table = Table::bare();
        for group in &self.groups {
            table.row([format!("  {}", group.group), counts(group.count.as_ref())]);
        }
        lines.extend(table.lines());
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        let room = height.saturating_sub(lines.len());
        let mut rest = 0;
        if hosts.len() > room {
            hosts.sort_by_key(|host| match host.health() {
                v1::Health::Bad => 0,
                v1::Health::Unknown | v1::Health::Unspecified => 1,
                v1::Health::Good => 2,
            });
            rest = hosts.split_off(room.saturating_sub(1)).len();
        }
        let mut table = Table::bare();
        hosts.iter().for_each(|host| table.row(row(host)));
        lines.extend(table.lines());
        if rest > 0 {
            lines.push(paint::faint(format!("  … and {rest} more")));
        }
        lines
    }

    fn changes(&self, before: Option<&Self>) -> Vec<Told> {
        let mut lines = Vec::new();
        if before.and_then(|before| before.fleet) != self.fleet {
            lines.push(Told::at(None, format!("fleet {}", counts(self.fleet.as_ref()))));
        }
        for host in &self.hosts {
            let earlier =
                before.and_then(|before| before.hosts.iter().find(|earlier| earlier.name == host.name));
            let shown = |host: &v1::Host| (host.health, host.connected, host.contested);
            if earlier.is_none_or(|earlier| shown(earlier) != shown(host)) {
                let text = row(host).map(|cell| cell.trim().to_owned()).join(" ").trim().to_owned();
                lines.push(Told::at(None, text));
            }
        }
        lines
    }

    fn verdict(&self) -> Option<Exit> {
        None
    }

    fn closing(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How many hosts are how, in colours.
pub(in crate::cli) fn counts(count: Option<&v1::HealthCount>) -> String {
    let count = count.copied().unwrap_or_default();
    let part = |number: u32, word: String| (number > 0).then(|| format!("{number} {word}"));
    let parts = [
        part(count.good, paint::good("good")),
        part(count.bad, paint::bad("bad")),
        part(count.unknown, paint::doubt("unknown")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "no host".to_owned() } else { parts.join(", ") }
}

fn row(host: &v1::Host) -> [String; 3] {
    let mut checks: Vec<&v1::Check> = host.checks.iter().collect();
    checks.sort_by_key(|check| (check.health() == v1::Health::Good, !check.required));
    let evidence = match checks.first() {
        _ if host.contested => paint::alarm("CONFLICT: two machines speak for it; a person must say which"),
        _ if host.inconsistent => paint::alarm("INCONSISTENT: a person must look"),
        _ if !host.connected => paint::faint("not connected"),
        Some(check) => format!("{}: {}", check.name, check.evidence),
        None => paint::faint("no check is configured"),
    };
    [format!("  {}", id(&host.name)), words::health(host.health()), evidence]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_is_the_one_that_is_shown() {
        let check = |name: &str, health: v1::Health| v1::Check {
            name: name.into(),
            health: health.into(),
            evidence: format!("{name} was asked"),
            required: true,
            ..Default::default()
        };
        let host = v1::Host {
            name: "hosts/web-1".into(),
            connected: true,
            health: v1::Health::Bad.into(),
            checks: vec![check("tcp", v1::Health::Good), check("http", v1::Health::Bad)],
            ..Default::default()
        };
        let fleet = Some(v1::HealthCount { good: 0, bad: 1, unknown: 0 });
        let health = v1::FleetHealth { fleet, hosts: vec![host], ..Default::default() };
        let plain: Vec<_> = health
            .picture(5, Timestamp(0))
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(plain, ["fleet  1 bad", "  web-1  bad  http: http was asked"]);
    }
}
