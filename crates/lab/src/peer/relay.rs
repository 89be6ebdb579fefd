//! The man in the middle: frames passed between two streams, as they are or changed.

use std::time::{Duration, Instant};

use anyhow::Result;
use handfast_net::{NetEvent, StreamProtocol};
use handfast_proto::id::{ConnId, StreamId};
use handfast_proto::wire::frames::Frame;

use super::{Peer, pick};

impl Peer {
    /// Passes frames between a stream that somebody opened here and a new one on `to`, unchanged and both ways, until one
    /// of them ends or `limit` is over; then closes the other. Gives what came from the first.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn relay(&self, from: StreamId, to: ConnId, limit: Duration) -> Result<Vec<Frame>> {
        self.relay_changed(from, to, limit, |_, frame| Ok(frame))
    }

    /// As [`Peer::relay`], with every frame going through `change`, which is told whether it comes from the first side.
    ///
    /// # Errors
    /// When the network has ended or `change` fails.
    pub fn relay_changed(
        &self,
        from: StreamId,
        to: ConnId,
        limit: Duration,
        mut change: impl FnMut(bool, Frame) -> Result<Frame>,
    ) -> Result<Vec<Frame>> {
        let deadline = Instant::now() + limit;
        let other = self.open(to, StreamProtocol::Pair)?;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.inbox.take(
                left,
                pick!(
                    NetEvent::Frame { stream, frame } if *stream == from || *stream == other
                        => (*stream == from, Some(frame.clone())),
                    NetEvent::StreamClosed { stream, .. } if *stream == from || *stream == other
                        => (*stream == from, None),
                ),
            );
            match next {
                Some((of_first, Some(frame))) => {
                    if of_first {
                        seen.push(frame.clone());
                    }
                    self.send(if of_first { other } else { from }, vec![change(of_first, frame)?])?;
                }
                Some((of_first, None)) => {
                    self.close(if of_first { other } else { from })?;
                    return Ok(seen);
                }
                None => {
                    self.close(from)?;
                    self.close(other)?;
                    return Ok(seen);
                }
            }
        }
    }
}
