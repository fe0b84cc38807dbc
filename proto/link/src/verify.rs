//! What a handshake asks of the other end, beyond a chain to a trusted root: an identity of the same fleet, and of
//! a server that it is a coordinator.
//!
//! The refusals are [`IdentityError`]s inside rustls' own error, so that both ends can say why.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::identity::{CertificateFacts, Identity, IdentityError, TrustDomain, parse};

/// What a server asks of a client.
#[derive(Debug)]
pub(crate) struct ClientCheck {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) roots: Arc<RootLimits>,
    pub(crate) trust_domain: TrustDomain,
}

/// What a client asks of a server.
#[derive(Debug)]
pub(crate) struct ServerCheck {
    pub(crate) chain: Arc<WebPkiServerVerifier>,
    pub(crate) roots: Arc<RootLimits>,
    pub(crate) trust_domain: TrustDomain,
}

/// How many authorities each root allows between itself and a certificate. The library takes a root for its name and key
/// alone, so that what it says of itself is enforced here.
#[derive(Debug, Default)]
pub(crate) struct RootLimits(Vec<RootLimit>);

#[derive(Debug)]
struct RootLimit {
    subject: Vec<u8>,
    /// `None`: any number.
    allowed: Option<u32>,
}

impl RootLimits {
    /// Reads what roots say of themselves.
    pub(crate) fn of(roots: &[CertificateDer<'_>]) -> Result<Self, IdentityError> {
        let limit = |root: &CertificateDer<'_>| {
            let root = parse(root)?;
            let constraints = root.basic_constraints().ok().flatten();
            let allowed = constraints.and_then(|constraints| constraints.value.path_len_constraint);
            Ok(RootLimit { subject: root.subject().as_raw().to_vec(), allowed })
        };
        roots.iter().map(limit).collect::<Result<_, _>>().map(Self)
    }

    /// Follows a chain that was verified up to its root, and counts the authorities on the way.
    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), IdentityError> {
        let others = others.iter().map(|other| parse(other)).collect::<Result<Vec<_>, _>>()?;
        let leaf = parse(leaf)?;
        let mut issuer = leaf.issuer().as_raw();
        for found in 0..=others.len() as u32 {
            let roots: Vec<_> = self.0.iter().filter(|root| root.subject == issuer).collect();
            if roots.iter().any(|root| root.allowed.is_none_or(|allowed| found <= allowed)) {
                return Ok(());
            }
            if let Some(allowed) = roots.iter().filter_map(|root| root.allowed).max() {
                return Err(IdentityError::TooManyAuthorities { found, allowed });
            }
            match others.iter().find(|other| other.subject().as_raw() == issuer) {
                Some(next) => issuer = next.issuer().as_raw(),
                None => break,
            }
        }
        // The library found another way than by names alone.
        Err(IdentityError::TooManyAuthorities { found: others.len() as u32, allowed: 0 })
    }
}

fn refused(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn identity(certificate: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<Identity, IdentityError> {
    CertificateFacts::from_der(certificate)?.id.within(trust_domain)
}

impl ClientCertVerifier for ClientCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.roots.check(end_entity, intermediates).map_err(refused)?;
        identity(end_entity, &self.trust_domain).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.roots.check(end_entity, intermediates).map_err(refused)?;
        match identity(end_entity, &self.trust_domain).map_err(refused)? {
            Identity::Coordinator(_) => Ok(verified),
            other @ (Identity::Agent(_) | Identity::Operator(_)) => {
                Err(refused(IdentityError::NotACoordinator(other)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
