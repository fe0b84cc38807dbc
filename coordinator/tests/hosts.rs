//! Agents and operators at a real coordinator: who is let in, what is seen, and what is told.

mod support;

use std::time::Duration;

use rfs_link::{Exit, Failure};
use rfs_model::Reason;
use rfs_proto::agentlink::v1::agent_link_client::AgentLinkClient;
use rfs_proto::v1;
use support::{FakeAgent, Fleet, Operator, until};

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
async fn another_start_with_the_same_store_is_a_conflict_while_both_are_heard() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("vera").await;
    let old = fleet.agent("web-1", &[]);
    until("it is well", async || health(&operator).await.starts_with("fleet: 1 good").then_some(())).await;
    let new = fleet.agent("web-1", &[]);
    new.state().instance = old.state().instance;
    let farewell = until("the older one is told", async || old.state().farewell.take()).await;
    let failure = rfs_link::Failure::from_status(&farewell);
    assert_eq!(failure.reason, Reason::HostConflict);
    assert!(failure.message.starts_with("two machines with one store"), "{}", failure.message);
    assert!(failure.next_step().contains("is a copy"), "{}", failure.next_step());
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
    let known = health(&operator).await;
    // Its agent may be back already.
    let expected = ["fleet: 0 good 0 bad 1 unknown", "fleet: 1 good"];
    assert!(expected.iter().any(|expected| known.starts_with(expected)), "{known}");
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

async fn host(operator: &Operator, name: &str) -> v1::Host {
    let request = v1::GetHostRequest { name: name.into() };
    operator.good(operator.hosts().get_host(request).await)
}

async fn connected(operator: &Operator, name: &str) {
    let is_there = async || {
        let request = v1::GetHostRequest { name: name.into() };
        let host = operator.hosts().get_host(request).await.ok()?.into_inner();
        host.connected.then_some(())
    };
    until("it is connected", is_there).await;
}

async fn accept(operator: &Operator, name: &str, agent: &FakeAgent) -> v1::Host {
    let instance = agent.state().instance.to_string();
    let request = v1::AcceptHostRequest { name: name.into(), instance };
    operator.good(operator.hosts().accept_host(request).await)
}

async fn farewell(agent: &FakeAgent) -> Failure {
    Failure::from(until("it is told why", async || agent.state().farewell.take()).await)
}

#[tokio::test]
async fn two_machines_with_one_name_are_told_nothing_until_a_person_says_which_one_it_is() {
    let mut fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let original = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    assert_eq!(host(&operator, "web-1").await.instances, []);

    let clone = fleet.agent("web-1", &[]);
    for machine in [&clone, &original] {
        let failure = farewell(machine).await;
        assert_eq!(failure.reason, Reason::HostConflict, "{failure:?}");
        assert!(failure.message.starts_with("two machines speak for web-1: "), "{failure:?}");
        assert_eq!(failure.retry_after, Some(Duration::from_secs(10)));
        assert!(failure.next_step().contains("rfs host accept web-1 --instance ID"), "{failure:?}");
        assert_eq!(failure.exit(), Exit::Person);
    }
    let shown = host(&operator, "web-1").await;
    assert!(shown.contested && !shown.connected);
    let ids: Vec<_> = shown.instances.iter().map(|machine| machine.id.clone()).collect();
    let (first, second) = (original.state().instance.to_string(), clone.state().instance.to_string());
    assert_eq!(ids, [first.clone(), second.clone()], "the one that was there first");
    assert_eq!(shown.instances[0].address, "127.0.0.1");
    assert!(clone.state().welcomes == 0 && clone.state().effects.is_empty());

    // It is still so after a restart, whoever comes first.
    original.state().offline = true;
    fleet.stop().await;
    clone.state().farewell = None;
    fleet.resume().await;
    let operator = fleet.operator("alice").await;
    assert_eq!(farewell(&clone).await.reason, Reason::HostConflict);
    assert!(host(&operator, "web-1").await.contested);

    let nobody = v1::AcceptHostRequest { name: "web-1".into(), instance: uuid::Uuid::nil().to_string() };
    let failure = operator.refused(operator.hosts().accept_host(nobody).await);
    assert_eq!(failure.fields[0].field, "instance", "{failure:?}");
    let vera = fleet.operator("vera").await;
    let request = v1::AcceptHostRequest { name: "web-1".into(), instance: first.clone() };
    let failure = vera.refused(vera.hosts().accept_host(request).await);
    assert_eq!(failure.reason, Reason::PermissionDenied);

    let accepted = accept(&operator, "web-1", &original).await;
    assert!(!accepted.contested && accepted.instance == first && accepted.replaced_time.is_none());
    original.state().offline = false;
    connected(&operator, "web-1").await;
    clone.state().farewell = None;
    let failure = farewell(&clone).await;
    assert_eq!(failure.reason, Reason::HostConflict);
    assert_eq!(
        failure.message,
        format!("web-1 is the machine {first}, as a person has said; this one is {second}")
    );
    assert!(host(&operator, "web-1").await.connected, "the other one may ask as often as it likes");

    // A person who errs can say so.
    assert_eq!(accept(&operator, "web-1", &clone).await.instance, second);
    until("the clone is let in", async || (clone.state().welcomes > 0).then_some(())).await;
    until("the original is told", async || {
        original
            .state()
            .farewell
            .as_ref()
            .is_some_and(|status| status.message().contains(&second))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_checkpoint_is_complete_while_two_machines_speak_for_a_name_and_neither_does_anything() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let original = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    let clone = fleet.agent("web-1", &[]);
    farewell(&clone).await;
    let timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = v1::CreateCheckpointRequest { timeout, ..Default::default() };
    let started = operator.good(operator.checkpoints().create_checkpoint(request).await);
    let request = v1::WatchCheckpointRequest { name: started.name, ..Default::default() };
    let mut watch = operator.good(operator.checkpoints().watch_checkpoint(request).await);
    let mut state = started.state;
    while let Some(next) = watch.message().await.expect("an open stream") {
        state = next.state;
    }
    assert_eq!(state, i32::from(v1::checkpoint::State::Incomplete));
    assert!(original.state().effects.is_empty() && clone.state().effects.is_empty());
}

#[tokio::test]
async fn another_machine_under_a_name_that_nobody_holds_is_let_in_and_shown() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let old = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    let was = old.state().instance.to_string();
    drop(old);
    until("it is gone", async || (!host(&operator, "web-1").await.connected).then_some(())).await;
    let new = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    let shown = host(&operator, "web-1").await;
    let is = new.state().instance.to_string();
    assert!(shown.instance == is && shown.replaced_time.is_some() && !shown.contested, "{shown:?}");
    let ids: Vec<_> = shown.instances.iter().map(|machine| machine.id.as_str()).collect();
    assert_eq!(ids, [is.as_str(), was.as_str()]);
    let accepted = accept(&operator, "web-1", &new).await;
    assert!(accepted.connected && accepted.replaced_time.is_none(), "a person knows of it");
}

#[tokio::test]
async fn two_machines_with_one_copied_store_are_found_out_when_they_take_turns() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let original = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    let copy = fleet.agent("web-1", &[]);
    copy.state().instance = original.state().instance;
    let shown = until("they are found out", async || {
        let shown = host(&operator, "web-1").await;
        shown.contested.then_some(shown)
    })
    .await;
    assert_eq!(shown.instances.len(), 1, "{shown:?}");
    original.state().farewell = None;
    let failure = farewell(&original).await;
    assert!(failure.message.starts_with("two machines with one store ("), "{failure:?}");
}

#[tokio::test]
async fn an_agent_that_is_frozen_is_not_connected_within_ten_seconds_and_is_when_it_goes_on() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("vera").await;
    let web = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    web.state().frozen = true;
    let begun = std::time::Instant::now();
    until("it counts as gone", async || (!host(&operator, "web-1").await.connected).then_some(())).await;
    let took = begun.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(11)).contains(&took), "{took:?}");
    assert_eq!(host(&operator, "web-1").await.health(), v1::Health::Unknown);
    web.state().frozen = false;
    connected(&operator, "web-1").await;
    assert_eq!(web.state().welcomes, 1, "its connection was open all along");
}

#[tokio::test]
async fn a_welcome_names_the_operation_that_owns_the_host() {
    let mut fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let web = fleet.agent("web-1", &[]);
    connected(&operator, "web-1").await;
    assert_eq!(web.state().owner, "");
    web.state().holds_still = true;
    let request = v1::CreateCheckpointRequest::default();
    let started = operator.good(operator.checkpoints().create_checkpoint(request).await);
    fleet.stop().await;
    fleet.resume().await;
    until("it is welcomed again", async || (web.state().welcomes > 1).then_some(())).await;
    assert_eq!(format!("checkpoints/{}", web.state().owner), started.name);
}

async fn forget(operator: &Operator, name: &str) -> Result<tonic::Response<()>, tonic::Status> {
    operator.hosts().delete_host(v1::DeleteHostRequest { name: format!("hosts/{name}") }).await
}

async fn listed(operator: &Operator, show_forgotten: bool) -> Vec<v1::Host> {
    let request = v1::ListHostsRequest { show_forgotten, ..Default::default() };
    operator.good(operator.hosts().list_hosts(request).await).hosts
}

/// Takes a checkpoint of every host, and gives it once it has ended.
async fn checkpoint(operator: &Operator) -> v1::Checkpoint {
    let request = v1::CreateCheckpointRequest::default();
    let mut checkpoint = operator.good(operator.checkpoints().create_checkpoint(request).await);
    let request = v1::WatchCheckpointRequest { name: checkpoint.name.clone(), changes_only: false };
    let mut watch = operator.good(operator.checkpoints().watch_checkpoint(request).await);
    loop {
        match watch.message().await.expect("an open stream") {
            Some(next) => checkpoint = next,
            None => return checkpoint,
        }
    }
}

#[tokio::test]
async fn a_host_that_is_gone_is_forgotten_and_let_in_again_by_a_person_alone() {
    let mut fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let here = fleet.agent("web-1", &["role=web"]);
    let gone = fleet.agent("web-2", &["role=web"]);
    for name in ["web-1", "web-2"] {
        connected(&operator, name).await;
    }
    let whole = checkpoint(&operator).await;
    assert_eq!((whole.state(), whole.host_count), (v1::checkpoint::State::Complete, 2));
    let failure = operator.refused(forget(&operator, "web-2").await);
    assert_eq!(failure.reason, Reason::HostConnected);
    assert!(failure.next_step().contains("then forget it again"), "{failure:?}");
    gone.state().offline = true;
    until("it is gone", async || (!host(&operator, "web-2").await.connected).then_some(())).await;

    let request = v1::CreateCheckpointRequest::default();
    let running = operator.good(operator.checkpoints().create_checkpoint(request).await);
    let failure = operator.refused(forget(&operator, "web-2").await);
    assert_eq!(failure.reason, Reason::HostBusy, "an operation waits for it");
    let request = v1::GetCheckpointRequest { name: running.name };
    let ended = until("it gives the host up", async || {
        let now = operator.good(operator.checkpoints().get_checkpoint(request.clone()).await);
        (now.state() != v1::checkpoint::State::Creating).then_some(now)
    });
    assert_eq!(ended.await.state(), v1::checkpoint::State::Incomplete);
    let vera = fleet.operator("vera").await;
    assert_eq!(vera.refused(forget(&vera, "web-2").await).reason, Reason::PermissionDenied);

    operator.good(forget(&operator, "web-2").await);
    let failure = operator.refused(forget(&operator, "web-2").await);
    assert!(
        failure.reason == Reason::HostNotFound && failure.message.contains("forgotten before"),
        "{failure:?}"
    );
    assert_eq!(listed(&operator, false).await.len(), 1);
    let shown = host(&operator, "web-2").await;
    assert!(shown.forget_time.is_some() && shown.refused_time.is_none(), "{shown:?}");
    assert_eq!(health(&operator).await, "fleet: 1 good 0 bad 0 unknown | role=web: 1 good 0 bad 0 unknown");
    let taken = checkpoint(&operator).await;
    assert_eq!((taken.state(), taken.host_count), (v1::checkpoint::State::Complete, 1));
    let selector = Some(v1::Selector { hosts: vec!["web-2".into()], ..Default::default() });
    let named = v1::CreateCheckpointRequest { selector, ..Default::default() };
    let failure = operator.refused(operator.checkpoints().create_checkpoint(named).await);
    assert_eq!(failure.reason, Reason::HostNotFound, "{failure:?}");
    let spec = v1::RollbackSpec { checkpoint: whole.name, ..Default::default() };
    let request = v1::PlanRollbackRequest { spec: Some(spec), ..Default::default() };
    let plan = operator.good(operator.rollbacks().plan_rollback(request).await);
    assert_eq!(plan.left_out["web-2"], "no such host is known any more");

    // Its own machine, and after a restart of the coordinator, too.
    gone.state().offline = false;
    for restart in [false, true] {
        if restart {
            fleet.stop().await;
            gone.state().farewell = None;
            fleet.resume().await;
        }
        let failure = farewell(&gone).await;
        assert_eq!(failure.reason, Reason::HostForgotten, "{failure:?}");
        assert!(failure.next_step().contains("rfs host accept web-2 --instance "), "{failure:?}");
    }
    let operator = fleet.operator("alice").await;
    let all = listed(&operator, true).await;
    assert!(all.len() == 2 && all[1].refused_time.is_some() && !all[1].connected, "{all:?}");
    assert_eq!(all[1].instances.len(), 1, "the one to accept is named");
    assert_eq!(listed(&operator, false).await.len(), 1);

    let accepted = accept(&operator, "web-2", &gone).await;
    assert!(accepted.forget_time.is_none() && accepted.refused_time.is_none(), "{accepted:?}");
    connected(&operator, "web-2").await;
    assert_eq!(listed(&operator, false).await.len(), 2);
    let taken = checkpoint(&operator).await;
    assert_eq!((taken.state(), taken.host_count), (v1::checkpoint::State::Complete, 2));
    drop(here);
}
