//! Pings on their way.

use crate::id::{ConnId, PairingId, StreamId};
use crate::link::links::{Links, Ping, PingState, Work};
use crate::link::{Event, Job, Output};
use crate::time::Now;
use crate::wire::frames::{Frame, FrameType};

impl Links {
    /// Sends what waits for this peer, by the best connection there is.
    pub(super) fn send_pings(&mut self, id: PairingId) {
        let Some((conn, _)) = self.best(id) else { return };
        let mut tokens = Vec::new();
        for ping in &mut self.pings {
            if ping.pairing_id == id && matches!(ping.state, PingState::Waiting) {
                ping.state = PingState::Opening(conn);
                tokens.push(ping.token);
            }
        }
        for token in tokens {
            self.job(Job::OpenPing(conn), Work::OpenPing(token, conn));
        }
    }

    pub(super) fn send_ping(&mut self, token: u64, conn: ConnId, stream: StreamId, now: Now) {
        let opening = self.pings.iter_mut().find(|p| p.token == token && p.opens_on(conn));
        match (opening, self.conns.get(&conn)) {
            (Some(ping), Some(certified)) => {
                let (path, address) = (certified.path, certified.address);
                ping.state = PingState::Sent { stream, at: now.time, conn, path, address };
                let frame = Frame::new(FrameType::Ping, token.to_be_bytes().to_vec());
                self.out.push_back(Output::Send { stream, frames: vec![frame] });
            }
            (Some(_) | None, _) => self.out.push_back(Output::Finish(stream)),
        }
    }

    /// No stream could be opened: the ping waits for another connection.
    pub(super) fn wait_to_ping(&mut self, token: u64, conn: ConnId) {
        if let Some(ping) = self.pings.iter_mut().find(|p| p.token == token && p.opens_on(conn)) {
            ping.state = PingState::Waiting;
        }
    }

    /// A connection is gone: what was about to be sent on it takes another one, if there is one.
    pub(super) fn ping_elsewhere(&mut self, id: PairingId, gone: ConnId) {
        for ping in self.pings.iter_mut().filter(|p| p.opens_on(gone)) {
            ping.state = PingState::Waiting;
        }
        self.send_pings(id);
    }

    pub(super) fn handle_pong(&mut self, stream: StreamId, frame: &Frame, now: Now) {
        let mine = |p: &Ping| p.is_on(stream) && frame.body() == p.token.to_be_bytes();
        if let Some(index) = self.pings.iter().position(mine) {
            let ping = self.pings.remove(index);
            if let PingState::Sent { at, path, address, .. } = ping.state {
                let rtt = now.time.since(at);
                self.out.push_back(Output::Event(Event::Pong { token: ping.token, rtt, path, address }));
            }
        }
        self.out.push_back(Output::Finish(stream));
    }
}

impl Ping {
    /// Whether it was sent on this stream.
    pub(super) fn is_on(&self, id: StreamId) -> bool {
        matches!(self.state, PingState::Sent { stream, .. } if stream == id)
    }

    /// Whether its stream is being opened on this connection.
    fn opens_on(&self, id: ConnId) -> bool {
        matches!(self.state, PingState::Opening(conn) if conn == id)
    }

    /// Whether it is under way on this connection.
    pub(super) fn uses(&self, id: ConnId) -> bool {
        self.opens_on(id) || matches!(self.state, PingState::Sent { conn, .. } if conn == id)
    }
}
