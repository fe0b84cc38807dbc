//! What would be lost, what a person decided about it, and what went: from the coordinator's question to the host's report.

use std::fs;

use rfs_agent::local::{Administration as _, SnapshotKind};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::v1;

use crate::coordinator::{Manner, Session};
use crate::host::operation;
use crate::real::{Real, command, restored};

const BEFORE: link::restored::Standing = link::restored::Standing::Before;
const TARGET: link::restored::Standing = link::restored::Standing::Target;

fn choices(keep: &[&str], accept_loss: &[&str]) -> Option<v1::RestoreChoices> {
    let texts = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Some(v1::RestoreChoices { keep: texts(keep), accept_loss: texts(accept_loss), force_stop: false })
}

async fn apply(
    session: &mut Session,
    generation: u64,
    snapshot: &str,
    choices: Option<v1::RestoreChoices>,
) -> link::Restored {
    let Down::Command(command) = command(link::Step::Apply, generation, snapshot) else {
        panic!("a command")
    };
    session.say(Down::Command(link::Command { choices, ..command })).await;
    restored(session.report().await)
}

async fn plan(session: &mut Session, snapshot: &str, choices: Option<v1::RestoreChoices>) -> v1::HostPlan {
    let snapshot = snapshot.to_owned();
    let question = link::PlanRestore { snapshot, selection: None, choices };
    let question = Some(link::query::Question::PlanRestore(question));
    session.say(Down::Query(link::Query { query_id: "1".to_owned(), question })).await;
    let answer = session.next(|message| if let Up::QueryResult(r) = message { Some(r) } else { None }).await;
    match answer.answer {
        Some(link::query_result::Answer::Plan(plan)) => plan,
        other => panic!("no plan: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_accepted_is_refused_before_anything_changes_and_what_a_person_decides_holds() {
    let mut real = Real::new("extras = \"refuse\"\n", Manner::default()).await;
    let taken = real.capture().await.to_string();
    real.deploy("v2");
    fs::write(real.path("site/rows.db"), "rows").expect("writable");
    fs::write(real.path("site/photo"), "photo").expect("writable");
    let running = real.start();
    let mut session = real.coordinator.session().await;

    let failure = plan(&mut session, &taken, None).await.failure.expect("it cannot comply");
    assert_eq!(failure.reason, "LOSS_NOT_ACCEPTED", "{failure:?}");
    let refused = apply(&mut session, 7, &taken, None).await;
    assert_eq!((refused.standing(), real.read("site/release").as_str()), (BEFORE, "v2"));
    let failure = refused.failure.expect("it says why");
    assert_eq!(failure.reason, "LOSS_NOT_ACCEPTED", "{failure:?}");
    assert!(failure.message.contains("refuses the loss of 2 entries"), "{failure:?}");
    assert!(failure.next.contains("rfs rollback retry ID --host NAME --keep PATTERN"), "{failure:?}");

    let decided = choices(&["photo"], &["*.db"]);
    let told = plan(&mut session, &taken, decided.clone()).await;
    assert_eq!((told.failure, told.loss_count, told.loss_bytes), (None, 1, 4));
    let done = apply(&mut session, 11, &taken, decided).await;
    assert_eq!((done.standing(), real.read("site/release").as_str()), (TARGET, "v1"), "{done:?}");
    let lost = done.lost.clone().expect("something went");
    assert_eq!((lost.count, lost.bytes), (1, 4));
    assert!(lost.first[0].ends_with("/site/rows.db") && !real.path("site/rows.db").exists(), "{lost:?}");
    assert_eq!(done.appeared, None, "it is what was planned");
    assert_eq!(real.read("site/photo"), "photo");
    assert!(
        done.notes.iter().any(|note| note.contains("photo is not in the snapshot and is kept")),
        "{done:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn what_came_after_the_plan_is_in_the_backup_and_named_as_such() {
    let mut real = Real::new("", Manner::default()).await;
    let taken = real.capture().await.to_string();
    real.deploy("v2");
    fs::write(real.path("site/seen"), "seen").expect("writable");
    let running = real.start();
    let mut session = real.coordinator.session().await;

    assert_eq!(plan(&mut session, &taken, None).await.loss_count, 1);
    fs::write(real.path("site/unseen"), "unseen").expect("writable");
    let done = apply(&mut session, 7, &taken, None).await;
    assert_eq!((done.standing(), done.lost.map(|lost| lost.count)), (TARGET, Some(2)));
    let appeared = done.appeared.expect("something came after the plan");
    assert_eq!((appeared.count, appeared.bytes), (1, 6));
    assert!(appeared.first[0].ends_with("/site/unseen"), "{appeared:?}");
    assert!(!real.path("site/unseen").exists());

    // It is not dropped: the backup has it.
    let back = apply(&mut session, 11, &done.backup, None).await;
    assert_eq!((back.standing(), real.read("site/unseen").as_str()), (TARGET, "unseen"));
    running.stop().await;
}

/// Waits for the report of a command, and says that it is stored.
async fn obeyed(session: &mut Session, command: Down) -> link::Report {
    session.say(command).await;
    let report = session.report().await;
    session.say(Down::ReportAck(link::ReportAck { sequence: report.sequence })).await;
    report
}

#[tokio::test]
async fn a_backup_is_listed_with_the_checkpoint_that_its_restore_went_to_and_what_keeps_it() {
    let mut real = Real::new("", Manner::default()).await;
    let running = real.start();
    let mut session = real.coordinator.session().await;
    obeyed(&mut session, command(link::Step::Prepare, 7, "")).await;
    let cut = obeyed(&mut session, command(link::Step::Cut, 8, "")).await;
    let Some(link::report::Outcome::Captured(cut)) = cut.outcome else { panic!("not cut: {cut:?}") };
    obeyed(&mut session, command(link::Step::Finish, 9, "")).await;
    real.deploy("v2");
    let rollback = "0193b5a0-0000-7000-8000-000000000077";
    let Down::Command(mut apply) = command(link::Step::Apply, 11, &cut.snapshot) else { panic!("a command") };
    apply.key.as_mut().expect("a key").operation_id = rollback.to_owned();
    restored(obeyed(&mut session, Down::Command(apply)).await);

    let listed = real.ask(|host| host.snapshots()).await.expect("a list");
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].kind, listed[1].kind), (SnapshotKind::Backup, SnapshotKind::Checkpoint));
    assert_eq!(listed[0].operation.map(|id| id.to_string()).as_deref(), Some(rollback));
    assert_eq!(listed.iter().map(|one| one.checkpoint).collect::<Vec<_>>(), [Some(operation()); 2]);
    assert_eq!(listed[0].reason, "test");
    assert!(listed[0].stays.contains("the way back of a restore"), "{listed:?}");
    running.stop().await;
}
