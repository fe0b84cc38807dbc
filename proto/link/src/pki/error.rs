//! Why the authority did not do what was asked, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rfs_model::{Reason, Timestamp};

use crate::failure::Failure;
use crate::identity::{Identity, IdentityError};

/// Why the authority did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The file is a root of a fleet, or its key.
    #[error("{} is a root, which nothing that is issued may replace", .0.display())]
    IsARoot(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was done with it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The authority's own files are not usable.
    #[error("{} does not hold an authority of RFS: {reason}", path.display())]
    NotAnAuthority {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The root is past its validity.
    #[error("the root expired at {0}")]
    Expired(Timestamp),
    /// A coordinator without a name that clients can dial.
    #[error("a coordinator's certificate needs at least one host name or address")]
    NoNames,
    /// Only coordinators are dialled.
    #[error("{0} is not dialled, so its certificate takes no host names")]
    NamesNotAllowed(Identity),
    /// A name that is neither a host name nor an address.
    #[error("{0:?} is neither a host name nor an IP address")]
    BadName(String),
    /// A validity of nothing, or beyond what can be written.
    #[error("a validity of {0:?} cannot be given")]
    Validity(Duration),
    /// The file holds no certificate.
    #[error("{} holds no certificate", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The library refused; a fault in RFS.
    #[error("the certificate could not be made")]
    Make(#[from] rcgen::Error),
}

impl PkiError {
    /// What to do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Exists(_) => {
                "give --force to replace it; whoever uses the old one must then get the new one"
            }
            Self::Io { what: "read", source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path: there is no such file"
            }
            Self::Io { what: "read", .. } => "check that this user may read the file",
            Self::IsARoot(_) => "give another name, or another folder with --dir",
            Self::Io { .. } => "check that the folder exists and that this user may write there",
            Self::NotAnAuthority { .. } => {
                "name the folder of ca.pem and ca.key, or make them with: rfs pki init"
            }
            Self::Expired(_) => "make a new root with: rfs pki init, and add it to the ca.pem of every host",
            Self::NoNames => "give the names that agents dial: --dns rfs.example.net --dns 10.0.0.1",
            Self::NamesNotAllowed(_) => "leave --dns out",
            Self::BadName(_) => "write a host name such as rfs.example.net, or an address such as 10.0.0.1",
            Self::Validity(_) => "give a number of days from 1 to 36500",
            Self::NotACertificate { .. } => "name a PEM file with BEGIN CERTIFICATE in it",
            Self::Make(_) => "report this with the command that you typed",
        }
    }

    /// The error as a failure, with what to do next.
    pub fn failure(&self) -> Failure {
        let reason = match self {
            Self::Exists(_) | Self::IsARoot(_) | Self::Expired(_) => Reason::WrongState,
            Self::Io { .. } => Reason::Io,
            Self::Make(_) => Reason::Internal,
            Self::NotAnAuthority { .. }
            | Self::NoNames
            | Self::NamesNotAllowed(_)
            | Self::BadName(_)
            | Self::Validity(_)
            | Self::NotACertificate { .. } => Reason::InvalidArgument,
        };
        Failure::new(reason, crate::Chain(self).to_string()).next(self.next_step())
    }
}
