//! The advert: what a code holder (or a paired device) finds sealed inside a rendezvous record (section 5).

use crate::addr::{Address, RelayAddress};
use crate::id::Tid;
use crate::time::UnixTime;
use crate::wire::record::PLAIN_LEN;
use crate::wire::{Malformed, Reader, put_lp};

/// Version byte of the advert.
pub(crate) const VERSION: u8 = 1;
/// Most direct addresses in an advert: enough for IPv4 and IPv6 over both transports on a device with two networks.
pub const MAX_ADDRESSES: usize = 6;
/// Longest binary multiaddr of a direct address.
const MAX_ADDRESS_LEN: usize = 48;
/// Most relays in an advert.
pub const MAX_RELAYS: usize = 2;
/// Longest binary multiaddr of a relay.
const MAX_RELAY_LEN: usize = 96;

/// Whether the code of a record can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvertState {
    /// The initiator waits.
    Open,
    /// Tombstone: somebody paired, or the question was answered.
    Used,
    /// Tombstone: its life ended.
    Expired,
    /// Tombstone: withdrawn by its owner.
    Cancelled,
    /// Tombstone: three failed proofs.
    Burned,
}

impl AdvertState {
    fn byte(self) -> u8 {
        match self {
            AdvertState::Open => 0,
            AdvertState::Used => 1,
            AdvertState::Expired => 2,
            AdvertState::Cancelled => 3,
            AdvertState::Burned => 4,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            0 => AdvertState::Open,
            1 => AdvertState::Used,
            2 => AdvertState::Expired,
            3 => AdvertState::Cancelled,
            4 => AdvertState::Burned,
            _ => return Err(Malformed),
        })
    }
}

/// Where a device can be reached, under which transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Open, or why it is over.
    pub state: AdvertState,
    /// Unix seconds of the initiator's clock at which the code ends, 0 if unknown. For display only.
    pub not_after: UnixTime,
    /// The transport key to expect; all zero in a tombstone.
    pub tid: Tid,
    /// Direct addresses, best first.
    pub addresses: Vec<Address>,
    /// Relays that lead to the device.
    pub relays: Vec<RelayAddress>,
}

impl Advert {
    /// An advert that says the code is over.
    pub fn tombstone(state: AdvertState) -> Advert {
        Advert { state, not_after: UnixTime(0), tid: Tid([0; 32]), addresses: Vec::new(), relays: Vec::new() }
    }

    /// The layout of section 5 without the zero padding, with `rnd` as its random field.
    pub fn to_bytes(&self, rnd: [u8; 16]) -> Vec<u8> {
        let mut out = vec![VERSION, self.state.byte()];
        let not_after = u32::try_from(self.not_after.0).unwrap_or(u32::MAX);
        out.extend_from_slice(&not_after.to_be_bytes());
        out.extend_from_slice(&self.tid.0);
        let addresses = &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)];
        out.push(addresses.len() as u8);
        for address in addresses {
            put_lp(&mut out, &address.to_bytes());
        }
        let relays = &self.relays[..self.relays.len().min(MAX_RELAYS)];
        out.push(relays.len() as u8);
        for relay in relays {
            put_lp(&mut out, &relay.to_bytes());
        }
        out.extend_from_slice(&rnd);
        out
    }

    /// Reads what the record of a code holds: an advert, and zeros up to its end.
    pub fn of_code(plain: &[u8; PLAIN_LEN]) -> Result<Advert, Malformed> {
        let mut reader = Reader::new(plain);
        let advert = Advert::read(&mut reader)?;
        reader.zeros()?;
        Ok(advert)
    }

    /// Reads an advert from the front of `reader`; what follows it is the caller's.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Advert, Malformed> {
        if reader.u8()? != VERSION {
            return Err(Malformed);
        }
        let state = AdvertState::from_byte(reader.u8()?)?;
        let not_after = UnixTime(u64::from(reader.u32()?));
        let tid = Tid(reader.array()?);
        let mut addresses = Vec::new();
        for _ in 0..bounded(reader.u8()?, MAX_ADDRESSES)? {
            // An address of a form we do not know, or one nobody may dial, is skipped: the rest stays useful.
            if let Ok(address) = Address::from_bytes(reader.lp(MAX_ADDRESS_LEN)?) {
                addresses.push(address);
            }
        }
        let mut relays = Vec::new();
        for _ in 0..bounded(reader.u8()?, MAX_RELAYS)? {
            if let Ok(relay) = RelayAddress::from_bytes(reader.lp(MAX_RELAY_LEN)?) {
                relays.push(relay);
            }
        }
        reader.array::<16>()?;
        let advert = Advert { state, not_after, tid, addresses, relays };
        let empty = advert.tid == Tid([0; 32]) && advert.addresses.is_empty() && advert.relays.is_empty();
        match state {
            AdvertState::Open if advert.tid == Tid([0; 32]) => Err(Malformed),
            AdvertState::Open => Ok(advert),
            AdvertState::Used | AdvertState::Expired | AdvertState::Cancelled | AdvertState::Burned if empty => {
                Ok(advert)
            }
            AdvertState::Used | AdvertState::Expired | AdvertState::Cancelled | AdvertState::Burned => Err(Malformed),
        }
    }
}

fn bounded(n: u8, max: usize) -> Result<usize, Malformed> {
    let n = usize::from(n);
    if n <= max { Ok(n) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Advert {
        let address: Address = "/ip4/5.1.2.3/udp/4000/quic-v1".parse().expect("an address");
        let relay = RelayAddress { relay: address, relay_tid: Tid([3; 32]) };
        Advert {
            state: AdvertState::Open,
            not_after: UnixTime(9),
            tid: Tid([4; 32]),
            addresses: vec![address; 2],
            relays: vec![relay],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Any bytes are taken or refused; what is taken and had nothing to skip encodes to the same bytes.
        #[test]
        fn adverts_from_any_and_from_nearly_right_bytes(
            any in proptest::collection::vec(any::<u8>(), 0..700),
            at in 0..150usize,
            byte: u8,
            cut in 0..200usize,
        ) {
            let mut near = sample().to_bytes([5; 16]);
            let end = near.len() - 16;
            if let Some(slot) = near[..end].get_mut(at) {
                *slot = byte;
            }
            if let Ok(read) = Advert::read(&mut Reader::new(&near)) {
                let skipped = read.addresses.len() < 2 || read.relays.is_empty();
                prop_assert!(skipped || read.to_bytes([5; 16]) == near);
            }
            near.truncate(cut);
            for bytes in [any, near] {
                let _ = Advert::read(&mut Reader::new(&bytes));
            }
        }
    }
}
