//! Why a connection cannot be made or was lost, as a caller tells apart.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rfs_model::Reason;

use crate::chain::{Chain, find};
use crate::failure::Failure;

type Cause = Arc<dyn Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers there: try later, or another address.
    #[error("{target} cannot be reached")]
    Unreachable {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The connection took too long: try later, or another address.
    #[error("{target} did not answer within {after:?}")]
    Timeout {
        /// Where.
        target: String,
        /// How long was waited.
        after: Duration,
    },
    /// Who answers is not a coordinator of this fleet, or does not prove it: to try again does not help.
    #[error("{target} is not trusted")]
    Untrusted {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The other end does not accept the own certificate: to try again with it does not help.
    #[error("{target} refused this end's certificate")]
    Refused {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// What answers does not speak TLS 1.3: another service, or another version.
    #[error("{target} does not speak TLS 1.3")]
    NotTls {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// This end closed the connection, because the peer is no longer trusted or it was told to.
    #[error("the connection to {target} was closed by this end")]
    Closed {
        /// Where.
        target: String,
    },
    /// An established connection broke.
    #[error("the connection to {target} was lost")]
    Lost {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

impl LinkError {
    /// Whether to try again may help without anybody changing a configuration or a certificate.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Closed { .. } | Self::Lost { .. } => true,
            Self::Untrusted { .. } | Self::Refused { .. } | Self::NotTls { .. } => false,
        }
    }

    /// The error as a failure, with what to do next.
    pub fn failure(&self) -> Failure {
        let text = Chain(self).to_string();
        match self {
            Self::Untrusted { .. } => Failure::new(Reason::Unauthenticated, text).next(
                "check the address, and that --ca (or [tls] ca) is the fleet's; see a certificate with: rfs pki show FILE",
            ),
            Self::Refused { .. } => Failure::new(Reason::Unauthenticated, text).next(
                "see the certificate and its validity with: rfs pki show FILE; issue a new one with: rfs pki issue",
            ),
            Self::NotTls { .. } => Failure::new(Reason::Unreachable, text)
                .next("check the port: a coordinator listens on 7443 if nothing else is configured"),
            Self::Unreachable { target, source }
                if target.starts_with("unix:") && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Failure::new(Reason::PermissionDenied, text)
                    .next("the agent answers its own user alone: run the same command as root, with sudo")
            }
            Self::Unreachable { target, .. } if target.starts_with("unix:") => {
                Failure::new(Reason::Unreachable, text).next("start the agent: systemctl start rfs-agent")
            }
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Closed { .. } | Self::Lost { .. } => {
                Failure::new(Reason::Unreachable, text)
            }
        }
    }

    pub(crate) fn from_io(target: &str, error: io::Error) -> Self {
        match classify(target, &error) {
            Some(classified) => classified,
            None => Self::Unreachable { target: target.to_owned(), source: Arc::new(error) },
        }
    }

    /// As [`from_io`](Self::from_io), for an error that goes on to somebody else, on a connection that stood.
    pub(crate) fn from_shared_io(target: &str, error: &io::Error) -> Self {
        if let Some(classified) = classify(target, error) {
            return classified;
        }
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return Self::Closed { target: target.to_owned() };
        }
        let copy = io::Error::new(error.kind(), error.to_string());
        Self::Lost { target: target.to_owned(), source: Arc::new(copy) }
    }

    pub(crate) fn other(target: &impl ToString, error: &(dyn Error + 'static)) -> Self {
        let source = io::Error::other(Chain(error).to_string());
        Self::Lost { target: target.to_string(), source: Arc::new(source) }
    }
}

fn classify(target: &str, error: &io::Error) -> Option<LinkError> {
    use rustls::Error as Tls;
    let tls = find::<Tls>(error)?;
    let (target, source) = (target.to_owned(), Arc::new(tls.clone()));
    Some(match tls {
        Tls::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            LinkError::Untrusted { target, source: other.0.clone() }
        }
        Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented => LinkError::Untrusted { target, source },
        Tls::AlertReceived(alert) if is_about_versions(*alert) => LinkError::NotTls { target, source },
        Tls::AlertReceived(_) => LinkError::Refused { target, source },
        Tls::InvalidMessage(_) | Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => {
            LinkError::NotTls { target, source }
        }
        _ => LinkError::Lost { target, source },
    })
}

fn is_about_versions(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(alert, Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::NoApplicationProtocol)
}
