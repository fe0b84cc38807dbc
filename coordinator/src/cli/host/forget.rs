//! `rfs host forget`: a host that is gone for good, and one that comes back after that.

use rfs_link::Exit;
use rfs_model::Clock as _;
use rfs_model::time::SystemClock;
use rfs_proto::convert::from_wire_time;
use rfs_proto::v1;

use crate::cli::connect::{Client, soon};
use crate::cli::consent::Consent;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::words::{self, id, paint};
use crate::duration::show_duration;

/// Forgets a host once the person has confirmed it.
pub(super) async fn forget(
    client: &Client,
    output: &mut Output,
    name: String,
    consent: Consent,
) -> Result<Exit, CliError> {
    if !consent.yes {
        let request = v1::GetHostRequest { name: name.clone() };
        let host = client.answer(client.hosts().get_host(soon(request)).await)?;
        consent.ask(&question(&host))?;
    }
    let request = v1::DeleteHostRequest { name: name.clone() };
    client.answer(client.hosts().delete_host(soon(request)).await)?;
    let short = id(&name);
    if output.is_json() {
        output.document(&serde_json::json!({ "forgotten": format!("hosts/{short}") }))?;
        return Ok(Exit::Done);
    }
    output.line(format!("{short} is forgotten; checkpoints and rollbacks go on without it"))?;
    output.line(format!(
        "{} should it come back, it is refused until: rfs host accept {short}",
        paint::label("next:")
    ))?;
    Ok(Exit::Done)
}

fn question(host: &v1::Host) -> String {
    let seen = host.last_seen_time.map(from_wire_time).map_or_else(
        || "never seen".to_owned(),
        |seen| format!("last seen {} ago", show_duration(SystemClock.now().since(seen))),
    );
    format!(
        "forget {}, {seen}? Nothing waits for it any more, and its agent is refused until it is accepted again.",
        id(&host.name)
    )
}

/// How a host that was forgotten is shown in a list; none if it was not.
pub(super) fn state(host: &v1::Host) -> Option<String> {
    let since = words::time(Some(host.forget_time?));
    Some(match host.refused_time {
        Some(asked) => {
            let asked = words::time(Some(asked));
            paint::alarm(format!("REFUSED: it was forgotten {since} and asked to come back {asked}"))
        }
        None => paint::faint(format!("forgotten {since}")),
    })
}

/// What is said of a host that was forgotten, with what to do if it is back; none if it was not.
pub(super) fn doubt(host: &v1::Host) -> Option<Vec<String>> {
    let since = words::time(Some(host.forget_time?));
    let name = id(&host.name);
    let which = if host.instances.len() > 1 { " --instance ID" } else { "" };
    let text = match host.refused_time {
        Some(asked) => paint::alarm(format!(
            "REFUSED: it was forgotten {since}, and a machine asked for its name {}",
            words::time(Some(asked))
        )),
        None => paint::doubt(format!("it was forgotten {since}; nobody is let in under its name")),
    };
    Some(vec![
        text,
        format!("{} if it belongs to the fleet again: rfs host accept {name}{which}", paint::label("next:")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_host_that_was_forgotten_says_since_when_and_whether_it_asks_to_come_back() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut host = v1::Host { name: "hosts/web-2".into(), ..Default::default() };
        assert_eq!((state(&host), doubt(&host)), (None, None));
        host.forget_time = at(1_764_000_000);
        assert_eq!(plain(&state(&host).expect("a state")), "forgotten 2025-11-24T16:00:00Z");
        host.refused_time = at(1_764_000_060);
        assert_eq!(
            plain(&state(&host).expect("a state")),
            "REFUSED: it was forgotten 2025-11-24T16:00:00Z and asked to come back 2025-11-24T16:01:00Z"
        );
        let said: Vec<String> = doubt(&host).expect("a doubt").iter().map(|line| plain(line)).collect();
        assert_eq!(
            said,
            [
                "REFUSED: it was forgotten 2025-11-24T16:00:00Z, and a machine asked for its name 2025-11-24T16:01:00Z",
                "next: if it belongs to the fleet again: rfs host accept web-2",
            ]
        );
        host.instances = vec![v1::Instance::default(), v1::Instance::default()];
        assert!(plain(&doubt(&host).expect("a doubt")[1]).ends_with("accept web-2 --instance ID"));
    }
}
