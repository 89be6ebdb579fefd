//! Pings on their way.

use crate::id::{PairingId, StreamId};
use crate::link::links::{Links, Ping, Work};
use crate::link::{Event, Job, Output};
use crate::time::Now;
use crate::wire::frames::{Frame, FrameType};

impl Links {
    pub(super) fn send_pings(&mut self, id: PairingId) {
        let Some(conn) = self.conns.iter().find(|(_, c)| c.pairing_id == id).map(|(conn, _)| *conn) else { return };
        let waiting: Vec<u64> =
            self.pings.iter().filter(|p| p.pairing_id == id && p.sent.is_none()).map(|p| p.token).collect();
        for token in waiting {
            self.job(Job::OpenPing(conn), Work::OpenPing(token));
        }
    }

    pub(super) fn send_ping(&mut self, token: u64, stream: StreamId, now: Now) {
        match self.pings.iter_mut().find(|p| p.token == token && p.sent.is_none()) {
            Some(ping) => {
                ping.sent = Some((stream, now.time));
                let frame = Frame::new(FrameType::Ping, token.to_be_bytes().to_vec());
                self.out.push_back(Output::Send { stream, frames: vec![frame] });
            }
            None => self.out.push_back(Output::Finish(stream)),
        }
    }

    pub(super) fn handle_pong(&mut self, stream: StreamId, frame: &Frame, now: Now) {
        let mine = |p: &Ping| p.sent.is_some_and(|(id, _)| id == stream) && frame.body() == p.token.to_be_bytes();
        if let Some(index) = self.pings.iter().position(mine) {
            let ping = self.pings.remove(index);
            let sent = ping.sent.map_or(now.time, |(_, at)| at);
            if let Some((path, address)) = self.path(ping.pairing_id) {
                let rtt = now.time.since(sent);
                self.out.push_back(Output::Event(Event::Pong { token: ping.token, rtt, path, address }));
            }
        }
        self.out.push_back(Output::Finish(stream));
    }
}
