//! A failure as a value: the same on both ends of the wire.
//!
//! ```text
//! Failure ─▶ Status + ErrorInfo, BadRequest, RetryInfo, Help ─▶ Failure     nothing is lost on the way
//! ```

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use rfs_model::Reason;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::status::{Exit, reason_of, row};

/// The `domain` of every `google.rpc.ErrorInfo` that RFS sends.
pub const DOMAIN: &str = "rfs";

/// Why a request was refused or an operation failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, for programs.
    pub reason: Reason,
    /// What happened and where, for people. Lower case, no full stop.
    pub message: String,
    /// The fields of the request that are not valid.
    pub fields: Vec<Violation>,
    /// What to do next; where it is absent, the table's text for the reason is shown.
    pub next: Option<String>,
    /// When the same request may pass.
    pub retry_after: Option<Duration>,
}

/// A field of a request that is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `strategy.waves[1].percent`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Failure {
    /// A failure for `reason`, described by `message`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), fields: Vec::new(), next: None, retry_after: None }
    }

    /// A request whose `field` is not valid.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self::new(Reason::InvalidArgument, format!("{field}: {description}")).field(field, description)
    }

    /// Names a field that is not valid.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.fields.push(Violation { field: field.into(), description: description.into() });
        self
    }

    /// Says what to do next, better than the table can.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Says when the same request may pass.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// What to do next.
    pub fn next_step(&self) -> &str {
        self.next.as_deref().unwrap_or(row(self.reason).next)
    }

    /// How a command line ends that fails like this.
    pub fn exit(&self) -> Exit {
        row(self.reason).exit
    }

    /// Reads a failure out of a status. One without `ErrorInfo` of RFS keeps its message, and its code gives the
    /// reason.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let known = details.error_info().filter(|info| info.domain == DOMAIN);
        let reason = match known {
            Some(info) => info.reason.parse().unwrap_or(reason_of(status.code())),
            None => reason_of(status.code()),
        };
        let message = match status.message() {
            "" => format!("the call ended with {:?}", status.code()),
            text => text.to_owned(),
        };
        let violations = details.bad_request().map(|request| request.field_violations.as_slice());
        let fields = violations.unwrap_or_default().iter().map(|violation| Violation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        });
        let help = details.help().and_then(|help| help.links.first()).map(|link| link.description.clone());
        Self {
            reason,
            message,
            fields: fields.collect(),
            next: help.filter(|text| text != row(reason).next),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// The failure as a status.
    pub fn to_status(&self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason.as_str(), DOMAIN, HashMap::new());
        details.add_help_link(self.next_step(), "");
        if !self.fields.is_empty() {
            let violations = self.fields.iter();
            let violations =
                violations.map(|v| FieldViolation::new(v.field.as_str(), v.description.as_str()));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(row(self.reason).code, self.message.clone(), details)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.to_status()
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        Self::from_status(status)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_wire_unchanged_for_every_reason() {
        for &reason in Reason::ALL {
            let plain = Failure::new(reason, "a message");
            let full = plain
                .clone()
                .field("selector.hosts[2]", "is no name")
                .next("type: rfs host list")
                .retry_after(Duration::from_millis(1500));
            for failure in [plain, full] {
                let status = failure.to_status();
                // What is really sent are the bytes of the details.
                let received =
                    Status::with_details(status.code(), status.message(), status.details().to_vec().into());
                assert_eq!(Failure::from_status(&received), failure);
                assert_eq!(received.code(), row(reason).code);
            }
        }
    }

    #[test]
    fn every_status_says_what_to_do_next_in_its_help() {
        let status = Failure::new(Reason::HostNotFound, "host \"web-9\" is not known").to_status();
        let help = status.get_error_details().help().map(|help| help.links[0].description.clone());
        assert_eq!(help.as_deref(), Some("see the hosts with: rfs host list"));
    }

    #[test]
    fn a_status_of_another_origin_keeps_its_message() {
        let failure = Failure::from_status(&Status::unavailable("no route"));
        assert_eq!((failure.reason, failure.message.as_str()), (Reason::Unreachable, "no route"));
        let silent = Failure::from_status(&Status::unimplemented(""));
        assert_eq!(silent.message, "the call ended with Unimplemented");
        assert_eq!(silent.exit(), Exit::Refused);
    }

    #[test]
    fn a_reason_of_a_newer_version_falls_back_to_its_code() {
        let details = ErrorDetails::with_error_info("A_REASON_OF_TOMORROW", DOMAIN, HashMap::new());
        let status = Status::with_error_details(tonic::Code::PermissionDenied, "not yours", details);
        assert_eq!(Failure::from_status(&status).reason, Reason::PermissionDenied);
    }
}
