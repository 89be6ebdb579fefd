//! Many joiners race for one code: exactly one is paired (acceptance line 6, requirement C7).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::pairing::{Ending, join, offer};
use super::{Options, world::World};
use crate::device::Device;
use crate::report::Report;
use crate::stats::Summary;
use crate::topology::Lab;

/// A joiner that is told busy tries for 30 s; starting so many programs at once takes its time too.
const RACE_LIMIT: Duration = Duration::from_secs(60);

/// Lets `runs` devices, each on a network of its own, enter the same code at the same moment.
///
/// # Errors
/// When the lab cannot be made or the initiator shows no code.
pub fn run(options: &Options) -> Result<Report> {
    let joiners: Vec<String> = (0..options.runs).map(|number| format!("joiner-{number}")).collect();
    let mut builder = Lab::two_networks(options.nodes);
    for joiner in &joiners {
        builder = builder.host(joiner);
    }
    let world = World::of(builder, options, None)?;
    let mut alice = world.device("alice", "alice")?;
    alice.start_daemon()?;
    let devices: Vec<Device> = joiners.iter().map(|joiner| world.device(joiner, joiner)).collect::<Result<_>>()?;
    let offer = offer(&alice, &["--yes"])?;
    std::thread::sleep(options.gap);
    let mut processes = Vec::new();
    for device in &devices {
        processes.push(join(device, &offer.words, &[vec!["--yes"], device.network_options()].concat())?);
    }
    let (mut endings, mut times) = (BTreeMap::<String, usize>::new(), Vec::new());
    for process in processes {
        // Those that end earlier than they are asked count with the time at which they were asked, which is no less.
        let ending = match process.finish(RACE_LIMIT) {
            Ok(output) => {
                times.push(output.elapsed);
                Ending::of(&output).to_string()
            }
            Err(_) => "still running".to_owned(),
        };
        *endings.entry(ending).or_default() += 1;
    }
    let initiator = Ending::of(&offer.process.finish(RACE_LIMIT)?);
    let listed = alice.devices()?;

    let mut report = Report::new("joiners racing for one code", &["ending (exit, cause)", "joiners"]);
    for (ending, count) in &endings {
        report.row(vec![ending.clone(), count.to_string()]);
    }
    let count = |ending: &str| endings.get(ending).copied().unwrap_or_default();
    report.check("exactly one joiner is paired", count("0 -") == 1, format!("{}", count("0 -")));
    let losers = count("5 code_used");
    report.check(
        "all others are told code_used",
        losers + 1 == options.runs,
        format!("{losers} of {}", options.runs - 1),
    );
    report.check("the initiator is paired", initiator.exit == Some(0), initiator.to_string());
    report.check("the initiator lists one device", listed.len() == 1, format!("{} listed", listed.len()));
    report.fact("endings", &endings);
    report.fact("times", Summary::of(&times));
    Ok(report)
}
