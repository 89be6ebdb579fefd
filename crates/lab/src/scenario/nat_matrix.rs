//! Pairings by words between devices behind every two kinds of NAT: which pair, by which path, how fast, and how the rest
//! ends.

use std::time::Duration;

use anyhow::Result;
use handfast_proto::stun::behaviour::Filtering;

use super::pairing::{Ending, Offer, join, offer};
use super::{Options, world::World};
use crate::device::Device;
use crate::nat::Nat;
use crate::process::{Output, Running};
use crate::report::Report;
use crate::topology::Lab;

/// A joiner that cannot reach its initiator has said so by then.
const JOIN_LIMIT: Duration = Duration::from_secs(40);

/// How long the devices get to enter the DHT and to hear how others see them.
const WARM_UP: Duration = Duration::from_secs(4);

/// How long after the joiners the initiators are waited for. Those that nobody has reached are told to stop.
const INITIATOR_LIMIT: Duration = Duration::from_secs(5);

/// One initiator and one joiner.
struct Cell {
    initiator: Device,
    joiner: Device,
    behind: Nat,
}

/// Plays every ordered pair, all joiners of one kind of initiator at once; `initiators`: of these kinds, or of all if none
/// is named.
///
/// # Errors
/// When the lab cannot be made, or a device does not start.
pub fn run(options: &Options, initiators: &[String]) -> Result<Report> {
    let mut builder = Lab::empty();
    for nat in Nat::ALL {
        builder = builder.behind(nat, &format!("{}-i", nat.name())).behind(nat, &format!("{}-j", nat.name()));
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder, options, None)?;
    let columns: Vec<&str> = ["initiator behind"].into_iter().chain(Nat::ALL.map(Nat::name)).collect();
    let mut report = Report::new("pairings by words, by what is in front of the joiner, 25 ms one way", &columns);
    for nat in Nat::ALL.into_iter().filter(|nat| initiators.is_empty() || initiators.iter().any(|i| i == nat.name())) {
        let mut row = vec![nat.name().to_owned()];
        for (behind, ending) in cells(&world, nat, options.gap)? {
            // Whoever lets everybody in is reached by everybody.
            let must_pair = nat.kind().filtering == Filtering::EndpointIndependent;
            let holds = if must_pair { ending.is_direct() } else { ending.is_direct() || ending.has_cause() };
            report.check(&format!("{} and {}", nat.name(), behind.name()), holds, ending.to_string());
            row.push(ending.to_string());
        }
        report.row(row);
    }
    Ok(report)
}

/// How a cell ended: the path and the time if it paired.
struct End {
    ending: Ending,
    path: Option<String>,
    took: Duration,
}

impl End {
    fn of(output: &Output, path: Option<String>) -> End {
        End { ending: Ending::of(output), path, took: output.elapsed }
    }

    fn is_direct(&self) -> bool {
        self.ending.exit == Some(0) && self.path.as_deref() == Some("direct")
    }

    /// It says within the time of the interface why not.
    fn has_cause(&self) -> bool {
        self.ending.exit == Some(8) && self.ending.cause.is_some() && self.took < Duration::from_secs(35)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.path, self.ending.exit) {
            (Some(path), Some(0)) => write!(f, "{path} {} ms", self.took.as_millis()),
            _ => write!(f, "{} {:.1} s", self.ending, self.took.as_secs_f64()),
        }
    }
}

/// All joiners with initiators behind one kind of NAT.
fn cells(world: &World, nat: Nat, gap: Duration) -> Result<Vec<(Nat, End)>> {
    let mut cells = Vec::new();
    for behind in Nat::ALL {
        let mut initiator = world.device(&format!("{}-i", nat.name()), &format!("to-{}", behind.name()))?;
        let mut joiner = world.device(&format!("{}-j", behind.name()), &format!("from-{}", nat.name()))?;
        initiator.start_daemon()?;
        joiner.start_daemon()?;
        cells.push(Cell { initiator, joiner, behind });
    }
    std::thread::sleep(WARM_UP);
    let offers: Vec<Offer> = cells.iter().map(|cell| offer(&cell.initiator, &["--yes"])).collect::<Result<_>>()?;
    std::thread::sleep(gap);
    let mut ends = Vec::new();
    let joiners = cells.iter().zip(&offers).map(|(cell, offer)| join(&cell.joiner, &offer.words, &["--yes"]));
    let joiners: Vec<Running> = joiners.collect::<Result<_>>()?;
    for (cell, mut joiner) in cells.iter().zip(joiners) {
        joiner.wait(JOIN_LIMIT)?;
        let path = joiner.event("connected").map(|event| event.text("path").map(str::to_owned)).transpose()?;
        ends.push((cell.behind, End::of(&joiner.finish(JOIN_LIMIT)?, path)));
    }
    for offer in offers {
        if offer.process.wait_event("paired", INITIATOR_LIMIT).is_err() {
            offer.process.interrupt()?;
        }
        offer.process.finish(JOIN_LIMIT)?;
    }
    Ok(ends)
}
