//! What has come in at a peer, and the thread that brings it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use handfast_net::{Clock, Command, Config, NetEvent, Network, Transport as _};
use handfast_proto::addr::Address;
use handfast_proto::id::{ConnId, Tid};
use tokio::sync::mpsc;

use crate::host::Host;

/// Events kept until somebody asks for them; the oldest go first, since nobody has asked for them for so long.
const EVENTS_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    events: VecDeque<NetEvent>,
    pub(super) conns: BTreeMap<ConnId, (Tid, Address)>,
    pub(super) dht_peers: usize,
    pub(super) ended: bool,
}

impl Inbox {
    /// Takes the first event that `pick` wants, waiting for it at most `limit`.
    pub(super) fn take<T>(&self, limit: Duration, pick: impl Fn(&NetEvent) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            let found = state.events.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?)));
            if let Some((at, value)) = found {
                state.events.remove(at);
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            state = self.wait(state, left);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    fn add(&self, event: NetEvent) {
        let mut state = self.lock();
        if let NetEvent::Connected { conn, tid, address, .. } = &event {
            state.conns.insert(*conn, (*tid, *address));
        }
        if let NetEvent::DhtPeers(peers) = &event {
            state.dht_peers = *peers;
        }
        if !is_noise(&event) {
            state.events.push_back(event);
        }
        if state.events.len() > EVENTS_MAX {
            state.events.pop_front();
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// What nobody ever waits for.
const fn is_noise(event: &NetEvent) -> bool {
    matches!(
        event,
        NetEvent::Stored { .. }
            | NetEvent::DhtPeers(_)
            | NetEvent::Interfaces(_)
            | NetEvent::Observed { .. }
            | NetEvent::Connected { .. }
            | NetEvent::Disconnected { .. }
            | NetEvent::ListenerGone { .. }
    )
}

/// The peer's thread: inside the namespace, one runtime, until its owner is gone.
pub(super) fn drive(host: &Host, config: Config, mut commands: mpsc::Receiver<Command>, inbox: &Inbox) -> Result<()> {
    host.namespace().move_here()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut network: Network = handfast_net::start(config, Clock::start())?;
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => network.send(command).await?,
                    None => break,
                },
                event = network.next() => match event {
                    Some(event) => inbox.add(event),
                    None => break,
                },
            }
        }
        network.end().await;
        Ok(())
    })
}
