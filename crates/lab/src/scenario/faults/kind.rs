//! The faults: where each strikes, how a pairing may end under it, and by when.

use std::time::Duration;

use handfast_proto::limits;

use crate::rng::Rng;

/// For what a limit does not count: starting a command, and a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// The share of frames that a bad link loses.
pub(super) const LOSS: f64 = 0.3;

/// How long each frame takes on a long link.
pub(super) const DELAY: Duration = Duration::from_secs(2);

/// How long a link is down.
pub(super) const DOWN: Duration = Duration::from_secs(10);

/// How late a peer comes up.
pub(super) const LATE: Duration = Duration::from_secs(20);

/// Life of a code whose joiner never comes, in seconds.
pub(super) const SHORT_TTL: &str = "20";

/// What a pairing may end with where too little gets through: it was not found, not reached, or lost on the way.
const LITTLE_GETS_THROUGH: &[&str] = &["not_found", "no_bootstrap", "unreachable", "timed_out", "connection_lost"];

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    FrameLost,
    Loss,
    Delay,
    Down,
    Moved,
    DhtDying,
    Late,
    Never,
}

/// One fault of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Frame `at` between the two is lost.
    FrameLost { transport: Transport, at: u64 },
    /// 30 % of the frames on the joiner's link are lost, both ways, from the entering of the code on.
    Loss,
    /// Each frame on the joiner's link takes 2 s, both ways, from the entering of the code on.
    Delay,
    /// The joiner's link is down from frame `at` between the two on.
    DownAtFrame { transport: Transport, at: u64 },
    /// The same from an event on.
    DownAt(Step),
    /// Who has this role gets other addresses at frame `at` between the two.
    Moved { role: Role, at: u64 },
    /// Half of the nodes die.
    DhtDying(Step),
    /// The initiator's link is down until 20 s after the code was entered.
    LateInitiator,
    /// The joiner's link is down until 20 s after the code was entered.
    LateJoiner,
    /// The initiator's link is down before the code is shown, and stays so.
    NeverShown,
    /// The initiator's link goes down once the code is known, and stays so.
    NeverBack,
    /// Nobody enters the code.
    NobodyJoins,
}

/// By which transport the joiner reaches the initiator; the other one is not there, and no relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Quic,
    Tcp,
}

/// A side of the pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Initiator,
    Joiner,
}

/// Where a pairing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The code is shown and known.
    Shown,
    /// It is entered.
    Entered,
    /// The joiner has found the initiator.
    Found,
    /// It is connected.
    Connected,
    /// The initiator is asked.
    Asked,
    /// It has said yes.
    Answered,
}

/// How a pairing may end.
pub(super) struct Expected {
    /// With these causes of the joiner, if not paired; none if it must pair.
    pub(super) joiner: &'static [&'static str],
    /// With these of the initiator, if it does not simply wait for the next joiner.
    pub(super) initiator: &'static [&'static str],
    /// From the entering of the code until the joiner has ended, and the initiator if the two are paired.
    pub(super) limit: Duration,
}

/// How many frames go between the two in a pairing, by each transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    pub(super) quic: u64,
    pub(super) tcp: u64,
}

impl Kind {
    pub(super) const ALL: [Kind; 8] =
        [Kind::FrameLost, Kind::Loss, Kind::Delay, Kind::Down, Kind::Moved, Kind::DhtDying, Kind::Late, Kind::Never];

    /// Its name in commands.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::FrameLost => "frame-lost",
            Kind::Loss => "loss",
            Kind::Delay => "delay",
            Kind::Down => "down",
            Kind::Moved => "moved",
            Kind::DhtDying => "dht-dying",
            Kind::Late => "late",
            Kind::Never => "never",
        }
    }

    /// What it is, for people.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Kind::FrameLost => "each frame lost once",
            Kind::Loss => "30 % loss",
            Kind::Delay => "2 s delay each way",
            Kind::Down => "link down 10 s at every step",
            Kind::Moved => "address change mid-handshake",
            Kind::DhtDying => "half of the DHT nodes die",
            Kind::Late => "a peer that comes up 20 s late",
            Kind::Never => "a peer that never comes",
        }
    }

    /// The faults of a kind in `runs` runs; more than one lose every single frame.
    pub(super) fn faults(self, runs: usize, frames: Frames, rng: &mut Rng) -> Vec<Fault> {
        if self == Kind::FrameLost && runs > 1 {
            let of =
                |transport: Transport| (1..=frames.of(transport)).map(move |at| Fault::FrameLost { transport, at });
            return of(Transport::Quic).chain(of(Transport::Tcp)).collect();
        }
        (0..runs).map(|run| self.fault(run, runs, frames, rng)).collect()
    }

    /// The fault of run `run` of `runs`; those of a kind are spread over its places.
    fn fault(self, run: usize, runs: usize, frames: Frames, rng: &mut Rng) -> Fault {
        const STEPS: [Step; 5] = [Step::Entered, Step::Found, Step::Connected, Step::Asked, Step::Answered];
        let transport = if run.is_multiple_of(2) { Transport::Quic } else { Transport::Tcp };
        // Two runs share a place, one by each transport, or one of each role.
        let spread = |total: u64| 1 + total * (run as u64 / 2) / (runs as u64).div_ceil(2);
        match self {
            Kind::FrameLost => Fault::FrameLost { transport, at: spread(frames.of(transport)) },
            Kind::Loss => Fault::Loss,
            Kind::Delay => Fault::Delay,
            Kind::Down => match STEPS.get(run % (2 * STEPS.len())) {
                Some(step) => Fault::DownAt(*step),
                None => Fault::DownAtFrame { transport, at: spread(frames.of(transport)) },
            },
            Kind::Moved => {
                let role = if run.is_multiple_of(2) { Role::Joiner } else { Role::Initiator };
                Fault::Moved { role, at: 1 + rng.below(frames.quic.min(frames.tcp)) }
            }
            Kind::DhtDying => Fault::DhtDying([Step::Shown, Step::Entered, Step::Found, Step::Connected][run % 4]),
            Kind::Late => [Fault::LateInitiator, Fault::LateJoiner][run % 2],
            Kind::Never => [Fault::NeverShown, Fault::NeverBack, Fault::NobodyJoins][run % 3],
        }
    }
}

impl Fault {
    pub(super) fn expected(self) -> Expected {
        const PAIRS: &[&str] = &[];
        const LOST: &[&str] = &["connection_lost", "timed_out"];
        let (joiner, initiator, limit) = match self {
            Fault::FrameLost { .. } | Fault::DhtDying(_) => (PAIRS, PAIRS, limits::FIND),
            // Found at the end of the search, and resumed once.
            Fault::Loss | Fault::Delay => (LITTLE_GETS_THROUGH, LOST, limits::FIND + limits::CONNECT + limits::RESUME),
            Fault::DownAtFrame { .. } | Fault::DownAt(_) => (PAIRS, PAIRS, DOWN + limits::RESUME),
            Fault::Moved { .. } => (PAIRS, PAIRS, limits::RESUME),
            Fault::LateInitiator | Fault::LateJoiner => (PAIRS, PAIRS, limits::FIND + limits::CONNECT),
            Fault::NeverShown => (&["not_found"] as &[&str], PAIRS, limits::FIND),
            Fault::NeverBack => (&["unreachable"] as &[&str], PAIRS, limits::CONNECT),
            Fault::NobodyJoins => (PAIRS, &["code_expired"] as &[&str], LATE),
        };
        Expected { joiner, initiator, limit: limit + SLACK }
    }

    /// Options of the initiator, whose addresses decide how the two meet.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self.transport() {
            Some(Transport::Quic) => &["--no-relay", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1"],
            Some(Transport::Tcp) => &["--no-relay", "--listen", "/ip4/0.0.0.0/tcp/0"],
            None => &[],
        }
    }

    fn transport(self) -> Option<Transport> {
        match self {
            Fault::FrameLost { transport, .. } | Fault::DownAtFrame { transport, .. } => Some(transport),
            Fault::Loss
            | Fault::Delay
            | Fault::DownAt(_)
            | Fault::Moved { .. }
            | Fault::DhtDying(_)
            | Fault::LateInitiator
            | Fault::LateJoiner
            | Fault::NeverShown
            | Fault::NeverBack
            | Fault::NobodyJoins => None,
        }
    }
}

impl Frames {
    fn of(self, transport: Transport) -> u64 {
        match transport {
            Transport::Quic => self.quic,
            Transport::Tcp => self.tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_of_a_kind_are_spread_over_its_frames_and_steps() {
        let frames = Frames { quic: 30, tcp: 40 };
        let all = |kind: Kind| kind.faults(20, frames, &mut Rng::new(1));
        let lost = all(Kind::FrameLost);
        assert_eq!(lost.len(), 70);
        assert!(lost.contains(&Fault::FrameLost { transport: Transport::Tcp, at: 40 }));
        let down = all(Kind::Down);
        let at = |fault: &Fault| {
            let Fault::DownAtFrame { at, .. } = fault else { return None };
            Some(*at)
        };
        assert_eq!(down.iter().filter_map(at).collect::<Vec<u64>>(), [9, 10, 13, 13, 17, 29, 25, 33, 28, 37]);
        for step in [Step::Entered, Step::Found, Step::Connected, Step::Asked, Step::Answered] {
            assert_eq!(down.iter().filter(|fault| **fault == Fault::DownAt(step)).count(), 2);
        }
    }
}
