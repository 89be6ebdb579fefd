//! What a device makes known of where it is: the record of its code, as whoever knows the words reads it, and its QR text
//! (requirement D2, acceptance line 5 of the ways through NATs).

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use handfast_proto::addr::{Address, Class, classify};
use handfast_proto::code::qr::QrText;
use handfast_proto::code::words;
use handfast_proto::keys::CodeKeys;
use handfast_proto::wire::advert::{Advert, AdvertState};

use super::pairing::Offer;
use super::world::World;
use crate::lan::observe;
use crate::peer::Peer;
use crate::topology::AccessHost;

/// What was published, and that it was sound.
pub struct Published {
    addresses: usize,
    relays: usize,
    hints: usize,
}

impl std::fmt::Display for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} addresses, {} relays; {} in the QR", self.addresses, self.relays, self.hints)
    }
}

/// Reads what the device at `host` has published of the code in `offer` by `reader`, somebody on the internet.
///
/// # Errors
/// When there is no record, or it or the QR text names what cannot be right for whoever reads it.
pub fn check(world: &World, reader: &Peer, host: &AccessHost, offer: &Offer) -> Result<Published> {
    let own: BTreeSet<IpAddr> = observe::addresses(host.namespace())?.into_iter().map(|own| own.ip).collect();
    let outside: [IpAddr; 2] = [host.ipv4().into(), host.ipv6().into()];
    let advert = record(reader, offer)?;
    for address in &advert.addresses {
        let is_right = match classify(address.ip) {
            Class::Public => outside.contains(&address.ip),
            Class::Private | Class::Shared => own.contains(&address.ip),
            Class::Unusable | Class::Loopback | Class::LinkLocal => false,
        };
        ensure!(is_right, "the record names {address}");
    }
    let nodes: BTreeSet<IpAddr> =
        world.lab.nodes().iter().flat_map(|node| [node.ipv4().into(), node.ipv6().into()]).collect();
    for via in &advert.relays {
        ensure!(nodes.contains(&via.relay.ip), "the record names a relay at {}", via.relay);
    }
    let hints = QrText::parse(&offer.qr).context("the QR text")?.addresses();
    let is_near =
        |hint: &&Address| matches!(classify(hint.ip), Class::Private | Class::Shared) && own.contains(&hint.ip);
    if let Some(wrong) = hints.iter().find(|hint| !is_near(hint)) {
        anyhow::bail!("the QR names {wrong}");
    }
    Ok(Published { addresses: advert.addresses.len(), relays: advert.relays.len(), hints: hints.len() })
}

/// The newest record of the code.
fn record(reader: &Peer, offer: &Offer) -> Result<Advert> {
    let keys = CodeKeys::derive(&words::parse(&offer.words).context("the words")?);
    let (found, answered) = reader.get(keys.topic())?;
    let newest = found.iter().max_by_key(|record| record.seq());
    let newest = newest.with_context(|| format!("no record; {answered} nodes answered"))?;
    let plain = keys.record().open(newest).ok().context("a record that its code does not open")?;
    let advert = Advert::of_code(&plain).ok().context("a record that cannot be read")?;
    ensure!(advert.state == AdvertState::Open, "the code is over: {:?}", advert.state);
    Ok(advert)
}
