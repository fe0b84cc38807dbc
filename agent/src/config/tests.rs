//! Each rule of the configuration, with the text that a person would read.

use rfs_model::{ByteCount, Timestamp};
use rfs_store::KeepPolicy;

use super::*;

const GOOD: &str = r#"
[host]
name = "web-1"
labels = { role = "web", zone = "a" }
[coordinator]
endpoints = ["https://rfs.example.net:7443"]
[tls]
ca = "/etc/rfs/ca.pem"
certificate = "/etc/rfs/agent.pem"
key = "/etc/rfs/agent.key"
[store]
path = "/var/lib/rfs"
[[component]]
name = "site"
kind = "files"
paths = ["/srv/site"]
exclude = ["**/*.log"]
[[component]]
name = "app"
kind = "services"
[component.commands]
start = ["/usr/bin/app", "start"]
stop = "/usr/bin/app stop && rm -f /run/app.lock"
status = ["/usr/bin/app", "status"]
[[health]]
name = "http"
kind = "http"
url = "http://127.0.0.1:8080/healthz"
"#;

fn judge(text: &str) -> Result<Config, Complaint> {
    parse(text, Path::new("/etc/rfs/agent.toml"))
}

/// Replaces `from` by `to` in the good configuration; the complaint must be about that line, and contain `expected`.
fn check(from: &str, to: &str, expected: &str) {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} must be in the good configuration once");
    let text = GOOD.replace(from, to);
    let complaint = judge(&text).expect_err(to);
    assert!(complaint.message.contains(expected), "{to}\n{complaint}");
    if let Some(place) = complaint.place {
        assert_eq!(text.lines().nth(place.line - 1), Some(place.text.as_str()), "{to}");
    }
}

#[test]
fn the_documented_configuration_is_understood() {
    let config = judge(GOOD).expect("valid");
    assert_eq!(config.host.as_str(), "web-1");
    assert_eq!(config.labels["zone"], "a");
    assert_eq!(config.components.len(), 2);
    assert_eq!(config.health[0].interval, Duration::from_secs(10));
    assert_eq!(config.max_restore_time, Duration::from_secs(300));
    let ComponentSpec::Services(app) = &config.components[1].spec else { panic!("app is a service") };
    assert_eq!(app.stop.program.argv(), ["/bin/sh", "-c", "/usr/bin/app stop && rm -f /run/app.lock"]);
    assert_eq!(app.uses, None);
}

#[test]
fn the_example_has_every_key() {
    let example = include_str!("example.toml");
    judge(example).expect("valid");
    // The names of the keys are those of the fields that hold them.
    let keys = include_str!("raw.rs").lines().filter_map(|line| line.trim().strip_prefix("pub(super) "));
    let keys = keys.filter(|line| !line.starts_with("struct ")).filter_map(|line| line.split_once(": "));
    for (key, _) in keys.filter(|(key, _)| *key != "units") {
        assert!(example.contains(key), "the example does not show {key}");
    }
}

#[test]
fn a_host_without_a_coordinator_is_configured_without_its_sections() {
    let start = GOOD.find("[coordinator]").expect("a section");
    let end = GOOD.find("[store]").expect("a section");
    let config = judge(&format!("{}{}", &GOOD[..start], &GOOD[end..])).expect("valid");
    assert_eq!(config.link, None);
}

#[test]
fn a_complaint_shows_the_line_with_a_caret() {
    let text = GOOD.replace("\"/srv/site\"", "\"srv/site\"");
    let shown = judge(&text).expect_err("relative").to_string();
    let expected = r#"   |
16 | paths = ["srv/site"]
   |          ^^^^^^^^^^
line 16, column 10: path "srv/site" is not absolute; write it from the root, such as "/srv/site""#;
    assert_eq!(shown, expected);
}

#[test]
fn paths_are_absolute_normal_and_apart_from_each_other_and_from_the_store() {
    check("\"/srv/site\"", "\"/srv/../etc\"", "contains \".\" or \"..\"");
    check("\"/srv/site\"", "\"/srv/./site\"", "contains \".\" or \"..\"");
    check("\"/srv/site\"", "\"/srv//site\"", "write \"/srv/site\"");
    check("\"/srv/site\"", "\"/srv/site/\"", "write \"/srv/site\"");
    check("\"/srv/site\"", "\"/srv/site\", \"/srv/site/a\"", "overlaps with /srv/site of component site");
    check("\"/srv/site\"", "\"/srv/site/a\", \"/srv/site\"", "overlaps with /srv/site/a of component site");
    check("\"/srv/site\"", "\"/var\"", "contains the store /var/lib/rfs");
    check("\"/srv/site\"", "\"/\"", "contains the store");
    check("\"/srv/site\"", "\"/var/lib/rfs/objects\"", "lies in the store");
    check("[\"/srv/site\"]", "[]", "at least one path");
    // A name that only starts the same is another path.
    judge(&GOOD.replace("\"/srv/site\"", "\"/srv/site\", \"/srv/site-2\"")).expect("apart");
}

#[test]
fn names_kinds_and_keys_that_do_not_fit_are_refused() {
    check("name = \"web-1\"", "name = \"web 1\"", "host name \"web 1\" is not valid");
    check("name = \"app\"", "name = \"site\"", "two components of the name");
    check("kind = \"files\"", "kind = \"postgres\"", "this version knows: files, services");
    check("kind = \"files\"", "kind = \"files\"\nuses = [\"site\"]", "uses belongs to kind services");
    check("kind = \"files\"", "kind = \"files\"\ncolour = \"red\"", "unknown field `colour`");
    check(
        "kind = \"services\"",
        "kind = \"services\"\nunits = [\"app.service\"]",
        "not supported yet; use [component.commands]",
    );
    check(
        "kind = \"services\"",
        "kind = \"services\"\nuses = [\"sitee\"]",
        "there is no component \"sitee\"",
    );
    check("kind = \"services\"", "kind = \"services\"\nuses = [\"app\"]", "is of kind services");
    check("[host]", "version = 2\n[host]", "version 2 is not known");
    check("kind = \"http\"", "kind = \"htp\"", "this version knows: http, tcp, command");
    check("kind = \"http\"", "kind = \"tcp\"", "url belongs to kind http");
    check("\"http://127.0.0.1:8080/healthz\"", "\"127.0.0.1:8080\"", "is not a URL");
    check("https://rfs.example.net:7443", "http://rfs.example.net:7443", "write https://NAME:PORT");
}

#[test]
fn programs_globs_and_times_are_checked_before_they_are_needed() {
    check("[\"/usr/bin/app\", \"start\"]", "[\"app\", \"start\"]", "needs its whole path");
    check("[\"/usr/bin/app\", \"start\"]", "[]", "the program is empty");
    check("[\"/usr/bin/app\", \"start\"]", "7", "a program with its arguments");
    check("\"**/*.log\"", "\"[a\"", "unclosed character class");
    check("kind = \"files\"", "kind = \"files\"\nquiesce = \"/bin/true\"", "needs resume");
    check("kind = \"files\"", "kind = \"files\"\nresume_timeout = \"1s\"", "resume_timeout needs resume");
    check("kind = \"http\"", "kind = \"http\"\ninterval = \"10\"", "a length of time");
    check("kind = \"http\"", "kind = \"http\"\ninterval = \"0s\"", "a length of time");
    check("kind = \"files\"", "kind = \"files\"\nnever_restore = [\"secret\"]", "is not absolute");
}

#[test]
fn what_is_kept_has_defaults_and_bounds() {
    let config = judge(GOOD).expect("a file of an earlier version");
    let usual = KeepPolicy { last: 10, hourly: 24, daily: 7, weekly: 4, monthly: 0, backups: 10 };
    assert_eq!((config.retention.keep, config.retention.automatic), (usual, true));
    assert_eq!((config.reserve, config.clones), (ReserveRule::Usual, true));
    let with = |keys: &str| judge(&format!("{GOOD}\n[retention]\n{keys}"));
    let keep = with("keep_last = 3\nkeep_hourly = 0").expect("valid").retention.keep;
    assert_eq!(keep, KeepPolicy { last: 3, hourly: 0, ..usual });
    let refused = |keys: &str, expected: &str| {
        let complaint = with(keys).expect_err(keys);
        assert!(complaint.message.contains(expected), "{keys}\n{complaint}");
        assert!(complaint.place.is_some_and(|place| keys.contains(&place.text)), "{keys}");
    };
    refused(
        "keep_last = 0\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0",
        "hardly one would be left to go back to; write keep_last = 1 or more",
    );
    refused("keep_last = -1", "integer `-1`");
    refused("keep_yearly = 3", "unknown field `keep_yearly`");
    refused("pinned = [\"4f2a\"]", "see it whole with: rfs-agent snapshots show 4f2a");
    refused("collect_every = \"0s\"", "a length of time");
    refused("collect_between = [\"01:00\"]", "write two times of day");
    refused("collect_between = [\"1:00\", \"05:00\"]", "\"1:00\" is not a time of day");
    refused("collect_between = [\"01:00\", \"01:00\"]", "both times are the same");
    check("path = \"/var/lib/rfs\"", "path = \"/var/lib/rfs\"\nreserve = \"lots\"", "write it as \"512MiB\"");
    check("path = \"/var/lib/rfs\"", "path = \"/var/lib/rfs\"\nreserve = \"90%\"", "at most 50%");
    let reserve = |text: &str| {
        let text =
            GOOD.replace("path = \"/var/lib/rfs\"", &format!("path = \"/var/lib/rfs\"\nreserve = {text:?}"));
        judge(&text).expect("valid").reserve
    };
    assert_eq!(reserve("2 GiB"), ReserveRule::Bytes(ByteCount(2 << 30)));
    assert_eq!(reserve("5%"), ReserveRule::Percent(5));
}

#[test]
fn collections_begin_in_their_hours_alone() {
    let at = |hour: i64| Timestamp(20_000 * 86_400_000 + hour * 3_600_000);
    let begin = |between: &str| -> Vec<i64> {
        let config = judge(&format!("{GOOD}\n[retention]\n{between}")).expect("valid").retention;
        (0..24).filter(|hour| config.may_begin(at(*hour))).collect()
    };
    assert_eq!(begin("").len(), 24);
    assert_eq!(begin("collect_between = [\"01:00\", \"03:00\"]"), [1, 2]);
    assert_eq!(begin("collect_between = [\"23:00\", \"02:00\"]"), [0, 1, 23]);
}

#[test]
fn the_agents_own_files_are_never_restored() {
    let config = judge(&GOOD.replace("\"/srv/site\"", "\"/etc\"")).expect("valid");
    let ComponentSpec::Files(etc) = &config.components[0].spec else { panic!("files") };
    let expected = ["/etc/rfs/agent.key", "/etc/rfs/agent.pem", "/etc/rfs/agent.toml", "/etc/rfs/ca.pem"];
    assert_eq!(etc.never_restore.iter().collect::<Vec<_>>(), expected);
}
