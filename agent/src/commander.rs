//! Takes the coordinator's commands: journals, acts, and keeps the report until it is acknowledged.

mod command;
mod intake;
mod report;

pub use command::{Command, Selection, Step, StepKind};
pub use intake::{Activity, HostState, Inconsistent, Intake, IntakeError};
pub use report::{Outcome, Refusal, Report, ReportSequence};
