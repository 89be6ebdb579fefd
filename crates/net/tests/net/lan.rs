//! The driver of the local network under test, every wait bounded; network namespaces of a test's own; and hand-made
//! TLS to play against it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command as Program;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast_net::lan::{Lan, LanTransport as _};
use handfast_proto::lan::io::{CallFailure, CallId, Command, Event, InCall, InCallId, ListenerId, OutCall};
use handfast_proto::wire::confirm::CONFIRM_LEN;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{STEP, pick};

pub(crate) const ALPN: &[u8] = b"handfast-confirm/1";

/// Longer than any call may take, and short enough to see that one ended by itself.
pub(crate) const CALL_ENDS: Duration = Duration::from_secs(8);

/// A driver and the events that came while another was waited for.
pub(crate) struct Driver {
    pub(crate) lan: Lan,
    pub(crate) log: Vec<Event>,
}

impl Driver {
    pub(crate) fn start() -> Driver {
        Driver { lan: Lan::start().expect("starts"), log: Vec::new() }
    }

    pub(crate) async fn send(&self, command: Command) {
        self.lan.send(command).await.expect("the driver runs");
    }

    /// Waits for an event that `pick` takes, looking first at those that came before.
    pub(crate) async fn until<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(at) = self.log.iter().position(|event| pick(event).is_some()) {
            return pick(&self.log.remove(at)).expect("it was picked just now");
        }
        loop {
            let event = timeout(STEP, self.lan.next())
                .await
                .unwrap_or_else(|_| panic!("nothing happened; before: {:?}", self.log))
                .expect("the driver runs");
            if let Some(found) = pick(&event) {
                return found;
            }
            self.log.push(event);
        }
    }

    /// Waits until every command before has been carried out.
    pub(crate) async fn settle(&mut self) {
        self.send(Command::Neighbours).await;
        self.until(pick!(Event::Neighbours(_) => ())).await;
    }

    /// Starts a listener: its port and the hash of its key.
    pub(crate) async fn listen(&mut self, id: u64) -> (u16, [u8; 32]) {
        let id = ListenerId(id);
        self.send(Command::Listen(id)).await;
        self.until(pick!(Event::Listening { id: of, port, spki } if *of == id => (*port, *spki))).await
    }

    pub(crate) async fn call(&self, id: u64, call: OutCall) {
        self.send(Command::Call(CallId(id), call)).await;
    }

    pub(crate) async fn called(&mut self) -> (InCallId, InCall) {
        self.until(pick!(Event::Called(id, call) => (*id, call.clone()))).await
    }

    pub(crate) async fn done(&mut self, id: u64) -> Result<Box<[u8; CONFIRM_LEN]>, CallFailure> {
        self.until(pick!(Event::CallDone(of, result) if *of == CallId(id) => result.clone())).await
    }

    /// How many calls have been told and not taken.
    pub(crate) fn untaken_calls(&self) -> usize {
        self.log.iter().filter(|e| matches!(e, Event::Called(..))).count()
    }
}

/// A call from an address to itself, as a self-check is.
pub(crate) fn own_call(ip: &str, port: u16, spki: [u8; 32]) -> OutCall {
    let ip: IpAddr = ip.parse().expect("an address");
    OutCall { to: SocketAddr::new(ip, port), from: ip, spki, request: message(1) }
}

pub(crate) fn message(byte: u8) -> Box<[u8; CONFIRM_LEN]> {
    Box::new([byte; CONFIRM_LEN])
}

/// Runs a test alone in a network namespace: the test binary again, for this one test. `$body` is its future.
macro_rules! alone {
    ($name:ident, $body:expr) => {
        crate::lan::run_alone(concat!(module_path!(), "::", stringify!($name)), || $body)
    };
}
pub(crate) use alone;

/// Set in the process that has the namespace.
const INSIDE: &str = "HANDFAST_TEST_NAMESPACE";

pub(crate) fn run_alone<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    let test = test.strip_prefix("net::").expect("the test binary is called net");
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.enable_all().build().expect("a runtime").block_on(body());
        return;
    }
    let Some(options) = namespace() else {
        return;
    };
    let output = Program::new("unshare")
        .args(options)
        .arg(std::env::current_exe().expect("the test binary"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .output()
        .expect("unshare runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "in the namespace: {text}");
}

/// What makes a namespace here; none, with the reason told, where none can be made. CI skips nothing.
fn namespace() -> Option<&'static [&'static str]> {
    const AS_ROOT: &[&str] = &["--net"];
    const AS_USER: &[&str] = &["--user", "--map-root-user", "--net"];
    let mut why = String::new();
    for options in [AS_ROOT, AS_USER] {
        let probe = ["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"];
        match Program::new("unshare").args(options).args(probe).output() {
            Ok(output) if output.status.success() => return Some(options),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => why = error.to_string(),
        }
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI skips nothing, but no network namespace: {why}");
    eprintln!("skipped: no network namespace can be made here: {why}");
    None
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) {
    let output = Program::new("ip").args(words.split_ascii_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A link with nobody else on it: interface `name` with these addresses, up.
pub(crate) fn link(name: &str, addresses: &[&str]) {
    ip("link set lo up");
    ip(&format!("link add {name} type veth peer name {name}x"));
    for end in [name.to_owned(), format!("{name}x")] {
        // No address of its own: the far end is nobody, and the near end has what the test says.
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    for address in addresses {
        let options = if address.contains(':') { "nodad" } else { "broadcast +" };
        ip(&format!("address add {address} {options} dev {name}"));
    }
}

/// An Ed25519 key that is not the listener's.
pub(crate) fn some_key() -> Arc<dyn rustls::sign::SigningKey> {
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend_from_slice(&[7; 32]);
    aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).expect("a key")
}

/// A server that shows `certificate`, signs with `key` and speaks these protocols.
pub(crate) fn server(
    certificate: CertificateDer<'static>,
    key: Arc<dyn rustls::sign::SigningKey>,
    alpn: &[&[u8]],
) -> TlsAcceptor {
    let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A client that believes anybody, and keeps the certificate it was shown.
pub(crate) struct Client {
    pub(crate) stream: tokio_rustls::client::TlsStream<TcpStream>,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr, alpn: &[&[u8]]) -> std::io::Result<Client> {
        let shown = Arc::new(Gullible::default());
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&shown) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
        let tcp = TcpStream::connect(to).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(to.ip().into()), tcp).await?;
        let certificate = shown.0.lock().expect("one thread").take().expect("a certificate");
        Ok(Client { stream, certificate })
    }
}

#[derive(Debug, Default)]
struct Gullible(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("one thread") = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
