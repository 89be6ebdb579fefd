//! Connecting to a joiner that cannot connect to us: a firewall here drops what comes in, and lets out what we begin. The
//! joiner then opens the pairing on our connection, so nothing of the handshake changes.

use std::net::IpAddr;

use crate::addr::Address;
use crate::id::JobId;
use crate::limits;
use crate::session::{Context, Job};
use crate::time::Time;

/// Joiners of one code that were heard on the local network.
#[derive(Default)]
pub(super) struct Reverse {
    heard: Vec<Heard>,
}

struct Heard {
    addresses: Vec<Address>,
    at: Time,
    tries: u8,
    job: Option<JobId>,
}

impl Reverse {
    /// A joiner is at these addresses, all of one host.
    pub(super) fn heard(&mut self, addresses: Vec<Address>, now: Time) {
        let Some(ip) = addresses.first().map(|a| a.ip) else { return };
        if let Some(known) = self.heard.iter_mut().find(|h| is_at(h, ip)) {
            known.addresses = addresses;
            return;
        }
        if self.heard.len() >= limits::MAX_REVERSE {
            self.heard.remove(0);
        }
        self.heard.push(Heard { addresses, at: now + limits::REVERSE, tries: 0, job: None });
    }

    /// Somebody at this address has reached us: no need to go there.
    pub(super) fn arrived(&mut self, ip: IpAddr, cx: &mut Context<'_>) {
        for heard in self.heard.extract_if(.., |h| is_at(h, ip)) {
            heard.job.into_iter().for_each(|job| cx.cancel(job));
        }
    }

    /// A try has ended, whatever came of it.
    pub(super) fn done(&mut self, id: JobId, now: Time) {
        if let Some(heard) = self.heard.iter_mut().find(|h| h.job == Some(id)) {
            (heard.job, heard.at) = (None, now + limits::REVERSE_PAUSE);
        }
    }

    /// Starts the tries that are due.
    pub(super) fn run(&mut self, cx: &mut Context<'_>) {
        for heard in &mut self.heard {
            if heard.job.is_none() && heard.at <= cx.now.time && heard.tries < limits::REVERSE_TRIES {
                heard.tries += 1;
                heard.job =
                    Some(cx.job(Job::Dial { tid: None, addresses: heard.addresses.clone(), relays: Vec::new() }));
            }
        }
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let waiting = self.heard.iter().filter(|h| h.job.is_none() && h.tries < limits::REVERSE_TRIES);
        waiting.map(|h| h.at).min()
    }

    /// Nobody is waited for any more.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) {
        for heard in self.heard.drain(..) {
            heard.job.into_iter().for_each(|job| cx.cancel(job));
        }
    }
}

fn is_at(heard: &Heard, ip: IpAddr) -> bool {
    heard.addresses.iter().any(|a| a.ip == ip)
}
