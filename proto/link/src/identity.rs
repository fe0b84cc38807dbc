//! Who is at the other end, as its certificate says.
//!
//! ```text
//! spiffe://<trust domain>/agent/<host>   /operator/<name>   /coordinator/<name>
//! ```
//!
//! Exactly one URI stands among a certificate's subject alternative names, and it has this form. A certificate
//! that says anything else has no identity here, whoever signed it; the common name is never looked at.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use rfs_model::{CoordinatorName, HostId, NameError, OperatorName, Timestamp};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The identity in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    /// The fleet that the certificate belongs to. Both ends of a connection are of one trust domain.
    pub trust_domain: TrustDomain,
    /// Who in that fleet.
    pub identity: Identity,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The agent of one host; speaks for that host and no other.
    Agent(HostId),
    /// A person or a tool that calls the operator's methods, with the roles that the coordinator gives it.
    Operator(OperatorName),
    /// A coordinator: the only one that agents and operators connect to.
    Coordinator(CoordinatorName),
}

/// The peer of a connection. A server finds it in `Request::extensions()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who the peer is.
    pub identity: Identity,
    /// The serial number of its certificate, in hexadecimal.
    pub serial: String,
    /// When its certificate expires; the connection is closed then.
    pub not_after: Timestamp,
    /// Where it connected from.
    pub addr: SocketAddr,
}

/// The name of a fleet in its certificates, such as `fleet.example.net`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

/// Why a certificate names nobody whom RFS knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    NotACertificate(String),
    /// There is no URI among the subject alternative names.
    #[error(
        "the certificate has no URI name; one spiffe://DOMAIN/{{agent|operator|coordinator}}/NAME is needed"
    )]
    NoUri,
    /// There is more than one, so the identity is ambiguous.
    #[error("the certificate has {0} URI names; exactly one is needed")]
    ManyUris(usize),
    /// The URI has another form.
    #[error("{0:?} is not spiffe://DOMAIN/{{agent|operator|coordinator}}/NAME")]
    NotAnIdentity(String),
    /// The trust domain is not valid.
    #[error("{0:?} is not a trust domain: use 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// The name in the URI is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The certificate is of another fleet.
    #[error("the certificate is of trust domain {found}, not {expected}")]
    OtherTrustDomain {
        /// What was found.
        found: TrustDomain,
        /// What this end belongs to.
        expected: TrustDomain,
    },
    /// An authority signed that its root did not allow to.
    #[error("the certificate comes through {found} authorities beneath its root, which allows {allowed}")]
    TooManyAuthorities {
        /// How many there are.
        found: u32,
        /// How many the root allows.
        allowed: u32,
    },
    /// A server is reached that is not a coordinator.
    #[error("the server is {0}, not a coordinator")]
    NotACoordinator(Identity),
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The identity.
    pub id: SpiffeId,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// The first moment of its validity.
    pub not_before: Timestamp,
    /// The last moment of its validity.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// Reads the certificate in `der`. It is not verified here: that is the handshake's part.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        let uris = uris(&certificate)?;
        let [uri] = uris.as_slice() else {
            return Err(match uris.len() {
                0 => IdentityError::NoUri,
                many => IdentityError::ManyUris(many),
            });
        };
        Ok(Self {
            id: uri.parse()?,
            serial: certificate.raw_serial_as_string().replace(':', ""),
            not_before: Timestamp(certificate.validity().not_before.timestamp().saturating_mul(1000)),
            not_after: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1000)),
        })
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(IdentityError::NotACertificate("bytes follow after its end".to_owned())),
        Err(error) => Err(IdentityError::NotACertificate(error.to_string())),
    }
}

pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::NotACertificate(error.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect())
}

impl SpiffeId {
    /// Whether this is an identity of the fleet `expected`.
    pub fn within(self, expected: &TrustDomain) -> Result<Identity, IdentityError> {
        if self.trust_domain != *expected {
            return Err(IdentityError::OtherTrustDomain {
                found: self.trust_domain,
                expected: expected.clone(),
            });
        }
        Ok(self.identity)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let not_an_identity = || IdentityError::NotAnIdentity(text.chars().take(200).collect());
        let rest = text.strip_prefix("spiffe://").ok_or_else(not_an_identity)?;
        let (domain, path) = rest.split_once('/').ok_or_else(not_an_identity)?;
        let (role, name) = path.split_once('/').ok_or_else(not_an_identity)?;
        let identity = match role {
            "agent" => Identity::Agent(HostId::new(name)?),
            "operator" => Identity::Operator(OperatorName::new(name)?),
            "coordinator" => Identity::Coordinator(CoordinatorName::new(name)?),
            _ => return Err(not_an_identity()),
        };
        Ok(Self { trust_domain: domain.parse()?, identity })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.identity)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

impl Identity {
    /// The name without the role.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) => name.as_str(),
            Self::Operator(name) => name.as_str(),
            Self::Coordinator(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent/{name}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
            Self::Coordinator(name) => write!(f, "coordinator/{name}"),
        }
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
            return Err(IdentityError::TrustDomain(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: &str) {
        let shown = match uri.parse::<SpiffeId>() {
            Ok(id) => format!("{} of {}", id.identity, id.trust_domain),
            Err(error) => error.to_string(),
        };
        assert!(shown.starts_with(expected), "{uri}: {shown}");
    }

    #[test]
    fn an_identity_is_a_role_and_a_name_in_a_trust_domain() {
        check("spiffe://fleet.example.net/agent/web-1", "agent/web-1 of fleet.example.net");
        check("spiffe://fleet/operator/alice", "operator/alice of fleet");
        check("spiffe://fleet/coordinator/main", "coordinator/main of fleet");
    }

    #[test]
    fn anything_else_is_refused_and_says_why() {
        check("", "\"\" is not spiffe://");
        check("https://fleet/agent/web-1", "\"https://fleet/agent/web-1\" is not spiffe://");
        check("SPIFFE://fleet/agent/web-1", "\"SPIFFE://fleet/agent/web-1\" is not spiffe://");
        check("spiffe://fleet", "\"spiffe://fleet\" is not spiffe://");
        check("spiffe://fleet/agent", "\"spiffe://fleet/agent\" is not spiffe://");
        check("spiffe://fleet/root/web-1", "\"spiffe://fleet/root/web-1\" is not spiffe://");
        check("spiffe:///agent/web-1", "\"\" is not a trust domain");
        check("spiffe://Fleet/agent/web-1", "\"Fleet\" is not a trust domain");
        check("spiffe://fleet:1/agent/web-1", "\"fleet:1\" is not a trust domain");
        check("spiffe://fleet/agent/", "host name \"\" is not valid");
        check("spiffe://fleet/agent/web-1/", "host name \"web-1/\" is not valid");
        check("spiffe://fleet/agent/a/b", "host name \"a/b\" is not valid");
        check("spiffe://fleet/agent/..", "host name \"..\" is not valid");
        check("spiffe://fleet/agent/web-1?x", "host name \"web-1?x\" is not valid");
        check("spiffe://fleet/operator/%61", "operator name \"%61\" is not valid");
    }

    #[test]
    fn an_identity_of_another_fleet_is_refused() {
        let id: SpiffeId = "spiffe://theirs/agent/web-1".parse().expect("a valid identity");
        let ours = "ours".parse().expect("a valid domain");
        let error = id.within(&ours).expect_err("another fleet");
        assert_eq!(error.to_string(), "the certificate is of trust domain theirs, not ours");
    }
}
