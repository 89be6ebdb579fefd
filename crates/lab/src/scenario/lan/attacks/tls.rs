//! The attacker's TLS: a client that believes everybody, and a server whose certificate and signature need not belong
//! together.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ed25519_dalek::{Signer as _, SigningKey};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, RemoteKeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, Signer, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureAlgorithm,
    SignatureScheme, StreamOwned,
};

use super::forge::CALL_LEN;
use crate::ns::Namespace;
use crate::scenario::attack::forge::{digest, random};

/// The application protocol (section 6.4 of the protocol).
const ALPN: &[u8] = b"handfast-confirm/1";

/// What stands before the 32 bytes of an Ed25519 key in its SPKI (RFC 8410).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// How long one connection may take.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3);

/// How often a server looks whether somebody has come.
const ACCEPT_POLL: Duration = Duration::from_millis(10);

/// A connection that will believe whatever certificate it is shown.
pub(super) fn client(to: IpAddr) -> Result<ClientConnection> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ClientConnection::new(Arc::new(config), ServerName::IpAddress(to.into()))?)
}

/// A confirmation listener of the attacker.
pub(super) struct Server {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    /// SHA-256 of the public key in its certificate.
    pub(super) spki: [u8; 32],
}

/// What came of a connection to it.
#[derive(Debug)]
pub(super) enum Visit {
    /// The caller believed the certificate and sent this.
    Said(Vec<u8>),
    /// The caller broke off in the handshake.
    Refused(String),
}

impl Server {
    /// A listener that shows one certificate, and signs with its key or with another.
    pub(super) fn start(namespace: &Namespace, signs_rightly: bool) -> Result<Self> {
        let shown = SigningKey::from_bytes(&random()?);
        let public = shown.verifying_key().to_bytes();
        let pair = KeyPair::from_remote(Box::new(ForCertificate { key: shown.clone(), public: public.to_vec() }))?;
        let certificate: CertificateDer<'static> = CertificateParams::default().self_signed(&pair)?.into();
        let signs = if signs_rightly { shown } else { SigningKey::from_bytes(&random()?) };
        let certified = CertifiedKey::new(vec![certificate], Arc::new(ForHandshake(signs)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        let listener = namespace.enter(|| TcpListener::bind("0.0.0.0:0"))?.context("a port for the server")?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, config: Arc::new(config), spki: digest(&[&SPKI_ED25519, &public]) })
    }

    pub(super) fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Waits for a caller and hears what it says.
    pub(super) fn visit(&self, limit: Duration) -> Result<Visit> {
        self.answer(limit, |_| Ok(Vec::new()))
    }

    /// Waits for a caller, and answers what it says.
    pub(super) fn answer(&self, limit: Duration, answer: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<Visit> {
        let start = Instant::now();
        let (stream, _): (_, SocketAddr) = loop {
            match self.listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && start.elapsed() < limit => {
                    std::thread::sleep(ACCEPT_POLL);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bail!("nobody came in {limit:?}"),
                Err(error) => return Err(error).context("waiting for a caller"),
            }
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(CONNECTION_LIMIT))?;
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&self.config))?, stream);
        let mut heard = vec![0; CALL_LEN];
        match stream.read_exact(&mut heard) {
            Ok(()) => {
                let answer = answer(&heard)?;
                // It may have gone already: what it makes of an answer is seen elsewhere.
                let _ = stream.write_all(&answer).and_then(|()| stream.flush());
                Ok(Visit::Said(heard))
            }
            Err(error) => Ok(Visit::Refused(error.to_string())),
        }
    }
}

/// Believes everybody.
#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Signs certificates.
struct ForCertificate {
    key: SigningKey,
    public: Vec<u8>,
}

impl RemoteKeyPair for ForCertificate {
    fn public_key(&self) -> &[u8] {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message).to_bytes().to_vec())
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// Signs handshakes.
struct ForHandshake(SigningKey);

impl std::fmt::Debug for ForHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key of the attacker")
    }
}

impl rustls::sign::SigningKey for ForHandshake {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(Self(self.0.clone())) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for ForHandshake {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
