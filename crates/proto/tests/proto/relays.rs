//! Relays: when they are tried, what is never remembered of them, and how a relayed link gets a direct path (C2).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_proto::addr::{Address, InterfaceAddress, LoopbackPolicy, Path, RelayAddress, Transport};
use handfast_proto::cause::Cause;
use handfast_proto::code::qr::QrText;
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::handshake::Refusal;
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::lan::WindowId;
use handfast_proto::limits;
use handfast_proto::link::{self, PairState};
use handfast_proto::session::{
    Consent, DialFailure, Event, FoundBy, Inbound, Job, JobResult, Output, Reached, Role, StreamEnd, Vicinity,
};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::advert::{Advert, AdvertState};
use handfast_proto::wire::frames::FrameType;
use handfast_proto::wire::record::Record;

use crate::bench::{Bench, Guest, Host, address, inbound, rng};
use crate::links::{Desk, ID, OURS, peer};
use crate::path::{assert_paired, pairing};
use crate::sim::world::World;

/// The initiator of most tests.
pub(crate) const HOST: Tid = Tid([2; 32]);
const STEP: Duration = Duration::from_millis(1);

/// A relay, by number.
pub(crate) fn relay(n: u8) -> RelayAddress {
    let ip = IpAddr::V4(Ipv4Addr::new(5, 8, 8, n));
    RelayAddress { relay: Address { ip, port: 4000, transport: Transport::Quic }, relay_tid: Tid([100 + n; 32]) }
}

/// A relay that nobody outside can mean.
pub(crate) fn relay_on_loopback() -> RelayAddress {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    RelayAddress { relay: Address { ip, ..address(1) }, ..relay(9) }
}

pub(crate) fn tcp(n: u8) -> Address {
    Address { transport: Transport::Tcp, ..address(n) }
}

/// Somebody who comes in through a relay.
pub(crate) fn through_relay(tid: Tid) -> Inbound {
    Inbound { tid, address: relay(1).relay, path: Path::Relay, local: None }
}

pub(crate) fn record(code: &Code, addresses: &[Address], relays: &[RelayAddress], seq: u64) -> Record {
    let (addresses, relays) = (addresses.to_vec(), relays.to_vec());
    let advert = Advert { state: AdvertState::Open, not_after: UnixTime(0), tid: HOST, addresses, relays };
    CodeKeys::derive(code).record().seal(&advert.to_bytes([7; 16]), seq, 600, &mut rng(seq as u8))
}

/// A dial that waits for its answer.
pub(crate) struct Dial {
    pub(crate) id: JobId,
    pub(crate) tid: Option<Tid>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) relays: Vec<RelayAddress>,
}

pub(crate) fn dials(bench: &Bench) -> Vec<Dial> {
    let dial = |(id, job): &(JobId, Job)| match job {
        Job::Dial { tid, addresses, relays } => {
            Some(Dial { id: *id, tid: *tid, addresses: addresses.clone(), relays: relays.clone() })
        }
        _ => None,
    };
    bench.jobs.iter().filter_map(dial).collect()
}

/// The dial that goes through relays, if one waits.
pub(crate) fn relayed(bench: &Bench) -> Option<Dial> {
    dials(bench).into_iter().find(|d| !d.relays.is_empty())
}

/// The dial that goes to addresses alone.
pub(crate) fn direct(bench: &Bench) -> Option<Dial> {
    dials(bench).into_iter().find(|d| d.relays.is_empty())
}

/// Hands a joiner this record, as the answer to a look-up that goes on.
pub(crate) fn look_up_brings(joiner: &mut Bench, record: &Record) {
    let look_up = joiner.jobs.iter().find(|(_, job)| matches!(job, Job::LookUp(_))).map(|(id, _)| *id);
    joiner.job_done(look_up.expect("it looks the code up"), JobResult::Found(record.clone()));
}

fn code() -> Code {
    Code::generate(&mut rng(3))
}

/// A joiner that has found a record with these addresses and relays.
pub(crate) fn searching(addresses: &[Address], relays: &[RelayAddress]) -> (Bench, Code) {
    searching_from(Vicinity::default(), addresses, relays)
}

pub(crate) fn searching_from(vicinity: Vicinity, addresses: &[Address], relays: &[RelayAddress]) -> (Bench, Code) {
    let mut joiner = Bench::with(1, |config| config.vicinity = vicinity);
    let code = code();
    joiner.join(&code);
    look_up_brings(&mut joiner, &record(&code, addresses, relays, 1));
    (joiner, code)
}

/// A dial connects through its relay; the stream on which the handshake begins, if one is opened.
pub(crate) fn connects_through_relay(joiner: &mut Bench, dial: &Dial) -> Option<StreamId> {
    let reached = Reached { conn: ConnId(1), tid: HOST, address: dial.relays[0].relay, path: Path::Relay };
    connects(joiner, dial, reached)
}

pub(crate) fn connects(joiner: &mut Bench, dial: &Dial, reached: Reached) -> Option<StreamId> {
    joiner.job_done(dial.id, JobResult::Dialled(reached));
    let open = joiner.jobs.iter().find(|(_, job)| matches!(job, Job::OpenStream(conn) if *conn == reached.conn));
    let open = open.map(|(id, _)| *id)?;
    let stream = StreamId(7_000_000 + reached.conn.0);
    joiner.job_done(open, JobResult::StreamOpened(stream));
    Some(stream)
}

#[test]
fn c2_a_relay_is_tried_200_ms_after_the_addresses_and_at_once_without_any() {
    let (mut joiner, _) = searching(&[address(2)], &[relay(1)]);
    assert_eq!(dials(&joiner).len(), 1);
    assert!(relayed(&joiner).is_none());
    joiner.wait(limits::DIRECT_FIRST - STEP);
    assert!(relayed(&joiner).is_none());
    joiner.wait(STEP);
    let dial = relayed(&joiner).expect("the relay");
    assert_eq!((dial.tid, dial.relays), (Some(HOST), vec![relay(1)]));
    assert!(dial.addresses.is_empty(), "a candidate of its own");
    assert_eq!(limits::DIRECT_FIRST, Duration::from_millis(200));
    // No address, or none that may be dialled: there is nothing to wait for.
    for addresses in [vec![], vec![Address { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), ..address(1) }]] {
        let (joiner, _) = searching(&addresses, &[relay(1)]);
        assert_eq!(dials(&joiner).len(), 1);
        assert!(relayed(&joiner).is_some());
        let told = joiner.events.iter().any(|e| {
            let by_record = |found_by: &FoundBy| *found_by == FoundBy::Dht;
            matches!(e, Event::SessionDiscovered { addresses, found_by, .. } if addresses.is_empty() && by_record(found_by))
        });
        assert!(told, "found, and the relay is none of its addresses");
    }
}

#[test]
fn c2_where_some_addresses_are_near_the_relay_follows_the_others() {
    let near = InterfaceAddress { ip: IpAddr::V4(Ipv4Addr::new(5, 9, 9, 77)), prefix_len: 24 };
    let vicinity = Vicinity { networks: vec![near], ..Vicinity::default() };
    let far = Address { ip: IpAddr::V4(Ipv4Addr::new(5, 7, 7, 7)), ..address(1) };
    let (mut joiner, _) = searching_from(vicinity, &[address(2), far], &[relay(1)]);
    joiner.wait(limits::NEAR_FIRST);
    assert_eq!(dials(&joiner).len(), 2);
    joiner.wait(limits::DIRECT_FIRST - STEP);
    assert!(relayed(&joiner).is_none());
    joiner.wait(STEP);
    assert!(relayed(&joiner).is_some());
}

#[test]
fn c2_hosts_that_are_silent_do_not_keep_the_relay_waiting() {
    let (mut joiner, _) = searching(&[address(2)], &[relay(1)]);
    let now = joiner.clocks();
    for n in 10..15 {
        joiner.table.handle_heard(WindowId(0), vec![address(n)], now);
    }
    joiner.drain();
    assert_eq!(dials(&joiner).len(), limits::PARALLEL_CANDIDATES);
    joiner.wait(limits::DIRECT_FIRST);
    assert!(relayed(&joiner).is_some());
    assert_eq!(dials(&joiner).len(), limits::PARALLEL_CANDIDATES + 1);
    // Nor does the relay take a place of theirs.
    let (mut joiner, _) = searching(&[], &[relay(1)]);
    let now = joiner.clocks();
    for n in 10..15 {
        joiner.table.handle_heard(WindowId(0), vec![address(n)], now);
    }
    joiner.drain();
    assert_eq!(dials(&joiner).len(), limits::PARALLEL_CANDIDATES + 1);
}

#[test]
fn c2_an_advert_leads_through_two_relays_that_may_be_dialled_and_a_later_one_replaces_them() {
    let (mut joiner, code) = searching(&[], &[relay_on_loopback(), relay(1)]);
    let dial = relayed(&joiner).expect("the relay");
    assert_eq!(dial.relays, [relay(1)]);
    look_up_brings(&mut joiner, &record(&code, &[], &[relay(2), relay(3)], 2));
    joiner.job_done(dial.id, JobResult::DialFailed(DialFailure::NoAnswer));
    joiner.wait(limits::REDIAL_MIN);
    let again = relayed(&joiner).expect("it is tried again like any other");
    assert_eq!(again.relays, [relay(2), relay(3)]);
    assert_eq!(dials(&joiner).len(), 1, "one candidate");
    // One that knows its addresses by now is tried there as well.
    look_up_brings(&mut joiner, &record(&code, &[address(2)], &[relay(2)], 3));
    assert_eq!(direct(&joiner).expect("the address").addresses, [address(2)]);
    // What cannot be dialled at all is said at once.
    let (joiner, _) = searching(&[], &[relay_on_loopback()]);
    assert_eq!(joiner.causes(), [Cause::Unreachable]);
}

#[test]
fn a_relay_that_connects_while_the_handshake_runs_directly_is_kept_in_case_that_fails() {
    let (mut joiner, _) = searching(&[address(2)], &[relay(1)]);
    joiner.wait(limits::DIRECT_FIRST);
    let (straight, around) = (direct(&joiner).expect("the address"), relayed(&joiner).expect("the relay"));
    let reached = Reached { conn: ConnId(5), tid: HOST, address: address(2), path: Path::Direct };
    let stream = connects(&mut joiner, &straight, reached).expect("the code is tried");
    assert_eq!(connects_through_relay(&mut joiner, &around), None, "one handshake at a time");
    joiner.end(stream, StreamEnd::Lost);
    joiner.wait(limits::TWIN - STEP);
    assert!(relayed(&joiner).is_none());
    joiner.wait(STEP);
    let around = relayed(&joiner).expect("the other way");
    assert!(connects_through_relay(&mut joiner, &around).is_some());
    let paths: Vec<Path> = joiner.events.iter().filter_map(connected).collect();
    assert_eq!(paths, [Path::Direct, Path::Relay]);
}

fn connected(event: &Event) -> Option<Path> {
    match event {
        Event::Connected { path, .. } => Some(*path),
        _ => None,
    }
}

#[test]
fn a52_what_fails_through_a_relay_hides_no_better_cause_and_is_none_of_its_own() {
    // The relay is near and the device is not: what the relay does not answer is no firewall of the device.
    let ours = InterfaceAddress { ip: IpAddr::V4(Ipv4Addr::new(5, 8, 8, 77)), prefix_len: 24 };
    let private = Address { ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), ..address(1) };
    let vicinity = Vicinity { networks: vec![ours], ..Vicinity::default() };
    for (addresses, cause) in [(vec![], Cause::Unreachable), (vec![private], Cause::DifferentSubnet)] {
        for of_relay in [DialFailure::NoAnswer, DialFailure::NoHost, DialFailure::Refused, DialFailure::WrongPeer] {
            let (mut joiner, _) = searching_from(vicinity.clone(), &addresses, &[relay(1)]);
            while joiner.causes().is_empty() {
                for dial in dials(&joiner) {
                    let failure = if dial.relays.is_empty() { DialFailure::NoAnswer } else { of_relay };
                    joiner.job_done(dial.id, JobResult::DialFailed(failure));
                }
                joiner.wait(Duration::from_millis(50));
            }
            assert_eq!(joiner.causes(), [cause], "{of_relay:?}");
        }
    }
}

#[test]
fn a11_a_relay_with_another_key_does_not_make_the_device_behind_it_the_wrong_one() {
    let code = code();
    let text = QrText::new(code.clone(), HOST, true, false, &[], LoopbackPolicy::Refuse).to_text();
    let mut joiner = Bench::new(1);
    let now = joiner.clocks();
    joiner.table.join(text.parse::<CodeInput>().expect("a code"), Consent::Ask, now).expect("may be joined");
    joiner.drain();
    look_up_brings(&mut joiner, &record(&code, &[address(2)], &[relay(1)], 1));
    joiner.wait(limits::DIRECT_FIRST);
    let around = relayed(&joiner).expect("the relay");
    joiner.job_done(around.id, JobResult::DialFailed(DialFailure::WrongPeer));
    joiner.wait(limits::REDIAL_MIN);
    assert!(joiner.causes().is_empty() && relayed(&joiner).is_some(), "it is tried again");
    let straight = direct(&joiner).expect("the address");
    joiner.job_done(straight.id, JobResult::DialFailed(DialFailure::WrongPeer));
    let around = relayed(&joiner).expect("the relay");
    joiner.job_done(around.id, JobResult::DialFailed(DialFailure::WrongPeer));
    joiner.wait(limits::CONNECT);
    assert_eq!(joiner.causes(), [Cause::WrongDevice], "its own address says so");
}

#[test]
fn a_relay_that_does_not_lead_there_any_more_does_not_say_that_a_busy_device_is_gone() {
    let (mut joiner, code) = searching(&[], &[relay(1)]);
    let around = relayed(&joiner).expect("the relay");
    let stream = connects_through_relay(&mut joiner, &around).expect("the code is tried");
    let busy = Host::new(&code, HOST).take_h1(&mut joiner, stream).refuse(Refusal::Busy, &mut rng(8));
    joiner.hand(stream, busy);
    for _ in 0..14 {
        joiner.wait(Duration::from_secs(2));
        for dial in dials(&joiner) {
            joiner.job_done(dial.id, JobResult::DialFailed(DialFailure::Refused));
        }
        assert!(joiner.causes().is_empty(), "at {:?}", joiner.now);
    }
    joiner.wait(Duration::from_secs(2));
    assert_eq!(joiner.causes(), [Cause::CodeUsed]);
}

/// Goes on until our person was asked.
fn up_to_question(joiner: &mut Bench, code: &Code, stream: StreamId) {
    let (_, h4) = Host::new(code, HOST).up_to_h4(joiner, stream);
    joiner.hand(stream, h4);
    assert_eq!(joiner.asked(), 1);
}

fn allow(joiner: &mut Bench) {
    let session = joiner.table.statuses()[0].session.clone();
    joiner.answer(&session, true);
}

#[test]
fn c2_a_joiner_that_got_through_by_a_relay_remembers_the_devices_addresses_and_never_the_relays() {
    for addresses in [vec![], vec![address(2), tcp(2)]] {
        let (mut joiner, code) = searching(&addresses, &[relay(1)]);
        joiner.wait(limits::DIRECT_FIRST);
        let around = relayed(&joiner).expect("the relay");
        let stream = connects_through_relay(&mut joiner, &around).expect("the code is tried");
        up_to_question(&mut joiner, &code, stream);
        allow(&mut joiner);
        assert_eq!(joiner.stored.len(), 1);
        assert_eq!(joiner.stored_at, addresses);
    }
}

#[test]
fn c2_an_initiator_that_was_reached_by_a_relay_remembers_no_address_of_the_joiner() {
    for (from, remembered) in [(through_relay(Tid([5; 32])), vec![]), (inbound(Tid([5; 32])), vec![address(5)])] {
        let mut initiator = Bench::new(1);
        let (session, code) = initiator.code(600);
        let mut guest = Guest::new(5, &code);
        let (sent, [p1, h1]) = guest.start(initiator.tid);
        let stream = initiator.open_from(from);
        initiator.hand(stream, p1);
        initiator.hand(stream, h1);
        let Some(handfast_proto::handshake::joiner::H2::GoOn(proved)) = Guest::h2(&mut initiator, stream, sent) else {
            panic!("told to go on")
        };
        let (_, h3) = proved.send(&guest.identity, &crate::bench::info("guest"), &mut rng(6));
        initiator.hand(stream, h3);
        initiator.answer(&session, true);
        assert_eq!(initiator.stored.len(), 1);
        assert_eq!(initiator.stored_at, remembered);
    }
}

#[test]
fn a_connection_through_a_relay_is_no_call_from_the_relays_address() {
    // Somebody is at the address where the relay is as well, and a stranger comes through that relay.
    let (mut joiner, _) = searching(&[relay(1).relay], &[]);
    for (number, from) in [(1, through_relay(HOST)), (2, Inbound { path: Path::Direct, ..through_relay(HOST) })] {
        let now = joiner.clocks();
        joiner.table.handle_connected(ConnId(number), from, now);
        joiner.drain();
        let tried = joiner.jobs.iter().any(|(_, job)| matches!(job, Job::OpenStream(_)));
        assert_eq!(tried, from.path == Path::Direct);
    }
}

#[test]
fn a_joiner_that_comes_through_a_relay_is_not_taken_for_the_one_heard_at_the_relays_address() {
    for (path, dialled) in [(Path::Relay, 1), (Path::Lan, 0)] {
        let mut initiator = Bench::new(1);
        let (_, code) = initiator.code(600);
        let now = initiator.clocks();
        initiator.table.handle_heard(WindowId(0), vec![relay(1).relay], now);
        let mut guest = Guest::new(5, &code);
        let (_, [p1, _]) = guest.start(initiator.tid);
        let stream = initiator.open_from(Inbound { path, ..through_relay(guest.tid) });
        initiator.hand(stream, p1);
        initiator.wait(limits::REVERSE);
        assert_eq!(dials(&initiator).len(), dialled, "{path:?}");
    }
}

#[test]
fn only_a_joiner_that_has_proven_the_code_through_a_relay_learns_where_we_are() {
    let mut initiator = Bench::new(1);
    let (_, code) = initiator.code(600);
    let (_, other) = Bench::new(3).code(600);
    for (guest, path, proven) in [(&other, Path::Relay, 0), (&code, Path::Direct, 0), (&code, Path::Relay, 1)] {
        let mut guest = Guest::new(5, guest);
        let (_, [p1, h1]) = guest.start(initiator.tid);
        let stream = initiator.open_from(Inbound { path, ..through_relay(guest.tid) });
        initiator.hand(stream, p1);
        assert!(initiator.proven.is_empty(), "not before the proof");
        initiator.hand(stream, h1);
        assert_eq!(initiator.proven.len(), proven, "{path:?}");
    }
}

#[test]
fn c2_a_handshake_that_loses_its_relay_dials_tcp_apart_from_quic_and_relays() {
    for (addresses, expected) in [
        (vec![address(2), tcp(2)], vec![(vec![address(2)], vec![relay(1)]), (vec![tcp(2)], vec![])]),
        (vec![tcp(2)], vec![(vec![], vec![relay(1)]), (vec![tcp(2)], vec![])]),
        (vec![], vec![(vec![], vec![relay(1)])]),
    ] {
        let (mut joiner, code) = searching(&addresses, &[relay(1)]);
        joiner.wait(limits::DIRECT_FIRST);
        let around = relayed(&joiner).expect("the relay");
        let stream = connects_through_relay(&mut joiner, &around).expect("the code is tried");
        up_to_question(&mut joiner, &code, stream);
        joiner.end(stream, StreamEnd::Lost);
        let tried: Vec<_> = dials(&joiner).into_iter().map(|d| (d.addresses, d.relays)).collect();
        assert_eq!(tried, expected);
        assert!(dials(&joiner).iter().all(|d| d.tid == Some(HOST)));
    }
}

#[test]
fn a_tcp_port_that_refuses_where_a_relay_was_the_way_does_not_end_the_handshake() {
    let (mut joiner, code) = searching(&[tcp(2)], &[relay(1)]);
    joiner.wait(limits::DIRECT_FIRST);
    let around = relayed(&joiner).expect("the relay");
    let stream = connects_through_relay(&mut joiner, &around).expect("the code is tried");
    up_to_question(&mut joiner, &code, stream);
    joiner.end(stream, StreamEnd::Lost);
    for _ in 0..4 {
        let (straight, around) = (direct(&joiner).expect("its TCP"), relayed(&joiner).expect("the relay"));
        joiner.job_done(straight.id, JobResult::DialFailed(DialFailure::Refused));
        joiner.wait(limits::AFTER_REFUSAL);
        assert!(relayed(&joiner).is_some(), "the relay has its time");
        joiner.job_done(around.id, JobResult::DialFailed(DialFailure::NoAnswer));
        joiner.wait(limits::RESUME_REDIAL_MAX);
    }
    assert!(joiner.causes().is_empty());
    let around = relayed(&joiner).expect("the relay");
    let stream = connects_through_relay(&mut joiner, &around).expect("it goes on");
    assert_eq!(joiner.take_sent(stream)[0].kind(), FrameType::Resume);
}

#[test]
fn c2_a_pending_pairing_whose_handshake_is_gone_is_reached_through_the_relays_too() {
    let (mut joiner, code) = searching(&[address(2)], &[relay(1)]);
    joiner.wait(limits::DIRECT_FIRST);
    let around = relayed(&joiner).expect("the relay");
    let stream = connects_through_relay(&mut joiner, &around).expect("the code is tried");
    up_to_question(&mut joiner, &code, stream);
    allow(&mut joiner);
    joiner.end(stream, StreamEnd::Finished);
    let reach = joiner.jobs.iter().find_map(|(_, job)| match job {
        Job::Reach { tid, addresses, relays, .. } => Some((*tid, addresses.clone(), relays.clone())),
        _ => None,
    });
    assert_eq!(reach, Some((HOST, vec![address(2)], vec![relay(1)])));
}

/// The relays that the newest record of a code leads a joiner through, and how many were published since the last time.
fn published(bench: &mut Bench, code: &Code) -> (usize, Vec<RelayAddress>) {
    let mut records = Vec::new();
    while let Some(output) = bench.table.poll_output() {
        if let Output::Job(id, Job::Publish(record)) = output {
            records.push(record);
            let now = bench.clocks();
            bench.table.handle_job(id, JobResult::Published { stored_on: 3 }, now);
        }
    }
    let relays = records.last().and_then(|record| {
        let mut joiner = Bench::new(5);
        joiner.join(code);
        look_up_brings(&mut joiner, record);
        joiner.wait(limits::DIRECT_FIRST);
        relayed(&joiner)
    });
    (records.len(), relays.map(|dial| dial.relays).unwrap_or_default())
}

#[test]
fn c2_a_code_names_two_dialable_relays_and_is_advertised_anew_when_they_change() {
    let mut bench = Bench::new(1);
    let now = bench.clocks();
    bench.table.set_relays(vec![relay_on_loopback(), relay(1), relay(1), relay(2), relay(3)], now);
    let (_, code) = bench.table.generate(Consent::Ask, Duration::from_secs(600), now).expect("room");
    assert_eq!(published(&mut bench, &code), (1, vec![relay(1), relay(2)]));
    bench.table.set_relays(vec![relay(3)], now);
    assert_eq!(published(&mut bench, &code), (1, vec![relay(3)]));
    bench.table.set_relays(vec![relay(3)], now);
    assert_eq!(published(&mut bench, &code), (0, vec![]), "nothing has changed");
    bench.table.set_addresses(vec![address(7)], now);
    assert_eq!(published(&mut bench, &code), (1, vec![relay(3)]));
    bench.table.set_relays(vec![], now);
    assert_eq!(published(&mut bench, &code), (1, vec![]));
}

#[test]
fn c2_relays_are_wanted_while_a_code_of_ours_can_be_used_and_while_there_are_paired_devices() {
    let mut bench = Bench::new(1);
    assert!(!bench.table.wants_relays());
    bench.join(&code());
    assert!(!bench.table.wants_relays(), "who joins dials");
    let (session, code) = bench.code(600);
    assert!(bench.table.wants_relays());
    let _ = Guest::new(5, &code).introduce(&mut bench);
    assert!(bench.table.wants_relays(), "while somebody is served");
    bench.cancel(&session);
    assert!(!bench.table.wants_relays());

    let mut desk = Desk::of(1, OURS, Vec::new(), Vec::new());
    assert!(!desk.links.wants_relays());
    let now = desk.clocks();
    desk.links.add(peer(PairState::Pending, Role::Joiner), now);
    assert!(desk.links.wants_relays());
    desk.links.remove(ID);
    assert!(!desk.links.wants_relays());
}

// Whole worlds.

#[test]
fn c2_two_devices_behind_nats_pair_through_a_relay_and_find_each_other_again() {
    for hidden in [vec![0], vec![1], vec![0, 1]] {
        let mut world = World::of(2);
        for dev in &hidden {
            world.hide(*dev);
        }
        let tids = [world.run(0).tid, world.run(1).tid];
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        world.run_for(Duration::from_secs(2));
        assert_paired(&world, 0, 1);
        for dev in [0, 1] {
            let told = world.events(dev).into_iter().find_map(|e| match e {
                Event::Paired { tid, path, .. } => Some((*tid, *path)),
                _ => None,
            });
            let path = if hidden.contains(&0) { Path::Relay } else { Path::Direct };
            assert_eq!(told, Some((tids[1 - dev], path)));
        }
        let id = *world.devices[0].disk.rows.keys().next().expect("a pairing");
        for dev in [0, 1] {
            world.crash(dev);
            world.roam(dev);
        }
        world.run_for(Duration::from_secs(20));
        for dev in [0, 1] {
            world.start(dev);
        }
        let up = |w: &World| w.devices.iter().all(|d| d.run.as_ref().is_some_and(|r| r.links.path(id).is_some()));
        assert!(world.run_until(Duration::from_secs(60), up), "{hidden:?}");
    }
}

#[test]
fn c2_a_punched_hole_takes_over_from_the_relay_which_is_given_up() {
    // The hole is there while the two still pair, or when they are linked through the relay.
    for early in [true, false] {
        let mut world = World::of(2);
        world.settings.punches = if early { 100 } else { 0 };
        world.hide(0);
        world.hide(1);
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        world.run_for(Duration::from_secs(1));
        let id = *world.devices[0].disk.rows.keys().next().expect("a pairing");
        if !early {
            for dev in [0, 1] {
                assert_eq!(world.run(dev).links.path(id).map(|(path, _)| path), Some(Path::Relay));
            }
            let around = world.net.between(0, 1)[0];
            world.punch(around);
        }
        // What no hello has certified is closed because it is idle.
        world.run_for(if early { world.settings.idle } else { limits::SPARE_RELAY } + Duration::from_secs(1));
        for dev in [0, 1] {
            let link = world.run(dev).links.path(id).expect("up");
            assert_eq!(link.0, Path::Direct);
            let changes = world.devices[dev].link_events.iter();
            let changes = changes.filter(|(_, e)| matches!(e, link::Event::PathChanged { .. })).count();
            assert_eq!(changes, usize::from(!early));
            let addresses = world.devices[1 - dev].addresses.clone();
            assert!(addresses.contains(&world.devices[dev].disk.rows[&id].addresses[0]), "the hole is remembered");
        }
        let paths: Vec<Path> = world.net.between(0, 1).into_iter().map(|c| world.net.conns[c].path).collect();
        assert_eq!(paths, [Path::Direct]);
        let before = world.devices[0].link_events.len();
        world.run_for(Duration::from_secs(3_600));
        assert_eq!(world.devices[0].link_events.len(), before, "and nothing flaps");
    }
}
