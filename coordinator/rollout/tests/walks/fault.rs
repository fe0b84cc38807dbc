//! What can be broken on purpose, so that it is known that an oracle sees it.

/// Something that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A host obeys commands that are older than one that it has obeyed.
    HostTakesOlderGenerations,
    /// A host changes before it has a backup.
    HostTakesNoBackup,
    /// A host says that it is at its target, and is not.
    HostLies,
    /// A command leaves before its event is stored.
    SendsBeforeStoring,
    /// A host keeps its verdict when a restore ends, and says that it was reached after it.
    HostKeepsItsVerdict,
    /// Readings from before a host's change count.
    OldReadingsCount,
    /// A host that was good passes when the time comes, although nobody has looked since.
    PassesByTime,
    /// A coordinator that was away does not say so.
    ReturnsWithoutListening,
    /// What was sent before the coordinator stood still, and read after it, counts as news.
    BufferedReadingsCount,
    /// A host that is not heard of stays connected, with the health that it had.
    SilenceCountsAsConnected,
    /// Nobody asks what other operations and ill hosts take of a budget.
    OthersIgnored,
    /// After a restart, operations that were not read yet hold nothing.
    OthersForgotten,
    /// Each time that a host comes back, its deadlines begin anew.
    FlappingExtends,
    /// The machine that came last is served, whichever it is.
    CloneIsServed,
    /// Another machine under a name is taken for the old one.
    ReplacedUnnoticed,
    /// What a machine answered counts although another one has its name by now.
    OldMachineCounts,
    /// A name that two machines speak for is only taken to be without a connection.
    ContestUnnoticed,
    /// What the coordinator decides by time, it decides by the machine's clock.
    ClockStepsReachDeadlines,
    /// Nobody asks which generation a host has obeyed.
    RewoundUnnoticed,
    /// A host's answer counts although it has obeyed newer commands since.
    OldAnswersCount,
    /// Commands leave before the hosts were compared with a history that is gone on with.
    SendsBeforeComparing,
    /// Hosts of an earlier wave go back together with those of the last one.
    GoesBackAtOnce,
    /// A rollback whose last gate a person passed is a success.
    PromotedIsGreen,
}
