//! The devices that were met nearby, and which of them a line of the list means.
//!
//! An id and the hash of a listener's key are heard by everybody, so anybody can say both. A line belongs to whoever was
//! met first under its id. Another address is one more of its places only if a call to it was answered there under the
//! line's key; everybody else who uses the id is not shown, named or dialled for it.

use std::net::IpAddr;

use crate::addr::{Address, Transport};
use crate::lan::NearbyDevice;
use crate::session::{Inbound, Striker};
use crate::wire::beacon::Nid;

/// Places at which devices were met; the machine of the local network has no more.
const MAX_MET: usize = 64;

/// Everybody who was met, at each address, in the order of meeting.
#[derive(Default)]
pub(super) struct List {
    met: Vec<NearbyDevice>,
}

/// What a line of the list says after something has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that people see.
    Nothing,
    /// It is new, or says something else than before.
    Line(NearbyDevice),
    /// It is gone.
    Gone,
}

impl List {
    /// A device is there, or says more of itself.
    pub(super) fn seen(&mut self, device: NearbyDevice) -> Change {
        let before = self.line(device.nid);
        let nid = device.nid;
        match self.met.iter().position(|d| (d.nid, d.ip) == (nid, device.ip)) {
            Some(index) => self.met[index] = device,
            None if self.met.len() < MAX_MET => self.met.push(device),
            None => {}
        }
        self.change(nid, before)
    }

    /// Nobody with this id is at this address any more. A line keeps its owner as long as that has another place.
    pub(super) fn gone(&mut self, nid: Nid, ip: IpAddr) -> Change {
        let before = self.line(nid);
        let heir = self.places(nid).nth(1).cloned();
        let Some(index) = self.met.iter().position(|d| (d.nid, d.ip) == (nid, ip)) else { return Change::Nothing };
        let was_first = self.met.iter().position(|d| d.nid == nid) == Some(index);
        self.met.remove(index);
        if let Some(heir) = heir.filter(|_| was_first) {
            self.met.retain(|d| (d.nid, d.ip) != (nid, heir.ip));
            self.met.insert(index, heir);
        }
        self.change(nid, before)
    }

    pub(super) fn clear(&mut self) {
        self.met.clear();
    }

    /// Where the device is that the line with this id means.
    pub(super) fn places(&self, nid: Nid) -> impl Iterator<Item = &NearbyDevice> {
        let first = self.met.iter().position(|d| d.nid == nid);
        let owner = first.map(|index| self.met[index].spki);
        self.met.iter().enumerate().filter_map(move |(index, d)| {
            let is_its_place = Some(index) == first || d.answered && Some(d.spki) == owner;
            (d.nid == nid && is_its_place).then_some(d)
        })
    }

    /// The lines, in the order in which their devices were met.
    pub(super) fn lines(&self) -> Vec<NearbyDevice> {
        let mut lines: Vec<NearbyDevice> = Vec::new();
        for device in &self.met {
            if !lines.iter().any(|line| line.nid == device.nid) {
                lines.extend(self.line(device.nid));
            }
        }
        lines
    }

    /// The device of the list that this is. Several may have one address; their ports tell them apart, as long as they
    /// dial from where they listen.
    pub(super) fn caller(&self, from: &Inbound) -> Option<Striker> {
        let local = from.local.filter(|_| from.address.transport == Transport::Tcp)?;
        let address = from.own_address()?;
        let here = |d: &&NearbyDevice| d.ip == address.ip && d.own.contains(&local);
        let exact = self.met.iter().filter(here).find(|d| d.addresses.contains(&address));
        let device = exact.or_else(|| self.met.iter().find(here))?;
        Some(Striker { nid: device.nid, address: device.ip })
    }

    /// Whether the device that has this id is at this address. Somebody elsewhere may have copied it.
    pub(super) fn is_place(&self, who: Striker) -> bool {
        self.places(who.nid).any(|d| d.ip == who.address)
    }

    /// One of its places, by a name that it gave at any of them.
    fn line(&self, nid: Nid) -> Option<NearbyDevice> {
        let mut line = self.places(nid).next()?.clone();
        line.name = line.name.or_else(|| self.places(nid).find_map(|d| d.name.clone()));
        Some(line)
    }

    /// Which device a choice of this line means.
    pub(super) fn chosen(&self, nid: Nid) -> Option<Chosen> {
        self.places(nid).next().map(|d| Chosen { nid, ip: d.ip, spki: d.spki })
    }

    /// Whether the line is still that of the device that was chosen: where it was then, or where it answers under its key.
    /// One that had no key yet may have one now.
    pub(super) fn is_still(&self, chosen: &Chosen) -> bool {
        let has_key = |d: &NearbyDevice| d.spki == chosen.spki && d.spki != [0; 32];
        let is_it = |d: &NearbyDevice| {
            if d.ip == chosen.ip { has_key(d) || chosen.spki == [0; 32] } else { has_key(d) && d.answered }
        };
        self.places(chosen.nid).next().is_some_and(is_it)
    }

    fn change(&self, nid: Nid, before: Option<NearbyDevice>) -> Change {
        match (self.line(nid), before) {
            (Some(line), Some(before)) if line.name == before.name && is_same(&line, &before) => Change::Nothing,
            (Some(line), _) => Change::Line(line),
            (None, Some(_)) => Change::Gone,
            (None, None) => Change::Nothing,
        }
    }
}

/// A device that our person has chosen.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) nid: Nid,
    ip: IpAddr,
    spki: [u8; 32],
}

/// At the same place, or it answered at another one under the same key.
fn is_same(now: &NearbyDevice, before: &NearbyDevice) -> bool {
    now.ip == before.ip || now.answered && now.spki == before.spki
}

/// Where a device is dialled. Only a connection over TCP says at which address it came in, which the other side wants to
/// know.
pub(super) fn tcp_addresses<'a>(places: impl IntoIterator<Item = &'a NearbyDevice>) -> Vec<Address> {
    let all = places.into_iter().flat_map(|d| d.addresses.iter());
    all.filter(|a| a.transport == Transport::Tcp).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Path;
    use crate::id::Tid;

    #[test]
    fn whoever_comes_through_a_relay_is_not_the_device_that_was_met_at_its_address() {
        let address: Address = "/ip4/192.168.1.9/tcp/4000".parse().expect("an address");
        let here: IpAddr = "192.168.1.5".parse().expect("an address");
        let device = NearbyDevice {
            nid: Nid([1; 16]),
            name: None,
            ip: address.ip,
            own: vec![here],
            addresses: vec![address],
            spki: [0; 32],
            answered: false,
        };
        let mut list = List::default();
        list.seen(device);
        for path in [Path::Lan, Path::Relay] {
            let from = Inbound { tid: Tid([2; 32]), address, path, local: Some(here) };
            assert_eq!(list.caller(&from).is_some(), path == Path::Lan);
        }
    }
}
