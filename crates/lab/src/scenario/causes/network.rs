//! Faults of a device's own network, on the internet.

use std::time::Instant;

use anyhow::Result;

use super::super::pairing::{join, offer};
use super::bench::{Bench, Expected, LIMIT, SEARCH_LIMIT, WARM_UP, ended_of, enter_again};
use crate::clock::move_by_days;
use crate::lan::rules::INBOUND_DROP;
use crate::skip::faketime_library;

/// A network that carries no UDP.
const NO_UDP: &str = "\
table inet quiet {
    chain out {
        type filter hook output priority filter;
        oif lo accept
        meta l4proto udp drop
    }
}";

/// The last byte of a host's addresses at first.
const HOME: u8 = 2;

/// It pairs all the same.
const PAIRS: Expected = Expected(0, &[]);

impl Bench {
    pub(super) fn joiner_cut_off(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--yes"])?;
        let words = offer.words.clone();
        self.hosts.bob.link().cut();
        self.join_fails("the joiner's line is dead", &words, Expected(4, &["no_bootstrap"]), SEARCH_LIMIT);
        self.hosts.bob.link().restore();
        let paired = enter_again(&self.bob, offer, &words);
        self.cases.follow("back, same code", paired);
        Ok(())
    }

    pub(super) fn joiner_without_address(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--yes"])?;
        let words = offer.words.clone();
        self.hosts.bob.namespace().ip(&["addr", "flush", "dev", "eth0"])?;
        self.join_fails("the joiner has no address", &words, Expected(4, &["no_network"]), SEARCH_LIMIT);
        self.hosts.bob.renumber(HOME)?;
        let paired = enter_again(&self.bob, offer, &words);
        self.cases.follow("connected, same code", paired);
        Ok(())
    }

    /// A relay would help, so there is none.
    pub(super) fn firewall(&mut self) -> Result<()> {
        let host = self.hosts.carol.clone();
        let mut carol = self.device(&host, "shy")?;
        carol.start_daemon_with(&["--no-relay"])?;
        std::thread::sleep(WARM_UP);
        host.namespace().nft(INBOUND_DROP)?;
        let offer = offer(&carol, &["--yes"])?;
        std::thread::sleep(self.gap);
        let words = offer.words.clone();
        let expected = Expected(8, &["unreachable", "inbound_firewall"]);
        self.join_fails("the initiator's firewall lets nothing in, no relay", &words, expected, LIMIT);
        host.namespace().tool("nft", &["delete", "table", "inet", "guard"])?;
        let paired = enter_again(&self.bob, offer, &words);
        self.cases.follow("opened, same code", paired);
        carol.stop()?;
        Ok(())
    }

    /// In the joiner's network; it has never known another.
    pub(super) fn no_udp(&mut self) -> Result<()> {
        let (far, near) = (self.hosts.carol.clone(), self.hosts.bob.clone());
        let mut carol = self.device(&far, "quic")?;
        carol.start_daemon_with(&["--no-relay", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1"])?;
        near.namespace().nft(NO_UDP)?;
        let mut joiner = self.device(&near, "guest")?;
        joiner.start_daemon()?;
        std::thread::sleep(WARM_UP);
        let shown = offer(&carol, &["--yes"])?;
        let by_tcp = self.offer_published(&["--yes"])?;
        let words = shown.words.clone();
        let ended = ended_of(join(&joiner, &words, &["--yes"]), Instant::now());
        let expected = Expected(8, &["unreachable", "udp_blocked"]);
        self.cases.add("the joiner's network carries no UDP, the initiator has nothing else", expected, LIMIT, ended);
        let ended = ended_of(join(&joiner, &by_tcp.words, &["--yes"]), Instant::now());
        self.cases.add("the joiner's network carries no UDP", PAIRS, LIMIT, ended);
        near.namespace().tool("nft", &["delete", "table", "inet", "quiet"])?;
        let paired = enter_again(&joiner, shown, &words);
        self.cases.follow("another network, same code", paired);
        joiner.stop()?;
        carol.stop()?;
        Ok(())
    }

    /// No failure: nothing in a pairing depends on the time of day.
    pub(super) fn wrong_clock(&mut self) -> Result<()> {
        if faketime_library().is_none() {
            return Ok(());
        }
        let host = self.hosts.carol.clone();
        for (name, days) in [("the joiner's clock is a day ahead", 1), ("the joiner's clock is 30 days behind", -30)] {
            let mut carol = self.device(&host, "clock")?;
            move_by_days(&mut carol, days)?;
            carol.start_daemon()?;
            std::thread::sleep(WARM_UP);
            let offer = self.offer_published(&["--yes"])?;
            let ended = ended_of(join(&carol, &offer.words, &["--yes"]), Instant::now());
            self.cases.add(name, PAIRS, LIMIT, ended);
            carol.stop()?;
        }
        Ok(())
    }
}
