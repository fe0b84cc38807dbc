//! What a list of hosts comes to: how many are how, and whose certificate ends soon.

use std::time::Duration;

use rfs_model::Timestamp;
use rfs_proto::convert::from_wire_time;
use rfs_proto::v1;

use crate::cli::progress::counts;
use crate::cli::words::{self, count, id, paint};
use crate::duration::show_duration;

/// From when on the end of a certificate is a matter of concern.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many hosts are named.
const NAMED: usize = 6;

/// The lines after a list of hosts.
pub(super) fn lines(hosts: &[v1::Host], now: Timestamp) -> Vec<String> {
    let (forgotten, hosts): (Vec<&v1::Host>, Vec<&v1::Host>) =
        hosts.iter().partition(|host| host.forget_time.is_some());
    let mut health = v1::HealthCount::default();
    for host in &hosts {
        match host.health() {
            v1::Health::Good => health.good += 1,
            v1::Health::Bad => health.bad += 1,
            v1::Health::Unknown | v1::Health::Unspecified => health.unknown += 1,
        }
    }
    let away = hosts.iter().filter(|host| !host.connected).count();
    let away = if away == 0 { String::new() } else { paint::bad(format!("; {away} not connected")) };
    let mut lines = vec![format!("{}: {}{away}", count(hosts.len(), "host"), counts(Some(&health)))];
    let end = |host: &v1::Host| host.certificate_expire_time.map(from_wire_time);
    let mut ending: Vec<(Timestamp, &str)> = hosts
        .iter()
        .filter_map(|host| Some((end(host)?, id(&host.name))))
        .filter(|(end, _)| *end <= now.plus(SOON))
        .collect();
    ending.sort();
    for (end, host) in ending.iter().take(NAMED) {
        let end = rfs_proto::convert::to_wire_time(*end);
        lines.push(format!("{host}'s certificate {}", validity(host, end, now)));
    }
    for host in forgotten.iter().filter(|host| host.refused_time.is_some()).take(NAMED) {
        let name = id(&host.name);
        lines.push(paint::doubt(format!(
            "{name} was forgotten and asks to come back; let it in with: rfs host accept {name}"
        )));
    }
    if ending.len() > NAMED {
        lines.push(paint::doubt(format!(
            "… and {} more certificates end within 30 days",
            ending.len() - NAMED
        )));
    }
    lines
}

/// Until when a host's certificate is valid, and what to do when that is soon.
pub(super) fn validity(host: &str, end: prost_types::Timestamp, now: Timestamp) -> String {
    let (time, at) = (words::time(Some(end)), from_wire_time(end));
    let new = format!("issue a new one with: rfs pki issue agent {host} --force");
    if at < now {
        return paint::alarm(format!("EXPIRED at {time}; {new}"));
    }
    match at.since(now) {
        left if left <= SOON => {
            let text = format!("expires in {} ({time}); {new}", show_duration(left));
            if left <= Duration::from_secs(24 * 3600) { paint::bad(text) } else { paint::doubt(text) }
        }
        _ => format!("valid until {time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_to_a_line_and_names_the_certificates_that_end_soon() {
        let now = Timestamp(1_764_000_000_000);
        let host = |name: &str, health: v1::Health, connected: bool, days: i64| v1::Host {
            name: format!("hosts/{name}"),
            health: health.into(),
            connected,
            certificate_expire_time: Some(prost_types::Timestamp {
                seconds: now.0 / 1000 + days * 86_400,
                nanos: 0,
            }),
            ..Default::default()
        };
        let hosts = [
            host("a", v1::Health::Good, true, 300),
            host("b", v1::Health::Bad, true, 7),
            host("c", v1::Health::Unknown, false, -1),
        ];
        let lines: Vec<_> =
            lines(&hosts, now).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!(
            lines,
            [
                "3 hosts: 1 good, 1 bad, 1 unknown; 1 not connected",
                "c's certificate EXPIRED at 2025-11-23T16:00:00Z; issue a new one with: rfs pki issue agent c --force",
                "b's certificate expires in 7d00h (2025-12-01T16:00:00Z); issue a new one with: rfs pki issue agent b --force",
            ]
        );
        assert_eq!(
            validity("a", hosts[0].certificate_expire_time.expect("an end"), now),
            "valid until 2026-09-20T16:00:00Z"
        );
    }
}
