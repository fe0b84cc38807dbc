//! Requests in a line, plans in a line.

use std::collections::BTreeSet;

use rfs_model::{CheckpointId, Digest, HostId, Selector, SnapshotId};

use super::*;
use crate::fleet::HostView;
use crate::request::{Amount, Budget, Canary, Label, Order, Policy, Selection, Source, Waves};

/// `a:role=db,zone=x b c! d?` is four hosts: `c` is not in the checkpoint, `d` has no required check.
fn fleet(hosts: &str) -> FleetView {
    let mut view = FleetView::default();
    for word in hosts.split_whitespace() {
        let (name, labels) = word.split_once(':').unwrap_or((word, ""));
        let host = HostId::new(name.trim_end_matches(['!', '?'])).expect("a valid name");
        let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
        let labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        if !name.ends_with('!') {
            view.targets.insert(host.clone(), SnapshotId(Digest::from_bytes([7; 32])));
        }
        view.hosts.insert(host, HostView { labels, unchecked: name.ends_with('?') });
    }
    view
}

fn amount(text: &str) -> Amount {
    match text.strip_suffix('%') {
        Some(percent) => Amount::Percent(percent.parse().expect("a percentage")),
        None => Amount::Count(text.parse().expect("a count")),
    }
}

/// `canary=a,b sizes=1,25% order=role:db>web budget=zone:1 only=a label=role=db immediate`
fn request(text: &str) -> RollbackRequest {
    let mut waves = Waves::default();
    let mut policy = Policy::default();
    let mut selector = Selector::default();
    let mut immediate = false;
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let hosts =
            || value.split(',').map(|name| name.parse().expect("a valid name")).collect::<BTreeSet<HostId>>();
        match key {
            "immediate" => immediate = true,
            "canary" => waves.canary = Canary::Hosts(hosts()),
            "canaries" => waves.canary = Canary::Amount(amount(value)),
            "canary-label" => {
                let labels = [rfs_model::label::parse_label(value).expect("a label")].into();
                waves.canary = Canary::Selector(Selector { labels, ..Selector::default() });
            }
            "sizes" => waves.sizes = value.split(',').map(amount).collect(),
            "order" => {
                let (key, values) = value.split_once(':').expect("key:values");
                waves.order.extend(Order::list(key, &values.split('>').collect::<Vec<_>>()));
            }
            "before" => {
                let label = |text: &str| {
                    let (key, value) = text.split_once(':').expect("key:value");
                    Label { key: key.into(), value: value.into() }
                };
                let (before, after) = value.split_once('>').expect("two labels");
                waves.order.push(Order { before: label(before), after: label(after) });
            }
            "budget" => {
                let (key, max) = value.split_once(':').expect("key:amount");
                let group_by = (!key.is_empty()).then(|| key.to_owned());
                policy.budgets.push(Budget { group_by, max_unavailable: amount(max) });
            }
            "ignore-health" => policy.gate.ignore_health = true,
            "max-failed" => policy.gate.max_failed = value.parse().expect("a count"),
            "healthy" => policy.gate.healthy = Some(amount(value)),
            "min-healthy" => {
                policy.gate.min_healthy_time =
                    std::time::Duration::from_secs(value.parse().expect("seconds"));
            }
            "only" => selector.hosts = hosts(),
            "label" => selector.labels.extend([rfs_model::label::parse_label(value).expect("a label")]),
            _ => panic!("{word} is not understood"),
        }
    }
    RollbackRequest {
        source: Source::Checkpoint(CheckpointId::from_uuid(uuid())),
        selector,
        selection: Selection::default(),
        choices: Default::default(),
        strategy: if immediate { Strategy::Immediate } else { Strategy::Gradual(waves) },
        policy,
        reason: String::new(),
        requester: "operator/alice".into(),
    }
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::nil()
}

fn show(plan: &Plan) -> String {
    let wave = |wave: &Wave| {
        let hosts = wave.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if wave.canary { format!("({hosts})") } else { hosts }
    };
    let mut text = plan.waves.iter().map(wave).collect::<Vec<_>>().join(" | ");
    for group in &plan.groups {
        text += &format!("; {} {}/{}", group.name, group.limit, group.hosts.len());
    }
    for (host, why) in &plan.left_out {
        text += &format!("; without {host}: {}", why.replace(&format!("{}", uuid()), "C"));
    }
    text
}

#[track_caller]
fn check(hosts: &str, asked: &str, expected: &str) {
    let text = match plan(&request(asked), &fleet(hosts)) {
        Ok(plan) => show(&plan),
        Err(error) => {
            let text = error.to_string().replace(&uuid().to_string(), "C");
            assert!(text.starts_with(error.field()), "{text:?} does not begin with its field");
            format!("{}: {text}", error.reason())
        }
    };
    assert_eq!(text, expected, "{hosts} {asked}");
}

const TEN: &str = "h-1 h-2 h-3 h-4 h-5 h-6 h-7 h-8 h-9 h-10";

#[test]
fn hosts_are_cut_into_waves() {
    check("a b c", "immediate", "a b c");
    check("a b c", "", "a b c");
    check(TEN, "sizes=1,2", "h-1 | h-2 h-3 | h-4 h-5 | h-6 h-7 | h-8 h-9 | h-10");
    check(TEN, "sizes=25%", "h-1 h-2 h-3 | h-4 h-5 h-6 | h-7 h-8 h-9 | h-10");
    check(TEN, "sizes=1%,10%,100%", "h-1 | h-2 | h-3 h-4 h-5 h-6 h-7 h-8 h-9 h-10");
    check(TEN, "canaries=2 sizes=5", "(h-1 h-2) | h-3 h-4 h-5 h-6 h-7 | h-8 h-9 h-10");
    check("a b c d", "canary=c sizes=2", "(c) | a b | d");
    check("a:x=1 b c", "canary-label=x=1", "(a) | b c");
    check("a b", "canaries=5", "(a b)");
}

#[test]
fn later_labels_wait_for_earlier_ones() {
    let three = "w-1:role=web w-2:role=web d-1:role=db a-1:role=app";
    check(three, "order=role:db>app>web", "d-1 | a-1 | w-1 w-2");
    check(three, "order=role:db>web sizes=1", "d-1 | w-1 | w-2 | a-1");
    check(three, "order=role:db>app>web canary=w-2", "d-1 | a-1 | (w-2) | w-1");
    check(three, "order=role:db>app>web canaries=1 sizes=1", "(d-1) | (a-1) | (w-1) | w-2");
    check("a:r=1,z=1 b:r=2,z=1 c:r=1,z=2", "order=r:1>2", "a c | b");
    check("a:t=x b:r=y", "before=r:y>t:x", "b | a");
}

#[test]
fn an_order_that_contradicts_itself_is_refused_with_the_cycle() {
    let why = "cannot each come before the next; remove one of these relations";
    let hosts = "a:role=db b:role=web";
    check(
        hosts,
        "order=role:db>web>db",
        &format!("ORDER_CYCLE: waves.order: role=db → role=web → role=db {why}"),
    );
    check(hosts, "order=role:x>x", &format!("ORDER_CYCLE: waves.order: role=x → role=x {why}"));
    check(
        hosts,
        "order=role:a>b>c>d order=role:d>b",
        &format!("ORDER_CYCLE: waves.order: role=b → role=c → role=d → role=b {why}"),
    );
    // No label comes before itself, but these two hosts would have to.
    check(
        "a:role=app,zone=1 b:role=db,zone=2",
        "order=role:db>app order=zone:1>2",
        &format!("ORDER_CYCLE: waves.order: role=app zone=1 → role=db zone=2 → role=app zone=1 {why}"),
    );
    check("a:r=1,z=1", "before=r:1>z:1", &format!("ORDER_CYCLE: waves.order: r=1 z=1 → r=1 z=1 {why}"));
}

#[test]
fn budgets_count_each_label_groups_targets() {
    let zones = "a1:zone=a a2:zone=a a3:zone=a b1:zone=b b2:zone=b c1";
    check(zones, "budget=zone:1", "c1 a1 b1 a2 b2 a3; no zone 1/1; zone=a 1/3; zone=b 1/2");
    check(zones, "budget=zone:50%", "c1 a1 b1 a2 b2 a3; no zone 1/1; zone=a 1/3; zone=b 1/2");
    check(zones, "budget=:40% only=a1,a2,a3,b1,b2", "a1 a2 a3 b1 b2; fleet 2/5");
    check(zones, "budget=:10%", "a1 a2 a3 b1 b2 c1; fleet 1/6");
}

#[test]
fn a_host_that_is_not_in_the_checkpoint_is_left_out_unless_it_is_named() {
    check("a b!", "", "a; without b: checkpoint C has nothing for it");
    check(
        "a b!",
        "only=b",
        "SNAPSHOT_NOT_FOUND: selector.hosts[0]: checkpoint C has nothing for host b; leave the host out or choose \
         another source",
    );
    check(
        "a b",
        "only=a,c",
        "HOST_NOT_FOUND: selector.hosts[1]: no host c is known; `rfs host list` shows those that are",
    );
    check(
        "a b!",
        "label=role=db",
        "NO_HOST_MATCHES: selector: role=db does not match the one host of checkpoint C; `rfs host list` shows names and \
         labels",
    );
}

#[test]
fn a_label_or_host_that_nothing_has_is_refused_and_the_near_one_is_named() {
    let hosts = "web-1:zone=a,role=web web-2:zone=b,role=db";
    let invalid = |field: &str, problem: &str| format!("INVALID_ARGUMENT: {field}: {problem}");
    check(
        hosts,
        "budget=zon:1",
        &invalid("budgets[0].group_by", "no host has a label zon; did you mean zone?"),
    );
    check(hosts, "budget=rack:1", &invalid("budgets[0].group_by", "no host has a label rack"));
    check(
        hosts,
        "order=rol:db>web",
        &invalid("waves.order[0].before", "no host has the label rol=db; did you mean role=db?"),
    );
    check(
        hosts,
        "order=role:db>wbe",
        &invalid("waves.order[0].after", "no host has the label role=wbe; did you mean role=web?"),
    );
    let list = "`rfs host list` shows those that are";
    check(
        hosts,
        "canary=web1",
        &format!("HOST_NOT_FOUND: waves.canary_hosts[0]: no host web1 is known; did you mean web-1?; {list}"),
    );
    check(
        hosts,
        "only=wbe-2",
        &format!("HOST_NOT_FOUND: selector.hosts[0]: no host wbe-2 is known; did you mean web-2?; {list}"),
    );
    check(
        hosts,
        "label=role=wbe",
        "NO_HOST_MATCHES: selector: role=wbe matches none of the 2 hosts of checkpoint C; did you mean role=web?; `rfs host \
         list` shows names and labels",
    );
    // A label that other hosts have is known, although it holds nobody back here.
    check(hosts, "order=role:db>web only=web-1", "web-1");
}

#[test]
fn a_gate_that_waits_for_health_that_nobody_measures_is_known_before_it_begins() {
    let check = |hosts: &str, asked: &str, expected: &str| {
        let (request, fleet) = (request(asked), fleet(hosts));
        let plan = plan(&request, &fleet).expect("a plan");
        let found = impasse(&plan, &request.policy.gate, &fleet).map(|impasse| impasse.to_string());
        assert_eq!(found.unwrap_or_default(), expected, "{hosts} {asked}");
    };
    check("a b", "sizes=1", "");
    check(
        "a b?",
        "sizes=1",
        "wave 2 can never pass its gate: b has no required health check, so nobody will know whether it is healthy",
    );
    check(
        "a? b?",
        "",
        "wave 1 can never pass its gate: a, b have no required health check, so nobody will know whether they are healthy",
    );
    check("a? b", "max-failed=1", "");
    check("a b?", "healthy=50%", "");
    check(
        "a? b",
        "sizes=1 healthy=50%",
        "wave 1 can never pass its gate: a has no required health check, so nobody will know whether it is healthy",
    );
    check("a?", "ignore-health", "");
}

#[test]
fn a_value_that_makes_no_sense_is_refused_with_its_field() {
    let invalid = |field: &str, problem: &str| format!("INVALID_ARGUMENT: {field}: {problem}");
    check("a", "sizes=1,101%", &invalid("waves.sizes[1].percent", "must be 1 to 100, not 101"));
    check("a", "sizes=0%", &invalid("waves.sizes[0].percent", "must be 1 to 100, not 0"));
    let zero = "must be at least 1; leave the field out if none is meant";
    check("a", "sizes=0", &invalid("waves.sizes[0].count", zero));
    check("a", "canaries=0", &invalid("waves.canary.count", zero));
    check("a", "healthy=200%", &invalid("gate.healthy.percent", "must be 1 to 100, not 200"));
    check(
        "a",
        "min-healthy=301",
        &invalid(
            "gate.min_healthy_time",
            "301s is longer than gate.healthy_deadline (300s), so no host could pass",
        ),
    );
    check("a b!", "canary=b", &invalid("waves.canary_hosts[0]", "host b is not among the rollback's hosts"));
    check(
        "a",
        "canary-label=x=1",
        &invalid("waves.canary", "the selector matches none of the rollback's hosts"),
    );
    check(
        "a",
        "canary=z",
        "HOST_NOT_FOUND: waves.canary_hosts[0]: no host z is known; `rfs host list` shows those that are",
    );
    check(
        "a",
        "budget=zone:0",
        "BUDGET_TOO_SMALL: budgets[0].max_unavailable: a budget of 0 lets no host start; allow at least 1",
    );
}
