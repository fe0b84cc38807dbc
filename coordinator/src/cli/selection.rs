//! A selection that takes no host is a mistake, not an empty fleet: it is refused, and what was probably meant is named.

use std::collections::BTreeSet;

use rfs_link::Failure;
use rfs_model::Reason;
use rfs_proto::v1;
use rfs_rollout::plan::near;

use super::connect::{Client, soon};
use super::error::CliError;
use super::words::id;

/// Refuses a selection that found no host, or not every host that it names.
pub(super) async fn not_empty(
    client: &Client,
    selector: &v1::Selector,
    found: &[v1::Host],
) -> Result<(), CliError> {
    let missing = selector.hosts.iter().any(|host| !found.iter().any(|found| id(&found.name) == host));
    if selector == &v1::Selector::default() || !(found.is_empty() || missing) {
        return Ok(());
    }
    let request = v1::GetFleetHealthRequest::default();
    let known = client.answer(client.hosts().get_fleet_health(soon(request)).await)?.hosts;
    Ok(check(selector, &known)?)
}

fn check(selector: &v1::Selector, known: &[v1::Host]) -> Result<(), Failure> {
    if known.is_empty() {
        return Ok(());
    }
    let meant = |near: Option<&str>| near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    for host in &selector.hosts {
        let names = || known.iter().map(|known| id(&known.name));
        if !names().any(|name| name == host) {
            let message = format!("no host {host} is known{}", meant(near(host, names())));
            return Err(Failure::new(Reason::HostNotFound, message));
        }
    }
    let mut labels: Vec<_> = selector.labels.iter().collect();
    labels.sort();
    for (key, value) in labels {
        let all: BTreeSet<String> =
            known.iter().flat_map(|host| &host.labels).map(|(key, value)| format!("{key}={value}")).collect();
        let label = format!("{key}={value}");
        if !all.contains(&label) {
            let near = near(&label, all.iter().map(String::as_str));
            let message = format!("none of the {} hosts has the label {label}{}", known.len(), meant(near));
            return Err(Failure::new(Reason::NoHostMatches, message));
        }
    }
    let has = |host: &v1::Host| {
        let named = selector.hosts.is_empty() || selector.hosts.iter().any(|name| name == id(&host.name));
        named && selector.labels.iter().all(|(key, value)| host.labels.get(key) == Some(value))
    };
    if known.iter().any(has) {
        return Ok(());
    }
    Err(Failure::new(Reason::NoHostMatches, "no host has all of that together"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_selects_nothing_is_refused_with_what_was_meant() {
        let host = |name: &str, role: &str, zone: &str| v1::Host {
            name: format!("hosts/{name}"),
            labels: [("role".to_owned(), role.to_owned()), ("zone".to_owned(), zone.to_owned())].into(),
            ..Default::default()
        };
        let known = [host("web-1", "web", "a"), host("db-1", "db", "b")];
        let said = |hosts: &[&str], labels: &[(&str, &str)], known: &[v1::Host]| {
            let selector = v1::Selector {
                hosts: hosts.iter().map(ToString::to_string).collect(),
                labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            };
            check(&selector, known).map_err(|failure| failure.message).err().unwrap_or_default()
        };
        assert_eq!(said(&["wbe-1"], &[], &known), "no host wbe-1 is known; did you mean web-1?");
        assert_eq!(said(&["mail"], &[], &known), "no host mail is known");
        assert_eq!(
            said(&[], &[("role", "wbe")], &known),
            "none of the 2 hosts has the label role=wbe; did you mean role=web?"
        );
        assert_eq!(said(&[], &[("role", "web"), ("zone", "b")], &known), "no host has all of that together");
        assert_eq!(said(&["web-1"], &[("role", "web")], &known), "");
        assert_eq!(said(&["web-1"], &[], &[]), "", "nobody has connected yet");
    }
}
