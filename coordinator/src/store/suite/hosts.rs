//! What every store must do with hosts: keep them, forget them, and take them back.

use super::*;

pub(super) async fn the_machines_of_a_host_are_kept_until_others_are_told(store: &dyn Store) {
    let id = |n| InstanceId::from_uuid(Uuid::from_u128(n));
    let machine = |address: &str| Machine { address: address.to_owned(), seen_at: Timestamp(3) };
    let machines = Machines {
        accepted: Some(id(1)),
        replaced_at: Some(Timestamp(2)),
        confirmed: true,
        refused_at: Some(Timestamp(5)),
        forgotten_at: None,
        contest: Some(Contest {
            since: Timestamp(4),
            text: "two machines speak for a".into(),
            next: "say which one it is".into(),
        }),
        known: [(id(1), machine("10.0.0.1")), (id(2), machine("::1"))].into(),
    };
    let kept = async || store.host(&host("a")).await.expect("a read").expect("a was seen").machines;
    store.host_seen(seen("a", 1)).await.expect("a write");
    assert_eq!(kept().await, Machines::default());
    let told = HostSeen { machines: Some(machines.clone()), ..seen("a", 1) };
    store.host_seen(told).await.expect("a write");
    assert_eq!(kept().await, machines);
    store.host_seen(seen("a", 2)).await.expect("a write");
    assert_eq!(kept().await, machines, "nothing was said of machines");
    assert_eq!(store.hosts().await.expect("a read")[0].machines, machines);
}

pub(super) async fn a_host_that_is_forgotten_is_nobodys_until_it_is_accepted_again(store: &dyn Store) {
    let names = async || {
        let rows = store.hosts().await.expect("a read");
        rows.iter().map(|row| row.host.to_string()).collect::<Vec<_>>()
    };
    assert!(matches!(store.forget_host(&host("a"), Timestamp(7)).await, Err(ForgetError::NoHost)));
    store.hosts_seen(vec![seen("a", 3), seen("b", 0)]).await.expect("a write");
    begin(store, 1, "a b").await.expect("a creation");
    match store.forget_host(&host("a"), Timestamp(7)).await {
        Err(ForgetError::HostBusy { owner }) => assert_eq!(owner, operation(1)),
        other => panic!("{other:?}"),
    }
    let all = [("a", 3), ("b", 3)];
    let over = Append { release: hosts("a b"), ..complete(1, 1, &all) };
    store.append(over).await.expect("an append");
    store.host_holds(holds("a", 1, &[])).await.expect("a write");
    assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), None, "a has dropped its snapshot");

    store.forget_host(&host("a"), Timestamp(7)).await.expect("nobody owns it");
    assert_eq!(names().await, ["b"]);
    let forgotten = store.forgotten_hosts().await.expect("a read");
    assert_eq!(forgotten.len(), 1);
    assert_eq!((&forgotten[0].host, forgotten[0].machines.forgotten_at), (&host("a"), Some(Timestamp(7))));
    assert_eq!(store.host(&host("a")).await.expect("a read").as_ref(), forgotten.first());
    let target = store.newest_complete_checkpoint().await.expect("a read");
    assert_eq!(target, Some(operation(1).into()), "it is one of the other hosts");
    assert_eq!(store.dropped_snapshots(operation(1).into()).await.expect("a read"), BTreeMap::new());
    match begin(store, 2, "a b").await {
        Err(CreateError::HostForgotten { host: refused }) => assert_eq!(refused, host("a")),
        other => panic!("{other:?}"),
    }
    let again = Append { claim: [(host("a"), Generation(4))].into(), ..append(1, 2, vec![event(2)]) };
    assert!(
        matches!(store.append(again).await, Err(AppendError::NotOwner { .. })),
        "not by the one that had it"
    );
    store.host_seen(seen("a", 9)).await.expect("a write");
    assert_eq!(names().await, ["b"], "nothing was said of machines");

    let spoken = |at| HostSeen { machines: Some(Machines::default()), at: Timestamp(at), ..seen("a", 9) };
    store.host_seen(spoken(7)).await.expect("a write");
    assert_eq!(names().await, ["b"], "it was seen before it was forgotten, and that was written late");
    store.host_seen(spoken(8)).await.expect("a write");
    assert_eq!(names().await, ["a", "b"]);
    assert_eq!(store.forgotten_hosts().await.expect("a read"), vec![]);
    assert_eq!(begin(store, 3, "a").await.expect("a creation"), [10], "generations go on");
    let changes = store.host_holds(holds("a", 8, &[])).await.expect("a write");
    assert_eq!(changes.dropped, [operation(1).into()].into(), "what it holds is compared anew");
}

pub(super) async fn of_a_creation_and_a_forgetting_at_one_moment_one_is_refused(store: Arc<impl Store>) {
    for n in 1..20 {
        let name = format!("h-{n}");
        store.host_seen(seen(&name, 0)).await.expect("a write");
        let forgetting = {
            let (store, host) = (store.clone(), host(&name));
            tokio::spawn(async move { store.forget_host(&host, Timestamp(7)).await })
        };
        let begun = begin(&*store, n, &name).await;
        let forgotten = forgetting.await.expect("no panic");
        match (&begun, &forgotten) {
            (Ok(_), Err(ForgetError::HostBusy { .. })) | (Err(CreateError::HostForgotten { .. }), Ok(())) => {
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(super) async fn a_host_that_is_seen_is_told_its_owner(store: &dyn Store) {
    assert_eq!(store.host_seen(seen("a", 0)).await.expect("a write"), None);
    begin(store, 1, "a b").await.expect("a creation");
    let owners = store.hosts_seen(vec![seen("c", 0), seen("b", 0), seen("a", 0)]).await.expect("a write");
    assert_eq!(owners, [None, Some(operation(1)), Some(operation(1))]);
    store.append(Append { release: hosts("a"), ..append(1, 1, vec![event(1)]) }).await.expect("an append");
    assert_eq!(store.host_seen(seen("a", 0)).await.expect("a write"), None);
}

pub(super) async fn hosts_are_kept_as_they_say_they_are(store: &dyn Store) {
    assert_eq!(store.hosts().await.expect("a read"), vec![]);
    store.host_seen(seen("b", 7)).await.expect("a write");
    store.host_seen(seen("a", 0)).await.expect("a write");
    let later = HostSeen {
        at: Timestamp(9),
        labels: [("role".to_owned(), "db".to_owned())].into(),
        inconsistent: true,
        details: r#"{"agent":"2"}"#.into(),
        ..seen("a", 1)
    };
    store.host_seen(later.clone()).await.expect("a write");
    let expected = HostRow {
        host: host("a"),
        last_seen: Timestamp(9),
        labels: later.labels,
        generation: Generation(1),
        inconsistent: true,
        owner: None,
        details: later.details,
        machines: Machines::default(),
    };
    assert_eq!(store.host(&host("a")).await.expect("a read"), Some(expected.clone()));
    assert_eq!(store.host(&host("c")).await.expect("a read"), None);
    let all = store.hosts().await.expect("a read");
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], expected);
    assert_eq!((&all[1].host, all[1].generation), (&host("b"), Generation(7)));
    store.hosts_heard(&[host("b"), host("ghost")], Timestamp(20)).await.expect("a write");
    store.hosts_heard(&[host("b")], Timestamp(10)).await.expect("a write");
    let last_seen: Vec<i64> =
        store.hosts().await.expect("a read").iter().map(|row| row.last_seen.0).collect();
    assert_eq!(last_seen, [9, 20], "time never runs back");
    // A host that an operation took without ever having been seen is nobody's to list.
    begin(store, 1, "ghost").await.expect("a creation");
    assert_eq!(store.hosts().await.expect("a read").len(), 2);
}

pub(super) async fn a_host_that_claims_what_cannot_be_harms_itself_alone(store: &dyn Store) {
    store.hosts_seen(vec![seen("a", 1), seen("mad", u64::MAX), seen("b", 2)]).await.expect("a write");
    assert_eq!(store.hosts().await.expect("a read").len(), 3);
    assert_eq!(begin(store, 1, "a b").await.expect("a creation"), [2, 3]);
    match begin(store, 2, "c mad").await {
        Err(CreateError::Store(error @ StoreError::Damaged { .. })) => {
            assert_eq!(error.to_string(), "the generation of host mad cannot be read");
        }
        other => panic!("{other:?}"),
    }
    begin(store, 3, "c").await.expect("c was not taken by the operation that could not begin");
}
