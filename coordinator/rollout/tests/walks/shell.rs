//! The coordinator around the pure functions, as the real one is: it looks at hosts, decides, stores, and sends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{Generation, Health, HostId, Timestamp};
use rfs_rollout::outside::Ill;
use rfs_rollout::rollback::{COMPARING, HostRecord, Outcome, RETURN, RollbackEvent};
use rfs_rollout::{
    Command, Connected, Draft, Event, GENERATIONS, Operation, Outside, Person, PersonAction, Reading, Report,
    StepKind, Work,
};

use super::fault::Fault;
use super::hub::{Session, Welcome};
use super::world::{Coordinator, Down, SILENT, Said, World, seconds};

/// How long a driver may take to look at a host.
const LOOK: usize = 1_000;
/// A standstill that is longer is noticed.
const STOOD_STILL: u64 = 7;

impl World {
    /// What the coordinator's clock shows.
    pub(super) fn coordinator_now(&self) -> Timestamp {
        Timestamp(self.now.0 + self.coordinator.offset)
    }

    /// A machine says hello.
    pub(super) fn hello(&mut self, machine: usize) {
        let agent = &self.machines[machine];
        if !agent.reaches() {
            return;
        }
        if self.coordinator.is_away {
            return self.try_again(machine, seconds(1));
        }
        let host = agent.host.clone();
        self.coordinator.sessions += 1;
        self.machines[machine].session = self.coordinator.sessions;
        let agent = &self.machines[machine];
        let session = Session {
            number: self.coordinator.sessions,
            machine,
            instance: agent.instance,
            accepted: agent.highest,
            snapshot: agent.content,
            since: self.now,
            heard_at: self.now,
            reading: Reading::unknown(self.coordinator_now(), "not heard yet"),
            commanded: false,
        };
        let (now, fault) = (self.now, self.fault);
        let seat = self.seats.get_mut(&host).expect("it is there");
        let other = seat.session.as_ref().map(|session| session.machine).filter(|other| *other != machine);
        match seat.hello(session, now, fault) {
            Welcome::Admitted => {
                self.note_look(&host);
                self.say(machine);
            }
            Welcome::Refused => return self.try_again(machine, seconds(10)),
            Welcome::Contested => {
                self.note_look(&host);
                self.try_again(machine, seconds(10));
            }
        }
        if let Some(other) = other {
            self.try_again(other, seconds(10));
        }
    }

    /// The machine's session is over, and the coordinator knows it.
    pub(super) fn lose_session(&mut self, machine: usize) {
        let host = self.machines[machine].host.clone();
        let now = self.now;
        let seat = self.seats.get_mut(&host).expect("it is there");
        if self.coordinator.is_away || seat.session.as_ref().is_none_or(|session| session.machine != machine)
        {
            return;
        }
        seat.leave(now);
        // What was on its way either way is lost, or some of it is: a stale session may deliver late.
        if self.dice.percent(70) {
            self.down.retain(|down| down.machine != machine);
        }
        self.note_look(&host);
        self.try_again(machine, seconds(1));
    }

    fn note_look(&mut self, host: &HostId) {
        let due = self.now.plus(Duration::from_millis(self.dice.below(LOOK) as u64));
        self.coordinator.look.entry(host.clone()).or_insert(due);
    }

    /// What the coordinator does by itself at this moment.
    pub(super) fn coordinate(&mut self) {
        self.listen();
        let now = self.now;
        while self.air.front().is_some() {
            let Some(at) = self.air.iter().position(|said| said.due <= now) else { break };
            let said = self.air.remove(at).expect("it is there");
            self.hear(said);
        }
        let due: Vec<HostId> = self
            .coordinator
            .look
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(host, _)| host.clone())
            .collect();
        if !due.is_empty() {
            let commands = due.iter().flat_map(|host| self.look(host)).collect();
            self.decide(commands);
        }
        let (at, coordinator) = (self.coordinator_now(), &self.coordinator);
        let rests = coordinator.not_before.is_some_and(|before| before > at);
        if coordinator.wake.is_some_and(|wake| wake <= at) && !rests {
            self.decide(vec![Command::Tick]);
        }
        if self.coordinator.comparing.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.coordinator.comparing = None;
            self.send();
        }
        if self.coordinator.returning.take_if(|(_, until)| *until <= now).is_some() {
            self.decide(vec![Command::Tick]);
        }
        if self.coordinator.unread_until.take_if(|until| *until <= now).is_some() {
            self.decide(vec![Command::Tick]);
        }
    }

    /// Sessions are heard all the time, or fall silent.
    fn listen(&mut self) {
        let now = self.now;
        let mut changed = Vec::new();
        for (host, seat) in &mut self.seats {
            let Some(session) = &mut seat.session else { continue };
            let seen = self.coordinator.seen.get(host).copied().flatten();
            let was_silent = now.since(session.heard_at) >= SILENT;
            if self.machines[session.machine].reaches() {
                session.heard_at = now;
                if was_silent && seen != Some(session.number) {
                    changed.push(host.clone());
                }
            } else if was_silent && seen == Some(session.number) {
                seat.absent_since = now;
                changed.push(host.clone());
            }
        }
        if self.fault == Some(Fault::SilenceCountsAsConnected) {
            return;
        }
        for host in changed {
            self.coordinator.look.entry(host).or_insert(now);
        }
    }

    fn hear(&mut self, said: Said) {
        let at = self.coordinator_now();
        let host = self.machines[said.machine].host.clone();
        let Some(session) = &mut self.seats.get_mut(&host).expect("it is there").session else { return };
        // What waited while the coordinator stood still is older than it looks. The agent says it again.
        let waited = said.sent < self.coordinator.stood_until;
        if session.number != said.session || (waited && self.fault != Some(Fault::BufferedReadingsCount)) {
            return;
        }
        let ago = |age: Duration| Timestamp(at.0 - i64::try_from(age.as_millis()).expect("a walk is short"));
        session.reading = Reading {
            health: said.health,
            since: ago(said.age),
            after: said.after,
            measured_at: said.measured.map(ago),
            heard_at: at,
            evidence: "the walk's".into(),
        };
        self.note_look(&host);
    }

    /// What was said when the rollback was asked for has arrived.
    pub(super) fn hear_all(&mut self) {
        while let Some(said) = self.air.pop_front() {
            self.hear(said);
        }
    }

    pub(super) fn look_at_all(&mut self) {
        let hosts: Vec<HostId> = self.seats.keys().cloned().collect();
        let commands = hosts.iter().flat_map(|host| self.look(host)).collect();
        self.decide(commands);
    }

    /// Looks at a host, and says how it is.
    fn look(&mut self, host: &HostId) -> Vec<Command> {
        self.coordinator.look.remove(host);
        let (now, at, fault) = (self.now, self.coordinator_now(), self.fault);
        let first = self.machines[self.seats[host].machines[0]].instance;
        let seat = self.seats.get_mut(host).expect("it is there");
        let silent = if fault == Some(Fault::SilenceCountsAsConnected) { Duration::MAX } else { SILENT };
        let is = seat.heard_session(now, silent).map(|session| session.number);
        let had = self.coordinator.seen.insert(host.clone(), is).flatten();
        let mut commands = Vec::new();
        if (had.is_some() && had != is) || is.is_none() {
            commands.push(Command::Disconnected(host.clone()));
        }
        if let Some(text) = seat.contested.clone().filter(|_| fault != Some(Fault::ContestUnnoticed)) {
            commands.push(Command::Contested { host: host.clone(), text });
            return commands;
        }
        let Some(session) = seat.heard_session(now, silent) else { return commands };
        if fault == Some(Fault::FlappingExtends) && had != is {
            commands.push(Command::Listening { from: at });
        }
        let unasked = fault == Some(Fault::RewoundUnnoticed);
        let accepted = if unasked { Generation(0) } else { session.accepted };
        let instance = match fault {
            Some(Fault::CloneIsServed | Fault::ReplacedUnnoticed) => first,
            _ => session.instance,
        };
        let (snapshot, instance) = (session.snapshot, Some(instance));
        let told_since = session.commanded;
        let host_is = Connected { host: host.clone(), instance, accepted, told_since, snapshot };
        commands.push(Command::Connected(host_is));
        commands.push(Command::Health { host: host.clone(), reading: session.reading.clone() });
        (seat.told, seat.told_accepted) = (session.machine, Some(session.accepted));
        let Operation::Rollback(rollback) = &self.operation else { return commands };
        if accepted.0 >= rollback.hosts[host].generation.0 + GENERATIONS {
            commands.push(Command::StoreRewound(format!("{host} has obeyed what was never given")));
        }
        let Coordinator { comparing, returning, .. } = &mut self.coordinator;
        for waiting in [comparing, returning] {
            waiting.take_if(|(waits, _)| waits.remove(host) && waits.is_empty());
        }
        commands
    }

    pub(super) fn hear_report(&mut self, machine: usize, report: Report) {
        let (host, generation) = (report.host.clone(), report.generation);
        let mut report = report;
        if self.fault == Some(Fault::OldMachineCounts) {
            report.instance = None;
        }
        if matches!(self.fault, Some(Fault::OldAnswersCount | Fault::RewoundUnnoticed)) {
            report.newest = report.generation;
        }
        let mut commands = vec![Command::Report(report)];
        // That its session is another was said before its report was.
        if self.coordinator.look.contains_key(&host) {
            commands.extend(self.look(&host));
        }
        self.decide(commands);
        self.machines[machine].outbox.remove(&generation);
    }

    /// What the shell does: decide, store, evolve, send what is wanted.
    pub(super) fn decide(&mut self, commands: Vec<Command>) {
        if self.coordinator.is_away {
            return;
        }
        let at = self.coordinator_now();
        let outside = self.outside();
        let mut draft = Draft::of(self.operation.clone()).beside(outside.clone());
        let retries = commands.iter().any(|command| {
            let Command::Person(Person { action, .. }) = command else { return false };
            matches!(action, PersonAction::Retry { .. })
        });
        for mut command in commands {
            if let Command::Person(_) = &command {
                draft.settle(at);
                // It may be refused.
                let _ = draft.handle(&command, at);
                continue;
            }
            if let (Command::Health { reading, .. }, Some(Fault::OldReadingsCount)) =
                (&mut command, self.fault)
            {
                reading.after = rfs_model::RestoreNumber(u64::MAX);
            }
            if let (Command::Health { reading, .. }, Some(Fault::PassesByTime)) = (&mut command, self.fault) {
                // As if it had been measured at the very end, however long that is from now.
                reading.measured_at = reading.measured_at.map(|_| at.plus(seconds(60)));
            }
            draft.handle(&command, at).expect("hosts are never refused");
        }
        draft.settle(at);
        let (after, events) = draft.into_parts();
        if self.fault == Some(Fault::SendsBeforeStoring) && !events.is_empty() && self.dice.percent(50) {
            for (host, command) in after.wanted_beside(&outside).commands {
                let broken = self.oracle.sends(&self.log, &host, &command);
                self.fail_if(broken);
            }
            // And the coordinator dies before it stores.
            return;
        }
        let nothing = events.is_empty();
        let is_news = std::mem::replace(&mut self.coordinator.outside, outside.clone()) != outside;
        if !nothing {
            self.store(events);
        }
        if !nothing || is_news {
            self.wants();
        }
        self.coordinator.not_before = nothing.then(|| at.plus(seconds(1)));
        let Operation::Rollback(rollback) = &self.operation else { return };
        let broken = self.oracle.compares(rollback, &self.seats);
        self.fail_if(broken);
        if retries && self.operation.finished() && self.operation.open() {
            // How hosts are that are tried again was not stored since the outcome.
            let listening = Command::Listening { from: self.coordinator.listens_from };
            let hosts: Vec<HostId> = self.seats.keys().cloned().collect();
            let seen = hosts.iter().flat_map(|host| self.look(host));
            let commands = std::iter::once(listening).chain(seen).collect();
            return self.decide(commands);
        }
        self.send();
    }

    /// What the coordinator knows of what others take.
    fn outside(&self) -> Arc<Outside> {
        let unread = self.coordinator.unread_until.is_some();
        Arc::new(match self.fault {
            Some(Fault::OthersIgnored) => Outside::default(),
            Some(Fault::OthersForgotten) if unread => Outside::default(),
            Some(Fault::SendsBeforeComparing) => self.others.outside(),
            _ if unread || self.coordinator.returning.is_some() => {
                Outside { unknown: true, ..Outside::default() }
            }
            _ => self.all_that_is_taken(),
        })
    }

    /// What others take, and which of its own hosts the rollback does not watch any more and are not available.
    fn all_that_is_taken(&self) -> Outside {
        let mut outside = self.others.outside();
        let rollback = self.rollback();
        let is_watched = |host: &HostRecord| {
            rollback.outcome().is_none() || host.pending() || host.late || !host.groups.is_empty()
        };
        for (name, _) in rollback.hosts.iter().filter(|(_, host)| !is_watched(host)) {
            let ill = match self.seats[name].heard_session(self.now, SILENT) {
                None => Ill::Absent,
                Some(session) if session.reading.health != Health::Good => {
                    Ill::Health(session.reading.health)
                }
                Some(_) => continue,
            };
            self.others.tell_of_own(&mut outside, name, ill);
        }
        outside
    }

    /// Something happens outside the rollback, and it is told.
    pub(super) fn others_move(&mut self) {
        let may_start = !self.coordinator.is_away && self.coordinator.unread_until.is_none();
        for _ in 0..1 + self.dice.below(4) {
            let Operation::Rollback(rollback) = &self.operation else { return };
            self.others.step(rollback, may_start, &mut self.dice);
        }
        self.decide(vec![Command::Tick]);
    }

    /// Asks the operation what should be in flight.
    fn wants(&mut self) {
        let Work { commands, hear, reserve, wake_at } =
            self.operation.wanted_beside(&self.coordinator.outside);
        (self.coordinator.commands, self.coordinator.wake) = (commands, wake_at);
        self.coordinator.hear = hear;
        self.coordinator.reserve = reserve;
    }

    fn store(&mut self, mut events: Vec<Event>) {
        if self.fault == Some(Fault::GoesBackAtOnce) {
            self.send_back_another(&mut events);
        }
        let mut operation = self.operation.clone();
        for mut event in events {
            if self.fault == Some(Fault::PromotedIsGreen)
                && let Event::Rollback(RollbackEvent::Finished { outcome, cause, .. }) = &mut event
                && *outcome == Outcome::Partial
                && self.rollback().waves.iter().any(|wave| wave.promoted_by.is_some())
            {
                (*outcome, *cause) = (Outcome::Succeeded, None);
            }
            operation = operation.evolve(&event);
            let Operation::Rollback(rollback) = &operation else { return };
            let broken = self
                .oracle
                .event(&event, rollback, &self.machines, &self.seats, &self.others, self.now)
                .or_else(|| self.starts_too_early(&event));
            self.log.push(event);
            self.fail_if(broken);
        }
        self.appended.push(self.log.len());
        self.operation = operation;
    }

    /// Whether a host is started though others may show that the history is an older one.
    fn starts_too_early(&self, event: &Event) -> Option<String> {
        let Event::Rollback(
            RollbackEvent::HostStarted { host, .. } | RollbackEvent::HostReverting { host, .. },
        ) = event
        else {
            return None;
        };
        let (waits, until) = self.coordinator.returning.as_ref()?;
        let awaited = waits.iter().next().filter(|_| self.now < *until)?;
        Some(format!("O12: {host} is told something before {awaited} was compared with the history"))
    }

    /// Where a host goes back, one of an earlier wave goes back, too.
    fn send_back_another(&self, events: &mut Vec<Event>) {
        let back = events.iter().find_map(|event| match event {
            Event::Rollback(event @ RollbackEvent::HostReverting { host, .. }) => Some((event.clone(), host)),
            _ => None,
        });
        let Some((RollbackEvent::HostReverting { at, deadline, .. }, first)) = back else { return };
        let rollback = self.rollback();
        let earlier = |host: &HostRecord| {
            host.wave < rollback.hosts[first].wave && host.phase.at_target() && host.backup.is_some()
        };
        let Some((name, host)) = rollback.hosts.iter().find(|(_, host)| earlier(host)) else { return };
        let generation = StepKind::Revert.generation(host.generation);
        events.push(Event::Rollback(RollbackEvent::HostReverting {
            at,
            host: name.clone(),
            generation,
            deadline,
        }));
    }

    fn send(&mut self) {
        let comparing = self.coordinator.comparing.is_some();
        if self.coordinator.is_away || (comparing && self.fault != Some(Fault::SendsBeforeComparing)) {
            return;
        }
        let at = self.coordinator_now();
        let commands = std::mem::take(&mut self.coordinator.commands);
        for (host, command) in &commands {
            let Some(number) = self.coordinator.seen.get(host).copied().flatten() else { continue };
            let seat = self.seats.get_mut(host).expect("it is there");
            let Some(session) = seat.session.as_mut().filter(|is| is.number == number) else { continue };
            let machine = session.machine;
            session.commanded = true;
            if self.coordinator.sent.insert((host.clone(), number, command.generation)) {
                let (host, command) = (host.clone(), command.clone());
                let broken = self.oracle.sends(&self.log, &host, &command).or_else(|| self.too_early(&host));
                self.fail_if(broken);
                let timeout = command.deadline.since(at);
                self.down.push(Down { machine, session: number, command, timeout });
            }
        }
        self.coordinator.commands = commands;
        let grants: Vec<Command> =
            std::mem::take(&mut self.coordinator.reserve).into_iter().map(|host| self.grant(host)).collect();
        if !grants.is_empty() {
            self.decide(grants);
        }
    }

    /// Nobody else has the host, so the next generations that the store has come right after the last ones, and never below
    /// what the host has said that it has obeyed.
    fn grant(&self, host: HostId) -> Command {
        let next = self.rollback().hosts[&host].generation.0 + GENERATIONS;
        let seat = &self.seats[&host];
        let accepted = seat.session.as_ref().map(|session| session.accepted).max(seat.told_accepted);
        let generation = Generation(next.max(accepted.unwrap_or_default().0 + 1));
        Command::Granted { host, generation }
    }

    /// Whether a host that is there, and knows more than the history, was not compared with it yet.
    fn too_early(&self, sends: &HostId) -> Option<String> {
        let Some((waits, until)) = &self.coordinator.comparing else { return None };
        let ahead = waits.iter().find(|host| {
            let seat = &self.seats[*host];
            let agent = &self.machines[seat.serves];
            agent.reaches() && seat.contested.is_none() && agent.highest > self.oracle.told(host)
        })?;
        (self.now < *until)
            .then(|| format!("O12: {sends} is told something before {ahead} was compared with the history"))
    }

    pub(super) fn crash_coordinator(&mut self) {
        let away = self.dice.pick(&[0, 0, 1, 7, 30, 100, 900]);
        self.restart(away, None);
    }

    /// The store is put back to an older copy, in which the rollback is not as far.
    pub(super) fn put_back_store(&mut self) {
        let some = 1 + self.dice.below(self.log.len());
        let keep =
            self.appended.iter().copied().find(|length| *length >= some).expect("the whole log was stored");
        let away = self.dice.pick(&[1, 30]);
        self.restart(away, Some(keep));
    }

    /// The process dies: what is not stored is forgotten, every session is gone. It is back after a while.
    fn restart(&mut self, away: u64, keep: Option<usize>) {
        self.coordinator.is_away = true;
        let now = self.now;
        for seat in self.seats.values_mut() {
            seat.leave(now);
        }
        for machine in 0..self.machines.len() {
            self.try_again(machine, seconds(1));
        }
        self.air.clear();
        self.up.clear();
        if keep.is_some() || self.dice.percent(70) {
            self.down.clear();
        }
        self.go_on_without(away);
        if let Some(keep) = keep {
            self.log.truncate(keep);
            self.appended.retain(|length| *length <= keep);
            self.oracle.put_back(&self.log, &self.machines);
        }
        self.operation = Operation::replay(&self.log).expect("what was stored is a history");
        self.resume_from_what_was_kept();
        let mut told = Vec::new();
        let waits = self.rollback().hosts.iter().filter(|(_, host)| host.connected);
        let waits: BTreeSet<HostId> = waits.map(|(name, _)| name.clone()).collect();
        let returning = waits.clone();
        self.coordinator = Coordinator {
            sessions: self.coordinator.sessions,
            comparing: Some((waits, self.now.plus(COMPARING))),
            returning: (!returning.is_empty()).then(|| (returning, self.now.plus(RETURN))),
            offset: self.stepped_clock(),
            unread_until: Some(self.now.plus(Duration::from_millis(self.dice.below(3_000) as u64))),
            ..Coordinator::default()
        };
        for (host, record) in &self.rollback().hosts {
            let known = |machine: &&usize| record.instance == Some(self.machines[**machine].instance);
            let seat = &self.seats[host];
            told.push((host.clone(), *seat.machines.iter().find(known).unwrap_or(&seat.machines[0])));
        }
        self.wants();
        for (host, machine) in told {
            let seat = self.seats.get_mut(&host).expect("it is there");
            (seat.told, seat.told_accepted) = (machine, None);
        }
        let mut commands = self.is_back();
        let hosts: Vec<HostId> = self.seats.keys().cloned().collect();
        commands.extend(hosts.iter().flat_map(|host| self.look(host)));
        commands.push(Command::Tick);
        self.decide(commands);
    }

    /// A state that was kept somewhere along the way leads to the same as the whole history.
    fn resume_from_what_was_kept(&mut self) {
        let known = 1 + usize::try_from(self.now.0).expect("a walk begins after 1970") % self.log.len();
        let kept = Operation::replay(&self.log[..known]).expect("what was stored is a history");
        let kept = Operation::from_kept(&kept.to_kept()).expect("what was kept is a state");
        let resumed = kept.resume(known, &self.log[known..]).expect("the rest is its history");
        let broken = resumed != self.operation;
        self.fail_if(
            broken.then(|| format!("O7: the state after {known} events leads elsewhere than the history")),
        );
        self.operation = resumed;
    }

    /// The process is stopped and goes on, or its machine is.
    pub(super) fn stand_still(&mut self) {
        let still = self.dice.pick(&[1, STOOD_STILL, 30, 100, 900]);
        let stopped = self.now;
        self.coordinator.is_away = true;
        self.go_on_without(still);
        self.coordinator.is_away = false;
        if still < STOOD_STILL {
            return self.coordinate();
        }
        self.coordinator.offset = self.stepped_clock();
        self.coordinator.stood_until = self.now;
        let now = self.now;
        let all_gone = self.dice.percent(50) && still > 20;
        for machine in 0..self.machines.len() {
            let host = self.machines[machine].host.clone();
            let seat = self.seats.get_mut(&host).expect("it is there");
            if let Some(session) = seat.session.as_mut().filter(|session| session.machine == machine) {
                // The silence of one that was not silent yet begins anew.
                if stopped.since(session.heard_at) < SILENT {
                    session.heard_at = now;
                }
                if all_gone {
                    self.lose_session(machine);
                }
            }
        }
        self.ask_again();
        let commands = self.is_back();
        self.decide(commands);
        // Every host is looked at until it was heard.
        let hosts: Vec<HostId> = self.seats.keys().cloned().collect();
        hosts.iter().for_each(|host| self.note_look(host));
        self.coordinate();
    }

    fn go_on_without(&mut self, seconds_away: u64) {
        for _ in 0..3 {
            self.pass(seconds(seconds_away) / 3);
            let machine = self.dice.below(self.machines.len());
            self.machines[machine].advance(self.now, &mut self.dice);
            // Agents say from time to time what they know, and nobody reads it yet.
            self.say(machine);
            if self.dice.percent(25) && self.machines[machine].linked {
                self.link(machine, false, false);
            }
            if self.dice.percent(40) {
                self.change_weather(machine);
            }
        }
    }

    /// The machine's clock may have been set meanwhile. The coordinator's does not follow.
    fn stepped_clock(&mut self) -> i64 {
        let step = self.dice.pick(&[0, 3_600_000, -3_600_000]);
        if self.fault == Some(Fault::ClockStepsReachDeadlines) { step } else { 0 }
    }

    fn is_back(&mut self) -> Vec<Command> {
        self.coordinator.is_away = false;
        self.oracle.is_back(self.now);
        match self.fault {
            Some(Fault::ReturnsWithoutListening) => Vec::new(),
            _ => {
                self.coordinator.listens_from = self.coordinator_now();
                vec![Command::Listening { from: self.coordinator.listens_from }]
            }
        }
    }
}
