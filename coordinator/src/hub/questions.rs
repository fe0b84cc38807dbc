//! Questions to an agent that change nothing, and their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rfs_link::Failure;
use rfs_model::{HostId, Reason, SnapshotId};
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::query::Question;
use rfs_proto::agentlink::v1::query_result::Answer;
use rfs_proto::agentlink::v1::{PlanRestore, Query, QueryResult};
use rfs_proto::convert::failure_reason;
use rfs_proto::v1;
use rfs_rollout::{Choices, Selection};
use tokio::sync::oneshot;

use super::{Hub, convert};
use crate::driver::fleet::SendError;

/// How many questions of one agent may wait for their answers.
const WAITING: usize = 16;

/// The questions that an agent has not answered.
#[derive(Debug, Default)]
pub(super) struct Questions {
    next: AtomicU64,
    waiting: Mutex<HashMap<String, oneshot::Sender<QueryResult>>>,
}

impl Questions {
    /// A new question's id, and where its answer comes; none if too many wait already.
    fn ask(&self) -> Option<(String, oneshot::Receiver<QueryResult>)> {
        let (answer, answered) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Who does not wait any more has no place here.
        waiting.retain(|_, answer| !answer.is_closed());
        if waiting.len() >= WAITING {
            return None;
        }
        waiting.insert(id.clone(), answer);
        Some((id, answered))
    }

    /// Gives an answer to whoever waits for it.
    pub(super) fn answer(&self, result: QueryResult) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = waiting.remove(&result.query_id) {
            // Who asked may have stopped waiting.
            let _ = answer.send(result);
        }
    }

    /// The session is over: nobody waits any longer.
    pub(super) fn forget(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Hub {
    /// Asks a host what it would do to reach `snapshot`, and waits for the answer at most `patience`.
    pub async fn plan_restore(
        &self,
        host: &HostId,
        snapshot: SnapshotId,
        selection: &Selection,
        choices: &Choices,
        patience: Duration,
    ) -> Result<v1::HostPlan, Failure> {
        let absent = || Failure::new(Reason::HostUnreachable, format!("{host} has no connection"));
        let session = self.shared.roster.session(host).ok_or_else(absent)?;
        let (query_id, answered) = session.questions.ask().ok_or_else(|| {
            Failure::new(Reason::Overloaded, format!("{host} has {WAITING} questions to answer already"))
        })?;
        let question = Question::PlanRestore(PlanRestore {
            snapshot: snapshot.to_string(),
            selection: Some(convert::wire_selection(selection)),
            choices: Some(convert::wire_choices(choices)),
        });
        let query = Query { query_id, question: Some(question) };
        session.send(Down::Query(query)).map_err(|error| match error {
            SendError::NotConnected => absent(),
            SendError::Full => {
                Failure::new(Reason::Overloaded, format!("{host} does not read what it is sent"))
            }
        })?;
        let result = tokio::time::timeout(patience, answered).await.map_err(|_| {
            Failure::new(
                Reason::DeadlineExceeded,
                format!("{host} did not answer within {} s", patience.as_secs()),
            )
        })?;
        let lost = |_| Failure::new(Reason::HostUnreachable, format!("{host} lost its connection"));
        match result.map_err(lost)?.answer {
            Some(Answer::Plan(plan)) => Ok(v1::HostPlan { host: host.to_string(), ..plan }),
            Some(Answer::Failure(failure)) => {
                let told = Failure::new(failure_reason(&failure), failure.message);
                Err(if failure.next.is_empty() { told } else { told.next(failure.next) })
            }
            None => {
                Err(Failure::new(Reason::Unsupported, format!("{host} does not understand the question")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_to_its_own_question_and_too_many_questions_are_refused() {
        let questions = Questions::default();
        let asked: Vec<_> = std::iter::from_fn(|| questions.ask()).collect();
        assert_eq!(asked.len(), WAITING);
        let mut asked = asked.into_iter();
        let (id, mut second) = asked.nth(1).expect("there are two");
        questions.answer(QueryResult { query_id: id.clone(), answer: None });
        questions.answer(QueryResult { query_id: "never asked".into(), answer: None });
        assert_eq!(second.try_recv().map(|result| result.query_id), Ok(id));
        drop(asked);
        assert!(questions.ask().is_some(), "who stopped waiting makes room");
    }

    #[tokio::test]
    async fn the_end_of_a_session_is_the_end_of_its_questions() {
        let questions = Questions::default();
        let (_, answered) = questions.ask().expect("there is room");
        questions.forget();
        assert!(answered.await.is_err());
    }
}
