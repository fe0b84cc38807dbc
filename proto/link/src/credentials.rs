//! The files that one end shows and trusts, read and checked as a whole.
//!
//! ```text
//! paths ─read─▶ files ─parse─▶ material: own identity, roots, a server's and a client's TLS configuration
//! ```
//!
//! Reading and parsing are apart, and parsing takes the three files together: a pair that does not match, or
//! roots that cannot be read, give an error and never half of a configuration. The trust domain is that of the
//! own certificate; the other end's must be the same. TLS 1.3 alone is spoken, with no resumption, so that every
//! connection proves itself against the present roots.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs_model::time::SharedClock;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::identity::{CertificateFacts, IdentityError};
use crate::verify::{ClientCheck, RootLimits, ServerCheck};

/// Where the three files of one end lie, as `[tls]` says it in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The roots: certificates of the authorities that the other end's certificate must come from.
    pub ca: PathBuf,
    /// The own certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// The private key of the own certificate.
    pub key: PathBuf,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key can be read or changed by others than its owner.
    #[error("the key in {} is open to others (mode {mode:o})", path.display())]
    OpenKey {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The own certificate names nobody whom RFS knows.
    #[error("the certificate in {} cannot be used", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The key is not that of the certificate: a pair that is being replaced, or two files mixed up.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A root is not one that can be verified against.
    #[error("the roots in {} cannot be used: {reason}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
}

impl CredentialsError {
    /// What to do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Read { path, .. } => format!(
                "check that {} exists and that this user may read it; make certificates with: rfs pki issue",
                path.display()
            ),
            Self::OpenKey { path, .. } => {
                format!("close it, and think of it as stolen if it was read: chmod 600 {}", path.display())
            }
            Self::NotPem { path, .. } => format!("see what it holds with: rfs pki show {}", path.display()),
            Self::Identity { .. } => "issue a certificate for this end with: rfs pki issue".to_owned(),
            Self::Mismatch { .. } => "give the certificate and the key that were issued together".to_owned(),
            Self::Roots { .. } => "give the ca.pem that rfs pki init made".to_owned(),
        }
    }

    /// The error as a failure, with what to do next.
    pub fn failure(&self) -> Failure {
        let text = crate::Chain(self).to_string();
        Failure::new(rfs_model::Reason::Unauthenticated, text).next(self.next_step())
    }
}

/// The contents of the three files.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A private key is among them.
        f.write_str("Files")
    }
}

impl Credentials {
    pub(crate) fn read(&self) -> Result<Files, CredentialsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
        };
        is_closed(&self.key)?;
        Ok(Files { ca: read(&self.ca)?, certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    /// Checks `files` as a whole and makes both configurations of them.
    pub(crate) fn parse(&self, files: &Files, clock: &SharedClock) -> Result<Material, CredentialsError> {
        let roots = Arc::new(self.roots(&files.ca)?);
        let chain = certificates(&self.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|source| CredentialsError::NotPem {
            path: self.key.clone(),
            what: "private key",
            source,
        })?;
        let own = CertificateFacts::from_der(&chain[0])
            .map_err(|source| CredentialsError::Identity { path: self.certificate.clone(), source })?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let limits = RootLimits::of(&certificates(&self.ca, &files.ca)?)
            .map_err(|error| CredentialsError::Roots { path: self.ca.clone(), reason: error.to_string() })?;
        let (client_check, server_check) = self.checks(&roots, &Arc::new(limits), &provider, &own)?;
        let mismatch = |source| CredentialsError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let time = Arc::new(ClockTime(clock.clone()));
        let mut server = ServerConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(mismatch)?
            .with_client_cert_verifier(client_check.clone())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])
            .map_err(mismatch)?
            .dangerous()
            .with_custom_certificate_verifier(server_check.clone())
            .with_client_auth_cert(chain, key)
            .map_err(mismatch)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();

        Ok(Material {
            own,
            server: Arc::new(server),
            client: Arc::new(client),
            client_check,
            server_check,
            files: files.clone(),
        })
    }

    fn roots(&self, pem: &[u8]) -> Result<RootCertStore, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, pem)? {
            roots.add(certificate).map_err(|error| CredentialsError::Roots {
                path: self.ca.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(roots)
    }

    fn checks(
        &self,
        roots: &Arc<RootCertStore>,
        limits: &Arc<RootLimits>,
        provider: &Arc<CryptoProvider>,
        own: &CertificateFacts,
    ) -> Result<(Arc<ClientCheck>, Arc<ServerCheck>), CredentialsError> {
        let unusable = |reason: String| CredentialsError::Roots { path: self.ca.clone(), reason };
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
        let trust_domain = own.id.trust_domain.clone();
        Ok((
            Arc::new(ClientCheck {
                chain: clients.build().map_err(|error| unusable(error.to_string()))?,
                roots: limits.clone(),
                trust_domain: trust_domain.clone(),
            }),
            Arc::new(ServerCheck {
                chain: servers.build().map_err(|error| unusable(error.to_string()))?,
                roots: limits.clone(),
                trust_domain,
            }),
        ))
    }
}

/// A key that others can read is theirs, too. A group may where root owns the key: that is how services are given one.
fn is_closed(key: &Path) -> Result<(), CredentialsError> {
    use std::os::unix::fs::MetadataExt as _;
    let found =
        std::fs::metadata(key).map_err(|source| CredentialsError::Read { path: key.to_owned(), source })?;
    let mode = found.mode() & 0o777;
    let allowed = if found.uid() == 0 { 0o740 } else { 0o700 };
    match mode & !allowed {
        0 => Ok(()),
        _ => Err(CredentialsError::OpenKey { path: key.to_owned(), mode }),
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let not_pem = |source| CredentialsError::NotPem { path: path.to_owned(), what: "certificate", source };
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(not_pem)?;
    if certificates.is_empty() {
        return Err(not_pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Credentials that were checked as a whole.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) own: CertificateFacts,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) client_check: Arc<ClientCheck>,
    pub(crate) server_check: Arc<ServerCheck>,
    files: Files,
}

impl Material {
    pub(crate) fn is_of(&self, files: &Files) -> bool {
        self.files == *files
    }

    pub(crate) fn same_roots(&self, other: &Self) -> bool {
        self.files.ca == other.files.ca
    }

    pub(crate) fn same_own(&self, other: &Self) -> bool {
        self.files.certificate == other.files.certificate && self.files.key == other.files.key
    }
}

/// The clock against which validity is judged.
struct ClockTime(SharedClock);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(&self.0)
    }
}

pub(crate) fn unix_time(clock: &SharedClock) -> Option<UnixTime> {
    let millis = u64::try_from(clock.now().0).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(millis)))
}
