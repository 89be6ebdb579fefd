//! TLS of the confirmation listener: a fresh key per listener, and a client that believes exactly one key (protocol,
//! section 6.4). Certificates are only the envelope of the key; names and dates in them mean nothing.

use std::sync::Arc;

use handfast_proto::secret::Secret;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ED25519, RemoteKeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible, ServerConfig, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::entropy;

/// The application protocol: whoever does not name it is not one of us.
pub(super) const ALPN: &[u8] = b"handfast-confirm/1";

/// What stands before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// TLS with one set of algorithms, named: two are in the tree.
#[derive(Clone)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
}

/// What a listener shows.
pub(super) struct Identity {
    /// SHA-256 of its public key.
    pub(super) spki: [u8; 32],
    pub(super) acceptor: TlsAcceptor,
}

/// Why there is no identity or connector.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

impl Tls {
    pub(super) fn new() -> Tls {
        Tls { provider: Arc::new(aws_lc_rs::default_provider()) }
    }

    /// A new key in a new certificate. The key is in the hands of the TLS library alone.
    pub(super) fn identity(&self) -> Result<Identity, TlsError> {
        let key = fresh_key()?;
        let certificate = certificate(Arc::clone(&key))?;
        let spki = spki_of(&certificate)?;
        let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Identity { spki, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// A client that talks to the holder of the key with this SHA-256 and to nobody else.
    pub(super) fn connector(&self, spki: [u8; 32]) -> Result<TlsConnector, TlsError> {
        let verifier = Pinned { spki, provider: Arc::clone(&self.provider) };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn fresh_key() -> Result<Arc<dyn SigningKey>, TlsError> {
    let seed = entropy::secret()?;
    let mut der = [0; 48];
    der[..16].copy_from_slice(&PKCS8_ED25519);
    der[16..].copy_from_slice(seed.expose());
    let der = Secret::new(der);
    Ok(aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der.expose().as_slice()))?)
}

fn certificate(key: Arc<dyn SigningKey>) -> Result<CertificateDer<'static>, TlsError> {
    let spki = key.public_key().ok_or(rcgen::Error::KeyGenerationUnavailable)?;
    // RFC 8410: the key itself is the end of its SPKI.
    let public = spki.last_chunk::<32>().ok_or(rcgen::Error::KeyGenerationUnavailable)?.to_vec();
    let pair = KeyPair::from_remote(Box::new(ForCertificate { key, public }))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.self_signed(&pair)?.into())
}

/// The key as the maker of certificates wants it: it signs, and is not shown.
struct ForCertificate {
    key: Arc<dyn SigningKey>,
    public: Vec<u8>,
}

impl RemoteKeyPair for ForCertificate {
    fn public_key(&self) -> &[u8] {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.key.choose_scheme(&[SignatureScheme::ED25519]).ok_or(rcgen::Error::RemoteKeyError)?;
        signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

fn spki_of(certificate: &CertificateDer<'_>) -> Result<[u8; 32], rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Sha256::digest(parsed.subject_public_key_info().as_ref()).into())
}

/// Believes one key, and only after it has signed this very handshake.
#[derive(Debug)]
struct Pinned {
    spki: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if spki_of(end_entity)? == self.spki {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
