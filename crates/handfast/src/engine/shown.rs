//! The codes that are being shown: a QR text names our port and addresses, so it is drawn anew when these change. The code
//! stays the same.

use std::time::Duration;

use handfast_proto::addr::{Address, LoopbackPolicy};
use handfast_proto::code::Code;
use handfast_proto::code::qr::QrText;
use handfast_proto::id::Tid;
use handfast_proto::time::Time;
use zeroize::Zeroizing;

/// How long a code that is asked for right at the start waits for the addresses that its QR text is to name.
const ADDRESSES_WAIT: Duration = Duration::from_millis(300);

/// What a QR text is made of besides the code.
pub(super) struct Place {
    pub(super) tid: Tid,
    pub(super) in_dht: bool,
    pub(super) on_lan: bool,
    pub(super) loopback: LoopbackPolicy,
}

/// Every code of a live session, which is at most eight.
pub(super) struct Shown {
    place: Place,
    hints: Vec<Address>,
    codes: Vec<(String, Code)>,
    settled_by: Time,
}

impl Shown {
    pub(super) fn new(place: Place, now: Time) -> Shown {
        Shown { place, hints: Vec::new(), codes: Vec::new(), settled_by: now + ADDRESSES_WAIT }
    }

    /// A code is shown from now on; gives its QR text.
    pub(super) fn add(&mut self, session: &str, code: Code) -> Zeroizing<String> {
        let text = self.text(&code);
        self.codes.push((session.to_owned(), code));
        text
    }

    /// The QR text of a session as it must look now.
    pub(super) fn qr(&self, session: &str) -> Option<Zeroizing<String>> {
        self.codes.iter().find(|(id, _)| id == session).map(|(_, code)| self.text(code))
    }

    /// A session is over: its code is wiped.
    pub(super) fn end(&mut self, session: &str) {
        self.codes.retain(|(id, _)| id != session);
    }

    /// Our addresses as a QR text may name them; gives the sessions whose text has changed.
    pub(super) fn set_hints(&mut self, hints: Vec<Address>) -> Vec<String> {
        if hints == self.hints {
            return Vec::new();
        }
        let before: Vec<Zeroizing<String>> = self.codes.iter().map(|(_, code)| self.text(code)).collect();
        self.hints = hints;
        let changed = self.codes.iter().zip(before).filter(|((_, code), old)| self.text(code) != *old);
        changed.map(|((id, _), _)| id.clone()).collect()
    }

    /// Whether a QR text of now is worth showing: it names an address, or there is none to wait for.
    pub(super) fn is_settled(&self, now: Time) -> bool {
        !self.place.on_lan || !self.hints.is_empty() || now >= self.settled_by
    }

    /// When that is at the latest.
    pub(super) fn settled_by(&self) -> Time {
        self.settled_by
    }

    fn text(&self, code: &Code) -> Zeroizing<String> {
        let Place { tid, in_dht, on_lan, loopback } = self.place;
        Zeroizing::new(QrText::new(code.clone(), tid, in_dht, on_lan, &self.hints, loopback).to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handfast_proto::secret::Secret;

    /// A5: a change of port or addresses makes a new text of the same code, and a change of neither makes none.
    #[test]
    fn a5_a_changed_port_redraws_the_same_code() {
        let place = Place { tid: Tid([1; 32]), in_dht: false, on_lan: true, loopback: LoopbackPolicy::Refuse };
        let mut shown = Shown::new(place, Time::default());
        let code = Code::from_entropy(Secret::new([7; 16]));
        let first = shown.add("s", code.clone());
        let at = |text: &str| vec![text.parse().expect("an address")];
        assert_eq!(shown.set_hints(at("/ip4/192.168.1.5/tcp/4000")), ["s"]);
        assert!(shown.set_hints(at("/ip4/192.168.1.5/tcp/4000")).is_empty());
        assert_eq!(shown.set_hints(at("/ip4/192.168.1.5/tcp/4001")), ["s"]);
        let now = shown.qr("s").expect("shown");
        assert_ne!(*now, *first);
        let read = QrText::parse(&now).expect("a QR text");
        assert!(read.code == code);
        assert_eq!(read.port, 4001);
        shown.end("s");
        assert!(shown.qr("s").is_none());
        assert!(shown.set_hints(Vec::new()).is_empty());
    }
}
