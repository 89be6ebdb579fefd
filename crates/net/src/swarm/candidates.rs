//! Trap 1 (observed QUIC addresses come back with the listen port): reports the address at which a peer sees us as the
//! peer told it, before anybody translates it. Over TCP only if the dial left from the port that we listen on: any other
//! is nobody's to be called at.

use handfast_proto::addr::{Address, Class, Transport, classify};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::identify;

use super::ids;

/// Our address as the peer at the other end of a connection sees it; `None` where it says nothing: on connections that
/// the peer opened it only repeats what the peer dialled.
pub(crate) fn observed(info: &identify::Info, endpoint: &ConnectedPoint) -> Option<Address> {
    let ConnectedPoint::Dialer { port_use, .. } = endpoint else { return None };
    let is_ours = |a: &Address| a.transport == Transport::Quic || *port_use == PortUse::Reuse;
    let is_usable = |a: &Address| a.port != 0 && classify(a.ip) != Class::Unusable && is_ours(a);
    ids::address_of(&info.observed_addr).filter(is_usable)
}
