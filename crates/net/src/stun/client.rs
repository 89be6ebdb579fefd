//! Runs `proto::stun::behaviour` over a socket of its own, which ends with it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use handfast_proto::secret::Rng;
use handfast_proto::stun::MAX_MESSAGE;
use handfast_proto::stun::behaviour::{Behaviour, Discovery};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::{READ_AGAIN, StunServer, servers};
use crate::clock::Clock;
use crate::interfaces;

/// Finds out what stands between this machine and the internet, over one family: takes a second or two, at most eight,
/// and up to five before where names must be looked up. The first few servers that have an address of the family are
/// asked. Most NATs treat a socket at another port alike, but it has another mapping: what is found is the NAT's
/// behaviour, not an address to be called at.
///
/// # Errors
/// When the system gives no socket.
pub async fn discover(servers: &[StunServer], ipv4: bool, rng: Rng) -> io::Result<Behaviour> {
    let asked = servers::resolve(servers, ipv4).await;
    let any = if ipv4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    let port = socket.local_addr()?.port();
    let own: Vec<SocketAddr> =
        interfaces::list().into_iter().map(|interface| SocketAddr::new(interface.address.ip, port)).collect();
    let clock = Clock::start();
    let mut discovery = Discovery::new(&asked, &own, rng, clock.now());
    let mut buffer = [0; MAX_MESSAGE + 1];
    loop {
        while let Some(transmit) = discovery.poll_transmit() {
            // What cannot be sent is a packet lost: there is no way there, say.
            let _ = socket.send_to(&transmit.bytes, transmit.to).await;
        }
        if let Some(behaviour) = discovery.result() {
            return Ok(behaviour);
        }
        let wait = discovery.poll_timeout().map(|due| due.since(clock.now())).unwrap_or_default();
        match timeout(wait, socket.recv_from(&mut buffer)).await {
            Ok(Ok((len, from))) => {
                discovery.handle_datagram(from, &buffer[..len], clock.now());
                // Somebody may send without a pause.
                discovery.handle_timeout(clock.now());
            }
            // An earlier packet was refused, which the system may tell here; it counts as lost.
            Ok(Err(_)) => {
                sleep(wait.min(READ_AGAIN)).await;
                discovery.handle_timeout(clock.now());
            }
            Err(_) => discovery.handle_timeout(clock.now()),
        }
    }
}
