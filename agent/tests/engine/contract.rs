//! What every kind of component must keep: a plan after a flip is empty, and an unflip brings back what was.

use rfs_agent::commander::Selection;
use rfs_agent::component::choices::Choices;
use rfs_agent::component::{self, Component, Side};
use rfs_model::ComponentKind;
use rfs_store::{Cancel, Snapshot, SnapshotNote, Store};

use crate::bed::{Bed, clock};

/// Everything that a kind needs to be tested: how its live state is changed.
fn change(kind: ComponentKind, bed: &Bed) {
    match kind {
        ComponentKind::Files => bed.deploy("v2"),
        ComponentKind::Services => std::fs::remove_file(bed.path("up")).expect("it was up"),
    }
}

#[test]
fn every_kind_keeps_the_contract() {
    for kind in ComponentKind::ALL {
        check(kind);
    }
}

fn check(kind: ComponentKind) {
    let bed = Bed::new();
    let store = Store::open(&bed.path("store"), clock()).expect("opens");
    let components = component::all(&bed.config());
    let component =
        components.iter().find(|c| c.kind() == kind).unwrap_or_else(|| panic!("no {kind} is registered"));
    let all = Selection::default();
    let cancel = Cancel::new();
    let observe = || component.observe(&store, &cancel).expect("observes");

    let target = captured(&store, component.as_ref(), &bed);
    let wanted = bed.state();
    assert_eq!(
        observe().plan(&target, &all, &Choices::default()).expect("plans").step_count(),
        0,
        "{kind}: nothing has changed"
    );

    change(kind, &bed);
    let before = bed.state();
    assert_ne!(before, wanted, "{kind}: the change changes something");
    let plan = observe().plan(&target, &all, &Choices::default()).expect("plans");
    assert!(plan.step_count() > 0, "{kind}");
    assert_eq!(plan.lines(1000).len() as u64, plan.step_count(), "{kind}: a line for each step");
    assert!(plan.lines(1).len() <= 1, "{kind}: no more lines than asked for");

    let staged = plan.stage(&store, "1.0-test", &cancel).expect("stages");
    assert_eq!(bed.state(), before, "{kind}: staging changes nothing");
    assert_eq!(staged.step_count(), plan.step_count(), "{kind}");
    assert_eq!(staged.standing().expect("stands"), Side::Before, "{kind}");

    // What the journal keeps serves as well as what was staged, twice as well as once.
    let journalled = component.staged(&staged.journalled().expect("journals")).expect("reads back");
    for _ in 0..2 {
        journalled.flip().expect("flips");
        assert_eq!(bed.state(), wanted, "{kind}");
        assert_eq!(staged.standing().expect("stands"), Side::Target, "{kind}");
        assert_eq!(
            observe().plan(&target, &all, &Choices::default()).expect("plans").step_count(),
            0,
            "{kind}: at the target"
        );
    }
    for _ in 0..2 {
        journalled.unflip().expect("flips back");
        journalled.settle().expect("settles");
        assert_eq!(bed.state(), before, "{kind}: as before");
        assert_eq!(staged.standing().expect("stands"), Side::Before, "{kind}");
    }
    for _ in 0..2 {
        journalled.discard().expect("discards");
        component.sweep("1.0-test").expect("sweeps");
        assert_eq!(bed.state(), before, "{kind}: what is live stays");
    }
    assert!(bed.leftovers().is_empty(), "{kind}: {:?}", bed.leftovers());
    assert!(component.staged("not json").is_err(), "{kind}: a journal that cannot be read is no stage");
}

fn captured(store: &Store, component: &dyn Component, bed: &Bed) -> Snapshot {
    let before = bed.state();
    let capture = store.begin().expect("begins");
    component.capture(&capture, &Cancel::new()).expect("captures");
    assert_eq!(bed.state(), before, "a capture changes nothing");
    let note = SnapshotNote { host: bed.config().host, label: "local: test".into(), operation: None };
    let info = capture.commit(note).expect("commits");
    store.snapshot(info.id).expect("opens")
}
