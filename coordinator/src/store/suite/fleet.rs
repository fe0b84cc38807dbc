//! The contract for whole fleets: what is written for many hosts with one statement is the same as for each alone.

use super::*;

/// More than one statement carries.
const HOSTS: usize = 450;

fn names() -> Vec<String> {
    (0..HOSTS).map(|number| format!("h-{number:03}")).collect()
}

pub(super) async fn many_hosts_are_taken_and_let_go_at_once_or_not_at_all(store: &dyn Store) {
    let (names, some) = (names(), [7, 300]);
    let all = names.join(" ");
    store.host_seen(seen(&names[some[0]], 41)).await.expect("a write");
    let firsts = begin(store, 1, &all).await.expect("a creation");
    let expected = |place: usize| if place == some[0] { 42 } else { 1 };
    assert_eq!(firsts, (0..HOSTS).map(expected).collect::<Vec<_>>());

    let but = |left: usize| {
        hosts(
            &names
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != left)
                .map(|(_, name)| name.as_str())
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    let released = Append { release: but(some[1]), ..append(1, 1, vec![event(1)]) };
    store.append(released).await.expect("an append");
    match begin(store, 2, &all).await {
        Err(CreateError::HostBusy { host: busy, owner }) => {
            assert_eq!((busy, owner), (host(&names[some[1]]), operation(1)));
        }
        other => panic!("{other:?}"),
    }
    let free = but(some[1]).iter().map(HostId::as_str).collect::<Vec<_>>().join(" ");
    let firsts = begin(store, 3, &free).await.expect("nothing was taken by the one that could not begin");
    assert_eq!(firsts[0], 1 + GENERATIONS);
}

pub(super) async fn hosts_are_read_by_name_and_an_operation_is_known_without_its_history(store: &dyn Store) {
    let names = names();
    store.hosts_seen(names.iter().map(|name| seen(name, 1)).collect()).await.expect("a write");
    let mut asked: Vec<_> = names.iter().skip(10).map(|name| host(name)).collect();
    asked.push(host("stranger"));
    let mut found = store.hosts_of(&asked).await.expect("a read");
    found.sort_by(|a, b| a.host.cmp(&b.host));
    assert_eq!(found, store.hosts().await.expect("a read")[10..]);
    assert_eq!(store.hosts_of(&[]).await.expect("a read"), []);

    begin(store, 1, "h-001").await.expect("a creation");
    store.delete(operation(1), Timestamp(9)).await.expect("a write");
    assert!(store.knows(operation(1)).await.expect("a read"), "deleted, but it was there");
    assert!(!store.knows(operation(2)).await.expect("a read"));
}

pub(super) async fn what_is_said_of_many_hosts_together_is_as_if_each_had_been_alone(store: &dyn Store) {
    begin(store, 1, "h-003").await.expect("a creation");
    let known = Machines { confirmed: true, ..Machines::default() };
    let mut said: Vec<HostSeen> = names().iter().map(|name| seen(name, 5)).collect();
    said[3].machines = Some(known.clone());
    // The same host again: the last word counts, and its generation never falls.
    said.push(HostSeen { at: Timestamp(9), ..seen("h-003", 2) });
    let owners = store.hosts_seen(said).await.expect("a write");
    let owned: Vec<usize> = (0..owners.len()).filter(|place| owners[*place] == Some(operation(1))).collect();
    assert_eq!(owned, [3, HOSTS]);
    let row = store.host(&host("h-003")).await.expect("a read").expect("it was seen");
    assert_eq!((row.last_seen, row.generation, row.machines), (Timestamp(9), Generation(5), known));
    assert_eq!(store.hosts().await.expect("a read").len(), HOSTS);
}

pub(super) async fn another_attempt_on_many_hosts_is_given_for_each_as_if_it_were_alone(store: &dyn Store) {
    let names = names();
    let (all, said) = (hosts(&names.join(" ")), names.iter().map(|name| seen(name, 0)).collect());
    store.hosts_seen(said).await.expect("a write");
    let rollback = async |n, of: &str| {
        let row = OperationRow { kind: OperationKind::Rollback, ..row(n) };
        store.create(NewOperation { row, ..new(n, of) }).await.expect("a creation");
    };
    let release = async |n, expected, release: BTreeSet<HostId>| {
        let append = Append { release, ..append(n, expected, vec![event(1)]) };
        store.append(append).await.expect("an append");
    };
    rollback(1, &names.join(" ")).await;
    release(1, 1, all.clone()).await;
    // One is owned by a checkpoint, one was changed by another rollback since, one is gone for good.
    let (busy, taken, gone) = (host(&names[3]), host(&names[300]), host(&names[449]));
    begin(store, 2, busy.as_str()).await.expect("a creation");
    rollback(3, taken.as_str()).await;
    release(3, 1, [taken.clone()].into()).await;
    store.forget_host(&gone, Timestamp(9)).await.expect("a write");

    let reserved = store.reserve(operation(1), &all, GENERATIONS).await.expect("a write");
    assert_eq!(reserved.len(), HOSTS);
    for (is, came) in &reserved {
        let expected = match is {
            is if *is == busy => Reserved::Busy(operation(2)),
            is if *is == taken || *is == gone => Reserved::Superseded,
            _ => Reserved::First(Generation(1 + GENERATIONS)),
        };
        assert_eq!(*came, expected, "{is}");
    }
    let claim = |but: &[&HostId]| -> BTreeMap<HostId, Generation> {
        let claimed = all.iter().filter(|host| !but.contains(host));
        claimed.map(|host| (host.clone(), Generation(1 + GENERATIONS))).collect()
    };
    for (but, refused) in [(&[][..], &busy), (&[&busy], &taken), (&[&busy, &taken], &gone)] {
        let append = Append { claim: claim(but), ..append(1, 2, vec![event(2)]) };
        match store.append(append).await {
            Err(AppendError::NotOwner { host }) => assert_eq!(&host, refused),
            other => panic!("{other:?}"),
        }
    }
    let append = Append { claim: claim(&[&busy, &taken, &gone]), ..append(1, 2, vec![event(2)]) };
    store.append(append).await.expect("all of these are its own");
}
