//! Agents and operators at a real coordinator: who is let in, what is seen, and what is told.

mod support;

use std::time::Duration;

use rfs_model::Reason;
use rfs_proto::agentlink::v1::agent_link_client::AgentLinkClient;
use rfs_proto::v1;
use support::{Fleet, Operator, until};

async fn health(operator: &Operator) -> String {
    let request = v1::GetFleetHealthRequest { group_by: vec!["role".into()], ..Default::default() };
    told(&operator.good(operator.hosts().get_fleet_health(request).await))
}

fn told(health: &v1::FleetHealth) -> String {
    let count = |count: Option<v1::HealthCount>| {
        let count = count.unwrap_or_default();
        format!("{} good {} bad {} unknown", count.good, count.bad, count.unknown)
    };
    let groups = health.groups.iter().map(|group| format!("{}: {}", group.group, count(group.count)));
    [format!("fleet: {}", count(health.fleet))].into_iter().chain(groups).collect::<Vec<_>>().join(" | ")
}

#[tokio::test]
async fn a_host_is_seen_with_its_health_while_it_is_connected_and_remembered_afterwards() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("vera").await;
    let web = fleet.agent("web-1", &["role=web"]);
    let db = fleet.agent("db-1", &["role=db"]);
    let all =
        "fleet: 2 good 0 bad 0 unknown | role=db: 1 good 0 bad 0 unknown | role=web: 1 good 0 bad 0 unknown";
    until("both are well", async || (health(&operator).await == all).then_some(())).await;

    let request = v1::WatchFleetHealthRequest { group_by: vec!["role".into()], ..Default::default() };
    let mut watch = operator.good(operator.hosts().watch_fleet_health(request).await);
    let first = watch.message().await.expect("an open stream").expect("the present state comes first");
    assert_eq!(told(&first), all);
    web.state().sick = vec![1];
    let next = watch.message().await.expect("an open stream").expect("each change follows");
    assert!(told(&next).ends_with("role=web: 0 good 1 bad 0 unknown"), "{}", told(&next));
    let sick = next.hosts.iter().find(|host| host.name == "hosts/web-1").expect("it is listed");
    assert_eq!(sick.checks[0].evidence, "GET / answered 503");

    drop(db);
    let next = watch.message().await.expect("an open stream").expect("each change follows");
    assert!(told(&next).contains("role=db: 0 good 0 bad 1 unknown"), "{}", told(&next));
    let request = v1::GetHostRequest { name: "hosts/db-1".into() };
    let gone = operator.good(operator.hosts().get_host(request).await);
    assert!(!gone.connected);
    assert_eq!(gone.labels.get("role").map(String::as_str), Some("db"));
    assert_eq!(gone.components[0].name, "value");
    assert_eq!(gone.agent_version, "0.0.0-test");
}

#[tokio::test]
async fn hosts_are_listed_in_pages_and_a_token_is_for_its_own_list() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("vera").await;
    let agents: Vec<_> = (0..5).map(|n| fleet.agent(&format!("web-{n}"), &["role=web"])).collect();
    until("all are there", async || health(&operator).await.starts_with("fleet: 5 good").then_some(())).await;
    let mut names = Vec::new();
    let mut request = v1::ListHostsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = operator.good(operator.hosts().list_hosts(request.clone()).await);
        assert!(page.hosts.len() <= 2);
        names.extend(page.hosts.into_iter().map(|host| host.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["hosts/web-0", "hosts/web-1", "hosts/web-2", "hosts/web-3", "hosts/web-4"]);
    request.selector = Some(v1::Selector { hosts: vec!["web-1".into()], ..Default::default() });
    let failure = operator.refused(operator.hosts().list_hosts(request).await);
    assert_eq!(failure.fields[0].field, "page_token");
    drop(agents);
}

#[tokio::test]
async fn a_newer_agent_of_the_same_host_takes_its_place_and_the_older_one_is_told_why() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("vera").await;
    let old = fleet.agent("web-1", &[]);
    until("it is well", async || health(&operator).await.starts_with("fleet: 1 good").then_some(())).await;
    let _new = fleet.agent("web-1", &[]);
    let farewell = until("the older one is told", async || old.state().farewell.take()).await;
    let failure = rfs_link::Failure::from_status(&farewell);
    assert_eq!(
        (failure.reason, failure.message.as_str()),
        (Reason::HostBusy, "a newer connection speaks for web-1")
    );
    assert!(failure.next_step().contains("clone"), "{}", failure.next_step());
}

#[tokio::test]
async fn nobody_does_what_his_certificate_does_not_say() {
    let fleet = Fleet::start().await;
    let agent = Operator { link: fleet.connect("agent/web-1").await };
    let failure = agent.refused(agent.hosts().list_hosts(v1::ListHostsRequest::default()).await);
    assert_eq!(failure.message, "agent/web-1 cannot call ListHosts: it is for operators");

    let nobody = fleet.operator("nobody").await;
    let failure = nobody.refused(nobody.hosts().list_hosts(v1::ListHostsRequest::default()).await);
    assert_eq!(failure.reason, Reason::PermissionDenied);
    assert!(failure.next_step().ends_with("nobody = [\"viewer\"]"), "{}", failure.next_step());

    let vera = fleet.operator("vera").await;
    let hello = tokio_stream::pending();
    let failure = vera.refused(AgentLinkClient::new(vera.link.channel()).connect(hello).await);
    assert_eq!(failure.message, "operator/vera cannot call Connect: it is for the agents of hosts");
    let request = v1::GetHostRequest { name: "web-9".into() };
    let failure = vera.refused(vera.hosts().get_host(request).await);
    assert_eq!(
        (failure.reason, failure.next_step()),
        (Reason::HostNotFound, "see the hosts with: rfs host list")
    );
}

#[tokio::test]
async fn hosts_are_known_again_after_a_restart() {
    let mut fleet = Fleet::start().await;
    let web = fleet.agent("web-1", &["role=web"]);
    let operator = fleet.operator("vera").await;
    until("it is well", async || health(&operator).await.starts_with("fleet: 1 good").then_some(())).await;
    let begun = std::time::Instant::now();
    fleet.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "streams end when they are told: {:?}",
        begun.elapsed()
    );
    fleet.resume().await;
    let operator = fleet.operator("vera").await;
    assert!(health(&operator).await.starts_with("fleet: 0 good 0 bad 1 unknown"));
    until("it is back", async || health(&operator).await.starts_with("fleet: 1 good").then_some(())).await;
    drop(web);
}

#[tokio::test]
async fn a_second_coordinator_is_kept_from_the_store() {
    let fleet = Fleet::start().await;
    let error = fleet.second().await.expect_err("one has it");
    assert!(error.message.starts_with("another coordinator has the store "), "{}", error.message);
    assert_eq!(error.reason, Reason::StoreLocked);
}
