//! Faults of a local network, each in a lab of its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::super::pairing::{Offer, join, offer};
use super::bench::{Cases, Expected, LIMIT, SEARCH_LIMIT, WARM_UP, ended_of, enter_again};
use crate::device::{Device, base_env, binary};
use crate::lan::rules::INBOUND_DROP;
use crate::lan::{LanLab, Profile};
use crate::process::{Line, Running, Start};

/// Nobody is found where no node is configured and the network carries no announcements.
const NOT_FOUND: Expected = Expected(4, &["no_bootstrap", "multicast_blocked"]);

/// How long a node may take until it says `ready`.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// Of the network of bob that is routed to alice's: the router.
const ROUTER: &str = "192.168.78.1";

/// Two devices that run on a local network.
struct Room {
    lab: LanLab,
    alice: Device,
    bob: Device,
    gap: Duration,
}

impl Room {
    fn new(profile: Profile, gap: Duration) -> Result<Room> {
        let lab = LanLab::build(profile)?;
        let mut alice = Device::new(&lab.host("alice")?, "alice")?;
        let mut bob = Device::new(&lab.host("bob")?, "bob")?;
        alice.start_daemon()?;
        bob.start_daemon()?;
        Ok(Room { lab, alice, bob, gap })
    }

    fn offer(&self) -> Result<Offer> {
        let offer = offer(&self.alice, &["--yes"])?;
        std::thread::sleep(self.gap);
        Ok(offer)
    }

    fn join_ends(&self, name: &'static str, code: &str, expected: Expected, limit: Duration, cases: &mut Cases) {
        let ended = ended_of(join(&self.bob, code, &["--yes"]), Instant::now());
        cases.add(name, expected, limit, ended);
    }

    fn stop(mut self) -> Result<()> {
        self.alice.stop()?;
        self.bob.stop()?;
        Ok(())
    }
}

/// One firewall is got around by a call from behind it, two by calls from both; the initiator that does not use the local
/// network does not know whom to call.
pub(super) fn firewalls(gap: Duration, cases: &mut Cases) -> Result<()> {
    let room = Room::new(Profile::FirewallA, gap)?;
    let bob = room.lab.host("bob")?;
    bob.namespace().nft(INBOUND_DROP)?;
    let offer = room.offer()?;
    room.join_ends("firewalls on both let nothing in, QR", &offer.qr, Expected(0, &[]), LIMIT, cases);
    room.stop()?;

    // In another room: firewalls remember who has talked before.
    let mut room = Room::new(Profile::FirewallA, gap)?;
    room.alice.stop()?;
    room.alice.start_daemon_with(&["--no-lan"])?;
    let expected = Expected(8, &["inbound_firewall"]);
    let offer = room.offer()?;
    let qr = offer.qr.clone();
    room.join_ends("the initiator's firewall lets nothing in, QR", &qr, expected, LIMIT, cases);
    room.bob.stop()?;
    room.bob.start_daemon_with(&["--no-lan"])?;
    room.join_ends("the initiator's firewall lets nothing in, QR, --no-lan on both", &qr, expected, LIMIT, cases);
    room.lab.host("alice")?.namespace().tool("nft", &["delete", "table", "inet", "guard"])?;
    cases.follow("the firewall opened, same QR", enter_again(&room.bob, offer, &qr));
    room.stop()
}

pub(super) fn isolation(gap: Duration, cases: &mut Cases) -> Result<()> {
    let room = Room::new(Profile::ClientIsolation, gap)?;
    let offer = room.offer()?;
    let (words, qr) = (offer.words.clone(), offer.qr.clone());
    room.join_ends("client isolation, words", &words, NOT_FOUND, SEARCH_LIMIT, cases);
    room.join_ends("client isolation, QR", &qr, Expected(8, &["ap_isolation"]), LIMIT, cases);
    for port in ["alice-eth0", "bob-eth0"] {
        room.lab.switch().tool("bridge", &["link", "set", "dev", port, "isolated", "off"])?;
    }
    cases.follow("isolation turned off, same code", enter_again(&room.bob, offer, &words));
    room.stop()
}

/// A large network that carries no announcements.
pub(super) fn no_multicast(gap: Duration, cases: &mut Cases) -> Result<()> {
    let room = Room::new(Profile::LanWide, gap)?;
    let offer = room.offer()?;
    room.join_ends("no multicast in a network of 65,536, words", &offer.words, NOT_FOUND, SEARCH_LIMIT, cases);
    let qr = offer.qr.clone();
    cases.follow("the QR instead", enter_again(&room.bob, offer, &qr));
    room.stop()?;

    let room = Room::new(Profile::LanNomcast, gap)?;
    let offer = room.offer()?;
    room.join_ends("no multicast in a small network, words", &offer.words, Expected(0, &[]), LIMIT, cases);
    room.stop()
}

/// Two networks with a router between them.
pub(super) fn other_subnet(gap: Duration, cases: &mut Cases) -> Result<()> {
    let mut room = Room::new(Profile::Routed, gap)?;
    let router = room.lab.host("gateway")?;
    let shown = room.offer()?;
    room.join_ends("another subnet, words", &shown.words, NOT_FOUND, SEARCH_LIMIT, cases);

    router.namespace().sysctl("net.ipv4.ip_forward", "0")?;
    let expected = Expected(8, &["different_subnet"]);
    let qr = shown.qr.clone();
    room.join_ends("another subnet and no way between them, QR", &qr, expected, LIMIT, cases);
    router.namespace().sysctl("net.ipv4.ip_forward", "1")?;

    let node = Node::start(&room.lab)?;
    for device in [&mut room.alice, &mut room.bob] {
        device.stop()?;
    }
    let Room { lab, alice, bob, gap } = room;
    let mut room =
        Room { lab, alice: alice.bootstrap(node.addresses.clone()), bob: bob.bootstrap(node.addresses.clone()), gap };
    room.alice.start_daemon()?;
    room.bob.start_daemon()?;
    std::thread::sleep(WARM_UP);
    let shown = room.offer()?;
    let words = shown.words.clone();
    cases.follow("a node on the router, a new code", enter_again(&room.bob, shown, &words));
    room.stop()
}

/// A VPN of the joiner takes what goes to the other network.
pub(super) fn vpn(gap: Duration, cases: &mut Cases) -> Result<()> {
    let room = Room::new(Profile::Routed, gap)?;
    let bob = room.lab.host("bob")?;
    let tunnel = "link add vpn0 type vxlan id 77 local 192.168.78.12 remote 192.168.78.1 dstport 4789";
    for command in [tunnel, "addr add 10.8.0.2/24 dev vpn0", "link set vpn0 up"] {
        bob.namespace().ip(&command.split(' ').collect::<Vec<_>>())?;
    }
    bob.namespace().ip(&["route", "replace", "default", "via", "10.8.0.1", "dev", "vpn0"])?;
    std::thread::sleep(WARM_UP);
    let offer = room.offer()?;
    let qr = offer.qr.clone();
    let expected = Expected(8, &["vpn_default_route"]);
    room.join_ends("a VPN takes the traffic for the other network, QR", &qr, expected, LIMIT, cases);
    bob.namespace().ip(&["link", "del", "vpn0"])?;
    bob.namespace().ip(&["route", "replace", "default", "via", ROUTER, "dev", "eth0"])?;
    cases.follow("the VPN turned off, same QR", enter_again(&room.bob, offer, &qr));
    room.stop()
}

/// The QR of a device that was started again since: another key is at its address.
pub(super) fn old_qr(gap: Duration, cases: &mut Cases) -> Result<()> {
    let mut room = Room::new(Profile::Lan, gap)?;
    let offer = room.offer()?;
    let qr = offer.qr.clone();
    room.alice.kill9();
    drop(offer);
    room.alice.start_daemon()?;
    room.join_ends("a QR from before a restart", &qr, Expected(7, &["wrong_device"]), LIMIT, cases);
    let offer = room.offer()?;
    let qr = offer.qr.clone();
    cases.follow("the new QR scanned", enter_again(&room.bob, offer, &qr));
    room.stop()
}

/// A node on the router between the networks.
struct Node {
    _running: Running,
    addresses: Vec<String>,
}

impl Node {
    fn start(lab: &LanLab) -> Result<Node> {
        let router = lab.host("gateway")?;
        let data = router.home().join("serve").display().to_string();
        let (udp, tcp) = (format!("/ip4/{ROUTER}/udp/4001/quic-v1"), format!("/ip4/{ROUTER}/tcp/4001"));
        let args = ["serve", "--data", &data, "--listen", &udp, "--listen", &tcp].map(str::to_owned).to_vec();
        let program = binary()?;
        let start = Start { program: &program, args, env: base_env(router.home()), stdin: None };
        let running = Running::start(&router, &start)?;
        let is_ready = |line: &Line| (line.text.trim() == "ready").then_some(());
        running.wait_line(READY_LIMIT, is_ready).context("the node is not ready")?;
        let lines = running.lines();
        let addresses = lines.iter().map(|line| line.text.trim().to_owned()).filter(|line| line.starts_with('/'));
        Ok(Node { addresses: addresses.collect(), _running: running })
    }
}
