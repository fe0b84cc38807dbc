//! One operation's crowd holds up no other operation.

use super::agents::Manner;
use super::faults::Fault;
use super::*;

/// How many reports wait: more than all queues between the hosts and a driver ever held.
const CROWD: usize = 20_000;

#[tokio::test]
async fn an_operation_with_thousands_of_waiting_reports_stalls_no_other() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        bed.agents.behaves(&host(name), Manner::Dawdles);
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.selector.hosts = [host(name)].into();
        ids.push(coordinator.operations.create_rollback(request, None).await.expect("it begins"));
    }
    let [slow, other] = ids[..] else { panic!("two rollbacks") };
    bed.settle(&coordinator, slow.into()).await;
    bed.settle(&coordinator, other.into()).await;

    // The store takes nothing more of the one, and gives no answer.
    coordinator.store.after(0, Fault::DiesBefore);
    let (stored, _never) = oneshot::channel();
    let report = bed.agents.does_it_late(&host("a"));
    let again = report.clone();
    coordinator.events.send(FleetEvent::Report { report, stored }).await.expect("somebody listens");
    coordinator.store.dead().await;
    let mut waiting = Vec::new();
    let crowd = async {
        for _ in 0..CROWD {
            let (stored, told) = oneshot::channel();
            waiting.push(told);
            let report = FleetEvent::Report { report: again.clone(), stored };
            coordinator.events.send(report).await.expect("somebody listens");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), crowd).await.expect("whoever tells of it does not wait");

    let (stored, told) = oneshot::channel();
    let report = bed.agents.does_it_late(&host("b"));
    coordinator.events.send(FleetEvent::Report { report, stored }).await.expect("somebody listens");
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    told.expect("the other operation goes on").expect("its report is stored");
    let view = coordinator.view(other).await;
    assert_eq!(short(&view.rollback().expect("a rollback").hosts[&host("b")].phase), "applied");
    assert!(waiting.iter_mut().all(|told| told.try_recv().is_err()), "nothing of the crowd is acknowledged");
}
