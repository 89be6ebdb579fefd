//! Rough worlds by the thousand, each from a seed.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use handfast_proto::cause::Cause;

use super::dice::Dice;
use super::meddler::meddle;
use super::rough::{Tally, build, disturb, frame_faults, people, play, play_in};
use super::trace::Tell;
use super::world::World;

/// Seeds of a run without further wishes: some ten seconds.
const SEEDS: u64 = 3_000;
/// Where they begin.
const FIRST_SEED: u64 = 1;

/// The causes that a session of these worlds may end with.
fn expected(cause: Cause) -> bool {
    match cause {
        Cause::NotFound
        | Cause::NoBootstrap
        | Cause::CodeExpired
        | Cause::CodeUsed
        | Cause::Rejected
        | Cause::Cancelled
        | Cause::AuthenticationFailed
        | Cause::Unreachable
        | Cause::TimedOut
        | Cause::ConnectionLost
        | Cause::Storage => true,
        Cause::Internal
        | Cause::Usage
        | Cause::CodeMalformed
        | Cause::NoNetwork
        | Cause::MulticastBlocked
        | Cause::TooManyAttempts
        | Cause::WrongDevice
        | Cause::InboundFirewall
        | Cause::ApIsolation
        | Cause::DifferentSubnet
        | Cause::VpnDefaultRoute
        | Cause::UdpBlocked
        | Cause::AlreadyRunning
        | Cause::NotRunning
        | Cause::VersionMismatch => false,
    }
}

/// A number from the environment: how long and from where the simulation runs is the caller's wish.
#[expect(clippy::disallowed_methods, reason = "a test's own wishes; no machine sees them")]
fn wish(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Safety and progress under loss, cuts, reordering, partitions, crashes at every point, clock jumps, lying DHT nodes.
#[test]
fn c26_b33_b34_whatever_happens_both_sides_agree_or_say_pending_and_nobody_is_stuck() {
    if let Some(seed) = wish("HANDFAST_SIM_SEED") {
        let (tally, _) = play(seed, Tell::Lines);
        assert_eq!(tally.worlds, 1);
        return;
    }
    let first = wish("HANDFAST_SIM_FROM").unwrap_or(FIRST_SEED);
    let seeds = wish("HANDFAST_SIM_SEEDS").unwrap_or(SEEDS);
    let mut sum = Tally::default();
    for seed in first..first + seeds {
        let Ok((tally, _)) = catch_unwind(AssertUnwindSafe(|| play(seed, Tell::Nothing))) else {
            let mut text = String::new();
            let test = "cargo test -p handfast-proto --test proto sim::random";
            let _ = write!(text, "seed {seed} failed; replay it with its trace: HANDFAST_SIM_SEED={seed} {test}");
            panic!("{text}");
        };
        sum.worlds += tally.worlds;
        sum.paired += tally.paired;
        sum.failed += tally.failed;
        sum.repaired += tally.repaired;
        sum.expired += tally.expired;
        sum.resumed += tally.resumed;
        sum.compared += tally.compared;
    }
    // The worlds must be rough enough to mean something, and kind enough that pairing is what mostly happens.
    if seeds >= SEEDS {
        assert!(sum.paired > sum.failed / 2, "{sum:?}");
        assert!(sum.repaired > seeds / 50 && sum.resumed > seeds / 50 && sum.expired > seeds / 200, "{sum:?}");
        assert!(sum.compared > seeds / 4, "{sum:?}");
    }
}

/// The same with somebody who loses, repeats, swaps, replays and changes single frames.
#[test]
fn c26_whatever_is_done_to_single_frames_both_sides_agree_or_say_pending_and_nobody_is_stuck() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let script: Vec<u8> = (0..200).map(|_| dice.below(256) as u8).collect();
        let plan: Vec<u8> = (0..40).map(|_| if dice.chance(70) { 0 } else { dice.below(256) as u8 }).collect();
        let mut world = World::new(seed);
        world.dice = Dice::scripted(&script);
        let done = catch_unwind(AssertUnwindSafe(|| play_in(world, |world| meddle(world, plan))));
        assert!(done.is_ok(), "seed {seed}");
    }
}

#[test]
fn c26_a_seed_replays_byte_for_byte() {
    for seed in 1..40 {
        assert_eq!(play(seed, Tell::Hash), play(seed, Tell::Hash), "seed {seed}");
    }
    assert_ne!(play(1, Tell::Hash).1, play(2, Tell::Hash).1);
}

#[test]
fn b36_every_failure_in_these_worlds_has_one_of_the_causes_that_fit() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        build(&mut world);
        frame_faults(&mut world);
        disturb(&mut world);
        people(&mut world);
        world.run_for(Duration::from_secs(700));
        for ending in world.ledger.endings() {
            assert!(ending.is_ok() || ending.is_err_and(expected), "seed {seed}: {ending:?}");
        }
    }
}
