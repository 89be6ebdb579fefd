//! Rough worlds: what people, networks, disks and clocks do wrong, drawn from the dice, then a world that heals.

use std::time::Duration;

use handfast_proto::code::Code;
use handfast_proto::link;
use handfast_proto::link::PairState;
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::session::{Consent, Event, Options};

use super::dht::{Manners, Node};
use super::dice::Dice;
use super::ledger::PairingFacts;
use super::trace::Tell;
use super::world::{Fate, Person, World};

/// How long a healed world may need to finish what is pending: the longest pause between two searches with its jitter,
/// and a presence record that is due meanwhile.
const REPAIR: Duration = Duration::from_secs(1_200);

/// What a run came to, for the numbers at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) worlds: u64,
    pub(crate) paired: u64,
    pub(crate) failed: u64,
    /// Pairings that a hello finished, in a session or later.
    pub(crate) repaired: u64,
    pub(crate) expired: u64,
    pub(crate) resumed: u64,
    /// Comparisons that a person was shown.
    pub(crate) compared: u64,
}

/// Builds the world of a seed, breaks it, heals it, and checks what is left.
pub(crate) fn play(seed: u64, tell: Tell) -> (Tally, (u64, u64)) {
    play_in(World::told(seed, tell), frame_faults)
}

/// The same in an empty world with dice of its own; `faults` says what happens to frames.
pub(crate) fn play_in(mut world: World, faults: impl FnOnce(&mut World)) -> (Tally, (u64, u64)) {
    build(&mut world);
    faults(&mut world);
    let clocks_are_right = disturb(&mut world);
    people(&mut world);
    let rough = world.dice.millis(10_000, 60_000);
    world.run_for(rough);
    heal(&mut world);
    let mut tally = settle(&mut world);
    if clocks_are_right {
        reconnect(&mut world);
    }
    world.check_settled();
    tally.worlds = 1;
    tally.resumed = world.frames.get(&handfast_proto::wire::frames::FrameType::Resume).copied().unwrap_or(0) as u64;
    (tally, world.digest())
}

pub(crate) fn build(world: &mut World) {
    let dice = &mut world.dice;
    world.settings.latency = dice.millis(1, 120);
    world.settings.jitter = if dice.chance(60) { dice.millis(1, 80) } else { Duration::ZERO };
    world.settings.disk = (Duration::ZERO, if dice.chance(20) { dice.millis(50, 3_000) } else { dice.millis(1, 20) });
    world.settings.disk_failures = if dice.chance(10) { 5 } else { 0 };
    world.settings.detection = (Duration::from_millis(1), dice.millis(5, 9_000));
    world.settings.dial_loss = if dice.chance(20) { 20 } else { 0 };
    world.settings.put_loss = if dice.chance(20) { 30 } else { 0 };
    world.settings.late = if dice.chance(50) { 50 } else { 0 };
    world.settings.punches = [0, 50, 100][dice.index(3)];
    let hidden = if dice.chance(30) { 60 } else { 0 };
    world.add_nodes(2);
    let bad = [Manners::Mute, Manners::Replays, Manners::Invents, Manners::Honest];
    for _ in 0..world.dice.below(3) {
        let manners = bad[world.dice.index(bad.len())];
        world.nodes.push(Node::new(manners));
    }
    let devices = if world.dice.chance(70) { 2 } else { 3 + world.dice.below(3) };
    for _ in 0..devices {
        let person = if world.dice.chance(40) { Person::Moody } else { Person::Yes(world.dice.millis(0, 3_000)) };
        let dev = world.add_device(person);
        if world.dice.chance(20) {
            world.devices[dev].clock = world.dice.below(400_000) as i64 - 200_000;
        }
        if world.dice.chance(hidden) {
            world.hide(dev);
        }
    }
}

/// Sets the faults up. Whether no clock will jump.
pub(crate) fn disturb(world: &mut World) -> bool {
    disk_faults(world);
    let mut clocks_are_right = true;
    for _ in 0..world.dice.below(4) {
        let when = world.dice.millis(0, 20_000);
        let dev = world.dice.index(world.devices.len());
        let other = world.dice.index(world.devices.len());
        let back = world.dice.millis(100, 30_000);
        match world.dice.below(8) {
            0 => world.later(when, move |w| w.cut_between(dev, other)),
            1 => {
                world.later(when, move |w| w.block(dev, other, true));
                world.later(when + back, move |w| w.block(dev, other, false));
            }
            2 => {
                let quiet = world.dice.chance(50);
                world.later(when, move |w| {
                    w.devices[dev].host_up = quiet;
                    w.crash(dev);
                });
                restart_later(world, dev, when + back);
            }
            3 => {
                clocks_are_right = false;
                let jump = world.dice.below(4) as i64 - 2;
                let more = world.dice.below(100_000) as i64;
                world.later(when, move |w| w.devices[dev].clock += jump * 86_400 + more);
            }
            4 => world.later(when, move |w| w.roam(dev)),
            5 => {
                world.later(when, move |w| w.devices[dev].dht_up = false);
                world.later(when + back, move |w| w.devices[dev].dht_up = true);
            }
            6 => {
                let node = world.dice.index(world.nodes.len());
                world.later(when, move |w| w.nodes[node].alive = false);
            }
            _ => world.later(when, move |w| {
                let sessions: Vec<_> = w.ledger.sessions.keys().cloned().collect();
                if let Some((d, run, session)) = sessions.into_iter().find(|(d, ..)| *d == dev)
                    && w.is_running(d, run)
                {
                    w.cancel(d, &session);
                }
            }),
        }
    }
    clocks_are_right
}

fn restart_later(world: &mut World, dev: usize, when: Duration) {
    world.later(when, move |w| {
        if w.devices[dev].run.is_none() {
            if w.dice.chance(30) {
                w.roam(dev);
            }
            w.start(dev);
        }
    });
}

/// Faults that hit frames: that is where the order of a commit can go wrong.
pub(crate) fn frame_faults(world: &mut World) {
    if world.dice.chance(30) {
        return;
    }
    let faults = 1 + world.dice.below(3) as usize;
    let plan: Vec<(usize, u64)> = (0..faults).map(|_| (world.dice.index(30), world.dice.below(6))).collect();
    let mut dice = Dice::new(world.dice.next());
    world.frame_tap = Some(Box::new(move |passing| {
        let Some((_, kind)) = plan.iter().find(|(nth, _)| *nth == passing.nth) else { return Fate::Arrives };
        match kind {
            0 | 1 => Fate::Cut,
            2 => Fate::CutBehind,
            3 => Fate::CrashSender,
            4 if dice.chance(50) => Fate::CrashReceiverAfter,
            _ => Fate::CrashReceiver,
        }
    }));
}

fn disk_faults(world: &mut World) {
    if world.dice.chance(60) {
        return;
    }
    let at = world.dice.index(8);
    let mut count = 0;
    world.disk_tap = Some(Box::new(move |_, _, _| {
        count += 1;
        count - 1 == at
    }));
}

fn options(dice: &mut Dice) -> Options {
    let consent = if dice.chance(40) { Consent::Given } else { Consent::Ask };
    Options { consent, verify: dice.chance(15) }
}

/// What people do: mostly one shows a code and another enters it.
pub(crate) fn people(world: &mut World) {
    let n = world.devices.len();
    let pairings = 1 + world.dice.below(if n == 2 { 2 } else { 4 });
    for _ in 0..pairings {
        let initiator = world.dice.index(n);
        let start = world.dice.millis(0, 3_000);
        let ttl = Duration::from_secs([5, 30, 600, 3_600][world.dice.index(4)]);
        let how = options(&mut world.dice);
        let mut joins = Vec::new();
        for _ in 0..=world.dice.below(if n == 2 { 1 } else { 3 }) {
            let joiner = (initiator + 1 + world.dice.index(n - 1)) % n;
            joins.push((joiner, world.dice.millis(0, 6_000), options(&mut world.dice)));
        }
        let wrong = world.dice.chance(3);
        world.later(start, move |w| {
            if w.devices[initiator].run.is_none() {
                return;
            }
            let (_, code) = w.generate(initiator, ttl, how);
            let code = if wrong { Code::generate(&mut Rng::from_seed(Secret::new(w.dice.seed()))) } else { code };
            for (joiner, wait, how) in joins {
                let code = code.clone();
                w.later(wait, move |w| {
                    if w.devices[joiner].run.is_some() {
                        // Refused where the same code is being joined here already.
                        let _ = w.try_join(joiner, handfast_proto::code::CodeInput::Words(code), how);
                    }
                });
            }
        });
    }
}

/// From here on nothing goes wrong.
fn heal(world: &mut World) {
    world.note(|| "the world heals".to_owned());
    world.forget_plans();
    world.frame_tap = None;
    world.disk_tap = None;
    world.settings.disk_failures = 0;
    world.settings.dial_loss = 0;
    world.settings.put_loss = 0;
    world.settings.disk = (Duration::ZERO, Duration::from_millis(5));
    world.blocked.clear();
    for node in &mut world.nodes {
        node.alive = true;
        node.manners = Manners::Honest;
    }
    for dev in 0..world.devices.len() {
        let had_dht = std::mem::replace(&mut world.devices[dev].dht_up, true);
        world.devices[dev].host_up = true;
        if world.devices[dev].run.is_none() {
            world.start(dev);
        } else if !had_dht {
            let run = world.run(dev).number;
            world.dht_in_reach(dev, run);
        }
    }
}

fn is_pending(world: &World) -> bool {
    world.devices.iter().flat_map(|d| d.disk.rows.values()).any(|r| r.state == PairState::Pending)
}

/// Waits for the ends of all sessions, for pending pairings to be finished, and for those that cannot be to end.
fn settle(world: &mut World) -> Tally {
    let limit = world.time_left() + Duration::from_secs(1);
    world.run_until(limit, |w| w.ledger.live() == 0);
    world.run_for(Duration::from_secs(1));
    if is_pending(world) {
        world.run_until(REPAIR, |w| !is_pending(w));
        for (id, facts) in &world.ledger.pairings {
            let both = [facts.initiator, facts.joiner].map(|dev| world.devices[dev].stored(*id));
            let pending = Some(PairState::Pending);
            let stuck = both[0].is_some() && both[1].is_some() && both.contains(&pending);
            assert!(!stuck, "{id:?}: both run, nothing is in the way, and it is still {both:?}");
        }
    }
    if is_pending(world) {
        // One side alone holds it: who starts a day later finds its time over. The wall clocks go there without the day,
        // further than any was set back.
        for dev in 0..world.devices.len() {
            world.devices[dev].clock += 10 * 86_400;
            world.crash(dev);
            world.start(dev);
        }
        world.run_until(REPAIR, |w| !is_pending(w));
    }
    // A joiner that gave up leaves a notice; the initiator that became paired hears it when it looks for the joiner.
    let orphan = |w: &World| {
        let is_one = |(id, f): (&_, &PairingFacts)| {
            f.joiner_expired && w.devices[f.initiator].stored(*id).is_some() && !w.is_untold(*id)
        };
        w.ledger.pairings.iter().any(is_one)
    };
    if orphan(world) {
        // It no longer says where it is, so it can only be told at an address that the initiator knew.
        for dev in 0..world.devices.len() {
            world.return_home(dev);
        }
        world.run_until(REPAIR, |w| !orphan(w));
    }
    world.run_for(Duration::from_secs(1));
    let mut tally = Tally::default();
    for ending in world.ledger.endings() {
        match ending {
            Ok(_) => tally.paired += 1,
            Err(_) => tally.failed += 1,
        }
    }
    for (_, event) in world.devices.iter().flat_map(|d| &d.events) {
        tally.compared += u64::from(matches!(event, Event::ComparisonNeeded { .. }));
    }
    for (_, event) in world.devices.iter().flat_map(|d| &d.link_events) {
        tally.repaired += u64::from(matches!(event, link::Event::Completed { .. }));
        tally.expired += u64::from(matches!(event, link::Event::Gone { by_them: false, .. }));
    }
    tally
}

/// Paired devices reach each other without a code, whatever happened to them.
fn reconnect(world: &mut World) {
    let rows: Vec<_> = world.ledger.pairings.iter().map(|(id, f)| (*id, f.initiator, f.joiner)).collect();
    for (id, initiator, joiner) in rows {
        if [initiator, joiner].iter().any(|dev| world.devices[*dev].stored(id) != Some(PairState::Paired)) {
            continue;
        }
        let dev = if world.dice.chance(50) { initiator } else { joiner };
        // A ping over a connection that was cut a moment ago is lost, and says so.
        let answered = (0..3).any(|_| {
            let token = world.ping(dev, id, Duration::from_secs(90));
            let over = |w: &World| w.pong(dev, token).is_some();
            world.run_until(Duration::from_secs(91), over) && world.pong(dev, token) == Some(true)
        });
        assert!(answered, "{dev} does not reach its paired device");
    }
}
