//! Other networks while a device runs. Neither transport survives that: QUIC's stack here lets no connection migrate, and
//! TCP cannot. Without this, a connection whose way is gone is noticed by silence, after eight seconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use handfast_proto::addr::{Address, Transport};
use tokio::time::Instant;

use super::conns::Conn;
use super::driver::Driver;
use crate::api::NetEvent;
use crate::interfaces;
use crate::routes::{self, Watch, Way};

/// How long changes are let settle: an interface that comes up gets its addresses and routes one after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// Far destinations: addresses of a root name server, which nobody has in a network of his own. Nothing is sent there.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30))];

/// Where this machine is.
pub(crate) struct Roaming {
    /// None on a node: it stays where it is.
    watch: Option<Watch>,
    due: Option<Instant>,
    out: [Option<Way>; 2],
}

impl Roaming {
    pub(crate) fn start(stays: bool) -> Roaming {
        Roaming { watch: (!stays).then(Watch::start), due: None, out: FAR.map(routes::way_to) }
    }

    /// Waits for the next change, which is due to be looked at a little later. Safe to drop before it is ready.
    pub(crate) async fn changed(&mut self) {
        match &mut self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
        // Not put off by what follows: something may change all the time.
        self.due.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    /// When changes are looked at.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether we are elsewhere, if it is time to look. Without a way out it is not known yet where.
    fn has_moved(&mut self) -> bool {
        let now = FAR.map(routes::way_to);
        let mut has_moved = false;
        for (was, is) in self.out.iter_mut().zip(now) {
            if is.is_some() && *was != is {
                has_moved = true;
                *was = is;
            }
        }
        has_moved
    }
}

/// Whether a connection that came to stand by this way cannot go on. One without any way may get its own back: a cable, a
/// radio that sleeps. TCP keeps its address as long as we have it; QUIC's socket has none of its own.
fn is_lost(was: Option<Way>, to: &Address, own: &[IpAddr]) -> bool {
    let (Some(was), Some(is)) = (was, routes::way_to(to.ip)) else { return false };
    let keeps_its_source = to.transport == Transport::Tcp && own.contains(&was.source);
    let other_router = was.gateway.zip(is.gateway).is_some_and(|(was, is)| was != is);
    other_router || (was.source != is.source && !keeps_its_source)
}

impl Driver {
    /// We have slept: whether anybody is still there is asked at once, and where we are is looked at anew.
    pub(super) fn resume(&mut self, now: Instant) {
        tracing::info!(connections = self.conns.len(), "slept");
        self.out.push(NetEvent::Resumed);
        self.roaming.due = Some(now);
        self.anchors.network_changed(now);
        for conn in self.conns.iter().filter(|conn| !conn.closing) {
            self.swarm.behaviour_mut().probe.ask(conn.peer, conn.swarm_id);
        }
    }

    /// Looks where we are, if something has changed, and ends the connections whose way is gone.
    pub(super) fn roam(&mut self, now: Instant) {
        if self.roaming.due.take_if(|due| *due <= now).is_none() {
            return;
        }
        if self.roaming.has_moved() {
            tracing::debug!("elsewhere");
            self.out.push(NetEvent::Moved);
            self.tell_interfaces();
            self.anchors.network_changed(now);
        }
        let own: Vec<IpAddr> = interfaces::list().into_iter().map(|interface| interface.address.ip).collect();
        let is_lost = |conn: &&Conn| !conn.closing && is_lost(conn.way, &conn.address, &own);
        let lost: Vec<_> = self.conns.iter().filter(is_lost).map(|conn| conn.id).collect();
        for id in lost {
            if let Some(conn) = self.conns.get_mut(id) {
                tracing::debug!(address = %conn.address, "the way of a connection is gone");
                (conn.closing, conn.silent) = (true, true);
                let connection = conn.swarm_id;
                self.swarm.close_connection(connection);
            }
        }
    }
}
