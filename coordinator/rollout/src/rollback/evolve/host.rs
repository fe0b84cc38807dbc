//! What happens to one host of a rollback.

use std::mem;

use rfs_model::{Generation, Health, InstanceId, Reason, SnapshotId, Standing, Timestamp};

use crate::host::{Answer, Failure, Removed, StepKind};
use crate::request::Choices;
use crate::rollback::state::{Earlier, Elsewhere, HealthRecord, HostPhase, HostRecord};

impl HostRecord {
    /// It is in `health` since `since`.
    pub(super) fn observe(
        &mut self,
        at: Timestamp,
        health: Health,
        since: Timestamp,
        evidence: &str,
        watched: bool,
    ) {
        let last_bad = if health == Health::Bad { Some(at) } else { self.health.last_bad };
        let HealthRecord { after, measured_at, .. } = self.health;
        let evidence = evidence.to_owned();
        self.health = HealthRecord { health, since, last_bad, evidence, after, measured_at, before: None };
        if let HostPhase::Passed { doubtful_since } = &mut self.phase {
            match health {
                Health::Good => *doubtful_since = None,
                Health::Unknown | Health::Bad if watched => drop(doubtful_since.get_or_insert(at)),
                Health::Unknown | Health::Bad => {}
            }
        }
    }

    /// It has a connection.
    pub(super) fn connect(&mut self, at: Timestamp, watched: bool) {
        (self.connected, self.returns) = (true, false);
        self.connection_since = at;
        if let HostPhase::Passed { doubtful_since } = &mut self.phase
            && !watched
        {
            *doubtful_since = None;
        }
    }

    /// Nobody listened: whether it is there, and how well it is, is not known until it is heard again.
    pub(super) fn await_return(&mut self, at: Timestamp) {
        if self.connected {
            (self.connected, self.returns) = (false, true);
            self.connection_since = at;
        }
        let HealthRecord { health, since, measured_at, .. } = self.health;
        let known = (health != Health::Unknown).then(|| {
            Box::new(Earlier { health, since, evidence: self.health.evidence.clone(), measured_at })
        });
        let before = known.or_else(|| self.health.before.take());
        // Even where health is not looked at: this may be an older copy of the history, and only the host can say whether it
        // has obeyed newer commands.
        self.forget_health(at, "not heard since the coordinator was away", true);
        self.health.before = before;
    }

    /// Its health is what it was before nobody listened.
    pub(super) fn recall_health(&mut self, at: Timestamp, watched: bool) {
        let Some(before) = self.health.before.take() else { return };
        self.observe(at, before.health, before.since, &before.evidence, watched);
        self.health.measured_at = before.measured_at;
    }

    /// It is told to stop and say where it stands.
    pub(super) fn stop(&mut self, deadline: Timestamp) {
        self.told = StepKind::Cancel.generation(self.generation);
        self.phase = HostPhase::Cancelling { deadline };
    }

    /// Another attempt, once generations are reserved for it.
    pub(super) fn try_again(&mut self, at: Timestamp, late: bool) {
        let waits = self.phase.waits() || self.phase == HostPhase::Skipped;
        if !waits {
            let before = self.stood_before();
            let may_have_obeyed = self.may_be_asked() && self.was_told() && !self.never_obeyed();
            self.unanswered = may_have_obeyed.then(|| before.clone());
            self.fallback = match &self.phase {
                HostPhase::Lost if self.may_be_asked() && !may_have_obeyed => before,
                phase @ (HostPhase::Unhealthy | HostPhase::Lost | HostPhase::Inconsistent) => phase.clone(),
                _ => HostPhase::Unchanged,
            };
            // A host that went back by itself has let its backup go.
            if self.fallback == HostPhase::Unchanged {
                self.backup = None;
            }
        }
        self.again_at = at;
        self.phase = HostPhase::Again;
        self.attempt += u32::from(self.granted);
        self.granted = false;
        self.given_up = false;
        self.silent = false;
        self.late = late;
        self.remember_removed();
        self.receipt = None;
        self.restore = None;
        self.heard_late = None;
    }

    /// Another change is to come, or has come: what the last one removed is remembered.
    fn remember_removed(&mut self) {
        let Some(receipt) = &self.receipt else { return };
        let lost = receipt.lost().filter(|lost| !lost.is_empty());
        // Said again, it is still one change.
        let is_known = |backup: &SnapshotId| self.removed.iter().any(|removed| removed.backup == *backup);
        if let Some((lost, backup)) = lost.zip(receipt.backup.filter(|backup| !is_known(backup))) {
            self.removed.push(Removed { lost: lost.clone(), backup });
        }
    }

    pub(super) fn decide(&mut self, choices: &Choices) {
        self.choices = Some(self.decided(choices)).filter(|choices| !choices.is_empty()).map(Box::new);
    }

    /// What holds for its next attempt, beside what holds for the whole rollback, if `choices` are made for that. A loss is accepted
    /// for one attempt; but what an earlier attempt kept does not go with a later one, unless it is accepted by the same words.
    pub(in crate::rollback) fn decided(&self, choices: &Choices) -> Choices {
        let kept = self.choices.iter().flat_map(|before| &before.keep);
        let kept = kept.filter(|pattern| !choices.accept_loss.contains(*pattern));
        Choices { keep: kept.chain(&choices.keep).cloned().collect(), ..choices.clone() }
    }

    /// Where it stood before its present attempt: an earlier one may have brought it to the target.
    pub(super) fn stood_before(&self) -> HostPhase {
        // One that was to be tried again, and has not answered yet, stands where its last attempt began.
        let stood = self.unanswered.as_ref().unwrap_or(&self.fallback);
        if stood.at_target() { stood.clone() } else { HostPhase::Unchanged }
    }

    /// It is not tried again, and stands where its last attempt has put it. What that was may be heard yet.
    pub(super) fn stay(&mut self) {
        self.phase = self.fallback.clone();
        if let Some(before) = self.unanswered.take() {
            self.fallback = before;
        }
    }

    /// Whether it is known that a lost host obeyed none of its present generations: it had not when it came back after it was
    /// lost, and nothing was sent to it since.
    pub(super) fn never_obeyed(&self) -> bool {
        self.came_back_below(self.generation)
    }

    /// Whether it had obeyed nothing from `generation` on when it came back after it was lost.
    fn came_back_below(&self, generation: Generation) -> bool {
        let since = self.finished_at.is_some_and(|lost| self.connection_since > lost);
        self.connected && since && self.accepted.is_some_and(|accepted| accepted < generation)
    }

    /// It is not brought in line any more; one that is at work is told to stop. If it was to go back, `next` is what is to be
    /// done about it instead.
    pub(super) fn withdraw(&mut self, next: &str) {
        match self.phase {
            HostPhase::Applying { deadline } => self.stop(deadline),
            HostPhase::Cancelling { .. } | HostPhase::Reverting { .. } => {}
            _ => self.give_up(next),
        }
    }

    /// This rollback has nothing more to do here. A host that was tried before stands where that put it.
    pub(super) fn give_up(&mut self, next: &str) {
        match self.phase {
            HostPhase::Applied { .. } | HostPhase::Passed { .. } => {}
            HostPhase::Untouched | HostPhase::Again | HostPhase::Skipped if self.failure.is_some() => {
                self.stay()
            }
            // Where it stands is not known, and is not waited for any more.
            HostPhase::Lost => self.unanswered = None,
            _ => self.phase = HostPhase::Superseded,
        }
        self.stays_behind(next);
        self.late = false;
    }

    /// Its health is unknown from now on, for the reason that `evidence` gives.
    pub(super) fn forget_health(&mut self, at: Timestamp, evidence: &str, watched: bool) {
        self.observe(at, Health::Unknown, at, evidence, watched);
        self.health.measured_at = None;
    }

    /// What another machine left here, or made of this one, is not known.
    pub(super) fn replace(&mut self, at: Timestamp, instance: InstanceId) {
        // It is told to go back to nothing that it has not made, and what another one removed, it cannot bring back.
        self.remember_removed();
        let (backup, removed) = (self.backup.take(), mem::take(&mut self.removed));
        if let Some(receipt) = &mut self.receipt {
            receipt.findings = None;
        }
        if let Some(before) = self.instance.filter(|_| self.was_told()) {
            let (generation, fallback) = (self.generation, self.fallback.clone());
            self.elsewhere.insert(before, Elsewhere { generation, fallback, backup, removed });
        }
        let known = self.elsewhere.remove(&instance);
        if let Some(known) = &known {
            (self.backup, self.removed) = (known.backup, known.removed.clone());
        }
        let goes_back = matches!(self.phase, HostPhase::Reverting { .. }) || self.is_left_behind();
        self.instance = Some(instance);
        // It counts its restores anew.
        self.restore = None;
        self.heard_late = None;
        let stood = self.phase.at_target()
            || goes_back
            || matches!(self.phase, HostPhase::Reverted | HostPhase::RevertFailed | HostPhase::Inconsistent);
        // One that answered that it is as it was may have spoken for another one that was told to change, and of one that was
        // lost only the first machine could say where it stands.
        let unchanged = matches!(self.phase, HostPhase::Unchanged | HostPhase::Lost) && self.was_told();
        let waits = self.phase.waits() || self.phase == HostPhase::Skipped;
        // Only the first one could have said what became of its attempt.
        self.unanswered = None;
        if waits && self.was_told() {
            // The other machine is tried all the same; where the first one stands is not known.
            self.fallback = HostPhase::Lost;
        }
        if self.phase.at_work() {
            self.fallback = match known {
                // Who says "as before" from now on has never been at the target.
                None => HostPhase::Unchanged,
                Some(known) if known.generation == self.generation => known.fallback,
                // It may be there since an earlier attempt.
                Some(_) => HostPhase::Lost,
            };
        }
        if stood || unchanged {
            let why = if goes_back { ", and the backup to go back to is on the one before" } else { "" };
            let text = format!(
                "another machine speaks for it now (instance {instance}){why}; where that stands is not known"
            );
            self.take_as_lost(at, Failure::new(Reason::HostReplaced, text));
        }
    }

    pub(super) fn take_as_lost(&mut self, at: Timestamp, failure: Failure) {
        self.failure = Some(failure);
        self.finished_at = Some(at);
        self.phase = HostPhase::Lost;
    }

    /// It was not heard of past its deadline; if that is `for_good`, it is not asked any more. One that was to go back is
    /// `told_again` if it was out of reach.
    pub(super) fn lose(&mut self, at: Timestamp, for_good: bool, told_again: bool) {
        let goes_back = matches!(self.phase, HostPhase::Reverting { .. });
        self.silent = matches!(self.phase, HostPhase::Cancelling { .. }) && (self.connected || for_good);
        self.failure = Some(match &self.contested {
            Some(text) => Failure::new(Reason::HostConflict, text.clone()),
            None => Failure::new(Reason::DeadlineExceeded, "not heard of past its deadline")
                .next("look at the host's rfs-agent"),
        });
        self.finished_at = Some(at);
        match goes_back {
            true if told_again && !self.connected && self.contested.is_none() => {
                self.leave_behind(self.left_at_target());
            }
            true => self.phase = HostPhase::RevertFailed,
            false => self.phase = HostPhase::Lost,
        }
    }

    /// It is at its target, as far as anybody knows, and goes back when it is there to be told; one on which nothing had to
    /// change is back.
    pub(super) fn leave_behind(&mut self, failure: Failure) {
        if self.backup.is_none() {
            self.phase = HostPhase::Reverted;
            return;
        }
        self.failure = Some(failure);
        self.fallback = HostPhase::RevertFailed;
        self.phase = HostPhase::Skipped;
    }

    pub(super) fn report(&mut self, at: Timestamp, step: StepKind, answer: &Answer, watched: bool) {
        let Some(phase) = self.after(at, step, answer) else { return };
        self.finished_at = Some(at);
        self.failure = match answer {
            Answer::Refused(failure) | Answer::Failed(failure) => Some(failure.clone()),
            Answer::Restored(restored) => restored.failure.clone(),
            Answer::Prepared | Answer::Captured(_) | Answer::Finished => None,
        };
        if phase.failed() && self.failure.is_none() {
            self.failure = Some(match step {
                StepKind::Cancel => Failure::new(Reason::Cancelled, "stopped before it was changed"),
                _ => Failure::new(Reason::Internal, "the host did not say why"),
            });
        }
        if let Answer::Restored(restored) = answer {
            // Of several attempts the first backup counts: later ones may hold what an earlier attempt had made.
            if step != StepKind::Revert {
                self.backup = self.backup.or(restored.backup);
            }
            self.remember_removed();
            if step == StepKind::Revert && restored.standing == Standing::Target {
                // What came after that backup, and went with a later attempt, is not in it.
                let backup = self.backup;
                self.removed.retain(|removed| Some(removed.backup) != backup);
            }
            self.receipt = Some(Box::new(restored.clone()));
            self.overtaken = false;
            self.restore = restored.restore.or(self.restore);
        }
        self.phase = match self.unanswered.clone().filter(|_| self.waits_for_answer()) {
            // What became of the attempt before is known now, and the next one can begin.
            Some(before) if phase == before => {
                if before == HostPhase::Unchanged {
                    self.backup = None;
                }
                self.fallback = before;
                self.phase.clone()
            }
            Some(_) => {
                // It is answered, and needs no other attempt.
                self.granted = true;
                phase
            }
            None => phase,
        };
        self.unanswered = None;
        self.given_up = false;
        self.heard_late = None;
        // What was measured before the change says nothing of what is there now.
        if self.restore.is_some_and(|restore| self.health.after < restore) {
            self.forget_health(at, "not measured since its change", watched);
        }
    }

    /// Where `answer` puts the host; none if it says nothing new.
    pub(in crate::rollback) fn after(
        &self,
        at: Timestamp,
        step: StepKind,
        answer: &Answer,
    ) -> Option<HostPhase> {
        let target = match (step, &self.phase) {
            (
                StepKind::Apply,
                HostPhase::Applying { .. } | HostPhase::Cancelling { .. } | HostPhase::Lost,
            ) => HostPhase::Applied { since: at },
            (StepKind::Apply | StepKind::Cancel, _) if self.waits_for_answer() => {
                HostPhase::Applied { since: at }
            }
            // A stop that found nothing at work was heard before the end of what it was to stop.
            (StepKind::Apply, HostPhase::Unchanged) if self.was_stopped() => HostPhase::Applied { since: at },
            (StepKind::Cancel, HostPhase::Cancelling { .. } | HostPhase::Lost) => {
                HostPhase::Applied { since: at }
            }
            (StepKind::Revert, HostPhase::Reverting { .. }) => HostPhase::Reverted,
            (StepKind::Revert, HostPhase::RevertFailed) if self.receipt_is_of_apply() => HostPhase::Reverted,
            (StepKind::Revert, HostPhase::Skipped | HostPhase::Again)
                if self.was_told_to_go_back() && self.is_left_behind() =>
            {
                HostPhase::Reverted
            }
            _ => return None,
        };
        let before = match step {
            StepKind::Revert => HostPhase::RevertFailed,
            _ if self.waits_for_answer() => self.unanswered.clone()?,
            _ => self.fallback.clone(),
        };
        let phase = match answer {
            Answer::Restored(restored) => match restored.standing {
                Standing::Target => target,
                Standing::Before => before,
                Standing::Inconsistent => HostPhase::Inconsistent,
            },
            // It was at neither state before it was asked.
            Answer::Refused(failure) | Answer::Failed(failure) if failure.reason == Reason::Inconsistent => {
                HostPhase::Inconsistent
            }
            // A stop that was not taken says nothing of where the host stands; the end of what it was to stop does.
            Answer::Refused(_) | Answer::Failed(_) if step == StepKind::Cancel => return None,
            Answer::Refused(_) | Answer::Failed(_) => before,
            Answer::Finished if step == StepKind::Cancel => before,
            Answer::Finished | Answer::Prepared | Answer::Captured(_) => return None,
        };
        (phase != self.phase).then_some(phase)
    }

    /// Whether it is to be tried again once it has said what became of its last attempt.
    pub(in crate::rollback) fn waits_for_answer(&self) -> bool {
        self.unanswered.is_some() && matches!(self.phase, HostPhase::Again | HostPhase::Skipped)
    }

    /// Whether it is to be told to go back again, and may have gone back when it was told before: with new generations that
    /// answer would count no more, and it may have let its backup go.
    pub(in crate::rollback) fn may_have_gone_back(&self) -> bool {
        let told = self.is_left_behind() && self.was_told_to_go_back();
        let waits = self.phase == HostPhase::Again && told;
        waits && !self.came_back_below(StepKind::Revert.generation(self.generation))
    }

    /// Whether it was not heard of, and may yet say where it stands. Another machine, and one that has obeyed newer commands,
    /// could only speak of something else.
    pub(in crate::rollback) fn may_be_asked(&self) -> bool {
        let silent =
            |failure: &Failure| matches!(failure.reason, Reason::DeadlineExceeded | Reason::HostConflict);
        self.phase == HostPhase::Lost && !self.overtaken && self.failure.as_ref().is_none_or(silent)
    }

    /// Whether it was ever told to change.
    pub(in crate::rollback) fn was_told(&self) -> bool {
        self.started_at.is_some()
    }

    fn was_stopped(&self) -> bool {
        self.receipt.is_none()
            && self.failure.as_ref().is_some_and(|failure| failure.reason == Reason::Cancelled)
    }

    /// Whether the host was given up on its way back before it answered.
    fn receipt_is_of_apply(&self) -> bool {
        let unheard = |failure: &Failure| {
            let unreachable = failure.reason == Reason::HostUnreachable && self.was_told_to_go_back();
            unreachable || failure.reason == Reason::DeadlineExceeded
        };
        self.failure.as_ref().is_some_and(unheard)
    }

    /// Whether it was told to go back in its present attempt.
    pub(in crate::rollback) fn was_told_to_go_back(&self) -> bool {
        self.told >= StepKind::Revert.generation(self.generation)
    }
}
