//! Confirmation listeners and calls to them, on loopback: an address may always call itself.

use std::net::SocketAddr;
use std::time::Instant;

use handfast_proto::lan::io::{CallFailure, Command, Event, ListenerId, OutCall};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::lan::{ALPN, CALL_ENDS, Client, Driver, message, own_call, server, some_key};
use crate::support::{STEP, pick};

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Waits until the other end has closed, however it does, and gives what came before.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that is cut instead of closed is closed all the same.
    let _ = timeout(CALL_ENDS, stream.read_to_end(&mut bytes)).await.expect("closed in time");
    bytes
}

/// A38: over TLS to our own listener, on both families; A27: each end sees what the other used.
#[tokio::test]
async fn a38_a_device_calls_its_own_listener_and_gets_the_answer() {
    let mut driver = Driver::start();
    let (port, spki) = driver.listen(1).await;
    for (n, ip) in [(1, "127.0.0.1"), (2, "::1")] {
        if TcpListener::bind((ip, 0)).await.is_err() {
            eprintln!("{ip} skipped: this machine does not have it");
            assert!(n > 1 && std::env::var("CI").as_deref() != Ok("true"), "CI skips nothing");
            continue;
        }
        driver.call(n, own_call(ip, port, spki)).await;
        let (id, call) = driver.called().await;
        assert_eq!((call.listener, call.request), (ListenerId(1), message(1)));
        assert_eq!((call.local.ip().to_string(), call.local.port()), (ip.to_owned(), port));
        assert_eq!(call.remote.ip().to_string(), ip);
        driver.send(Command::Answer(id, Some(message(9)))).await;
        assert_eq!(driver.done(n).await, Ok(message(9)));
    }
}

/// A34: another port and another key each time.
#[tokio::test]
async fn a34_every_listener_has_a_port_and_a_key_of_its_own_until_it_is_ended() {
    let mut driver = Driver::start();
    let (first, second) = (driver.listen(1).await, driver.listen(2).await);
    assert!(first.0 != second.0 && first.1 != second.1);
    driver.send(Command::Unlisten(ListenerId(1))).await;
    driver.settle().await;
    let refused = TcpStream::connect(loopback(first.0)).await.map(|_| ()).map_err(|e| e.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "A25: closes at the end");
    driver.call(1, own_call("127.0.0.1", first.0, first.1)).await;
    assert_eq!(driver.done(1).await, Err(CallFailure::Refused));
    assert!(TcpStream::connect(loopback(second.0)).await.is_ok());
    handfast_net::lan::LanTransport::end(driver.lan).await;
    assert!(TcpStream::connect(loopback(second.0)).await.is_err());
}

#[tokio::test]
async fn a_listener_that_is_asked_for_again_is_a_new_one_and_their_number_is_limited() {
    let mut driver = Driver::start();
    let (first, again) = (driver.listen(0).await, driver.listen(0).await);
    assert!(first.1 != again.1);
    assert!(TcpStream::connect(loopback(first.0)).await.is_err());
    for n in 1..16 {
        driver.listen(n).await;
    }
    driver.send(Command::Listen(ListenerId(16))).await;
    let id = ListenerId(16);
    let error = driver.until(pick!(Event::ListenFailed { id: of, error } if *of == id => error.clone())).await;
    assert_eq!(error, "too many listeners");
    driver.send(Command::Unlisten(ListenerId(3))).await;
    driver.listen(16).await;
}

/// Attack 29: the pin is checked, not only that some certificate is shown.
#[tokio::test]
async fn a_call_to_another_key_ends_before_c1_is_sent() {
    let mut driver = Driver::start();
    let (_, wanted) = driver.listen(1).await;
    let (port, _) = driver.listen(2).await;
    driver.call(1, own_call("127.0.0.1", port, wanted)).await;
    assert_eq!(driver.done(1).await, Err(CallFailure::WrongKey));
    driver.settle().await;
    assert_eq!(driver.untaken_calls(), 0);
}

/// Attack 29: whoever has only copied the certificate cannot sign the handshake.
#[tokio::test]
async fn a_call_to_the_right_certificate_with_a_wrong_signature_ends_before_c1_is_sent() {
    let mut driver = Driver::start();
    let (port, spki) = driver.listen(1).await;
    let stolen = Client::connect(loopback(port), &[ALPN]).await.expect("TLS").certificate;
    let rogue = TcpListener::bind(loopback(0)).await.expect("a port");
    let port = rogue.local_addr().expect("an address").port();
    let acceptor = server(stolen, some_key(), &[ALPN]);
    let served = tokio::spawn(async move {
        let (stream, _) = rogue.accept().await.expect("a connection");
        acceptor.accept(stream).await.map(|_| ())
    });
    driver.call(1, own_call("127.0.0.1", port, spki)).await;
    assert_eq!(driver.done(1).await, Err(CallFailure::WrongKey));
    let seen = timeout(STEP, served).await.expect("ends").expect("does not panic");
    assert!(seen.is_err(), "the client must not finish the handshake");
}

/// The certificate of a key that is not in the hands of this process, to serve it under other conditions.
async fn certificate_of(
    key: std::sync::Arc<dyn rustls::sign::SigningKey>,
) -> rustls::pki_types::CertificateDer<'static> {
    // Any certificate with this key in it will do: that of a listener with the key put in the place of its own.
    let mut driver = Driver::start();
    let (port, _) = driver.listen(1).await;
    let theirs = Client::connect(loopback(port), &[ALPN]).await.expect("TLS").certificate;
    let parsed = rustls::server::ParsedCertificate::try_from(&theirs).expect("a certificate");
    let (old, new) = (parsed.subject_public_key_info(), key.public_key().expect("a key"));
    let at = theirs.windows(old.len()).position(|w| w == old.as_ref()).expect("the key is in it");
    let mut der = theirs.to_vec();
    der[at..at + old.len()].copy_from_slice(&new);
    der.into()
}

#[tokio::test]
async fn a_server_of_another_protocol_or_with_a_short_answer_is_broken() {
    let mut driver = Driver::start();
    let spki = {
        use sha2::Digest as _;
        sha2::Sha256::digest(some_key().public_key().expect("a key")).into()
    };
    let certificate = certificate_of(some_key()).await;
    for (n, (alpn, answer)) in
        [(&[][..], 160), (&[b"h2".as_slice()][..], 160), (&[ALPN][..], 159)].into_iter().enumerate()
    {
        let rogue = TcpListener::bind(loopback(0)).await.expect("a port");
        let port = rogue.local_addr().expect("an address").port();
        let acceptor = server(certificate.clone(), some_key(), alpn);
        let served = tokio::spawn(async move {
            let (stream, _) = rogue.accept().await.expect("a connection");
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(&vec![0; answer]).await;
                let _ = stream.shutdown().await;
            }
        });
        driver.call(n as u64, own_call("127.0.0.1", port, spki)).await;
        assert_eq!(driver.done(n as u64).await, Err(CallFailure::Broken), "{n}");
        timeout(STEP, served).await.expect("ends").expect("does not panic");
    }
    // The same server with nothing wrong is believed, so it was these things that were refused.
    let honest = TcpListener::bind(loopback(0)).await.expect("a port");
    let port = honest.local_addr().expect("an address").port();
    let acceptor = server(certificate, some_key(), &[ALPN]);
    let served = tokio::spawn(async move {
        let (stream, _) = honest.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.expect("TLS");
        let mut request = [0; 160];
        stream.read_exact(&mut request).await.expect("C1");
        stream.write_all(&[9; 160]).await.expect("writes");
        stream.flush().await.expect("writes");
        request
    });
    driver.call(9, own_call("127.0.0.1", port, spki)).await;
    assert_eq!(driver.done(9).await, Ok(message(9)));
    assert_eq!(served.await.expect("does not panic"), *message(1));
}

#[tokio::test]
async fn a_call_to_a_server_that_says_nothing_ends_in_time() {
    let mut driver = Driver::start();
    let silent = TcpListener::bind(loopback(0)).await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let start = Instant::now();
    driver.call(1, own_call("127.0.0.1", port, [0; 32])).await;
    assert_eq!(driver.done(1).await, Err(CallFailure::TimedOut));
    assert!(start.elapsed() < CALL_ENDS, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_call_from_one_family_to_the_other_or_from_an_address_that_is_not_ours_fails() {
    let mut driver = Driver::start();
    let (port, spki) = driver.listen(1).await;
    for (n, from) in ["::1", "203.0.113.7"].into_iter().enumerate() {
        let from = from.parse().expect("an address");
        driver.call(n as u64, OutCall { to: loopback(port), from, spki, request: message(1) }).await;
        assert_eq!(driver.done(n as u64).await, Err(CallFailure::Broken), "{from}");
    }
}

/// Attack 48: what is no C1 over our TLS is closed and never told.
#[tokio::test]
async fn a_listener_closes_what_speaks_no_tls_or_another_version_or_protocol() {
    let mut driver = Driver::start();
    let (port, _) = driver.listen(1).await;

    let mut plain = TcpStream::connect(loopback(port)).await.expect("connects");
    plain.write_all(&[b'x'; 160]).await.expect("writes");
    rest(&mut plain).await;

    // A record that claims more than any record may have.
    let mut long = TcpStream::connect(loopback(port)).await.expect("connects");
    long.write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff]).await.expect("writes");
    rest(&mut long).await;

    let mut old = TcpStream::connect(loopback(port)).await.expect("connects");
    old.write_all(&client_hello_of_tls_1_2()).await.expect("writes");
    let alert = rest(&mut old).await;
    assert_eq!(alert.first_chunk(), Some(&[21_u8]), "an alert: {alert:?}");
    assert_eq!(alert.last_chunk(), Some(&[2_u8, 70]), "fatal, protocol_version: {alert:?}");

    for alpn in [&[][..], &[b"h2".as_slice()][..]] {
        if let Ok(mut client) = Client::connect(loopback(port), alpn).await {
            let _ = client.stream.write_all(message(1).as_slice()).await;
            rest(&mut client.stream).await;
        }
    }
    driver.settle().await;
    assert_eq!(driver.untaken_calls(), 0);
}

fn client_hello_of_tls_1_2() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[5; 32]); // random
    body.push(0); // no session
    body.extend_from_slice(&[0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM
    body.extend_from_slice(&[1, 0]); // no compression
    let extensions = [
        0, 10, 0, 4, 0, 2, 0, 29, // groups: X25519
        0, 11, 0, 2, 1, 0, // uncompressed points
        0, 13, 0, 6, 0, 4, 8, 7, 4, 3, // signatures: Ed25519, ECDSA with SHA-256
    ];
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    let mut hello = vec![1, 0];
    hello.extend_from_slice(&(body.len() as u16).to_be_bytes());
    hello.extend_from_slice(&body);
    let mut record = vec![0x16, 3, 1];
    record.extend_from_slice(&(hello.len() as u16).to_be_bytes());
    record.extend_from_slice(&hello);
    record
}

/// Attack 48: slow senders are cut after two seconds, half-open TLS too, and never told.
#[tokio::test]
async fn a_caller_that_does_not_bring_a_whole_c1_in_time_is_cut() {
    let mut driver = Driver::start();
    let (port, _) = driver.listen(1).await;
    let mut short = Client::connect(loopback(port), &[ALPN]).await.expect("TLS").stream;
    short.write_all(&message(1)[..159]).await.expect("writes");
    short.flush().await.expect("writes");
    let mut half_open = TcpStream::connect(loopback(port)).await.expect("connects");
    half_open.write_all(&[0x16, 3, 1, 0, 200]).await.expect("writes");
    let start = Instant::now();
    assert!(rest(&mut short).await.is_empty());
    assert!(rest(&mut half_open).await.is_empty());
    assert!(start.elapsed() < CALL_ENDS, "{:?}", start.elapsed());
    driver.settle().await;
    assert_eq!(driver.untaken_calls(), 0);
}

#[tokio::test]
async fn a_connection_brings_one_c1_and_what_follows_is_never_read() {
    let mut driver = Driver::start();
    let (port, _) = driver.listen(1).await;
    let mut client = Client::connect(loopback(port), &[ALPN]).await.expect("TLS").stream;
    client.write_all(&[message(1).as_slice(), message(2).as_slice()].concat()).await.expect("writes");
    client.flush().await.expect("writes");
    let (id, call) = driver.called().await;
    assert_eq!(call.request, message(1));
    driver.send(Command::Answer(id, None)).await;
    assert!(rest(&mut client).await.is_empty());
    driver.send(Command::Answer(id, Some(message(9)))).await;
    driver.settle().await;
    assert_eq!(driver.untaken_calls(), 0);
}

#[tokio::test]
async fn a_call_that_the_owner_does_not_answer_is_closed() {
    let mut driver = Driver::start();
    let (port, spki) = driver.listen(1).await;
    let mut client = Client::connect(loopback(port), &[ALPN]).await.expect("TLS").stream;
    client.write_all(message(1).as_slice()).await.expect("writes");
    client.flush().await.expect("writes");
    let (late, _) = driver.called().await;
    assert!(rest(&mut client).await.is_empty());
    driver.send(Command::Answer(late, Some(message(9)))).await;
    driver.call(2, own_call("127.0.0.1", port, spki)).await;
    driver.called().await;
    driver.send(Command::Unlisten(ListenerId(1))).await;
    assert_eq!(driver.done(2).await, Err(CallFailure::Broken), "cut with the listener");
}

#[tokio::test]
async fn a_connection_that_has_brought_nothing_yet_ends_with_its_listener() {
    let mut driver = Driver::start();
    let (port, _) = driver.listen(1).await;
    let mut early = Client::connect(loopback(port), &[ALPN]).await.expect("TLS").stream;
    let start = Instant::now();
    driver.send(Command::Unlisten(ListenerId(1))).await;
    assert!(rest(&mut early).await.is_empty());
    assert!(start.elapsed().as_millis() < 1_500, "it was held: {:?}", start.elapsed());
}

/// An answer that has been given is not lost by ending the listener right after, as a session does.
#[tokio::test]
async fn an_answer_leaves_although_the_listener_ends() {
    let mut driver = Driver::start();
    let (port, spki) = driver.listen(1).await;
    driver.call(1, own_call("127.0.0.1", port, spki)).await;
    let (id, _) = driver.called().await;
    driver.send(Command::Answer(id, Some(message(9)))).await;
    driver.send(Command::Unlisten(ListenerId(1))).await;
    assert_eq!(driver.done(1).await, Ok(message(9)));
}

/// Attack 48: eight connections that do nothing are held, the ninth is closed at once; and they end by themselves.
#[tokio::test]
async fn the_ninth_connection_is_refused_until_others_have_ended() {
    let mut driver = Driver::start();
    let (port, spki) = driver.listen(1).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(TcpStream::connect(loopback(port)).await.expect("connects"));
    }
    let start = Instant::now();
    let mut ninth = TcpStream::connect(loopback(port)).await.expect("connects");
    assert!(rest(&mut ninth).await.is_empty());
    assert!(start.elapsed().as_millis() < 1_500, "it was held: {:?}", start.elapsed());
    for stream in &mut held {
        rest(stream).await;
    }
    assert!(start.elapsed().as_millis() > 1_500, "the others were not held: {:?}", start.elapsed());
    driver.call(1, own_call("127.0.0.1", port, spki)).await;
    let (id, _) = driver.called().await;
    driver.send(Command::Answer(id, Some(message(9)))).await;
    assert_eq!(driver.done(1).await, Ok(message(9)));
}

/// A26: bounded whatever is asked for.
#[tokio::test]
async fn more_calls_at_once_than_ever_allowed_end_at_once() {
    let mut driver = Driver::start();
    let silent = TcpListener::bind(loopback(0)).await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    for n in 0..20 {
        driver.call(n, own_call("127.0.0.1", port, [0; 32])).await;
    }
    for n in 16..20 {
        assert_eq!(driver.done(n).await, Err(CallFailure::Broken), "{n}");
    }
    for n in 0..16 {
        assert_eq!(driver.done(n).await, Err(CallFailure::TimedOut), "{n}");
    }
    let (port, spki) = driver.listen(1).await;
    driver.call(20, own_call("127.0.0.1", port, spki)).await;
    driver.called().await;
}
