//! One pairing under one fault.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_proto::cause::Cause;
use handfast_proto::limits;

use super::super::agreement::{Knows, agree};
use super::super::pairing::{Ending, Offer, join, offer};
use super::kind::{DELAY, DOWN, Expected, Fault, LATE, LOSS, Role, SHORT_TTL, Step};
use crate::device::{COMMAND_LIMIT, Device};
use crate::link::Strike;
use crate::process::Running;
use crate::topology::AccessHost;

/// How long devices that have just started get to enter the DHT.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long a command is watched beyond its limit, to tell late from never.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step that does not come by then does not come.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// After the joiner has failed: until an initiator that ends as well has said so.
const GRACE: Duration = Duration::from_secs(5);

/// How long a ping of two paired devices may try, once the fault is gone.
const PING_LIMIT: Duration = Duration::from_secs(20);

/// The last bytes of the addresses of a host: at first, and after a move.
const HOME: u8 = 2;
const AWAY: u8 = 77;

/// Two hosts, a pairing at a time.
pub(super) struct Lane {
    pub(super) alice: AccessHost,
    pub(super) bob: AccessHost,
    pub(super) bootstrap: Vec<String>,
    /// Between the words appearing on one device and their being entered on the other.
    pub(super) gap: Duration,
}

/// How a pairing ended.
pub(super) struct Seen {
    /// What each side said, in a few words.
    pub(super) ended: String,
    pub(super) is_paired: bool,
    /// From the entering of the code until the end.
    pub(super) took: Duration,
    /// Frames between the two from the entering of the code until the end.
    pub(super) frames: u64,
    /// Has the fault struck? A pairing may be over before the frame or the step at which it does.
    pub(super) struck: bool,
    /// What is not as it must be.
    pub(super) wrong: Option<String>,
}

struct Ended {
    joiner: Option<Ending>,
    initiator: Option<Ending>,
    took: Duration,
    frames: u64,
    struck: bool,
}

impl Lane {
    /// Pairs two new devices of this name under a fault; `kill` lets half of the nodes die.
    pub(super) fn play(&self, fault: Fault, name: &str, kill: &mut dyn FnMut()) -> Result<Seen> {
        let mut alice = Device::new(&self.alice, &format!("alice-{name}"))?.bootstrap(self.bootstrap.clone());
        let mut bob = Device::new(&self.bob, &format!("bob-{name}"))?.bootstrap(self.bootstrap.clone());
        alice.start_daemon_with(fault.options())?;
        bob.start_daemon()?;
        std::thread::sleep(WARM_UP);
        let ids = (alice.status()?.id, bob.status()?.id);
        let ended = Attempt { lane: self, alice: &alice, bob: &bob, fault }.play(kill);
        let healed = self.heal();
        let ended = ended?;
        healed?;
        let agreed = agree((&alice, &ids.0), (&bob, &ids.1))?;
        let mut seen = judge(&fault.expected(), ended, agreed.alice, agreed.bob);
        if seen.is_paired {
            for (device, other) in [(&alice, &ids.1), (&bob, &ids.0)] {
                if let Err(error) = device.ping(other, PING_LIMIT) {
                    seen.wrong.get_or_insert_with(|| format!("paired, and no ping: {error:#}"));
                }
            }
        }
        alice.stop()?;
        bob.stop()?;
        Ok(seen)
    }

    /// Everything is as it was.
    fn heal(&self) -> Result<()> {
        for host in [&self.alice, &self.bob] {
            let link = host.link();
            link.restore();
            link.set_loss(0.0);
            link.set_delay(crate::topology::ACCESS_DELAY);
            link.untrap();
            host.renumber(HOME)?;
        }
        Ok(())
    }
}

struct Attempt<'a> {
    lane: &'a Lane,
    alice: &'a Device,
    bob: &'a Device,
    fault: Fault,
}

impl Attempt<'_> {
    fn play(&self, kill: &mut dyn FnMut()) -> Result<Ended> {
        let alices = self.lane.alice.link();
        if matches!(self.fault, Fault::LateInitiator | Fault::NeverShown) {
            alices.cut();
        }
        if self.fault == Fault::NobodyJoins {
            return self.nobody_joins();
        }
        // At these steps it is the lab that answers.
        let is_asked = matches!(self.fault, Fault::DownAt(Step::Asked | Step::Answered));
        let offer = offer(self.alice, if is_asked { &[] } else { &["--yes"] })?;
        std::thread::sleep(self.lane.gap);
        self.before_the_joiner(kill);
        let struck = self.set_trap();
        let joining = join(self.bob, &offer.words, &["--yes"])?;
        let has_struck = self.meanwhile(&joining, &offer, &struck, kill)?;
        let ended = self.end(joining, offer)?;
        Ok(Ended { struck: has_struck || struck.try_recv().is_ok(), ..ended })
    }

    fn before_the_joiner(&self, kill: &mut dyn FnMut()) {
        let bobs = self.lane.bob.link();
        if self.fault == Fault::Loss {
            bobs.set_loss(LOSS);
        } else if self.fault == Fault::Delay {
            bobs.set_delay(DELAY);
        } else if matches!(self.fault, Fault::LateJoiner | Fault::DownAt(Step::Entered)) {
            bobs.cut();
        } else if self.fault == Fault::NeverBack {
            self.lane.alice.link().cut();
        } else if self.fault == Fault::DhtDying(Step::Shown) {
            kill();
        }
    }

    /// Counts the frames between the two on the joiner's link, and strikes there if that is the fault.
    fn set_trap(&self) -> Receiver<()> {
        let (at, strike) = match self.fault {
            Fault::FrameLost { at, .. } => (at, Strike::Lose),
            Fault::DownAtFrame { at, .. } => (at, Strike::CutFor(DOWN)),
            Fault::Moved { at, .. } => (at, Strike::Tell),
            Fault::Loss
            | Fault::Delay
            | Fault::DownAt(_)
            | Fault::DhtDying(_)
            | Fault::LateInitiator
            | Fault::LateJoiner
            | Fault::NeverShown
            | Fault::NeverBack
            | Fault::NobodyJoins => (u64::MAX, Strike::Tell),
        };
        self.lane.bob.link().trap(&[self.lane.alice.ipv4().into(), self.lane.alice.ipv6().into()], at, strike)
    }

    /// What the lab does while the two pair; gives whether it has.
    fn meanwhile(
        &self,
        joining: &Running,
        offer: &Offer,
        struck: &Receiver<()>,
        kill: &mut dyn FnMut(),
    ) -> Result<bool> {
        let bobs = self.lane.bob.link();
        match self.fault {
            // The link does it.
            Fault::FrameLost { .. } | Fault::DownAtFrame { .. } => Ok(false),
            Fault::Moved { role, .. } => {
                let host = if role == Role::Joiner { &self.lane.bob } else { &self.lane.alice };
                let struck = struck.recv_timeout(STEP_LIMIT).is_ok();
                if struck {
                    host.renumber(AWAY)?;
                }
                Ok(struck)
            }
            Fault::DownAt(step) => {
                wait_for(step, joining, offer)?;
                let accept = || self.alice.run(&["pair", "accept", &offer.session], None, COMMAND_LIMIT);
                if step == Step::Answered {
                    accept()?;
                }
                bobs.cut();
                std::thread::sleep(DOWN);
                bobs.restore();
                if step == Step::Asked {
                    accept()?;
                }
                Ok(true)
            }
            Fault::DhtDying(Step::Shown) => Ok(true),
            Fault::DhtDying(step) => {
                wait_for(step, joining, offer)?;
                kill();
                Ok(true)
            }
            Fault::LateInitiator | Fault::LateJoiner => {
                std::thread::sleep(LATE.saturating_sub(joining.started().elapsed()));
                self.lane.alice.link().restore();
                bobs.restore();
                Ok(true)
            }
            Fault::Loss | Fault::Delay | Fault::NeverShown | Fault::NeverBack | Fault::NobodyJoins => Ok(true),
        }
    }

    fn end(&self, joining: Running, offer: Offer) -> Result<Ended> {
        let start = joining.started();
        let left = (self.fault.expected().limit + PATIENCE).saturating_sub(start.elapsed());
        let output = joining.finish(left).context("the joiner")?;
        let mut took = output.elapsed;
        let joiner = Ending::of(&output);
        let Offer { mut process, session, .. } = offer;
        let mut initiator = None;
        if joiner.exit == Some(0) {
            let output = process.finish(limits::RESUME + GRACE).context("the initiator")?;
            took = took.max(start.elapsed());
            initiator = Some(Ending::of(&output));
        } else if process.wait(GRACE)?.is_some() {
            initiator = Some(Ending::of(&process.finish(GRACE)?));
        } else {
            self.alice.run(&["pair", "cancel", &session], None, COMMAND_LIMIT)?;
            process.finish(GRACE).context("the initiator, cancelled")?;
        }
        let frames = self.lane.bob.link().untrap();
        Ok(Ended { joiner: Some(joiner), initiator, took, frames, struck: false })
    }

    fn nobody_joins(&self) -> Result<Ended> {
        let start = Instant::now();
        let offer = offer(self.alice, &["--yes", "--ttl", SHORT_TTL])?;
        let output = offer.process.finish(LATE + PATIENCE)?;
        let initiator = Some(Ending::of(&output));
        Ok(Ended { joiner: None, initiator, took: start.elapsed(), frames: 0, struck: true })
    }
}

/// Waits until the two have got there, or are beyond.
fn wait_for(step: Step, joining: &Running, offer: &Offer) -> Result<()> {
    let (process, event) = match step {
        Step::Shown | Step::Entered => return Ok(()),
        Step::Found => (joining, "session_discovered"),
        Step::Connected => (joining, "connected"),
        Step::Asked | Step::Answered => (&offer.process, "approval_needed"),
    };
    process.wait_event(event, STEP_LIMIT).map(drop)
}

fn judge(expected: &Expected, ended: Ended, alice: Knows, bob: Knows) -> Seen {
    let Ended { joiner, initiator, took, frames, struck } = ended;
    let is_paired = (alice, bob) == (Knows::Paired, Knows::Paired);
    let said = |ending: &Option<Ending>, else_: &str| match ending {
        Some(ending) if ending.exit == Some(0) => "paired".to_owned(),
        Some(ending) => ending.cause.clone().unwrap_or_else(|| ending.to_string()),
        None => else_.to_owned(),
    };
    let (by_joiner, by_initiator) = (said(&joiner, "absent"), said(&initiator, "waits"));
    let ended = if by_joiner == "paired" && by_initiator == "paired" {
        "paired".to_owned()
    } else {
        format!("{by_joiner} / {by_initiator}{}", if is_paired { ", then paired" } else { "" })
    };
    let wrong = || -> Result<()> {
        let right = |ending: &Option<Ending>, causes: &[&str]| {
            let Some(ending) = ending else { return true };
            let Some(cause) = &ending.cause else { return ending.exit == Some(0) && is_paired };
            let exit = Cause::ALL.iter().find(|known| known.name() == cause).map(|known| i32::from(known.exit()));
            ending.told == 1 && ending.exit == exit && causes.contains(&cause.as_str())
        };
        ensure!(alice.max(bob) < Knows::Paired || is_paired, "initiator {alice:?}, joiner {bob:?}");
        ensure!(right(&joiner, expected.joiner), "the joiner ended with {by_joiner}");
        ensure!(right(&initiator, expected.initiator), "the initiator ended with {by_initiator}");
        ensure!(took <= expected.limit, "only after {took:.1?}");
        Ok(())
    };
    let wrong = wrong().err().map(|error| format!("{error:#}"));
    Seen { ended, is_paired, took, frames, struck, wrong }
}
