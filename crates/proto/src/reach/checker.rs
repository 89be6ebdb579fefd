//! When which node is asked about which address of ours, and what is believed of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::MAX_PORTS;
use crate::addr::{Address, Transport};
use crate::id::{ConnId, JobId};
use crate::records::Source as Network;
use crate::time::Time;

/// Addresses come one by one, and a NAT's are believed only when two nodes agree on them.
const SETTLE: Duration = Duration::from_millis(500);

/// How soon an address is looked at again that could be reached: its port may be given to somebody else, a firewall closed.
const RECHECK: Duration = Duration::from_secs(1_800);

/// How soon after it could not be reached: at first since a packet is easily lost, then since a rule may have been added.
/// It doubles from the first to the second.
const RETRY_MIN: Duration = Duration::from_secs(30);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// So many checks in a row must fail before an address that could be reached counts as one that cannot.
const DOUBT: u32 = 2;

/// Addresses that are looked at. There are two of each family: one for each transport.
const MAX_CANDIDATES: usize = 16;

/// Nodes that are asked over TCP how they see us: an address is believed when two of different networks agree.
const SIGHTS: usize = 2;

/// How long one may take to tell, and how many are asked in all.
const SIGHT_LIMIT: Duration = Duration::from_secs(10);
/// See [`SIGHT_LIMIT`].
const MAX_SIGHTS: usize = 4;

/// A node that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Over which connection.
    pub conn: ConnId,
    /// Where it is.
    pub at: IpAddr,
    /// Where it sees us, and so would call.
    pub sees: Address,
}

/// A question to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The job.
    pub id: JobId,
    /// The connection to the node.
    pub conn: ConnId,
    /// What it is asked about, all at the address at which it sees us.
    pub addresses: Vec<Address>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node has called: at these with success, and at those in vain.
    Called {
        /// Where we were reached.
        reached: Vec<Address>,
        /// Where not.
        missed: Vec<Address>,
    },
    /// Nobody knows: it was too busy, does not do that, or is gone.
    Unknown,
}

#[derive(Clone, Copy)]
struct State {
    reached: bool,
    /// Checks in a row that failed.
    failures: u32,
    /// Questions in a row that came to nothing.
    vain: u32,
    due: Time,
}

/// The checks of one device.
pub struct Checker {
    candidates: BTreeMap<Address, State>,
    nodes: BTreeMap<ConnId, Node>,
    running: Option<Question>,
    next: u64,
    /// The nodes whose sight of our TCP port was asked for, and when.
    sights: BTreeMap<IpAddr, Time>,
    /// Whether a call proves nothing: a NAT lets in every port of those that something was sent to.
    in_doubt: bool,
    has_changed: bool,
}

impl Default for Checker {
    fn default() -> Checker {
        Checker::new()
    }
}

impl Checker {
    /// Nothing is known.
    pub fn new() -> Checker {
        Checker {
            candidates: BTreeMap::new(),
            nodes: BTreeMap::new(),
            running: None,
            next: 0,
            sights: BTreeMap::new(),
            in_doubt: false,
            has_changed: false,
        }
    }

    /// The public addresses that may be ours, those that matter most first. What is known of others is forgotten.
    pub fn set_candidates(&mut self, addresses: &[Address], now: Time) {
        let wanted: BTreeSet<Address> = addresses.iter().copied().take(MAX_CANDIDATES).collect();
        let before = self.candidates.len();
        self.candidates.retain(|address, _| wanted.contains(address));
        self.has_changed |= self.candidates.len() != before;
        for address in wanted {
            self.candidates.entry(address).or_insert(State { reached: false, failures: 0, vain: 0, due: now + SETTLE });
        }
    }

    /// Whether calls of nodes that we speak to prove nothing about others: STUN has shown a NAT that lets in every port of
    /// an address that something was sent to (RFC 4787, section 5).
    pub fn set_in_doubt(&mut self, in_doubt: bool) {
        self.has_changed |= self.in_doubt != in_doubt;
        self.in_doubt = in_doubt;
    }

    /// A node that we were given, and that calls back, has said how it sees us.
    pub fn set_node(&mut self, node: Node, now: Time) {
        let sees = Address { ip: node.sees.ip.to_canonical(), ..node.sees };
        let is_news = self.nodes.insert(node.conn, Node { sees, ..node }).is_none();
        if is_news {
            // What nobody could be asked about is not late yet.
            let soon = now + SETTLE;
            for (_, state) in self.candidates.iter_mut().filter(|(address, _)| address.ip == sees.ip) {
                state.due = if state.failures == 0 && !state.reached { state.due.max(soon) } else { state.due };
            }
        }
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, conn: ConnId) {
        if let Some(node) = self.nodes.remove(&conn)
            && !self.nodes.values().any(|other| other.at == node.at && other.sees.transport == Transport::Tcp)
        {
            self.sights.remove(&node.at);
        }
    }

    /// We are elsewhere: nothing holds any more.
    pub fn moved(&mut self) {
        self.has_changed |= !self.candidates.is_empty();
        self.candidates.clear();
        self.sights.clear();
    }

    /// The next question that is due, one at a time.
    pub fn poll_question(&mut self, now: Time) -> Option<Question> {
        if self.running.is_some() {
            return None;
        }
        let due = |state: &State| state.due <= now;
        let (ip, failures) = self
            .candidates
            .iter()
            .filter(|(address, state)| due(state) && self.asked_about(address.ip, 0).is_some())
            .map(|(address, state)| (address.ip, state.failures.wrapping_add(state.vain)))
            .next()?;
        // After a failure, or no answer, another one is asked, if there is one.
        let conn = self.asked_about(ip, failures as usize)?;
        let addresses: Vec<Address> = self
            .candidates
            .iter()
            .filter(|(address, state)| address.ip == ip && due(state))
            .map(|(address, _)| *address)
            .take(MAX_PORTS)
            .collect();
        self.next += 1;
        let question = Question { id: JobId(self.next), conn, addresses };
        self.running = Some(question.clone());
        Some(question)
    }

    /// The nth of the nodes that can be asked about an address of ours, counted around.
    fn asked_about(&self, ip: IpAddr, n: usize) -> Option<ConnId> {
        let asked: Vec<ConnId> = self.nodes.values().filter(|node| node.sees.ip == ip).map(|node| node.conn).collect();
        (!asked.is_empty()).then(|| asked[n % asked.len()])
    }

    /// What came of a question.
    pub fn answered(&mut self, id: JobId, verdict: &Verdict, now: Time) {
        let Some(question) = self.running.take_if(|question| question.id == id) else { return };
        match verdict {
            Verdict::Called { reached, missed } => {
                for address in &question.addresses {
                    if reached.contains(address) {
                        self.reached(*address, now);
                    } else if missed.contains(address) {
                        self.missed(*address, now);
                    } else {
                        self.put_off(*address, now);
                    }
                }
            }
            Verdict::Unknown => question.addresses.iter().for_each(|address| self.put_off(*address, now)),
        }
    }

    fn reached(&mut self, address: Address, now: Time) {
        if let Some(state) = self.candidates.get_mut(&address) {
            self.has_changed |= !state.reached || state.failures > 0;
            *state = State { reached: true, failures: 0, vain: 0, due: now + RECHECK };
        }
    }

    fn missed(&mut self, address: Address, now: Time) {
        if let Some(state) = self.candidates.get_mut(&address) {
            state.due = now + pause(state.failures);
            state.failures = state.failures.saturating_add(1);
            state.vain = 0;
            if state.failures >= DOUBT || !state.reached {
                self.has_changed |= state.reached || state.failures == 1;
                state.reached = false;
            }
        }
    }

    fn put_off(&mut self, address: Address, now: Time) {
        if let Some(state) = self.candidates.get_mut(&address) {
            state.due = now + pause(state.vain);
            state.vain = state.vain.saturating_add(1);
        }
    }

    /// Whether what is known has changed since this was asked last.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Where others can reach us.
    pub fn reachable(&self) -> impl Iterator<Item = Address> {
        self.candidates.iter().filter(|(_, state)| state.reached && !self.in_doubt).map(|(address, _)| *address)
    }

    /// Where others cannot reach us, as far as anybody has tried.
    pub fn unreachable(&self) -> impl Iterator<Item = Address> {
        self.candidates.iter().filter(|(_, state)| !state.reached && state.failures > 0).map(|(address, _)| *address)
    }

    /// A node to call over TCP as well, so that it tells at which port of the NAT our TCP port is seen: where the NAT lets
    /// everybody in over QUIC it may over TCP, and some have no UDP. Each is named once.
    pub fn poll_sight(&mut self, now: Time) -> Option<ConnId> {
        let open: BTreeSet<IpAddr> =
            self.reachable().filter(|address| address.transport == Transport::Quic).map(|address| address.ip).collect();
        let known =
            |ip: IpAddr| self.candidates.keys().any(|address| address.ip == ip && address.transport == Transport::Tcp);
        let networks: BTreeSet<Network> = self.sights.keys().map(|at| Network::of(*at)).collect();
        // One that cannot be called over TCP is not waited for.
        let counts = |(at, asked): &(&IpAddr, &Time)| {
            let has_told = |node: &Node| node.at == **at && node.sees.transport == Transport::Tcp;
            now < **asked + SIGHT_LIMIT || self.nodes.values().any(has_told)
        };
        if self.sights.iter().filter(counts).count() >= SIGHTS || self.sights.len() >= MAX_SIGHTS {
            return None;
        }
        let node = self.nodes.values().find(|node| {
            open.contains(&node.sees.ip) && !known(node.sees.ip) && !networks.contains(&Network::of(node.at))
        })?;
        let (conn, at) = (node.conn, node.at);
        self.sights.insert(at, now);
        Some(conn)
    }

    /// When [`Checker::poll_question`] has something to ask next.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.running.is_some() {
            return None;
        }
        let due = self.candidates.iter().filter(|(address, _)| self.asked_about(address.ip, 0).is_some());
        due.map(|(_, state)| state.due).min()
    }
}

/// The pause after so many tries before this one.
fn pause(before: u32) -> Duration {
    (RETRY_MIN * 2u32.saturating_pow(before)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quic(port: u16) -> Address {
        Address { ip: [5, 1, 2, 3].into(), port, transport: Transport::Quic }
    }

    fn node(n: u8) -> Node {
        Node { conn: ConnId(n.into()), at: [6, n, 0, 1].into(), sees: quic(4001) }
    }

    fn at(secs: u64) -> Time {
        Time::at(Duration::from_secs(secs))
    }

    fn called(reached: &[Address], missed: &[Address]) -> Verdict {
        Verdict::Called { reached: reached.to_vec(), missed: missed.to_vec() }
    }

    /// Asks what is due next, and answers it.
    fn ask(checker: &mut Checker, now: &mut Time, verdict: &Verdict) -> Question {
        *now = checker.poll_timeout().expect("something is due").max(*now);
        let question = checker.poll_question(*now).expect("something is due");
        checker.answered(question.id, verdict, *now);
        question
    }

    #[test]
    fn b27_an_address_counts_as_reachable_until_two_nodes_in_a_row_have_called_in_vain() {
        let (mut checker, mut now) = (Checker::new(), at(0));
        checker.set_candidates(&[quic(4001)], now);
        assert_eq!(checker.poll_timeout(), None, "nobody can be asked");
        checker.set_node(node(1), now);
        checker.set_node(node(2), now);
        assert_eq!(checker.poll_question(now), None, "others may still be heard of");
        ask(&mut checker, &mut now, &called(&[quic(4001)], &[]));
        assert!(checker.take_change() && !checker.take_change());
        assert_eq!(checker.reachable().collect::<Vec<_>>(), [quic(4001)]);
        let first = ask(&mut checker, &mut now, &called(&[], &[quic(4001)]));
        assert_eq!(now, at(0) + SETTLE + RECHECK);
        assert_eq!(checker.reachable().count(), 1, "once is nothing yet");
        let second = ask(&mut checker, &mut now, &called(&[], &[quic(4001)]));
        assert_ne!(first.conn, second.conn, "another one is asked");
        assert_eq!(now, at(0) + SETTLE + RECHECK + RETRY_MIN);
        assert_eq!((checker.reachable().count(), checker.unreachable().count()), (0, 1));
        assert!(checker.take_change());
        // Once reached is enough to come back.
        ask(&mut checker, &mut now, &called(&[quic(4001)], &[]));
        assert_eq!((checker.reachable().count(), checker.unreachable().count()), (1, 0));
    }

    #[test]
    fn whom_nobody_reaches_is_tried_less_and_less_often_and_at_least_hourly() {
        let (mut checker, mut now) = (Checker::new(), at(0));
        checker.set_candidates(&[quic(4001)], now);
        checker.set_node(node(1), now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let before = now;
            ask(&mut checker, &mut now, &called(&[], &[quic(4001)]));
            pauses.push(now.since(before).as_secs());
        }
        assert_eq!(pauses[1..], [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn only_a_node_that_sees_us_at_the_address_is_asked_and_a_busy_one_later() {
        let (mut checker, now) = (Checker::new(), at(10));
        checker.set_node(node(1), at(0));
        checker.set_candidates(&[Address { ip: [5, 1, 2, 4].into(), ..quic(1) }], at(0));
        assert_eq!(checker.poll_question(now), None);
        checker.set_candidates(&[quic(4001), quic(4002)], at(0));
        let question = checker.poll_question(now).expect("due");
        assert_eq!((question.conn, question.addresses.len()), (ConnId(1), 2));
        assert_eq!(checker.poll_question(now), None, "one at a time");
        checker.answered(JobId(99), &Verdict::Unknown, now);
        assert_eq!(checker.poll_timeout(), None, "that was no answer");
        checker.answered(question.id, &Verdict::Unknown, now);
        assert_eq!(checker.poll_question(now), None);
        assert_eq!(checker.unreachable().count(), 0, "nobody has called");
        assert_eq!(checker.poll_timeout(), Some(now + RETRY_MIN));
        checker.set_node(node(2), now);
        let (mut pauses, mut asked, mut now) = (Vec::new(), BTreeSet::new(), now);
        for _ in 0..4 {
            let before = now;
            asked.insert(ask(&mut checker, &mut now, &Verdict::Unknown).conn);
            pauses.push(now.since(before).as_secs());
        }
        assert_eq!((pauses, asked.len()), (vec![30, 60, 120, 240], 2), "less and less often, one and the other");
        checker.disconnected(ConnId(2));
        checker.disconnected(ConnId(1));
        assert_eq!(checker.poll_timeout(), None);
    }

    #[test]
    fn whatever_was_known_ends_with_the_network_and_counts_for_nothing_behind_a_nat_that_knows_the_nodes() {
        let (mut checker, mut now) = (Checker::new(), at(0));
        checker.set_candidates(&[quic(4001)], now);
        checker.set_node(node(1), now);
        ask(&mut checker, &mut now, &called(&[quic(4001)], &[]));
        assert!(checker.take_change());
        checker.set_in_doubt(true);
        assert!(checker.take_change() && checker.reachable().next().is_none());
        checker.set_in_doubt(false);
        assert_eq!(checker.reachable().count(), 1);
        checker.moved();
        assert!(checker.take_change());
        assert_eq!(checker.reachable().count(), 0);
    }

    #[test]
    fn two_nodes_of_different_networks_are_called_over_tcp_where_quic_lets_everybody_in() {
        let (mut checker, mut now) = (Checker::new(), at(0));
        checker.set_candidates(&[quic(4001)], now);
        for n in 1..=3 {
            checker.set_node(node(n), now);
        }
        let beside = Node { conn: ConnId(4), at: [6, 1, 0, 9].into(), ..node(1) };
        checker.set_node(beside, now);
        assert_eq!(checker.poll_sight(now), None, "nobody has come in");
        ask(&mut checker, &mut now, &called(&[quic(4001)], &[]));
        assert_eq!([checker.poll_sight(now), checker.poll_sight(now)], [Some(ConnId(1)), Some(ConnId(2))]);
        assert_eq!(checker.poll_sight(now), None);
        let sees = Address { transport: Transport::Tcp, ..quic(4002) };
        checker.set_node(Node { conn: ConnId(11), sees, ..node(1) }, now);
        now = now + SIGHT_LIMIT;
        assert_eq!(checker.poll_sight(now), Some(ConnId(3)), "the second one has said nothing");
        let tcp = Address { transport: Transport::Tcp, ..quic(4002) };
        checker.set_candidates(&[quic(4001), tcp], now);
        checker.disconnected(ConnId(1));
        assert_eq!(checker.poll_sight(now + SIGHT_LIMIT), None, "the port is known");
    }
}
