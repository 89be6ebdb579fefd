//! What ties the machines to the network: whose job a network job is, whose stream a stream is, and which connection has
//! which key and address. It knows no protocol; it only remembers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use handfast_net::StreamProtocol;
use handfast_proto::addr::{Address, InterfaceAddress, Path};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::session::Inbound;

/// Which machine a job or stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Table,
    Links,
}

/// What a network job does; it tells what its answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
    Dial,
    Open(StreamProtocol),
}

/// Who is at the other end of a connection, and over what.
struct Conn {
    tid: Tid,
    /// Through a relay, the relay's.
    address: Address,
    relayed: bool,
    local: Option<IpAddr>,
}

/// The bookkeeping.
#[derive(Default)]
pub(super) struct Wires {
    next: u64,
    jobs: BTreeMap<JobId, (Owner, JobId, Kind)>,
    streams: BTreeMap<StreamId, (StreamProtocol, Option<ConnId>)>,
    conns: BTreeMap<ConnId, Conn>,
    interfaces: Vec<InterfaceAddress>,
}

impl Wires {
    /// A network job for a job of a machine.
    pub(super) fn job(&mut self, owner: Owner, job: JobId, kind: Kind) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.jobs.insert(id, (owner, job, kind));
        id
    }

    /// Whose a network job is.
    pub(super) fn owner(&self, id: JobId) -> Option<(Owner, JobId)> {
        self.jobs.get(&id).map(|(owner, job, _)| (*owner, *job))
    }

    /// A network job is answered for good.
    pub(super) fn end(&mut self, id: JobId) -> Option<(Owner, JobId, Kind)> {
        self.jobs.remove(&id)
    }

    /// The network job behind a machine's job that is no longer wanted. Put and open go on and are dropped when answered.
    pub(super) fn cancel(&mut self, owner: Owner, job: JobId) -> Option<(JobId, Kind)> {
        let (id, kind) =
            self.jobs.iter().find(|(_, (o, j, _))| (*o, *j) == (owner, job)).map(|(id, (_, _, kind))| (*id, *kind))?;
        if matches!(kind, Kind::Get | Kind::Dial) {
            self.jobs.remove(&id);
        }
        Some((id, kind))
    }

    pub(super) fn connected(&mut self, conn: ConnId, tid: Tid, address: Address, relayed: bool, local: Option<IpAddr>) {
        self.conns.insert(conn, Conn { tid, address, relayed, local });
    }

    pub(super) fn disconnected(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    pub(super) fn set_interfaces(&mut self, interfaces: Vec<InterfaceAddress>) {
        self.interfaces = interfaces;
    }

    /// Who is at the other end of a connection, and how it runs.
    pub(super) fn peer(&self, conn: ConnId) -> Option<Inbound> {
        let Conn { tid, address, relayed, local } = *self.conns.get(&conn)?;
        let path = if relayed { Path::Relay } else { Path::of(address.ip, &self.interfaces) };
        Some(Inbound { tid, address, path, local })
    }

    /// A stream that we have opened.
    pub(super) fn add_stream(&mut self, stream: StreamId, protocol: StreamProtocol) {
        self.streams.insert(stream, (protocol, None));
    }

    /// A stream that a peer has opened on this connection.
    pub(super) fn add_inbound(&mut self, stream: StreamId, protocol: StreamProtocol, conn: ConnId) {
        self.streams.insert(stream, (protocol, Some(conn)));
    }

    /// The connection of a stream that a peer has opened.
    pub(super) fn conn_of(&self, stream: StreamId) -> Option<ConnId> {
        self.streams.get(&stream)?.1
    }

    pub(super) fn protocol(&self, stream: StreamId) -> Option<StreamProtocol> {
        self.streams.get(&stream).map(|(protocol, _)| *protocol)
    }

    /// A stream is over, or was closed by us: nothing more is told about it.
    pub(super) fn remove_stream(&mut self, stream: StreamId) -> Option<StreamProtocol> {
        self.streams.remove(&stream).map(|(protocol, _)| protocol)
    }

    /// How much is remembered: jobs, streams, connections. For the tests that look for leaks.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.jobs.len(), self.streams.len(), self.conns.len())
    }
}
