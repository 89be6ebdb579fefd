//! The task that owns the swarm: one call per kind of input, translated and forwarded.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use handfast_proto::addr::{Address, Class, classify};
use handfast_proto::id::{ConnId, Tid};
use handfast_proto::secret::Rng;
use libp2p::PeerId;
use libp2p::swarm::Swarm;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::anchors::{Action, Anchors};
use super::behaviour::Behaviour;
use super::conns::Conns;
use super::dht::Dht;
use super::dials::Dials;
use super::hop::Hop;
use super::open_streams::OpenStreams;
use super::outbox::Outbox;
use super::reach::Reach;
use super::reservations::Reservations;
use super::resolve::{self, Resolved};
use super::roaming::Roaming;
use super::stream_io::{FromStream, What};
use crate::api::{Command, DisconnectCause, Interface, NetEvent, Role, Timing};
use crate::interfaces;
use crate::slumber::Slumber;

/// How often Kademlia is asked whether a request has timed out, while queries run: it sets no timer of its own.
const QUERY_TICK: Duration = Duration::from_millis(250);

/// Time for streams and connections to be closed properly at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Time for the tasks of the sockets to send what says that the connections are closed: libp2p gives no sign of it, and
/// the program may end right after.
const LAST_PACKETS: Duration = Duration::from_millis(20);

/// Everything the task owns.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) out: Outbox,
    pub(super) from_streams: mpsc::Receiver<FromStream>,
    pub(super) resolved: mpsc::Receiver<Resolved>,
    pub(super) resolver: mpsc::Sender<Resolved>,
    pub(super) conns: Conns,
    pub(super) streams: OpenStreams,
    pub(super) dials: Dials,
    pub(super) dht: Dht,
    pub(super) anchors: Anchors,
    pub(super) reservations: Reservations,
    pub(super) hop: Hop,
    pub(super) reach: Reach,
    pub(super) role: Role,
    pub(super) timing: Timing,
    pub(super) own: Tid,
    pub(super) rng: Rng,
    pub(super) listening: Vec<Address>,
    /// Listen addresses that the configuration names without a wildcard: a node announces them whatever their class.
    pub(super) named: Vec<Address>,
    pub(super) announced: Vec<Address>,
    /// Connections that are gone while their streams still hand over what came.
    pub(super) departing: BTreeMap<ConnId, (Tid, DisconnectCause)>,
    pub(super) told_dht_peers: usize,
    pub(super) told_interfaces: Option<Vec<Interface>>,
    /// None on a device, which stores nothing for others.
    pub(super) next_sweep: Option<Instant>,
    pub(super) roaming: Roaming,
    pub(super) slumber: Slumber,
    pub(super) counters: Counters,
}

/// Counts since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) lookups_served: u64,
    pub(super) lookups_hit: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// Waits until then, or for ever.
async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Runs until the owner drops its end.
    pub(super) async fn run(mut self) {
        self.start();
        loop {
            self.out.flush();
            let wake = self.next_wake();
            tokio::select! {
                alive = self.out.hand_over(), if !self.out.is_empty() => {
                    if !alive {
                        break;
                    }
                }
                command = self.commands.recv(), if self.out.takes_commands() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some(), if self.out.has_room() => {
                    self.on_swarm_event(event);
                }
                Some(event) = self.from_streams.recv(), if self.out.has_room() => {
                    self.on_stream_event(event);
                }
                Some(answer) = self.resolved.recv() => self.on_resolved(&answer),
                () = self.roaming.changed() => {}
                () = self.slumber.ended() => {}
                () = at(wake) => self.on_time(),
            }
            if self.slumber.is_over() {
                self.resume(Instant::now());
            }
            self.after_input();
        }
        self.farewell().await;
    }

    fn start(&mut self) {
        self.tell_interfaces();
        if let Role::Node { external } = &self.role {
            for address in external.clone() {
                self.announce(address);
            }
        }
        for address in self.listening_classes() {
            self.swarm.behaviour_mut().kademlia.allow(address);
        }
        self.anchors.enter(&mut self.swarm.behaviour_mut().kademlia);
        self.after_input();
    }

    fn listening_classes(&self) -> Vec<Class> {
        self.named.iter().chain(&self.announced).map(|address| classify(address.ip)).collect()
    }

    /// Tells the interfaces if they are not those told last.
    pub(super) fn tell_interfaces(&mut self) {
        let list = interfaces::list();
        if self.told_interfaces.as_ref() != Some(&list) {
            self.told_interfaces = Some(list.clone());
            self.out.push(NetEvent::Interfaces(list));
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let query = (self.dht.len() > 0).then(|| Instant::now() + QUERY_TICK);
        let parts =
            [self.dials.next_deadline(), self.anchors.next_due(), self.reservations.next_due(), self.reach.next_due()];
        parts.into_iter().chain([self.roaming.due(), query, self.next_sweep]).flatten().min()
    }

    fn on_resolved(&mut self, answer: &Resolved) {
        let now = Instant::now();
        let kad = &mut self.swarm.behaviour_mut().kademlia;
        let call = self.anchors.resolved(answer, now, &mut self.rng, kad);
        self.dht.begin(kad);
        if let Some(opts) = call {
            self.attempt(opts);
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        for over in self.dials.expire(now) {
            self.dial_over(over);
        }
        for opts in self.dials.due(now) {
            self.attempt(opts);
        }
        self.roam(now);
        self.settle_reach(now);
        let kad = &mut self.swarm.behaviour_mut().kademlia;
        self.dht.expire(now, kad, &mut self.out);
        if let Some(due) = self.next_sweep.as_mut().filter(|due| **due <= now) {
            *due = now + self.timing.sweep;
            kad.sweep();
        }
    }

    fn after_input(&mut self) {
        let now = Instant::now();
        for action in self.anchors.due(now, &mut self.rng) {
            match action {
                Action::Resolve(request) => resolve::spawn(request, self.resolver.clone()),
                Action::Dial(opts) => self.attempt(opts),
                Action::Explore => {
                    // Without any node in the table there is nobody to ask; the next round tries again.
                    let _ = self.swarm.behaviour_mut().kademlia.kad().bootstrap();
                }
                Action::Hold(peer, connection, hold) => self.swarm.behaviour_mut().streams.hold(peer, connection, hold),
            }
        }
        self.ask_relays(now);
        let connected = self.anchors.count();
        if connected != self.told_dht_peers {
            self.told_dht_peers = connected;
            tracing::debug!(connected, "nodes of the DHT");
            self.out.push(NetEvent::DhtPeers(connected));
        }
        if self.anchors.knows_nobody() {
            self.dht.end_waiting(&mut self.out);
        }
        self.dht.end_finished(connected > 0, &mut self.out);
        let pace = self.dht.pace(connected > 0);
        self.swarm.behaviour_mut().kademlia.set_pace(pace);
    }

    /// Lets every stream arrive with what was sent on it, then closes every connection, so that peers notice at once. What
    /// was sent may be the last word of a pairing: a program that lives for one pairing ends right after it.
    async fn farewell(mut self) {
        self.out.flush();
        self.streams.close_all();
        let leave = async {
            while self.streams.any_leaving_at_all() {
                tokio::select! {
                    _ = self.swarm.select_next_some() => {}
                    Some(event) = self.from_streams.recv() => match event.what {
                        What::Frame(_) | What::Silent => {}
                        What::Ended(_) | What::Left => {
                            self.streams.ended(event.stream);
                        }
                    },
                }
            }
            let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in &peers {
                // An error means that it is gone already.
                let _ = self.swarm.disconnect_peer_id(*peer);
            }
            if peers.is_empty() {
                return;
            }
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
            tokio::time::sleep(LAST_PACKETS).await;
        };
        // What has not left by then stays behind.
        let _ = timeout(FAREWELL, leave).await;
    }
}
