//! An authority for fleets that have none: it makes a root, and certificates for agents, operators and coordinators.
//!
//! ```text
//! init DIR ─▶ DIR/ca.pem, DIR/ca.key          issue ─▶ NAME.pem, NAME.key          show FILE
//! ```
//!
//! The root says its trust domain in its URI name and may sign leaves alone. Keys are ECDSA P-256, readable by
//! their owner alone, written whole or not at all, and never replaced unless that is asked for.

mod error;
mod issued;
mod shown;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use std::{fmt, fs};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rfs_model::{Clock, Timestamp};
use time::OffsetDateTime;

pub use error::PkiError;
pub use issued::{Existing, Issued};
pub use shown::{Shown, Subject, show};

use crate::identity::{Identity, SpiffeId, TrustDomain};

/// How far before its making a certificate is valid: the clocks of a fleet differ, and one may be set back by an hour or by a
/// time zone after a certificate was made.
const SKEW: Duration = Duration::from_secs(24 * 3600);

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

/// Makes the root of a fleet in `dir`, as `ca.pem` and `ca.key`.
pub fn init(
    dir: &Path,
    trust_domain: &TrustDomain,
    validity: Duration,
    existing: Existing,
    clock: &dyn Clock,
) -> Result<Shown, PkiError> {
    let key = KeyPair::generate()?;
    // Two roots of one fleet differ in name, so that a certificate of the other is told to be of an unknown issuer.
    let tag = format!("{:08x}", uuid::Uuid::now_v7().as_u128() as u32);
    let mut params = params(&format!("RFS root {tag} of {trust_domain}"), validity, clock.now())?;
    params.subject_alt_names = vec![uri(format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issued =
        Issued { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem(), is_root: true };
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
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem(), is_root: false })
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
