//! An authority for fleets that have none: it makes a root, and certificates for agents, operators and coordinators.
//!
//! ```text
//! init DIR ─▶ DIR/ca.pem, DIR/ca.key          issue ─▶ NAME.pem, NAME.key          show FILE
//! ```
//!
//! The root says its trust domain in its URI name and may sign leaves alone. Keys are ECDSA P-256, readable by
//! their owner alone, written whole or not at all, and never replaced unless that is asked for.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rfs_model::{Clock, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::GeneralName;

use crate::identity::{CertificateFacts, Identity, IdentityError, SpiffeId, TrustDomain, parse, uris};

/// How far before its making a certificate is valid: the clocks of a fleet differ.
const SKEW: Duration = Duration::from_secs(300);

/// Whether files that exist are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay, and the command is refused.
    Keep,
    /// They are replaced.
    Replace,
}

/// What a certificate is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whom it names.
    pub identity: Identity,
    /// The host names and addresses that clients dial; for coordinators.
    pub names: Vec<String>,
    /// How long it is valid; never longer than its root.
    pub validity: Duration,
}

/// Why the authority did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
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
            Self::Io { .. } => "check that the folder exists and that this user may write there",
            Self::NotAnAuthority { .. } => {
                "name the folder of ca.pem and ca.key, or make them with: rfs pki init"
            }
            Self::Expired(_) => "make a new root with: rfs pki init, and add it to the ca.pem of every host",
            Self::NoNames => "give the names that agents dial: --name rfs.example.net --name 10.0.0.1",
            Self::NamesNotAllowed(_) => "leave --name out",
            Self::BadName(_) => "write a host name such as rfs.example.net, or an address such as 10.0.0.1",
            Self::Validity(_) => "give a number of days from 1 to 36500",
            Self::NotACertificate { .. } => "name a PEM file with BEGIN CERTIFICATE in it",
            Self::Make(_) => "report this with the command that you typed",
        }
    }

    /// The error as a failure, with what to do next.
    pub fn failure(&self) -> crate::Failure {
        use rfs_model::Reason;
        let reason = match self {
            Self::Exists(_) | Self::Expired(_) => Reason::WrongState,
            Self::Io { .. } => Reason::Io,
            Self::Make(_) => Reason::Internal,
            Self::NotAnAuthority { .. }
            | Self::NoNames
            | Self::NamesNotAllowed(_)
            | Self::BadName(_)
            | Self::Validity(_)
            | Self::NotACertificate { .. } => Reason::InvalidArgument,
        };
        crate::Failure::new(reason, crate::Chain(self).to_string()).next(self.next_step())
    }
}

/// Makes the root of a fleet in `dir`, as `ca.pem` and `ca.key`.
pub fn init(
    dir: &Path,
    trust_domain: &TrustDomain,
    validity: Duration,
    existing: Existing,
    clock: &dyn Clock,
) -> Result<Shown, PkiError> {
    let key = KeyPair::generate()?;
    let mut params = params(&format!("RFS root of {trust_domain}"), validity, clock.now())?;
    params.subject_alt_names = vec![uri(format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issued = Issued { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
    fs::create_dir_all(dir).map_err(|source| PkiError::Io { what: "make", path: dir.to_owned(), source })?;
    issued.write(&dir.join("ca.pem"), &dir.join("ca.key"), existing)?;
    issued.shown()
}

/// A root with its key, ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    trust_domain: TrustDomain,
    not_after: Timestamp,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority that [`init`] made in `dir`.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let unusable = |reason: String| PkiError::NotAnAuthority { path: dir.to_owned(), reason };
        let read = |name: &str| {
            fs::read_to_string(dir.join(name)).map_err(|error| unusable(format!("{name}: {error}")))
        };
        let pem = read("ca.pem")?;
        let shown = Shown::parse(&pem).map_err(|error| unusable(format!("ca.pem: {error}")))?;
        let Some(Shown { subject: Subject::Authority(trust_domain), not_after, .. }) =
            shown.into_iter().next()
        else {
            return Err(unusable("ca.pem: the root names no trust domain".to_owned()));
        };
        let key =
            KeyPair::from_pem(&read("ca.key")?).map_err(|error| unusable(format!("ca.key: {error}")))?;
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).map_err(|error| unusable(format!("ca.pem: {error}")))?;
        Ok(Self { issuer, trust_domain, not_after })
    }

    /// The fleet that this is the root of.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Makes a key and a certificate for it. Nothing is written yet.
    pub fn issue(&self, order: &Order, clock: &dyn Clock) -> Result<Issued, PkiError> {
        let now = clock.now();
        if self.not_after <= now {
            return Err(PkiError::Expired(self.not_after));
        }
        let id = SpiffeId { trust_domain: self.trust_domain.clone(), identity: order.identity.clone() };
        let mut params = params(order.identity.name(), order.validity.min(self.not_after.since(now)), now)?;
        params.subject_alt_names = vec![uri(id.to_string())?];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        match &order.identity {
            Identity::Coordinator(_) if order.names.is_empty() => return Err(PkiError::NoNames),
            Identity::Coordinator(_) => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
                for name in &order.names {
                    params.subject_alt_names.push(dialled(name)?);
                }
            }
            Identity::Agent(_) | Identity::Operator(_) if !order.names.is_empty() => {
                return Err(PkiError::NamesNotAllowed(order.identity.clone()));
            }
            Identity::Agent(_) | Identity::Operator(_) => {}
        }
        let key = KeyPair::generate()?;
        Ok(Issued { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

fn params(name: &str, validity: Duration, now: Timestamp) -> Result<CertificateParams, PkiError> {
    let error = || PkiError::Validity(validity);
    if validity.is_zero() {
        return Err(error());
    }
    let at =
        |time: Timestamp| OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1000)).map_err(|_| error());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(Timestamp(now.0 - i64::try_from(SKEW.as_millis()).unwrap_or(0)))?;
    params.not_after = at(now.plus(validity))?;
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::now_v7().as_bytes()));
    Ok(params)
}

fn uri(text: String) -> Result<SanType, PkiError> {
    Ok(SanType::URI(text.as_str().try_into()?))
}

fn dialled(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || PkiError::BadName(name.to_owned());
    rustls::pki_types::DnsName::try_from(name).map_err(|_| bad())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

/// A certificate and its key, in PEM form.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key. Secret.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Issued {
    /// Writes both files, each whole or not at all.
    pub fn write(&self, certificate: &Path, key: &Path, existing: Existing) -> Result<(), PkiError> {
        if existing == Existing::Keep {
            for path in [certificate, key] {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(PkiError::Exists(path.to_owned()));
                }
            }
        }
        write(key, &self.key, 0o600, existing)?;
        let written = write(certificate, &self.certificate, 0o644, existing);
        if written.is_err() && existing == Existing::Keep {
            // A key without its certificate would only block the next try.
            let _ = fs::remove_file(key);
        }
        written
    }

    /// What the certificate says.
    pub fn shown(&self) -> Result<Shown, PkiError> {
        let not_a_certificate =
            |source| PkiError::NotACertificate { path: PathBuf::from("the new certificate"), source };
        let shown = Shown::parse(&self.certificate).map_err(not_a_certificate)?;
        shown.into_iter().next().ok_or(not_a_certificate(IdentityError::NoUri))
    }
}

fn write(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), PkiError> {
    let failed = |source| PkiError::Io { what: "write", path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = fs::Permissions::from_mode(mode);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let persisted = match existing {
        Existing::Keep => file.persist_noclobber(path),
        Existing::Replace => file.persist(path),
    };
    persisted.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
        _ => failed(error.error),
    })?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

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
    fn parse(pem: &str) -> Result<Vec<Self>, IdentityError> {
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
