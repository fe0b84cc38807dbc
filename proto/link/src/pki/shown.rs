//! What a certificate says, for people.

use std::net::IpAddr;
use std::path::Path;
use std::{fmt, fs};

use rfs_model::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::GeneralName;

use super::error::PkiError;
use crate::identity::{CertificateFacts, IdentityError, SpiffeId, TrustDomain, parse, uris};

/// What a certificate says, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// Whom it names.
    pub subject: Subject,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// The first moment of its validity.
    pub not_before: Timestamp,
    /// The last moment of its validity.
    pub not_after: Timestamp,
    /// The host names and addresses that it may be dialled by.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The root of a fleet.
    Authority(TrustDomain),
    /// Somebody in a fleet.
    Member(SpiffeId),
    /// Nobody whom RFS knows, with the reason.
    Nobody(String),
}

/// Shows the certificates in the file `path`.
pub fn show(path: &Path) -> Result<Vec<Shown>, PkiError> {
    let text = fs::read_to_string(path).map_err(|source| PkiError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    Shown::parse(&text).map_err(|source| PkiError::NotACertificate { path: path.to_owned(), source })
}

impl Shown {
    pub(super) fn parse(pem: &str) -> Result<Vec<Self>, IdentityError> {
        let unreadable = |error: &dyn fmt::Display| IdentityError::NotACertificate(error.to_string());
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
        if certificates.is_empty() {
            return Err(unreadable(&"there is no BEGIN CERTIFICATE in it"));
        }
        certificates.iter().map(|der| Self::from_der(der)).collect()
    }

    fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        let subject = match (certificate.is_ca(), uris(&certificate)?.as_slice()) {
            (true, [uri]) => match uri.strip_prefix("spiffe://").map(str::parse) {
                Some(Ok(domain)) => Subject::Authority(domain),
                Some(Err(error)) => Subject::Nobody(IdentityError::to_string(&error)),
                None => Subject::Nobody(format!("{uri:?} is not spiffe://DOMAIN")),
            },
            (true, _) => Subject::Nobody("a root of no trust domain".to_owned()),
            (false, _) => match CertificateFacts::from_der(der) {
                Ok(facts) => Subject::Member(facts.id),
                Err(error) => Subject::Nobody(error.to_string()),
            },
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        Ok(Self {
            subject,
            serial: certificate.raw_serial_as_string().replace(':', ""),
            not_before: Timestamp(certificate.validity().not_before.timestamp().saturating_mul(1000)),
            not_after: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1000)),
            names: names.iter().filter_map(dialled_by).collect(),
            issuer: certificate.issuer().to_string(),
        })
    }
}

fn dialled_by(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match *bytes {
            &[a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(domain) => write!(f, "the root of {domain}"),
            Self::Member(id) => id.fmt(f),
            Self::Nobody(reason) => write!(f, "nobody: {reason}"),
        }
    }
}
