//! Trap 1 (observed QUIC addresses come back with the listen port): reports the address at which a peer sees us as the
//! peer told it, before anybody translates it.

use handfast_proto::addr::{Address, Class, classify};
use libp2p::core::ConnectedPoint;
use libp2p::identify;

use super::ids;

/// Our address as the peer at the other end of a connection sees it; `None` where it says nothing: on connections that
/// the peer opened it only repeats what the peer dialled.
pub(crate) fn observed(info: &identify::Info, endpoint: &ConnectedPoint) -> Option<Address> {
    if !endpoint.is_dialer() {
        return None;
    }
    ids::address_of(&info.observed_addr).filter(|a| a.port != 0 && classify(a.ip) != Class::Unusable)
}
